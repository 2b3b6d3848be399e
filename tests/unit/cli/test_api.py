"""`sgdp api`: keys, audit, backup and restore, as people and programs see them."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from sgdataplane.cli.apiaudit import audit_tables
from sgdataplane.cli.main import main
from sgdataplane.control.access.keys import Keyring
from sgdataplane.control.access.secrets import SecretBox
from sgdataplane.store.sqlite.store import SqliteStore
from tests.support.documents.schemas import assert_conforms

POLICY = '{"Version": "1", "Statement": [{"Effect": "Allow", "Action": "vpc:*", "Resource": "*"}]}'


class Command:
    """`sgdp api ... --store FILE`."""

    def __init__(self, file: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.file, self._capsys = file, capsys

    def __call__(self, *words: str, code: int = 0, store: str = "") -> tuple[str, str]:
        found = main(["api", *words, "--store", store or str(self.file)])
        out, err = self._capsys.readouterr()
        assert found == code, out + err
        return out, err

    def json(self, *words: str) -> Any:  # noqa: ANN401  # a document
        document = json.loads(self(*words, "--json")[0])
        name = "-".join(word for word in words[:2] if word.isalpha() and word.islower())
        assert_conforms(f"api-{name}", document)
        return document


@pytest.fixture(autouse=True)
def without_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep out the configuration of an API that is installed on this machine."""
    monkeypatch.setattr("sgdataplane.control.config.CONFIG_FILE", tmp_path / "api.toml")


@pytest.fixture
def api(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Command:
    return Command(tmp_path / "store", capsys)


def test_a_key_is_created_with_its_secret_and_the_key_file(api: Command, tmp_path: Path) -> None:
    out, err = api("keys", "create", "--name", "ci")
    found = re.fullmatch(r"access key id: +(LTAI\w+)\naccess key secret: (\w{30})\n", out)
    assert found
    assert f"{tmp_path}/store.key is new" in err
    assert "not shown again" in err
    with closing(SqliteStore(api.file)) as store:
        key = Keyring(store, lambda: SecretBox(tmp_path / "store.key")).find(found[1])
    assert key is not None
    assert key.secret == found[2]


def test_the_second_key_is_sealed_with_the_same_file(api: Command, tmp_path: Path) -> None:
    api("keys", "create")
    before = (tmp_path / "store.key").read_bytes()
    _, err = api("keys", "create")
    assert "is new" not in err
    assert (tmp_path / "store.key").read_bytes() == before


def test_a_lost_key_file_is_told_and_not_replaced(api: Command, tmp_path: Path) -> None:
    key_id = api.json("keys", "create")["access_key_id"]
    (tmp_path / "store.key").unlink()
    _, err = api("keys", "create", code=5)
    assert "InvalidKeyFile.NotReadable" in err
    assert "revoke all access keys" in err
    assert not (tmp_path / "store.key").exists()
    api("keys", "revoke", key_id)
    api("keys", "create")  # as it was told


def test_keys_are_listed_without_secrets(api: Command, tmp_path: Path) -> None:
    (tmp_path / "policy").write_text(POLICY)
    made = [api.json("keys", "create", "--name", name, "--policy", policy) for name, policy in (
        ("a", "full"), ("b", "read-only"), ("c", str(tmp_path / "policy")))]  # fmt: skip
    api("keys", "revoke", made[0]["access_key_id"])
    listed = api.json("keys", "list")["access_keys"]
    assert [key["access_key_id"] for key in listed] == [key["access_key_id"] for key in made]
    assert [key["policy"] for key in listed] == ["full", "read-only", json.loads(POLICY)]
    assert [key["revoked"] is None for key in listed] == [False, True, True]
    out, _ = api("keys", "list")
    assert [line.split()[1:3] for line in out.splitlines()[1:]] == [["a", "full"], ["b", "read-only"], ["c", "its"]]
    assert not any(key["access_key_secret"] in out + json.dumps(listed) for key in made)


def test_the_end_of_a_temporary_key_is_listed(api: Command) -> None:
    api.json("keys", "create", "--name", "ever")
    made = api.json("keys", "create", "--name", "soon", "--sts")
    ends = {key["name"]: key["ends"] for key in api.json("keys", "list")["access_keys"]}
    assert ends == {"ever": None, "soon": made["expiration"]}
    head, *rows = api("keys", "list")[0].splitlines()
    shown = {row.split()[1]: row[head.index("ENDS") :].split()[0] for row in rows if row.strip()}
    assert shown["ever"] == "-"
    assert shown["soon"].startswith(made["expiration"][:10])


def test_a_store_without_keys(api: Command) -> None:
    SqliteStore(api.file).close()
    assert api.json("keys", "list") == {"access_keys": []}
    assert "no access key" in api("keys", "list")[0]


def test_a_key_is_revoked(api: Command) -> None:
    key_id = api.json("keys", "create")["access_key_id"]
    out, _ = api("keys", "revoke", key_id)
    assert f"{key_id} has been revoked since 2" in out
    assert api.json("keys", "revoke", key_id)["revoked"] in out, "it stays as it is"
    _, err = api("keys", "revoke", "LTAInone", code=5)
    assert "InvalidAccessKeyId.NotFound" in err


@pytest.mark.parametrize(
    ("content", "told"),
    [
        pytest.param(None, "InvalidPolicy.NotReadable", id="missing"),
        pytest.param(b"\xff", "InvalidPolicy.NotReadable", id="no-text"),
        pytest.param(b"{}", "InvalidPolicy.Version", id="empty"),
        pytest.param(b" " * 70_000, "InvalidPolicy.TooLarge", id="large"),
        pytest.param(POLICY.replace("vpc:*", "\\u001b[31m").encode(), r"value:    \x1b[31m", id="for-a-terminal"),
    ],
)
def test_a_bad_policy_makes_no_key_and_no_store(api: Command, tmp_path: Path, content: bytes | None, told: str) -> None:
    file = tmp_path / "policy"
    if content is not None:
        file.write_bytes(content)
    _, err = api("keys", "create", "--policy", str(file), code=5)
    assert told in err
    assert f"at:       {file}" in err
    assert not api.file.exists()


def test_an_action_that_is_not_there_is_noted(api: Command, tmp_path: Path) -> None:
    (tmp_path / "policy").write_text(POLICY.replace("vpc:*", "ecs:DeleteGruop"))
    _, err = api("keys", "create", "--policy", str(tmp_path / "policy"))
    assert "note: the policy names ecs:deletegruop, but the API has no such action" in err
    _, err = api("keys", "create", "--policy", "read-only")
    assert "no such action" not in err


def test_the_audit_is_shown_and_can_be_gone_on_with(api: Command) -> None:
    made = [api.json("keys", "create")["access_key_id"] for _ in range(3)]
    api("keys", "revoke", made[0])
    lines = [json.loads(line) for line in api("audit", "--json")[0].splitlines()]
    for line in lines:
        assert_conforms("api-audit", line)
    assert [line["revision"] for line in lines] == [1, 2, 3, 4]
    assert [line["changed"] for line in lines] == [[f"access_key/{key_id}"] for key_id in (*made, made[0])]
    rest = [json.loads(line) for line in api("audit", "--json", "--since", "2")[0].splitlines()]
    assert rest == lines[2:]
    assert api("audit", "--json", "--since", "4")[0] == ""
    out, _ = api("audit")
    assert [line.split()[0] for line in out.splitlines()] == ["REVISION", "1", "2", "3", "4"]
    assert "DeleteAccessKey" in out
    who = "root" if os.geteuid() == 0 else f"user {os.geteuid()}"
    assert out.splitlines()[1].endswith(f"  {who} on this host  CreateAccessKey access key {made[0]}")


@pytest.mark.parametrize(
    ("record", "words"),
    [
        ({"key": "LTAI1", "source": "192.0.2.1", "changed": ["security_group/sg-a"]},
         ["LTAI1 from 192.0.2.1", "security group sg-a"]),
        ({"key": "", "source": "uid:1000", "changed": ["vpc/v", "network_interface/e"]},
         ["user 1000 on this host", "VPC v, ENI e"]),
        ({"key": "", "source": "uid:0", "changed": [*(f"instance/{i}" for i in range(3)), "vpc/v"]},
         ["root on this host", "3 instances, 1 VPC"]),
    ],
)  # fmt: skip
def test_a_record_of_the_audit_says_who_did_what_in_words(record: dict[str, Any], words: list[str]) -> None:
    told = {"revision": 7, "time": "2026-11-28T05:39:42.993Z", "action": "Any", **record}
    (table,) = audit_tables(iter([told]))
    header, line = table.splitlines()
    assert re.split(" {2,}", header) == ["REVISION", "TIME", "DONE BY", "ACTION, AND WHAT IT CHANGED"]
    assert re.split(" {2,}", line.strip()) == ["7", "2026-11-28T05:39:42Z", words[0], f"Any {words[1]}"]


WEB = {
    "security_group_rule_id": "sgr-1", "type": "ingress", "ip_protocol": "tcp", "port_range": "443/443",
    "cidr_ip": "0.0.0.0/0",
}  # fmt: skip
TO_DB = {
    "security_group_rule_id": "sgr-2", "type": "egress", "ip_protocol": "all", "port_range": "-1/-1", "priority": 7,
    "policy": "drop", "dest_security_group_id": "sg-db", "source_port_range": "53/53",
}  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "more", "words"),
    [
        ([(None, WEB)], 0, ": added sgr-1: accept ingress tcp 443/443 from 0.0.0.0/0"),
        ([(TO_DB, None)], 0,
         ": removed sgr-2: drop egress all to sg-db (priority 7, source port range 53/53)"),
        ([(WEB, WEB | {"port_range": "444/444"})], 0,
         (": changed sgr-1: accept ingress tcp 444/444 from 0.0.0.0/0 "
         "(it was accept ingress tcp 443/443 from 0.0.0.0/0)")),
        ([(None, WEB), (TO_DB, None)], 0,
         (": added sgr-1: accept ingress tcp 443/443 from 0.0.0.0/0; "
         "removed sgr-2: drop egress all to sg-db (priority 7, source port range 53/53)")),
        ([(None, WEB)] * 4, 0, ", 4 rules"),
        ([(None, WEB)], 5, ", 6 rules"),
    ],
)  # fmt: skip
def test_a_record_of_the_audit_says_which_rules_changed_and_how(
    changes: list[tuple[Any, Any]], more: int, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "400")
    rules = [{"security_group_id": "sg-a", "before": before, "after": after} for before, after in changes]
    record = {"revision": 7, "time": "2026-11-28T05:39:42.993Z", "action": "Any", "changed": ["security_group/sg-a"]}
    (table,) = audit_tables(iter([{**record, "rules": rules, "more_rules": more}]))
    assert table.splitlines()[1].endswith(f"  Any security group sg-a{words}")


def test_the_audit_is_pruned_and_says_so(api: Command) -> None:
    for _ in range(4):
        api("keys", "create")
    assert "no record is older than revision 1" in api("audit", "--prune-before", "1")[0]
    assert "2 records up to revision 2 removed; revision 5 says so" in api("audit", "--prune-before", "3")[0]
    out, err = api("audit")
    assert [line.split()[0] for line in out.splitlines()] == ["REVISION", "3", "4", "5"]
    assert "note: the records up to revision 2 have been pruned" in err
    assert api("audit", "--since", "2")[1] == ""
    found = json.loads(api("audit", "--prune-before", "999", "--json")[0])
    assert_conforms("api-audit-pruned", found)
    assert (found["pruned"], found["up_to"], found["revision"]) == (3, 5, 6)
    assert_conforms("api-audit", json.loads(api("audit", "--json")[0]))


def test_a_backup_brings_a_key_back(api: Command, tmp_path: Path) -> None:
    key_id = api.json("keys", "create")["access_key_id"]
    assert api.json("backup", str(tmp_path / "copy")) == {"file": f"{tmp_path}/copy", "revision": 1}
    api("keys", "revoke", key_id)
    former = f"{tmp_path}/store.before-restore"
    restored = api.json("restore", str(tmp_path / "copy"))
    epoch = restored.pop("epoch")
    assert restored == {"file": str(api.file), "revision": 2, "former": former}
    assert api.json("keys", "list")["access_keys"][0]["revoked"] is None
    assert "has revision 2" in api("backup", str(tmp_path / "copy2"))[0]
    assert former in api("restore", str(tmp_path / "copy2"))[0]
    said = api.json("restored")
    assert (said["revision"], said["epoch"] > epoch) == (4, True)
    assert f"the store has revision 5 of epoch {said['epoch'] + 1}" in api("restored")[0]
    for line in api("audit", "--json")[0].splitlines():
        assert_conforms("api-audit", json.loads(line))
    _, err = api("backup", str(tmp_path / "copy"), code=5)
    assert "InvalidStore.Exists" in err


def test_a_store_in_use_is_not_restored(api: Command, tmp_path: Path) -> None:
    api("keys", "create")
    api("backup", str(tmp_path / "copy"))
    with closing(SqliteStore(api.file)):
        _, err = api("restore", str(tmp_path / "copy"), code=5)
    assert "stop `sgdp api` first" in err


@pytest.mark.parametrize(
    "words", [("keys", "list"), ("keys", "revoke", "LTAI"), ("audit",), ("backup", "copy")], ids=" ".join
)
def test_a_store_that_is_not_there_is_not_made(api: Command, words: tuple[str, ...]) -> None:
    _, err = api(*words, code=5)
    assert "InvalidStore.NotFound" in err
    assert str(api.file) in err
    assert not api.file.exists()


def test_the_two_ways_to_name_a_file(api: Command) -> None:
    api("keys", "create", store=f"sqlite:{api.file}")
    assert len(api.json("keys", "list")["access_keys"]) == 1


@pytest.mark.parametrize("store", ["https://example.com", "postgres:db", "sqlite:"])
def test_other_stores_are_refused(api: Command, store: str) -> None:
    _, err = api("keys", "create", code=5, store=store)
    assert "InvalidStore." in err
    assert f"value:    {store}" in err
    assert "expected: sqlite:FILE, FILE or etcd://HOST:PORT" in err


def test_a_store_in_etcd_needs_to_be_told_where_its_key_file_is(api: Command) -> None:
    _, err = api("keys", "create", code=5, store="etcd://127.0.0.1:1")
    assert "InvalidStore.KeyFile" in err
    assert "expected: --key-file FILE" in err


@pytest.mark.parametrize("words", [("backup", "FILE"), ("restore", "FILE")])
def test_copies_of_etcd_are_etcd_s(api: Command, words: tuple[str, ...]) -> None:
    _, err = api(*words, code=5, store="etcd://127.0.0.1:1")
    assert "InvalidStore.Unsupported" in err
    assert "expected: etcdctl snapshot save" in err


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("keys",),
        ("keys", "create"),
        ("audit", "--store", "s", "--since", "-1"),
        ("audit", "--store", "s", "--since", "x"),
        ("keys", "create", "--store", "s", "--name", "n" * 129),
    ],
)
def test_wrong_usage(words: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as raised:
        main(["api", *words])
    assert raised.value.code == 2
    assert "error:" in capsys.readouterr().err


def test_without_the_extra_only_what_needs_it_says_what_to_install(
    api: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    api("keys", "create")
    monkeypatch.delitem(sys.modules, "sgdataplane.control.access.secrets")
    monkeypatch.setitem(sys.modules, "cryptography.exceptions", None)
    _, err = api("keys", "create", code=5, store=str(tmp_path / "other"))
    assert "the package cryptography, which is not installed" in err
    assert "pip install 'sgdataplane[api]'" in err
    assert not (tmp_path / "other").exists()
    api("keys", "list")
    api("audit")
    api("backup", str(tmp_path / "copy"))


def test_the_verb_alone_imports_nothing_of_the_control_plane() -> None:
    code = (
        "import sys; from sgdataplane.cli.main import build_parser; build_parser(None);"
        "theirs = ('sgdataplane.control', 'sgdataplane.store', 'cryptography');"
        "print([name for name in sys.modules if name.startswith(theirs)])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_a_served_api_imports_neither_analyses_nor_yaml() -> None:
    """They would be 25 of the 300 ms of its start, and only the fork server and files of a state need them."""
    code = (
        "import sys; from sgdataplane.cli import apidev, apiserve; from sgdataplane.control.http import server;"
        "from sgdataplane.control.service import aside, dispatch;"
        "print('sgdataplane.statefile.document' in sys.modules,"
        "[name for name in sys.modules if name.startswith(('sgdataplane.analyse', 'yaml'))])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "True []\n"
