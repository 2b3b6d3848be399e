"""Marks and timeouts of a namespace's conntrack, as enforce() sets them."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest

from sgdataplane.errors import HostError
from sgdataplane.host import netns, sysctl
from sgdataplane.host.marks import clear_mark_fields
from sgdataplane.host.timeouts import ALWAYS_THERE, IF_TRACKED, KERNELS_OWN, set_timeouts
from tests.support.conntrack import fill, tuple_of

pytestmark = pytest.mark.kernel
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


def timeouts(namespace: str) -> dict[str, int]:
    with netns.inside(namespace):
        names = [name for name in os.listdir(f"{sysctl.ROOT}/netfilter") if "_timeout" in name]
        return {name: int(sysctl.read(f"netfilter/{name}")) for name in names}


def test_timeouts_are_the_specified_ones_and_the_kernels_own_stay(namespace: str) -> None:
    before = timeouts(namespace)
    with netns.inside(namespace):
        untracked = set_timeouts()
    after, specified = timeouts(namespace), ALWAYS_THERE | IF_TRACKED
    assert {name: after[name] for name in specified if name in after} == {
        name: seconds for name, seconds in specified.items() if name in after
    }
    assert set(untracked) == specified.keys() - after.keys() <= IF_TRACKED.keys()
    others = after.keys() - specified.keys()
    assert {name: after[name] for name in others} == {name: before[name] for name in others}
    assert max(seconds for name, seconds in after.items()) <= 910


@pytest.mark.parametrize(("scale", "established", "syn_sent", "close"), [(0.1, 91, 12, 1), (2.0, 1820, 240, 6)])
def test_all_timeouts_are_scaled(namespace: str, scale: float, established: int, syn_sent: int, close: int) -> None:
    with netns.inside(namespace):
        set_timeouts(scale)
    found = timeouts(namespace)
    names = ("established", "syn_sent", "close")
    assert [found[f"nf_conntrack_tcp_timeout_{name}"] for name in names] == [established, syn_sent, close]
    assert KERNELS_OWN["nf_conntrack_tcp_timeout_syn_sent"] == 120


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
