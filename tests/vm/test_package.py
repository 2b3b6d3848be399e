"""The Debian package on a stock machine, straight after boot: nobody has loaded a module."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sgdataplane.statefile import dump_native
from tests.support.probes.flood import wait_until
from tests.support.probes.trialtraffic import Opener
from tests.support.scenes.attachbench import DNS, WEB, state_of
from tests.support.scenes.bootedhost import (
    AGENT,
    BOOT,
    STATE,
    attach,
    install,
    make_workload,
    pair_of,
    rules,
    start_trial,
    status,
    trial_counts,
    write,
)
from tests.support.scenes.pair import HERE
from tests.support.servers.booted import ThisMachine
from tests.vm.conftest import SENT, both_sessions, modules

pytestmark = [pytest.mark.daemon, pytest.mark.vm]
# The guard of the suite lists nftables, so that nf_tables is loaded by then; tests/vm/suites.py looks at it before.
OURS = {"nf_conntrack", "nf_conntrack_netlink", "nft_ct", "nft_limit", "nft_log"}


def test_from_its_sandbox_the_agent_has_the_kernel_load_what_it_needs(machine: ThisMachine, package: Path) -> None:
    assert modules(machine).isdisjoint(OURS)
    install(machine, package)
    make_workload(machine)
    attach(machine)
    assert modules(machine) >= OURS
    assert [machine.property(unit, "ActiveState") for unit in (AGENT, BOOT)] == ["active", "active"]
    assert status(machine)["healthy"]


def test_a_revoked_rule_stops_a_running_session(machine: ThisMachine) -> None:
    with both_sessions(machine) as (web, dns):
        web.must_pass()
        assert not dns.passes(beside=web)
        write(machine, STATE, dump_native(state_of(DNS)))
        wait_until(lambda: f"rule.sg-a.sgr-{DNS}" in rules(machine))
        dns.must_pass()
        assert not web.passes(beside=dns)


def test_a_trial_counts_exactly(machine: ThisMachine) -> None:
    """The state of the test before is in force, which lets DNS in. test_after_reboot.py goes on with this trial."""
    start_trial(machine, WEB)
    opener = Opener(pair_of(machine)["peer"], HERE["instance"][0], (WEB, DNS), seed=3)
    opener.send(80)
    wait_until(lambda: trial_counts(machine) == opener.sent)
    assert min(opener.sent[WEB], opener.sent[DNS]) > 20
    SENT.write_text(json.dumps(opener.sent), "ascii")
