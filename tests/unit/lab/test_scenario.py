from __future__ import annotations

from pathlib import Path

import pytest

from sgdataplane.errors import LabError
from sgdataplane.lab.expect import Expectation, ProbeResult
from sgdataplane.lab.expectations import Row, mistake_of
from sgdataplane.lab.probe import Observation, Probe, ProbeEnd, Service
from sgdataplane.lab.scenario import load_scenario
from sgdataplane.model.decision import Decision
from sgdataplane.net.values import Address, Direction, Verdict

GOOD = """
title = "A title"
externals = [["198.51.100.7", "2001:db8:ffff::7"], ["192.0.2.1"]]
ports = ["tcp/22", "icmp"]
[[steps]]
title = "First"
state = "state.yaml"
expect = ["i-a -> i-b tcp/22,icmp drop sgr-x", "i-b -> 10.0.0.1 udp/53 accept"]
"""


def write(folder: Path, text: str) -> Path:
    (folder / "scenario.toml").write_text(text)
    return folder


def test_scenario_is_read(tmp_path: Path) -> None:
    scenario = load_scenario(write(tmp_path, GOOD))
    assert (scenario.title, scenario.services) == ("A title", (Service(6, 22), Service(1)))
    assert scenario.externals == (("198.51.100.7", "2001:db8:ffff::7"), ("192.0.2.1",))
    (step,) = scenario.steps
    assert step.state == tmp_path / "state.yaml"
    first, second = step.rows
    assert (first.sender, first.receiver, first.services) == ("i-a", "i-b", (Service(6, 22), Service(1)))
    assert (first.verdict, first.rule, second.receiver, second.rule) == ("drop", "sgr-x", "10.0.0.1", "")


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        ('title = "A title"', "", "'title'"),
        ('title = "A title"', 'title = "x"\ncolour = "red"', "unknown key 'colour'"),
        ('state = "state.yaml"', "", "'state'"),
        ("tcp/22,icmp drop sgr-x", "tcp/22 refuse", "expected FROM -> TO"),
        ("i-a -> i-b", "i-a i-b", "expected FROM -> TO"),
        ('"tcp/22", "icmp"', '"tcp"', "tcp and udp take a port"),
        ("[[steps]]", "[[steps", "not a scenario"),
    ],
)
def test_what_is_no_scenario_is_refused_with_its_place(tmp_path: Path, before: str, after: str, words: str) -> None:
    with pytest.raises(LabError, match=words):
        load_scenario(write(tmp_path, GOOD.replace(before, after)))


def test_folder_without_a_scenario_is_told(tmp_path: Path) -> None:
    with pytest.raises(LabError, match="No such file or directory"):
        load_scenario(tmp_path)


PROBE = Probe(
    ProbeEnd("a", "eth0", Address.parse("10.0.0.1"), "eni-a"),
    ProbeEnd("b", "eth0", Address.parse("10.0.0.2")),
    Service(6, 22),
)
BY_RULE = Expectation(Decision(Direction.INGRESS, Verdict.ACCEPT, "rule", "sg", "sgr-1", 1))
BY_DEFAULT = Expectation(Decision(Direction.INGRESS, Verdict.ACCEPT, "default"))


@pytest.mark.parametrize(
    ("verdict", "rule", "expected", "observed", "is_right"),
    [
        ("accept", "sgr-1", BY_RULE, "accept", True),
        ("accept", "", BY_RULE, "accept", True),
        ("accept", "default", BY_DEFAULT, "accept", True),
        ("accept", "sgr-2", BY_RULE, "accept", False),
        ("accept", "sgr-1", BY_DEFAULT, "accept", False),
        ("drop", "", BY_RULE, "drop", False),
        ("drop", "", BY_RULE, "accept", False),
        ("accept", "", BY_RULE, "unknown", False),
    ],
)
def test_row_is_right_only_if_policy_packets_and_rule_are(
    verdict: str, rule: str, expected: Expectation, observed: str, is_right: bool
) -> None:
    row = Row("text", "a", "b", (Service(6, 22),), verdict, rule)
    mistake = mistake_of(row, ProbeResult(PROBE, expected, Observation(observed)))
    assert (mistake == "") is is_right


@pytest.mark.parametrize(
    ("verdict", "observed", "words"),
    [
        ("drop", "accept", "expected drop, but the policy says accept, by {rule}; packets show accept: seen"),
        ("accept", "drop", "expected accept, and the policy says so, by {rule}; packets show drop at ingress: seen"),
    ],
    ids=["the policy is other", "packets are other"],
)
def test_expected_is_what_the_row_says(verdict: str, observed: str, words: str) -> None:
    """Not what the policy says, as in a probe."""
    row = Row("text", "a", "b", (Service(6, 22),), verdict)
    seen = Observation(observed, where="ingress" if observed == "drop" else "", evidence=("seen",))
    expected = words.format(rule="sgr-1 of sg (priority 1)")
    assert mistake_of(row, ProbeResult(PROBE, BY_RULE, seen)) == expected
