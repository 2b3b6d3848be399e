"""The same machine (test_package.py), booted again: the units come up by themselves, and enforce."""

from __future__ import annotations

import json
from collections import Counter

import pytest

from tests.support.probes.flood import wait_until
from tests.support.probes.trialtraffic import Opener
from tests.support.scenes.attachbench import DNS, WEB
from tests.support.scenes.bootedhost import AGENT, BOOT, TRIAL, attach, make_workload, pair_of, status, trial_counts
from tests.support.scenes.pair import HERE
from tests.support.servers.booted import ThisMachine
from tests.vm.conftest import SENT, both_sessions

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
    with both_sessions(machine) as (web, dns):
        dns.must_pass()
        assert not web.passes(beside=dns)


def test_a_trial_goes_on_with_what_it_had_counted(machine: ThisMachine) -> None:
    before = Counter({int(port): count for port, count in json.loads(SENT.read_text("ascii")).items()})
    opener = Opener(pair_of(machine)["peer"], HERE["instance"][0], (WEB, DNS), seed=4)
    wait_until(lambda: trial_counts(machine).keys() == before.keys())
    counted = trial_counts(machine)  # the sessions of the test before may be among it
    assert all(counted[port] >= before[port] for port in before)
    opener.send(80)
    wait_until(lambda: trial_counts(machine) == opener.sent + Counter(counted))
    assert min(opener.sent[WEB], opener.sent[DNS]) > 20
    machine.run("sgdp", "trial", "stop", TRIAL, check=False)
