"""The adoption window: which interfaces get one and when, and that nothing but a first protection opens one."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

import pytest

from sgdataplane.compiler.compile import with_adoption, with_epoch
from sgdataplane.contract.fields import TCP_ACK, CtDirection, CtState, Field
from sgdataplane.contract.tables import ADOPTING, TABLE
from sgdataplane.enforce import ApplyReport, Desired, Settings
from sgdataplane.host.conntrack import Bound, SessionTuple, Tracked
from sgdataplane.model.options import Options
from sgdataplane.model.state import ConnectionTracking
from sgdataplane.net.values import TCP, Address, Prefix
from sgdataplane.nft.delta import plan, undo
from sgdataplane.nft.interp import run
from sgdataplane.nft.ir import Key
from sgdataplane.nft.outline import stamp_of
from tests.support.inputs.builders import make_eni, make_group, make_state
from tests.support.inputs.building import apply, table_of
from tests.support.models.fakekernel import FakeKernel

PAIRS = (Prefix.parse("10.0.9.0/24"),)
STATE = make_state(
    [make_group("sg-a", ["egress tcp 80/80 from 8.8.8.0/24"], advanced=True)],
    [make_eni("eni-0", "10.0.0.1", "sg-a"), make_eni("eni-1", "10.0.0.2", "sg-a", allowed_address_pairs=PAIRS)],
)
BOTH = Desired(STATE, {"eni-0": "eth0", "eni-1": "eth1"})
ONE = replace(BOTH, interfaces={"eni-0": "eth0"})
SHORT = ConnectionTracking(tcp_established_timeout=60)
TIMED = replace(
    BOTH,
    state=make_state(
        STATE.security_groups, [STATE.eni["eni-0"], replace(STATE.eni["eni-1"], connection_tracking=SHORT)]
    ),
)


class Sessions:
    """One untracked session at each address. Notes what it was asked to seed, and whether a table existed then."""

    def __init__(self, kernel: FakeKernel | None = None) -> None:
        self.kernel, self.seeded = kernel or FakeKernel(), list[tuple[set[str], bool]]()
        self.longest: list[Bound] = []

    def forget_epochs(self, epochs: Collection[int], stamp: object) -> bool:
        return len(epochs) > 0 or stamp is None

    def seed(self, own: Collection[Prefix]) -> int:
        self.seeded.append((set(map(str, own)), self.kernel.inventory(TABLE).exists))
        return len(own)

    def shorten(self, longest: Bound) -> int:
        self.longest.append(longest)
        return len(self.longest)

    def count(self) -> int:
        return 0


def put(kernel: FakeKernel, desired: Desired, previous: Desired | None = None, **settings: object) -> ApplyReport:
    return put_with(Sessions(), kernel, desired, previous, **settings)


def put_with(
    sessions: Sessions, kernel: FakeKernel, desired: Desired, previous: Desired | None = None, **settings: object
) -> ApplyReport:
    return apply(kernel, sessions, desired, previous, replace(Settings(), **settings))  # type: ignore[arg-type]


def opened(kernel: FakeKernel) -> set[str]:
    return set(kernel.inventory(TABLE).expiring[ADOPTING])


def test_first_apply_opens_a_window_for_each_interface_and_says_so() -> None:
    kernel = FakeKernel()
    report = put(kernel, BOTH)
    assert (report.adopting, report.adoption_window) == (("eth0", "eth1"), 30.0)
    assert kernel.inventory(TABLE).expiring == {ADOPTING: {"eth0": 30_000, "eth1": 30_000}}


def test_window_of_no_seconds_is_none() -> None:
    kernel = FakeKernel()
    report = put(kernel, BOTH, adoption_window=0)
    assert (report.adopting, report.adoption_window, opened(kernel)) == ((), 0.0, set())


@pytest.mark.parametrize("previous", [ONE, None], ids=["difference", "full-resync"])
def test_only_an_interface_that_is_new_gets_one_later(previous: Desired | None) -> None:
    kernel = FakeKernel()
    put(kernel, ONE, adoption_window=0)
    report = put(kernel, BOTH, previous, adoption_window=2.5)
    assert (report.adopting, report.is_full_resync) == (("eth1",), previous is None)
    assert opened(kernel) == {"eth1"}


@pytest.mark.parametrize("is_there", [True, False], ids=["while-its-window-is-open", "after-it"])
def test_an_interface_that_returns_gets_a_whole_window(is_there: bool) -> None:
    """Before Linux 6.12 an element that is added again keeps the time that it has left. So the stage takes it away."""
    kernel = FakeKernel()
    put(kernel, BOTH)
    put(kernel, ONE, BOTH)
    if not is_there:
        _expire(kernel)
    held, wanted = kernel.table(TABLE), with_adoption(with_epoch(table_of(BOTH), 2), ("eth1",), 5000)
    change, *_ = plan(held, kernel.inventory(TABLE), wanted).changes
    lines = [line for line in str(change.stage).splitlines() if f"{TABLE} {ADOPTING}" in line]
    assert lines == [
        f'add element inet {TABLE} {ADOPTING} {{ "eth1" timeout 5000ms : return }}',
        f'delete element inet {TABLE} {ADOPTING} {{ "eth1" }}',
    ]
    kernel.run(change.stage)
    assert "eth1" not in opened(kernel)
    kernel.run(undo(change.stage))
    kernel.run(change.stage)
    kernel.run(change.switch)
    assert "eth1" in opened(kernel)


def test_sessions_of_new_interfaces_are_seeded_before_the_kernel_holds_a_rule() -> None:
    kernel = FakeKernel()
    sessions = Sessions(kernel)
    assert put_with(sessions, kernel, ONE).seeded == 1
    assert put_with(sessions, kernel, BOTH, ONE).seeded == 2
    assert sessions.seeded == [({"10.0.0.1/32"}, False), ({"10.0.0.2/32", "10.0.9.0/24"}, True)]


@pytest.mark.parametrize(("first", "window"), [(None, 0.0), (ONE, 30.0)], ids=["no window", "nothing new"])
def test_without_a_window_to_open_nothing_is_seeded(first: Desired | None, window: float) -> None:
    kernel = FakeKernel()
    if first:
        put(kernel, first)
    sessions = Sessions(kernel)
    assert put_with(sessions, kernel, ONE, first, adoption_window=window).seeded == 0
    assert sessions.seeded == []


@pytest.mark.parametrize("window", [0.0, 30.0])
def test_only_sessions_of_new_interfaces_are_left_less_time(window: float) -> None:
    kernel, sessions = FakeKernel(), Sessions()
    reports = [put_with(sessions, kernel, desired, adoption_window=window) for desired in (ONE, ONE, TIMED, TIMED)]
    assert [report.shortened for report in reports] == [1, 0, 2, 0]
    to_first, to_second, to_pair = (established("192.0.2.1", own) for own in ("10.0.0.1", "10.0.0.2", "10.0.9.9"))
    between = established("10.0.0.1", "10.0.0.2")
    first, second = sessions.longest
    assert [first(entry) for entry in (to_first, to_second, to_pair, between)] == [910, None, None, 910]
    assert [second(entry) for entry in (to_first, to_second, to_pair, between)] == [None, 60, 60, 60]


def test_a_new_interface_whose_namespace_has_its_timeouts_already_needs_nothing() -> None:
    kernel, sessions = FakeKernel(), Sessions()
    assert [put_with(sessions, kernel, desired).shortened for desired in (ONE, BOTH)] == [1, 0]


def test_sessions_of_another_eni_inside_a_new_one_s_block_keep_their_time() -> None:
    wide = replace(STATE.eni["eni-1"], connection_tracking=SHORT, allowed_address_pairs=(Prefix.parse("10.0.0.0/24"),))
    both = replace(BOTH, state=make_state(STATE.security_groups, [STATE.eni["eni-0"], wide]))
    kernel, sessions = FakeKernel(), Sessions()
    assert [put_with(sessions, kernel, desired).shortened for desired in (ONE, both)] == [1, 2]
    in_block, of_other = (established("192.0.2.1", own) for own in ("10.0.0.9", "10.0.0.1"))
    assert [sessions.longest[1](entry) for entry in (in_block, of_other)] == [60, None]


def established(source: str, target: str) -> Tracked:
    seen = SessionTuple(TCP, Address.parse(source), Address.parse(target), 40000, 443)
    return Tracked(seen, seen.reverse, "ESTABLISHED", 432_000, 0)


@pytest.mark.parametrize("resync", [False, True], ids=["same", "full-resync"])
def test_nothing_else_opens_a_window_and_an_ended_one_is_no_drift(resync: bool) -> None:
    kernel = FakeKernel()
    put(kernel, BOTH)
    _expire(kernel)
    report = put(kernel, BOTH, resync=resync)
    assert (report.adopting, report.changed, opened(kernel)) == ((), resync, set())


def test_a_refill_keeps_what_is_left_of_a_window_and_no_more_than_the_default() -> None:
    """An element without an end (0 left) is another program's, and goes."""
    kernel = FakeKernel()
    put(kernel, BOTH)
    inventory = kernel.inventory(TABLE)
    left = {"eth0": 1200, "eth1": 0, "eth2": 10**9}
    steps = plan(None, replace(inventory, expiring={ADOPTING: left}), with_epoch(table_of(BOTH), 2))
    lines = [line for line in str(steps.changes[0].switch).splitlines() if f"{TABLE} {ADOPTING}" in line]
    assert lines == [
        f"flush map inet {TABLE} {ADOPTING}",
        f'add element inet {TABLE} {ADOPTING} {{ "eth0" timeout 1200ms : return }}',
        f'add element inet {TABLE} {ADOPTING} {{ "eth2" timeout 30000ms : return }}',
    ]
    others = (steps.changes[0].stage, steps.changes[0].sweep, steps.changes[1].switch)
    assert not any(f"{TABLE} {ADOPTING}" in str(part) for part in others)


def test_windows_change_neither_digest_nor_what_is_known() -> None:
    table = table_of(BOTH)
    assert stamp_of(with_adoption(table, ("eth0",), 5000)) == stamp_of(table)


OUTSIDE: dict[Field, Key] = {
    Field.OIFNAME: "eth0",
    Field.NFPROTO: 2,
    Field.IP_SADDR: Address.parse("10.0.0.1").value,
    Field.IP_DADDR: Address.parse("8.8.8.8").value,
    Field.L4PROTO: TCP,
    Field.TH_SPORT: 40000,
    Field.TH_DPORT: 80,
    Field.TCP_FLAGS: TCP_ACK,
    Field.CT_STATE: CtState.NEW,
    Field.CT_DIRECTION: CtDirection.ORIGINAL,
    Field.CT_MARK: 0,
}


@pytest.mark.parametrize(
    ("open_for", "strict", "port", "verdict"),
    [
        pytest.param(("eth0",), False, 80, "accept", id="judged: allowed"),
        pytest.param(("eth0",), True, 80, "accept", id="judged also where SYNs are asked for"),
        pytest.param(("eth0",), False, 81, "drop", id="judged: refused"),
        pytest.param(("eth1",), False, 80, "drop", id="another interface's window"),
        pytest.param((), False, 80, "drop", id="no window"),
    ],
)
def test_midstream_egress_is_judged_while_the_window_is_open(
    open_for: tuple[str, ...], strict: bool, port: int, verdict: str
) -> None:
    table = with_adoption(table_of(replace(BOTH, options=Options(strict_syn=strict))), open_for, 30_000)
    outcome = run(table, "egress", {**OUTSIDE, Field.TH_DPORT: port})
    assert outcome.verdict.value == verdict
    assert ("egress.midstream" in outcome.counters) == (not open_for or open_for == ("eth1",))
    assert outcome.lookups <= 8


def _expire(kernel: FakeKernel) -> None:
    """What the kernel does by itself when the time is up."""
    kernel._tables["inet", TABLE].elements[ADOPTING].clear()
