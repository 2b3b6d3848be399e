"""Where little of a large state changes, only that is looked at, and ENIs with the same groups share what is found."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest

from sgdataplane.analyse.diff import StateDiff
from sgdataplane.model.state import CloudState
from sgdataplane.net.values import Verdict
from sgdataplane.policy.dimensions import REMOTE
from tests.support.inputs.builders import make_eni, make_group, make_rule, make_state

RULES = [f"ingress tcp {n}/{n} from 192.{n}.0.0/16 {n}" for n in range(1, 21)]
SIZES = [
    pytest.param(1_000, 20, id="small"),
    pytest.param(65_536, 1_000, id="65,536 members", marks=pytest.mark.slow),
]


def big_state(members: int, groups: int) -> CloudState:
    """Every ENI is in two of the groups; one rule of the first group names the second."""
    names = [f"sg-{number:04}" for number in range(groups)]
    rules = [make_rule(text) for text in RULES]
    made = [make_group(name, rules, inner=Verdict.DROP) for name in names]
    made[0] = make_group(names[0], [*rules, make_rule(f"ingress tcp 9100/9100 from {names[1]}")], inner=Verdict.DROP)
    enis = [
        make_eni(
            f"eni-{n:06}",
            f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}",
            " ".join(sorted({names[n % groups], names[(7 * n + 3) % groups]})),
        )
        for n in range(members)
    ]
    return make_state(made, enis)


@pytest.mark.parametrize(("members", "groups"), SIZES)
def test_only_what_changes_is_looked_at(members: int, groups: int) -> None:
    before = big_state(members, groups)
    group = before.security_groups[4]
    turned = replace(group, rules=(*group.rules[1:], make_rule("ingress udp 53/53 from 10.0.0.0/8")))
    after = replace(before, security_groups=(*before.security_groups[:4], turned, *before.security_groups[5:]))
    begin = time.process_time()
    diff = StateDiff(before, after)
    concerned = diff.list_concerned()
    found = [diff.at(eni_id) for eni_id in concerned]
    print(f"{len(concerned)} ENIs in {time.process_time() - begin:.2f} s")
    places = diff.hypothetical.places()
    assert all(group.security_group_id in place.security_group_ids for place in places)
    would_open = [one for place in places for one in diff.hypothetical.at(place)]
    print(f"{len(places)} hypothetical ENIs, in {time.process_time() - begin:.2f} s together")
    assert {one.place.security_group_ids for one in would_open} == {(group.security_group_id,)}
    own = [eni.network_interface_id for eni in before.enis_of_group[group.security_group_id]]
    assert concerned == sorted(own)
    assert all(any(change.is_opening for change in one.changes) for one in found)


@pytest.mark.parametrize(("members", "groups"), SIZES)
def test_a_member_that_goes_is_told_where_its_group_is_named(members: int, groups: int) -> None:
    before = big_state(members, groups)
    gone = before.enis_of_group["sg-0001"][0]
    enis = tuple(eni for eni in before.network_interfaces if eni is not gone)
    diff = StateDiff(before, replace(before, network_interfaces=enis))
    told = {one.eni_id: one.changes for one in map(diff.at, diff.list_concerned()) if one.changes}
    naming = {eni.network_interface_id for eni in before.enis_of_group["sg-0000"]}
    assert told.keys() == naming | {gone.network_interface_id}
    for eni_id in naming - {gone.network_interface_id}:
        assert [change.of(REMOTE) for change in told[eni_id]] == [(gone.private_ip_addresses[0].value,) * 2]
