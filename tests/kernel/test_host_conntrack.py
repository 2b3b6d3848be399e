"""Marks and timeouts of a namespace's conntrack, as enforce() sets them."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest

from sgdataplane.errors import HostError
from sgdataplane.host import netns, sysctl
from sgdataplane.host.conntrack import end_tracked, list_tracked, shorten_tracked
from sgdataplane.host.marks import clear_mark_fields
from sgdataplane.host.modules import TRACKING, require
from sgdataplane.host.timeouts import KERNELS_OWN, SPECIFIED, set_timeouts
from tests.support.kernel.conntrack import fill, tuple_of
from tests.support.models.trackers import LINUX_6_1, LINUX_6_12, LINUX_6_18

pytestmark = pytest.mark.kernel
ENDS = (("10.0.0.1", "10.0.0.2"), ("2001:db8::1", "2001:db8::2"))
HIGH, LOW = 0xFFE00000, 0x0000FFE0  # two fields with bits of somebody else's between them


def marks(namespace: str) -> list[int]:
    """The marks of all sessions there, sorted, as the kernel's own list shows them."""
    with netns.inside(namespace), open("/proc/thread-self/net/nf_conntrack", encoding="ascii") as file:
        return sorted(int(line.partition(" mark=")[2].split()[0]) for line in file)


@pytest.mark.parametrize(
    ("mark", "values", "left", "count"),
    [
        pytest.param(3 << 21 | 7 << 16 | 4 << 5 | 9, range(3, 4), 7 << 16 | 4 << 5 | 9, 1, id="one-field-of-two"),
        pytest.param(3 << 21 | 7 << 16 | 3 << 5 | 9, range(1, 9), 7 << 16 | 9, 2, id="both-fields"),
        pytest.param(2047 << 21 | 1 << 5, range(1024, 2048), 1 << 5, 1, id="the-highest-value"),
        pytest.param(3 << 21 | 4 << 5, range(5, 9), 3 << 21 | 4 << 5, 0, id="none-of-these-values"),
        pytest.param(7 << 16, range(2048), 7 << 16, 0, id="nothing-in-the-fields"),
    ],
)
def test_fields_of_marks_are_cleared_one_by_one(
    namespace: str, mark: int, values: range, left: int, count: int
) -> None:
    sessions = [tuple_of("10.0.0.1/1000 10.0.0.2/80"), tuple_of("2001:db8::1/1000 2001:db8::2/80")]
    fill(namespace, sessions, mark=mark)
    with netns.inside(namespace):
        assert clear_mark_fields((HIGH, LOW), values) == count * 2
        assert clear_mark_fields((HIGH, LOW), values) == 0
    assert marks(namespace) == [left, left]


def test_namespace_without_sessions_has_no_marks(namespace: str) -> None:
    with netns.inside(namespace):
        assert clear_mark_fields((HIGH, LOW), range(1, 2048)) == 0


def test_sessions_are_ended_by_what_they_are(namespace: str) -> None:
    near = [tuple_of("10.0.0.1/1000 10.0.0.2/80"), tuple_of("2001:db8::1/1000 2001:db8::2/80")]
    kept = [tuple_of("10.0.0.1/1001 10.0.0.2/81"), tuple_of("10.0.0.2/80 10.0.0.1/1002")]
    fill(namespace, near + kept)
    with netns.inside(namespace):
        assert end_tracked(lambda entry: entry.original.port == 80) == 2
        assert {entry.original for entry in list_tracked()} == set(kept)
        assert end_tracked(lambda entry: entry.original.port == 80) == 0


def test_sessions_are_left_less_time_and_never_more(namespace: str) -> None:
    """All have 900 s. Of one less is allowed when it is read again, as after its state has changed meanwhile."""
    sessions = [tuple_of(f"{near}/{port} {far}/80") for near, far in ENDS for port in (1000, 1001, 1002)]
    fill(namespace, sessions)
    longest = {1000: 60, 1001: None, 1002: 9000}
    with netns.inside(namespace):
        assert shorten_tracked(lambda entry: longest[entry.original.source_port]) == 2
        left = {entry.original: entry.seconds_left for entry in list_tracked()}
        assert all((seconds <= 60) == (ends.source_port == 1000) for ends, seconds in left.items())
        assert (len(left), max(left.values()) <= 900) == (6, True)
        asked = iter([100, *[30] * 99])
        assert shorten_tracked(lambda entry: next(asked) if entry.original == sessions[1] else None) == 2
        assert next(e.seconds_left for e in list_tracked() if e.original == sessions[1]) <= 30


def timeouts(namespace: str) -> dict[str, int]:
    with netns.inside(namespace):
        require(TRACKING)
        names = [name for name in os.listdir(f"{sysctl.ROOT}/netfilter") if "_timeout" in name]
        return {name: int(sysctl.read(f"netfilter/{name}")) for name in names}


def test_this_kernels_trackers_are_among_those_that_we_know(namespace: str) -> None:
    """The tables that the unit tests imitate kernels by say of this one what it is."""
    found = timeouts(namespace)
    known = {name: {seconds} for name, seconds in LINUX_6_18.items()}
    for name, seconds in (*LINUX_6_12.items(), *LINUX_6_1.items()):
        known.setdefault(name, set()).add(seconds)
    assert {name: seconds for name, seconds in found.items() if seconds not in known.get(name, ())} == {}


def test_timeouts_are_the_specified_ones_and_the_kernels_own_stay(namespace: str) -> None:
    before = timeouts(namespace)
    with netns.inside(namespace):
        trackers = set_timeouts()
    after = timeouts(namespace)
    assert {name: after[name] for name in SPECIFIED if name in after} == {
        name: seconds for name, seconds in SPECIFIED.items() if name in after
    }
    others = after.keys() - SPECIFIED.keys()
    limits = {name: 910 if "_tcp_" in name else 30 for name in others & KERNELS_OWN.keys()}
    # A session that a flowtable gives back has what the flowtable's own timeout leaves of its timeout.
    limits |= {"nf_flowtable_tcp_timeout": 303, "nf_flowtable_udp_timeout": 10}
    assert {name: after[name] for name in others} == {
        name: min(before[name], limits.get(name, before[name])) for name in others
    }
    assert max(after.values()) <= 910
    assert (trackers.unknown, set(trackers.untracked) <= {"gre", "sctp", "dccp"}) == ((), True)


@pytest.mark.parametrize(("scale", "expected"), [(0.1, [91, 12, 1, 3]), (2.0, [1820, 240, 6, 60])])
def test_all_timeouts_are_scaled(namespace: str, scale: float, expected: list[int]) -> None:
    with netns.inside(namespace):
        set_timeouts(scale)
    found = timeouts(namespace)
    names = ("tcp_timeout_established", "tcp_timeout_syn_sent", "tcp_timeout_close", "generic_timeout")
    assert [found[f"nf_conntrack_{name}"] for name in names] == expected


def test_refused_value_names_the_setting(namespace: str) -> None:
    with netns.inside(namespace), pytest.raises(HostError, match="nf_conntrack"):
        set_timeouts(1e9)


def test_sessions_of_other_namespaces_keep_their_marks(namespace: str, make_lab_name: Callable[[], str]) -> None:
    other = make_lab_name()
    netns.create(other)
    try:
        for name in (namespace, other):
            fill(name, [tuple_of("10.0.0.1/1000 10.0.0.2/80")], mark=3 << 21)
        with netns.inside(namespace):
            assert clear_mark_fields((HIGH,), range(1, 9)) == 1
        assert (marks(namespace), marks(other)) == ([0], [3 << 21])
    finally:
        netns.remove(other)
