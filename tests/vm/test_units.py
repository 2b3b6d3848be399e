"""The same machine (test_after_reboot.py), where the agent enforces: those tests of its units that need a real process
1 most. To install the package anew for each, as elsewhere, takes minutes here."""

from __future__ import annotations

import pytest

from tests.kernel.test_units_boot import (
    test_it_is_kept_in,
    test_killed_or_hung_it_is_started_anew_and_the_rules_stay,
)
from tests.support.servers.booted import Booted, ThisMachine

__all__ = ["test_it_is_kept_in", "test_killed_or_hung_it_is_started_anew_and_the_rules_stay"]
pytestmark = [pytest.mark.daemon, pytest.mark.vm]


@pytest.fixture
def host(machine: ThisMachine) -> Booted:
    """What the tests call it: the package is installed, and eni-a attached."""
    return machine
