"""A kernel without nflog gets the same table without logs."""

from __future__ import annotations

import pytest

from sgdataplane.contract.tables import TABLE
from sgdataplane.errors import NotFoundError
from sgdataplane.nft.delta import plan
from sgdataplane.nft.transaction import Transaction
from tests.support.inputs.building import apply, table_of
from tests.support.models.fakekernel import FakeKernel
from tests.unit.enforce.test_steps import ONE, REVOKE, Sessions, policy


class WithoutNflog(FakeKernel):
    """Refuses rules that log."""

    def check(self, transaction: Transaction, feature: str) -> None:
        if any(" log " in line for line, _ in transaction.lines()):
            raise NotFoundError("No such file or directory")
        super().check(transaction, feature)

    def run(self, *transactions: Transaction) -> None:
        assert not any(" log " in line for entry in transactions for line, _ in entry.lines())
        super().run(*transactions)


def test_kernel_that_can_not_log_enforces_without_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    kernel = WithoutNflog(["eth0"])
    assert apply(kernel, Sessions(kernel), ONE, None, REVOKE).changed
    assert "CONFIG_NETFILTER_NETLINK_LOG" in caplog.text
    assert not apply(kernel, Sessions(kernel), ONE, ONE, REVOKE).changed
    other = policy("ingress tcp 81/81 from 0.0.0.0/0")
    assert apply(kernel, Sessions(kernel), other, ONE, REVOKE).changed
    (change,) = plan(None, FakeKernel().inventory(TABLE), table_of(ONE)).changes
    assert " log " in str(change.stage)
