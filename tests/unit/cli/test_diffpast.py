"""Which rows of history a change would accept, and whether all their packets."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sgdataplane.analyse.diff import StateDiff
from sgdataplane.analyse.difference import compare
from sgdataplane.cli.diffpast import OpenedRow, OpenedRows, find_opened
from sgdataplane.cli.history import Coverage
from sgdataplane.history.rows import ANY, Fate, FlowCount, FlowKey, HistoryRow
from sgdataplane.model.state import CloudState, SecurityGroupRule
from sgdataplane.net.values import ICMP, TCP, UDP, Direction
from tests.support.inputs.builders import make_eni, make_group, make_rule, make_state

CLOSED = "ingress tcp 22/22 from 192.0.2.0/24"


def state_of(*rules: str | SecurityGroupRule) -> CloudState:
    return make_state(
        [make_group("sg-a", rules), make_group("sg-b")],
        [make_eni("eni-a", "10.0.0.1 2001:db8::1", "sg-a"), make_eni("eni-b", "10.0.0.2 2001:db8::2", "sg-b")],
    )


def row(end: str, port: int = 80, protocol: int = TCP, direction: Direction = Direction.INGRESS) -> HistoryRow:
    key = FlowKey("eni-a", direction, end, protocol, port, Fate.DROP, "default", "", "")
    return HistoryRow(0, 60, key, FlowCount(3, 180, 10, 20))


def opened(one: HistoryRow, *rules: str | SecurityGroupRule) -> list[OpenedRow]:
    before, after = state_of(CLOSED), state_of(*rules)
    diff = StateDiff(before, after)
    return list(find_opened([one], before, diff, compare(diff).changes))


@pytest.mark.parametrize(
    ("one", "rule", "found"),
    [
        (row("192.0.2.7"), "ingress tcp 80/80 from 192.0.2.0/24", [True]),
        (row("192.0.2.7"), "ingress tcp 81/90 from 192.0.2.0/24", []),
        (row("192.0.2.7"), "ingress udp 80/80 from 192.0.2.0/24", []),
        (row("192.0.2.7"), "egress tcp 80/80 to 192.0.2.0/24 drop", []),
        (row("198.51.100.7"), "ingress tcp 80/80 from 192.0.2.0/24", []),
        (row("192.0.2.0/24"), "ingress tcp 80/80 from 192.0.2.0/24", [True]),
        (row("192.0.2.0/24"), "ingress tcp 80/80 from 192.0.2.0/25", [False]),
        (row("192.0.2.7", ANY), "ingress tcp 80/80 from 192.0.2.0/24", [False]),
        (row("192.0.2.7", ANY), "ingress tcp 1/65535 from 192.0.2.0/24", [False]),  # port 0 stays closed
        (row("192.0.2.7", ANY, ANY), "ingress tcp 80/80 from 192.0.2.0/24", [False]),
        (row("192.0.2.7", ANY, ANY), "ingress all from 192.0.2.0/24", [False]),  # ports that were open before
        (row("192.0.2.7", 8 << 8, ICMP), "ingress icmp from 192.0.2.0/24", [True]),
        (row("eni-b", 53, UDP), "ingress udp 53/53 from sg-b", [True]),
        (row("eni-b", 53, UDP), "ingress udp 53/53 from 10.0.0.0/24", [False]),  # IPv6 as well, perhaps
        (row("eni-gone", 53, UDP), "ingress udp 53/53 from 0.0.0.0/0", []),
    ],
)
def test_a_row_is_found_if_some_of_its_packets_would_be_accepted(one: HistoryRow, rule: str, found: list[bool]) -> None:
    assert [each.is_certain for each in opened(one, CLOSED, rule)] == found


def test_a_rule_about_what_a_row_does_not_tell_accepts_it_perhaps() -> None:
    rule = make_rule("ingress tcp 80/80 from 192.0.2.0/24", "sgr-new", source_port_range="1000/2000")
    before = make_state([make_group("sg-a", [CLOSED], advanced=True)], [make_eni("eni-a", "10.0.0.1", "sg-a")])
    after = make_state([make_group("sg-a", [CLOSED, rule], advanced=True)], [make_eni("eni-a", "10.0.0.1", "sg-a")])
    diff = StateDiff(before, after)
    (found,) = find_opened([row("192.0.2.7")], before, diff, compare(diff).changes)
    assert not found.is_certain
    assert found.cells[-1] == "perhaps sgr-new of sg-a (priority 1)"
    known = Coverage(0, 3600, 0, packets=0, sessions=0, absent_s=0)
    assert OpenedRows((found, replace(found, is_certain=True)), known).title.endswith("accept: 3, and perhaps 3")


def test_what_closes_accepts_nothing() -> None:
    assert opened(row("192.0.2.7", 22)) == []
