"""The removal of our tables: what the kernel refuses to delete is an error, and no success."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import pytest

from sgdataplane.contract.tables import NETDEV, TABLE
from sgdataplane.enforce import Settings, steps
from sgdataplane.errors import BusyError, KernelError
from sgdataplane.nft.transaction import Kind, Operation, Transaction, Verb
from tests.support.inputs.building import apply
from tests.support.models.fakekernel import FakeKernel
from tests.unit.enforce.test_steps import Sessions, policy


class KeepingKernel(FakeKernel):
    """A kernel that can be told to refuse to delete tables."""

    keeps = False

    def __init__(self, interfaces: Iterable[str] = ()) -> None:
        super().__init__(interfaces)
        self.deleted: list[str] = []
        """The families of the tables that were deleted, in that order."""

    def run(self, *transactions: Transaction) -> None:
        deleted = [each.family for each in transactions if any(map(_deletes_table, each.operations))]
        if self.keeps and deleted:
            raise BusyError("Device or resource busy")
        super().run(*transactions)
        self.deleted += deleted


def _deletes_table(entry: Operation) -> bool:
    return (entry.verb, entry.kind) == (Verb.DELETE, Kind.TABLE)


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> KeepingKernel:
    made = KeepingKernel(["eth0"])

    @contextmanager
    def opened(_: str) -> Iterator[KeepingKernel]:
        yield made

    monkeypatch.setattr(steps, "NetlinkKernel", opened)
    apply(made, Sessions(made), policy(), None, Settings())
    return made


def test_tables_are_removed_and_that_is_said(kernel: KeepingKernel) -> None:
    assert steps.remove("here")
    assert not kernel.inventory(TABLE).exists
    assert not steps.remove("here"), "there is nothing left"


def test_the_fence_is_removed_before_the_policy_whose_mark_it_asks_for(kernel: KeepingKernel) -> None:
    """Between the two commits, packets pass that no policy marks any more."""
    assert steps.remove("here")
    assert kernel.deleted == [NETDEV, "inet"]


def test_a_table_that_the_kernel_does_not_delete_is_an_error(kernel: KeepingKernel) -> None:
    kernel.keeps = True
    with pytest.raises(KernelError):
        steps.remove("here")
    assert kernel.inventory(TABLE).exists
