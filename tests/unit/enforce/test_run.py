"""How plans are run: a stage in parts, policy and fence together, and what is left of what the kernel refuses. The
kernel is in memory."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace

import pytest

from sgdataplane.compiler.compile import with_epoch
from sgdataplane.contract.tables import NETDEV, TABLE
from sgdataplane.enforce import Desired, steps
from sgdataplane.errors import KernelError
from sgdataplane.nft.snapshot import with_generation
from sgdataplane.nft.transaction import Kind, Transaction, Verb
from tests.support.inputs.building import apply, table_of
from tests.support.models.fakekernel import FakeKernel, RefusingKernel
from tests.unit.enforce.test_fence import router_of
from tests.unit.enforce.test_steps import ONE, REVOKE, TWO, Sessions


def counting(before: Desired | None) -> RefusingKernel:
    """A kernel that holds `before`, if there is any, and counts commits from here on."""
    kernel = RefusingKernel()
    if before is not None:
        apply(kernel, Sessions(kernel), before, None, REVOKE)
    kernel.turn = 0
    return kernel


@pytest.mark.parametrize(
    ("before", "previous"),
    [pytest.param(None, None, id="first"), (ONE, ONE), (ONE, None)],
    ids=["first", "difference", "full-resync"],
)
def test_large_update_is_staged_in_parts_and_one_that_is_refused_leaves_everything_as_it_was(
    monkeypatch: pytest.MonkeyPatch, before: Desired | None, previous: Desired | None
) -> None:
    whole = counting(before)
    apply(whole, Sessions(whole), TWO, previous, REVOKE)
    monkeypatch.setattr("sgdataplane.nft.transaction.PART", 1)
    kernel = counting(before)
    there = kernel.inventory(TABLE)
    report = apply(kernel, Sessions(kernel), TWO, previous, REVOKE)
    assert kernel.turn >= whole.turn + 2
    assert kernel.table(TABLE) == with_generation(with_epoch(table_of(TWO), report.epoch), kernel.generation)
    assert not apply(kernel, Sessions(kernel), TWO, None, REVOKE).changed
    for refused in range(1, whole.turn + 2):
        kernel = counting(before)
        kernel.refused = refused
        with pytest.raises(KernelError, match="made up"):
            apply(kernel, Sessions(kernel), TWO, previous, REVOKE)
        assert replace(kernel.inventory(TABLE), generation=there.generation) == there


# policy and fence

HOST_ENDS = ("eth0", "v-a", "v-b", "v-c")
ROUTERS = router_of("a", "b"), router_of("a", "b", "c")
UPDATES = {"first-instance": (None, ONE), "first-router": (None, ROUTERS[0]), "an-eni-comes": ROUTERS}


def fenced(desired: Desired, *others: Desired | None) -> RefusingKernel:
    """A kernel that holds these, one after the other."""
    kernel = RefusingKernel(HOST_ENDS)
    for entry in (*others, desired):
        if entry is not None:
            apply(kernel, Sessions(kernel), entry, None, REVOKE)
    kernel.turn = 0
    return kernel


def is_as(kernel: FakeKernel, other: FakeKernel) -> bool:
    """Whether both hold the same policy and fence, whatever their epoch and secret, and let nothing fall through."""
    names = [[{*k.inventory(TABLE, f).chains} for f in (NETDEV, "inet")] for k in (kernel, other)]
    closed = [[k.dropping(TABLE, f) for f in (NETDEV, "inet")] for k in (kernel, other)]
    return names[0] == names[1] and closed[0] == closed[1] and kernel.inventory(TABLE).is_untouched


@pytest.mark.parametrize(("before", "desired"), UPDATES.values(), ids=UPDATES)
def test_first_loads_of_both_take_four_commits(before: Desired | None, desired: Desired) -> None:
    """A router's table that marks ARP takes one before."""
    kernel = fenced(before or desired)
    if before is None:
        kernel = RefusingKernel(HOST_ENDS)
    apply(kernel, Sessions(kernel), desired, before, REVOKE)
    assert kernel.turn == (4 + desired.placement.is_outside if before is None else 5)
    assert is_as(kernel, fenced(desired))
    assert not apply(kernel, Sessions(kernel), desired, None, REVOKE).changed


class Dying(RefusingKernel):
    """The process ends in place of the commit with the number `refused`."""

    def run(self, *transactions: Transaction) -> None:
        if self.turn + 1 == self.refused and any(map(len, transactions)):
            raise SystemExit
        super().run(*transactions)


@pytest.mark.parametrize(("before", "desired"), UPDATES.values(), ids=UPDATES)
@pytest.mark.parametrize("killed", range(2, 6))
def test_whenever_it_is_killed_no_stamp_vouches_and_the_next_apply_puts_both_right(
    before: Desired | None, desired: Desired, killed: int
) -> None:
    kernel = Dying(HOST_ENDS)
    if before is not None:
        apply(kernel, Sessions(kernel), before, None, REVOKE)
    elif killed == 5:
        killed = 4  # it has no more commits
    kernel.turn, kernel.refused = 0, killed
    with pytest.raises(SystemExit):
        apply(kernel, Sessions(kernel), desired, before, REVOKE)
    assert not kernel.inventory(TABLE).exists or not kernel.inventory(TABLE).is_untouched
    kernel.refused = 0
    assert apply(kernel, Sessions(kernel), desired, None, REVOKE).changed
    assert is_as(kernel, fenced(desired))


@pytest.mark.parametrize("refused", [1, 2])
def test_first_load_that_is_refused_before_the_policy_is_in_force_leaves_neither_table(refused: int) -> None:
    kernel = RefusingKernel(HOST_ENDS)
    kernel.refused = refused
    with pytest.raises(KernelError, match="made up"):
        apply(kernel, Sessions(kernel), ONE, None, REVOKE)
    assert not any(kernel.inventory(TABLE, family).exists for family in ("inet", NETDEV))


class Stubborn(RefusingKernel):
    """While `is_stubborn`, refuses what lets the policy's base chains drop."""

    is_stubborn = True

    def run(self, *transactions: Transaction) -> None:
        some = [entry for each in transactions if each.family == "inet" for entry in each.operations]
        if self.is_stubborn and any((entry.verb, entry.kind) == (Verb.ADD, Kind.POLICY) for entry in some):
            raise KernelError("made up")
        super().run(*transactions)


def test_sweep_that_is_refused_does_not_keep_the_other_table_from_being_in_force() -> None:
    kernel = Stubborn(HOST_ENDS)
    report = apply(kernel, Sessions(kernel), ONE, None, REVOKE)
    assert (report.leftover, report.fenced) == ("made up", ("eth0",))
    assert "egress.eth0" in kernel.inventory(TABLE, NETDEV).chains
    assert not kernel.inventory(TABLE).is_untouched
    kernel.is_stubborn = False
    assert apply(kernel, Sessions(kernel), ONE, ONE, REVOKE).leftover == ""
    assert is_as(kernel, fenced(ONE))


def test_two_that_are_refused_together_run_apart() -> None:
    kernel = RefusingKernel(HOST_ENDS)
    kernel.refused = 3
    assert apply(kernel, Sessions(kernel), ONE, None, REVOKE).leftover == ""
    assert kernel.dropping(TABLE)
    assert kernel.dropping(TABLE, NETDEV)
    apply(kernel, Sessions(kernel), ONE, ONE, REVOKE)
    assert is_as(kernel, fenced(ONE))


@pytest.mark.parametrize("refused", [1, 2])
def test_tables_that_the_kernel_keeps_are_an_error_and_not_taken_for_removed(
    refused: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the error, `clear` would say that nothing is enforced any more."""
    kernel = counting(ONE)
    monkeypatch.setattr(steps, "NetlinkKernel", lambda _namespace: nullcontext(kernel))
    kernel.refused = refused
    with pytest.raises(KernelError, match="made up"):
        steps.remove("anywhere")
    assert kernel.inventory(TABLE).exists
    assert steps.remove("anywhere")
    assert not kernel.inventory(TABLE).exists
    assert not steps.remove("anywhere")
