"""The policies that are kept: which ones, how often each is written, and what becomes of what can't be read."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from sgdataplane.daemon import pastpolicies
from sgdataplane.daemon.pastpolicies import MAX_POLICIES, PastPolicies, change_of, digest_of
from sgdataplane.daemon.source import LastGood
from sgdataplane.errors import HostError
from sgdataplane.model.state import CloudState
from tests.support.inputs.builders import make_eni, make_group, make_rule, make_state


def state_of(*ports: int) -> CloudState:
    """A group that lets these ports in, and an ENI in it."""
    rules = [make_rule(f"ingress tcp {port}/{port} from 0.0.0.0/0", f"sgr-{port}") for port in sorted(ports, key=str)]
    return make_state([make_group("sg-a", rules)], [make_eni("eni-a", "10.0.0.1", "sg-a")])


UNLINK = Path.unlink
ONE, TWO = state_of(80), state_of(80, 443)


def test_each_policy_has_a_number_and_equal_ones_share_a_file(tmp_path: Path) -> None:
    past = PastPolicies(tmp_path)
    for state in (ONE, TWO, ONE):
        past.note(state, "state.yaml", "")
    assert [(entry.number, entry.change) for entry in past.entries] == [
        (1, "the first one that is kept"),
        (2, "+1 rule"),
        (3, "-1 rule"),
    ]
    assert len(list(tmp_path.glob("*.yaml"))) == 2
    again = PastPolicies(tmp_path)
    assert again.entries == past.entries
    assert again.state(again.find(2).digest) == TWO


def test_what_is_in_force_already_is_noted_once_also_after_a_restart(tmp_path: Path) -> None:
    PastPolicies(tmp_path).note(ONE, "state.yaml", "")
    past = PastPolicies(tmp_path)
    past.note(state_of(80), "state.yaml", "")
    past.note(state_of(80), "state.yaml", "")
    assert [entry.number for entry in past.entries] == [1]


def test_the_oldest_go_with_their_files(tmp_path: Path) -> None:
    past = PastPolicies(tmp_path)
    for port in range(1, MAX_POLICIES + 6):
        past.note(state_of(port), "state.yaml", "")
    assert [past.entries[0].number, past.entries[-1].number] == [6, MAX_POLICIES + 5]
    assert len(list(tmp_path.glob("*.yaml"))) == MAX_POLICIES
    with pytest.raises(HostError, match=f"those that are: 6 to {MAX_POLICIES + 5}"):
        past.find(1)


def test_large_policies_are_fewer_but_never_less_than_two(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pastpolicies, "MAX_BYTES", 1)
    past = PastPolicies(tmp_path)
    for port in (1, 2, 3):
        past.note(state_of(port), "state.yaml", "")
    assert [entry.number for entry in past.entries] == [2, 3]


@pytest.mark.parametrize("text", ["", "7", "{}", '{"version": 1, "policies": [{"number": "x"}]}', "[" * 100_000])
def test_a_list_that_cannot_be_read_begins_anew_and_says_so(tmp_path: Path, text: str) -> None:
    PastPolicies(tmp_path).note(ONE, "state.yaml", "")
    (tmp_path / "index.json").write_text(text, "utf-8")
    past = PastPolicies(tmp_path)
    assert not past.entries
    assert "can't be read" in past.error
    past.note(TWO, "state.yaml", "")
    assert [entry.number for entry in past.entries] == [1]
    assert past.error == ""


def test_an_entry_without_its_file_is_not_offered(tmp_path: Path) -> None:
    past = PastPolicies(tmp_path)
    for state in (ONE, TWO):
        past.note(state, "state.yaml", "")
    (tmp_path / f"{digest_of(ONE)}.yaml").unlink()
    with pytest.raises(HostError, match="No such file"):
        past.state(digest_of(ONE))
    assert [entry.number for entry in PastPolicies(tmp_path).entries] == [2]


def test_contents_that_come_and_go_beside_it_harm_nothing(tmp_path: Path) -> None:
    past = PastPolicies(tmp_path)
    (tmp_path / "left-by-a-crash.yaml").write_text("x", "utf-8")
    for state in (ONE, TWO):
        past.note(state, "state.yaml", "")
    assert {path.stem for path in tmp_path.glob("*.yaml")} == {digest_of(ONE), digest_of(TWO)}
    again = PastPolicies(tmp_path)
    assert len(again.entries) == 2
    (tmp_path / f"{digest_of(ONE)}.yaml").unlink()
    again.note(state_of(22), "state.yaml", "")
    assert [entry.number for entry in again.entries] == [2, 3]
    assert again.error == ""


def test_a_content_that_could_not_be_removed_goes_with_the_next_policy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pastpolicies, "MAX_POLICIES", 1)
    past = PastPolicies(tmp_path)
    past.note(ONE, "state.yaml", "")
    with monkeypatch.context() as refusing:
        refusing.setattr(Path, "unlink", refuse_contents)
        past.note(TWO, "state.yaml", "")
    assert {path.stem for path in tmp_path.glob("*.yaml")} == {digest_of(ONE), digest_of(TWO)}
    past.note(state_of(22), "state.yaml", "")
    assert {path.stem for path in tmp_path.glob("*.yaml")} == {digest_of(state_of(22))}


def refuse_contents(path: Path, **_options: object) -> None:
    if not path.name.startswith("."):
        raise OSError(f"{path}: refused")
    UNLINK(path)


def test_a_folder_that_cannot_be_written_is_told_and_nothing_is_raised(tmp_path: Path) -> None:
    (tmp_path / "policies").write_text("a file is in its place", "utf-8")
    past = PastPolicies(tmp_path / "policies")
    past.note(ONE, "state.yaml", "")
    assert str(tmp_path / "policies") in past.error
    (tmp_path / "policies").unlink()
    past.note(ONE, "state.yaml", "")
    assert past.error == ""
    assert json.loads((tmp_path / "policies" / "index.json").read_bytes())["policies"][0]["number"] == 1


def test_the_change_is_said_by_kind() -> None:
    other = make_eni("eni-b", "10.0.0.2", "sg-a", instance_id="i-a")
    more = replace(TWO, network_interfaces=(*TWO.network_interfaces, other))
    assert change_of(ONE, more) == "+1 rule; +1 ENI"
    assert change_of(state_of(80, 81), state_of(80, 443)) == "+1 -1 rules"
    group = replace(ONE.security_groups[0], description="new")
    assert change_of(ONE, replace(ONE, security_groups=(group,))) == "~1 group"


def test_what_is_on_disk_already_is_not_written_again_and_outlives_its_other_name(tmp_path: Path) -> None:
    last_good, past = LastGood(tmp_path), PastPolicies(tmp_path / "policies")
    for state in (ONE, TWO):
        last_good.store(state)
        past.note(state, "state.yaml", "", written=last_good.find_written(state))
        assert past.path_of(digest_of(state)).stat().st_ino == last_good.path.stat().st_ino
    assert last_good.find_written(ONE) is None
    assert PastPolicies(tmp_path / "policies").state(digest_of(ONE)) == ONE
    assert [entry.change for entry in past.entries] == ["the first one that is kept", "+1 rule"]


def test_groups_that_both_states_share_are_not_compared_and_others_are() -> None:
    other = make_group("sg-b", [make_rule("ingress udp 53/53 from 0.0.0.0/0", "sgr-53")])
    before = replace(ONE, security_groups=(*ONE.security_groups, other))
    after = replace(TWO, security_groups=(*TWO.security_groups, other))
    assert change_of(before, after) == "+1 rule"
    assert change_of(before, before) == "nothing that rules depend on"


def test_room_is_made_for_what_comes_first(tmp_path: Path) -> None:
    past = PastPolicies(tmp_path)
    assert not past.make_room()
    for port in (1, 2, 3):
        past.note(state_of(port), "state.yaml", "")
    assert past.make_room()
    assert [entry.number for entry in PastPolicies(tmp_path).entries] == [3]
    assert len(list(tmp_path.glob("*.yaml"))) == 1
    assert not past.make_room()
