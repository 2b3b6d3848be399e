"""A change that holds the kernel too long is warned of or refused before anything is changed. The kernel is in
memory."""

from __future__ import annotations

import logging
import re
from collections.abc import Collection, Mapping
from dataclasses import replace

import pytest

from sgdataplane.cli.main import EXIT_CODES
from sgdataplane.contract.tables import NETDEV, TABLE
from sgdataplane.enforce import ApplyReport, Desired, Settings, hold
from sgdataplane.enforce.hold import MAX_S, WARN_S, Burden, judge
from sgdataplane.errors import HeldError, HostError
from sgdataplane.host.conntrack import Bound
from sgdataplane.model.options import Placement
from sgdataplane.net.values import Prefix
from sgdataplane.nft.ir import DROP, Chain, rule
from sgdataplane.nft.transaction import Kind, Operation, Transaction, Verb
from sgdataplane.nft.validation import REMEMBERING, Pace
from tests.support.inputs.builders import make_eni, make_group, make_state
from tests.support.inputs.building import apply, visits_of
from tests.support.models.fakekernel import FakeKernel

OLD = Pace(remembers=False, ns_per_visit=50)
PATHS = 1_000_000
HOST, INSTANCE = Placement.HOST, Placement.INSTANCE


def burden(seconds: float, placement: Placement = HOST, *, is_needed: bool = False) -> Burden:
    """The burden of a change that takes OLD that long."""
    return Burden(round(seconds * 1e9 / OLD.ns_per_visit), PATHS, placement, is_needed)


@pytest.mark.parametrize("seconds", [0, 0.5, WARN_S])
def test_nothing_is_said_of_what_is_short(seconds: float) -> None:
    assert judge(burden(seconds), OLD) == ""


@pytest.mark.parametrize("seconds", [WARN_S + 0.1, MAX_S])
def test_warning_says_how_long_why_and_what_helps(seconds: float) -> None:
    words = judge(burden(seconds), OLD)
    for part in (f"about {seconds:.1f} s", "1,000,000 paths", "Linux 6.12.66", "instance placement", "fewer ENIs"):
        assert part in words
    assert "instance placement" not in judge(burden(seconds, INSTANCE), OLD)


def test_refusal_says_the_same_and_that_nothing_was_changed() -> None:
    with pytest.raises(HeldError) as caught:
        judge(burden(43), OLD)
    words = str(caught.value)
    for part in ("about 43 s", "10 s", "1,000,000 paths", "Linux 6.12.66", "instance placement", "policy stays"):
        assert part in words
    assert next(code for kind, code in EXIT_CODES if isinstance(caught.value, kind)) == 3


def test_what_is_needed_is_warned_of_however_long_it_takes() -> None:
    assert "about 1,000.0 s" in judge(burden(1000, is_needed=True), OLD)


def test_kernel_that_remembers_is_not_held() -> None:
    assert judge(burden(1e9), REMEMBERING) == ""


class SlowKernel(FakeKernel):
    """A kernel that takes this long for a visit. `measured`: how often it was measured; `refusal`: why it can't be."""

    def __init__(self, interfaces: Collection[str] = ()) -> None:
        super().__init__(interfaces)
        self.told = REMEMBERING
        self.measured, self.refusal = 0, ""

    def pace(self) -> Pace:
        self.measured += 1
        if self.refusal:
            raise HostError("namespace", self.refusal)
        return self.told


class Sessions:
    """Notes every call."""

    def __init__(self) -> None:
        self.asked: list[object] = []

    def forget_epochs(self, epochs: Collection[int], stamp: object) -> bool:  # noqa: ARG002
        self.asked.append(epochs)
        return True

    def seed(self, own: Collection[Prefix]) -> int:
        self.asked.append(own)
        return 0

    def shorten(self, longest: Bound) -> int:
        self.asked.append(longest)
        return 0

    def count(self) -> int:
        return 0


GROUP = ("ingress tcp 22/22 from 0.0.0.0/0", "ingress udp 1/9 from 192.0.2.0/24", "egress all to ::/0 drop")
IFNAMES = ("eth0", "eth1", "eth2")


def policy(*more: str, enis: int = 1) -> Desired:
    made = [make_eni(f"eni-{n}", f"10.0.0.{n + 1} 2001:db8::{n + 1}", "sg-a") for n in range(3)]
    return Desired(make_state([make_group("sg-a", (*GROUP, *more))], made), interfaces(enis))


def interfaces(enis: int) -> Mapping[str, str]:
    return {f"eni-{n}": IFNAMES[n] for n in range(enis)}


ONE, TWO = policy(), policy("ingress tcp 23/23 from 0.0.0.0/0")
PLAIN = Settings(prove=False)


def pace_of(desired: Desired, seconds: float, *, is_wide: bool = False) -> Pace:
    """The pace at which a commit of this policy takes that long."""
    return Pace(remembers=False, ns_per_visit=seconds * 1e9 / visits_of(desired).every_path, is_wide=is_wide)


@pytest.fixture(autouse=True)
def _every_table_matters(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hold, "MATTERS", 0)


def put(kernel: FakeKernel, desired: Desired, previous: Desired | None = None) -> ApplyReport:
    return apply(kernel, Sessions(), desired, previous, PLAIN)


@pytest.mark.parametrize("wanted", [ONE, replace(ONE, placement=HOST)], ids=["instance", "host"])
def test_first_load_that_takes_too_long_changes_nothing(wanted: Desired) -> None:
    kernel, sessions = SlowKernel(IFNAMES), Sessions()
    kernel.told = pace_of(wanted, 6)
    with pytest.raises(HeldError, match="about 12 s"):
        apply(kernel, sessions, wanted, None, PLAIN)
    assert (kernel.generation, kernel.settled, sessions.asked) == (1, 0, [])
    assert not kernel.inventory(TABLE).exists
    assert not kernel.inventory(TABLE, NETDEV).exists
    kernel.told = pace_of(wanted, 4)
    assert "about 8.0 s" in apply(kernel, sessions, wanted, None, PLAIN).slow


def test_change_that_takes_too_long_leaves_the_former_policy_and_its_fence() -> None:
    kernel, sessions = SlowKernel(IFNAMES), Sessions()
    put(kernel, ONE)
    before = kernel.generation, kernel.settled, kernel.table(TABLE), kernel.table(TABLE, NETDEV)
    more = policy("ingress tcp 23/23 from 0.0.0.0/0", enis=3)
    kernel.told = pace_of(more, 6)
    with pytest.raises(HeldError):
        apply(kernel, sessions, more, ONE, PLAIN)
    assert (kernel.generation, kernel.settled, kernel.table(TABLE), kernel.table(TABLE, NETDEV)) == before
    assert sessions.asked == []
    assert not put(kernel, ONE, ONE).changed, "what is in force isn't what the caller thinks it is"


def test_long_change_is_made_told_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    kernel = SlowKernel(IFNAMES)
    put(kernel, ONE)
    kernel.told = pace_of(TWO, 2)
    caplog.clear()
    report = put(kernel, TWO, ONE)
    (record,) = [entry for entry in caplog.records if entry.levelno >= logging.WARNING]
    assert report.changed
    told = re.search(r"about (\d+\.\d) s", report.slow)
    assert told
    assert 4 < float(told[1]) < 7, "what is there before, and twice and a little what is to be"
    assert record.getMessage() == f"policy of eni-0: {report.slow}"


def test_policy_that_is_in_force_is_still_told_of_and_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    kernel = SlowKernel(IFNAMES)
    report = put(kernel, ONE)
    assert report.slow == report.at_rest.slow == ""
    kernel.told = pace_of(ONE, 2)
    caplog.clear()
    again = put(kernel, ONE, ONE)
    assert not again.changed
    assert "about 6.0 s" in again.slow == again.at_rest.slow
    assert caplog.records == []
    kernel.told = pace_of(ONE, 100)
    assert "about 300.0 s" in put(kernel, ONE, ONE).slow, "nothing is to be changed, so nothing is refused"


def test_repair_of_the_policy_in_force_is_never_refused() -> None:
    kernel = SlowKernel(IFNAMES)
    put(kernel, ONE)
    stray = Chain("stray", (rule(DROP),))
    kernel.run(Transaction(TABLE, tuple(Operation(Verb.ADD, kind, stray) for kind in (Kind.CHAIN, Kind.RULES))))
    kernel.told = pace_of(ONE, 100)
    report = put(kernel, ONE, ONE)
    assert report.is_full_resync
    assert report.slow
    assert "stray" not in kernel.table(TABLE).chain


def test_change_that_makes_it_less_is_never_refused() -> None:
    kernel, more = SlowKernel(IFNAMES), policy(enis=3)
    put(kernel, more)
    kernel.told = pace_of(ONE, 100)
    assert "holds the kernel" in put(kernel, ONE, more).slow
    with pytest.raises(HeldError):
        put(kernel, more, ONE)


@pytest.mark.parametrize(("is_wide", "seconds"), [(False, 2 * 2), (True, 4 * 2)], ids=["own table", "all tables"])
def test_commits_of_the_fence_count_where_they_have_all_tables_validated(is_wide: bool, seconds: int) -> None:
    kernel = SlowKernel(IFNAMES)
    kernel.told = pace_of(ONE, 2, is_wide=is_wide)
    assert f"about {seconds:.1f} s" in put(kernel, ONE).slow


def test_kernel_is_measured_only_where_it_matters(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    kernel = SlowKernel(IFNAMES)
    kernel.told = pace_of(ONE, 100)
    assert put(kernel, ONE).slow == ""
    assert kernel.measured == 0


def test_kernel_that_cannot_be_measured_enforces_as_before(caplog: pytest.LogCaptureFixture) -> None:
    kernel = SlowKernel(IFNAMES)
    kernel.refusal = "no namespace can be made"
    report = put(kernel, ONE)
    assert (report.changed, report.slow) == (True, "")
    assert "no namespace can be made" in caplog.text
