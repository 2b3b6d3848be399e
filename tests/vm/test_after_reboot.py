"""The same machine (test_package.py), booted again: the units come up by themselves, and enforce."""

from __future__ import annotations

import pytest

from tests.support.scenes.bootedhost import AGENT, BOOT, attach, status
from tests.support.servers.booted import ThisMachine
from tests.vm.conftest import both_sessions, make_workload

pytestmark = [pytest.mark.daemon, pytest.mark.vm]


def test_both_units_came_up_before_the_network_and_nobody_helped(machine: ThisMachine) -> None:
    def moment(unit: str, name: str) -> int:
        return int(machine.property(unit, f"{name}TimestampMonotonic"))

    assert [machine.property(unit, "ActiveState") for unit in (AGENT, BOOT)] == ["active", "active"]
    assert 0 < moment(BOOT, "ActiveEnter") <= moment("network-pre.target", "ActiveEnter")
    assert status(machine)["healthy"]
    assert status(machine)["enis"] == []


def test_attached_again_packets_obey_what_was_in_force_before(machine: ThisMachine) -> None:
    make_workload(machine)
    attach(machine)
    with both_sessions() as (web, dns):
        dns.must_pass()
        assert not web.passes(beside=dns)
