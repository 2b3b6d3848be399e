"""The Python API: its names, what each gives, and what importing the package costs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import sgdataplane
from sgdataplane import decide, diff, expect, explain, load
from sgdataplane.errors import LabError, StateFileError
from sgdataplane.net.values import Verdict
from tests.unit.cli.test_test import STATE


@pytest.fixture
def path(tmp_path: Path) -> Path:
    found = tmp_path / "state.yaml"
    found.write_text(STATE, encoding="utf-8")
    return found


def test_each_name_is_there_and_no_other() -> None:
    assert set(sgdataplane.__all__) <= set(dir(sgdataplane))
    assert all(getattr(sgdataplane, name) for name in sgdataplane.__all__)
    with pytest.raises(AttributeError, match="has no attribute 'other'"):
        sgdataplane.other  # noqa: B018


def test_importing_the_package_loads_nothing_else() -> None:
    script = "import sys; before = set(sys.modules); import sgdataplane; print(sorted(set(sys.modules) - before))"
    done = subprocess.run([sys.executable, "-c", script], check=True, text=True, capture_output=True)
    assert done.stdout.strip() == "['sgdataplane']"


def test_types_are_for_users_too() -> None:
    assert Path(str(sgdataplane.__file__)).with_name("py.typed").exists()


def test_decisions_are_of_the_end_that_decides(path: Path) -> None:
    state = load(path)
    accepted, dropped = decide(state, "web", "db", "tcp/5432"), decide(path, "db", "web", "tcp/22")
    assert (accepted.verdict, accepted.security_group_rule_id) == (Verdict.ACCEPT, "sgr-pg")
    assert (dropped.verdict, dropped.reason) == (Verdict.DROP, "default")
    assert decide(state, "203.0.113.9", "10.0.0.2", "icmp").verdict is Verdict.DROP


def test_explanations_have_both_ends(path: Path) -> None:
    flow = explain(path, "web", "db", "tcp/5432")
    assert flow.passes
    assert [end.packet.eni_id for end in flow.ends] == ["eni-web", "eni-db"]
    outside = explain(path, "203.0.113.9", "db", "tcp/5432")
    assert [end.packet.eni_id for end in outside.ends] == ["eni-db"]


def test_a_diff_has_each_change(path: Path, tmp_path: Path) -> None:
    changed = tmp_path / "changed.yaml"
    changed.write_text(STATE.replace("5432/5432", "5433/5433"), encoding="utf-8")
    assert sorted(change.is_opening for change in diff(path, changed).changes) == [False, True]
    assert not diff(path, path)


@pytest.mark.parametrize("where", ["instance", "host"])
def test_a_ruleset_is_text_for_nft(where: str, path: Path) -> None:
    text = sgdataplane.compile(path, "web", placement=where)  # type: ignore[arg-type]
    assert text.startswith("add table inet sgdataplane")
    assert ("sgr-pg" in text) is (where == "host")


def test_expectations_raise_with_all_reasons(path: Path) -> None:
    expect(path, "web -> db tcp/5432 accept sgr-pg", "web -> db tcp/22 drop")
    with pytest.raises(AssertionError) as caught:
        expect(path, "web -> db tcp/5432 drop\nweb -> db tcp/22 accept")
    probe = "  i-web 10.0.0.1 -> i-db 10.0.0.2"
    assert str(caught.value).splitlines() == [
        "web -> db tcp/5432 drop",
        f"{probe} tcp/5432: expected drop, but the policy says accept, by sgr-pg of sg-db (priority 1)",
        "web -> db tcp/22 accept",
        f"{probe} tcp/22: expected accept, but the policy says drop at ingress, by default",
    ]


def test_what_can_not_be_asked_is_refused(path: Path, tmp_path: Path) -> None:
    with pytest.raises(LabError, match="the state has no such instance"):
        decide(path, "web", "other", "tcp/22")
    with pytest.raises(LabError, match="name one, such as tcp/22"):
        decide(path, "web", "db", "tcp/22,tcp/23")
    with pytest.raises(ValueError, match="expected FROM -> TO"):
        expect(path, "web to db")
    with pytest.raises(StateFileError):
        load(tmp_path / "missing.yaml")
