"""What is on trial for a group: read, written back, and checked against a state when it is compared with."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from sgdataplane.errors import StateFileError
from sgdataplane.model.state import CloudState, GroupTrial
from sgdataplane.net.values import Verdict
from sgdataplane.policy.reach import Reach
from sgdataplane.statefile import dump_native, load
from sgdataplane.statefile.proposals import propose
from tests.support.inputs.builders import make_eni, make_group, make_rule, make_state

SINCE, UNTIL = "2026-12-24T00:00:00Z", "2026-12-25T00:00:00Z"
WEB, SSH = "ingress tcp 80/80 from 0.0.0.0/0", "ingress tcp 22/22 from 10.0.0.0/8"
GROUP = "security_group_id: sg-a, vpc_id: vpc-a"


def with_trial(*rules: str, inner: Verdict = Verdict.DROP) -> CloudState:
    """A group that lets WEB in, with these rules on trial."""
    made = tuple(make_rule(text, f"sgr-{number}") for number, text in enumerate(rules))
    group = replace(make_group("sg-a", [make_rule(WEB, "sgr-web")]), trial=GroupTrial(SINCE, UNTIL, inner, made))
    return make_state([group, make_group("sg-b")], [make_eni("eni-a", "10.0.0.1", "sg-a")])


def read(folder: Path, text: str) -> CloudState:
    path = folder / "state.yaml"
    path.write_text(text)
    return load(path).state


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    state = with_trial(SSH, "egress all to sg-b")
    found = read(tmp_path, dump_native(state))
    assert found == state
    assert found.group["sg-a"].trial == state.group["sg-a"].trial


def test_a_state_is_the_same_policy_whatever_is_on_trial() -> None:
    """Its text, from which the digests of what was proven are made, doesn't say it."""
    state = with_trial(SSH)
    group = state.group["sg-a"]
    assert repr(replace(group, trial=None)) == repr(group)
    assert group.rules == (make_rule(WEB, "sgr-web"),)


def test_a_trial_that_begins_or_ends_narrows_nothing_so_it_costs_no_epoch() -> None:
    tried = with_trial(SSH)
    group = replace(tried.group["sg-a"], trial=None)
    plain, empty = (
        replace(tried, security_groups=(one, tried.group["sg-b"])) for one in (group, replace(group, rules=()))
    )
    assert not Reach(plain, tried).narrows(["eni-a"])
    assert not Reach(tried, plain).narrows(["eni-a"])
    assert Reach(plain, tried).touches(["eni-a"]), "so whoever keeps trials gets the new state"
    assert Reach(tried, empty).narrows(["eni-a"])


def test_without_an_inner_policy_it_is_the_groups_own(tmp_path: Path) -> None:
    head = "vpcs: [{vpc_id: vpc-a}]\nsecurity_groups:\n"
    for word in ("Accept", "Drop"):
        text = f"{head}  - {{{GROUP}, inner_access_policy: {word}, trial: {{since: '{SINCE}', until: '{UNTIL}'}}}}\n"
        assert read(tmp_path, text).group["sg-a"].proposed.inner_access_policy.value == word.lower()


@pytest.mark.parametrize(
    ("trial", "code", "pointer"),
    [
        ("7", "InvalidDocument.WrongType", "trial"),
        (f"{{since: '{SINCE}'}}", "MissingParameter.Until", "trial"),
        (f"{{until: '{UNTIL}', since: yesterday}}", "InvalidTime.Malformed", "trial/since"),
        (f"{{since: '{SINCE}', until: '{UNTIL}', rule: []}}", "InvalidDocument.UnknownKey", "trial/rule"),
        (f"{{since: '{SINCE}', until: '{UNTIL}', rules: 7}}", "InvalidDocument.WrongType", "trial/rules"),
        (
            f"{{since: '{SINCE}', until: '{UNTIL}', rules: [{{type: ingress, ip_protocol: all}}]}}",
            "MissingParameter.Source",
            "trial/rules/0",
        ),
        (
            f"{{since: '{SINCE}', until: '{UNTIL}', rules: [{{type: ingress, ip_protocl: all}}]}}",
            "InvalidDocument.UnknownKey",
            "trial/rules/0/ip_protocl",
        ),
        (
            f"{{since: '{SINCE}', until: '{UNTIL}', inner_access_policy: Perhaps}}",
            "InvalidPolicy.Malformed",
            "trial/inner_access_policy",
        ),
    ],
)
def test_what_cannot_be_read_is_refused_with_its_place(tmp_path: Path, trial: str, code: str, pointer: str) -> None:
    with pytest.raises(StateFileError) as refused:
        read(tmp_path, f"vpcs: [{{vpc_id: vpc-a}}]\nsecurity_groups:\n  - {{{GROUP}, trial: {trial}}}\n")
    assert (code, f"/security_groups/0/{pointer}") in [
        (problem.code, problem.where.pointer) for problem in refused.value.problems
    ]


def test_an_advanced_group_has_no_inner_policy_on_trial_either(tmp_path: Path) -> None:
    trial = f"trial: {{since: '{SINCE}', until: '{UNTIL}', inner_access_policy: Accept}}"
    group = f"{{{GROUP}, security_group_type: enterprise, inner_access_policy: Drop, {trial}}}"
    with pytest.raises(StateFileError, match="always Drop"):
        read(tmp_path, f"vpcs: [{{vpc_id: vpc-a}}]\nsecurity_groups:\n  - {group}\n")


def test_the_proposed_state_differs_in_the_group_alone() -> None:
    state = with_trial(SSH)
    found = propose(state, "sg-a")
    assert [rule.security_group_rule_id for rule in found.group["sg-a"].rules] == ["sgr-0"]
    assert found.group["sg-a"].inner_access_policy is Verdict.DROP
    assert found.group["sg-b"] is state.group["sg-b"]
    assert found.network_interfaces is state.network_interfaces


@pytest.mark.parametrize("group", ["sg-b", "sg-gone"])
def test_where_nothing_is_on_trial_the_state_is_proposed(group: str) -> None:
    state = with_trial(SSH)
    assert propose(state, group) is state


@pytest.mark.parametrize(
    ("rule", "code"),
    [
        ("ingress all from sg-gone", "InvalidSourceGroupId.NotFound"),
        ("ingress all from pl-gone", "InvalidPrefixListId.NotFound"),
        ("ingress all from sg-a", "InvalidParamter.Conflict"),
    ],
)
def test_a_state_is_accepted_whatever_a_trial_names_and_a_comparison_is_not(
    tmp_path: Path, rule: str, code: str
) -> None:
    state = read(tmp_path, dump_native(with_trial(SSH, rule)))
    with pytest.raises(StateFileError) as refused:
        propose(state, "sg-a")
    (problem,) = refused.value.problems
    assert problem.code == code
    assert "sgr-1" in problem.where.pointer
