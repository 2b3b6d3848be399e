"""The removal of our tables: what the kernel refuses to delete is an error, and no success."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from sgdataplane.contract.tables import TABLE
from sgdataplane.enforce import Settings, steps
from sgdataplane.errors import BusyError, KernelError
from sgdataplane.nft.transaction import Kind, Transaction, Verb
from tests.support.inputs.building import apply
from tests.support.models.fakekernel import FakeKernel
from tests.unit.enforce.test_steps import Sessions, policy


class KeepingKernel(FakeKernel):
    """A kernel that can be told to refuse to delete tables."""

    keeps = False

    def run(self, *transactions: Transaction) -> None:
        operations = [entry for each in transactions for entry in each.operations]
        if self.keeps and any((entry.verb, entry.kind) == (Verb.DELETE, Kind.TABLE) for entry in operations):
            raise BusyError("Device or resource busy")
        super().run(*transactions)


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> KeepingKernel:
    made = KeepingKernel()

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


def test_a_table_that_the_kernel_does_not_delete_is_an_error(kernel: KeepingKernel) -> None:
    kernel.keeps = True
    with pytest.raises(KernelError):
        steps.remove("here")
    assert kernel.inventory(TABLE).exists
