"""The kernel in memory passes the tests that every kernel has to pass."""

from __future__ import annotations

import pytest

from tests.support.models.fakekernel import FakeKernel
from tests.support.models.kernel_contract import CREATION, NAME, TABLE, KernelContract


class TestFakeKernel(KernelContract):
    @pytest.fixture
    def kernel(self) -> FakeKernel:
        return FakeKernel()


def test_table_reads_back_as_it_was_made() -> None:
    kernel = FakeKernel()
    kernel.run(CREATION)
    assert kernel.table(NAME) == TABLE
