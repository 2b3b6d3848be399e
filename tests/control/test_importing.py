"""A state in a store is the same state: by the API, and by what places are given to enforce."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from sgdataplane.cli.main import main
from sgdataplane.control.actions.importing import import_state
from sgdataplane.errors import StateFileError
from sgdataplane.statefile import load
from sgdataplane.statefile.load import load_native, load_text
from sgdataplane.store.audit import local_call
from sgdataplane.store.documents import IDS, SECTIONS, Documents, native
from sgdataplane.store.interface import Store
from sgdataplane.store.sqlite.store import SqliteStore
from tests.support.documents.schemas import assert_conforms

ROOT = Path(__file__).resolve().parents[2]
SHOP = ROOT / "examples" / "shop.yaml"
CLASSIC = """
version: 1
vpcs: [{vpc_id: %s, network_type: %s, cidr_blocks: []}]
security_groups: [{security_group_id: sg-1, vpc_id: %s}]
"""


@pytest.mark.parametrize("name", ["shop.yaml", "web.yaml", "db.yaml"])
def test_what_is_imported_is_the_same_state(store: Store, name: str) -> None:
    state = load(ROOT / "examples" / name).state
    assert import_state(store, state, "seed", local_call("ImportState")) == 1
    assert load_native(native(Documents.of(store.snapshot()).bodies())).state == state


def test_every_kind_of_a_state_has_an_id() -> None:
    assert IDS.keys() == SECTIONS.keys()


def test_a_second_import_is_refused_whole(store: Store) -> None:
    state, call = load(SHOP).state, local_call("ImportState")
    import_state(store, state, "seed", call)
    before = store.snapshot()
    with pytest.raises(StateFileError, match="the store has this vpc already"):
        import_state(store, state, "seed", call)
    assert store.snapshot() == before


@pytest.mark.parametrize(("vpc", "kind", "code"), [("vpc-old", "classic", 5), ("classic", "classic", 0)])
def test_the_classic_network_has_the_apis_id(
    tmp_path: Path, vpc: str, kind: str, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    state = tmp_path / "state.yaml"
    state.write_text(CLASSIC % (vpc, kind, vpc), "utf-8")
    assert main(["api", "import", str(state), "--store", str(tmp_path / "store")]) == code
    assert ("InvalidVpcId.Classic" in capsys.readouterr().err) is (code == 5)


def test_what_one_host_gets_is_no_state_to_import(store: Store) -> None:
    """Its members of groups would become ENIs."""
    state = load(SHOP).state
    last = replace(state.network_interfaces[-1], member_only=True)
    part = replace(state, network_interfaces=(*state.network_interfaces[:-1], last))
    with pytest.raises(StateFileError, match=rf"(?s)InvalidState\.MemberOnly.*{last.network_interface_id}"):
        import_state(store, part, "seed", local_call("ImportState"))
    assert not store.snapshot().documents


def test_the_whole_store_has_to_be_a_valid_state(store: Store) -> None:
    """By one quota that both states keep, and the two together don't."""
    lists = "".join(
        f"  - {{prefix_list_id: pl-%s{n}, address_family: IPv4, max_entries: 1, entries: []}}\n" for n in range(60)
    )
    states = [load_text(f"version: 1\nprefix_lists:\n{lists.replace('%s', each)}", file="f").state for each in "ab"]
    import_state(store, states[0], "seed", local_call("ImportState"))
    with pytest.raises(StateFileError, match="prefix list"):
        import_state(store, states[1], "seed", local_call("ImportState"))
    assert store.snapshot().revision == 1
    assert import_state(store, states[1], "unlimited", local_call("ImportState")) == 2


def test_the_command_says_what_it_has_imported_and_the_audit_who(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = str(tmp_path / "cloud.db")
    command = ["api", "import", str(SHOP), "--store", store]
    assert main(command) == 0
    told = "1 VPC, 1 prefix list, 4 security groups, 5 instances, 5 ENIs"
    assert capsys.readouterr().out == f"imported {told}; the store has revision 1\n"
    assert main(command) == 5
    assert "InvalidStore.Exists: the store has this vpc already" in capsys.readouterr().err
    assert main(["api", "audit", "--store", store, "--json"]) == 0
    (record,) = map(json.loads, capsys.readouterr().out.splitlines())
    assert (record["action"], record["key"], len(record["changed"])) == ("ImportState", "", 16)


def test_a_state_that_is_refused_makes_no_store(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    state, store = tmp_path / "state.yaml", tmp_path / "cloud.db"
    state.write_text(SHOP.read_text("utf-8").replace("sg-web, sg-admin", "sg-wbe, sg-admin"), "utf-8")
    assert main(["api", "import", str(state), "--store", str(store)]) == 5
    assert "sg-wbe" in capsys.readouterr().err
    assert not store.exists()


def test_the_store_may_be_named_in_the_configuration(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "api.toml"
    config.write_text(f'store = "{tmp_path / "cloud.db"}"\n', "utf-8")
    assert main(["api", "import", str(SHOP), "--config", str(config)]) == 0
    assert capsys.readouterr().out.startswith("imported 1 VPC")
    assert (tmp_path / "cloud.db").exists()


def test_json_counts_by_section(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["api", "import", str(SHOP), "--store", str(tmp_path / "cloud.db"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert_conforms("api-import", found)
    assert (found["revision"], found["imported"]["network_interfaces"]) == (1, 5)
    SqliteStore(tmp_path / "cloud.db", create=False).close()
