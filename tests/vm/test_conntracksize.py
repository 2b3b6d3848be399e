"""In the machine's own network namespace the agent raises conntrack's limit and buckets for what a router's ENIs may
hold, and nobody lowers them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.probes.flood import wait_until
from tests.support.scenes.bootedhost import AGENT, CONFIG, attach, status, write
from tests.support.servers.booted import ThisMachine

pytestmark = [pytest.mark.daemon, pytest.mark.vm]
LIMIT, BUCKETS = "net.netfilter.nf_conntrack_max", "net.netfilter.nf_conntrack_buckets"
SMALL, RAISED = 1 << 14, 1 << 16  # such machines have little memory


def sizes(machine: ThisMachine) -> tuple[int, int]:
    limit, buckets = (int(machine.run("sysctl", "-n", name)) for name in (LIMIT, BUCKETS))
    return limit, buckets


def configure(machine: ThisMachine, mode: str, per_eni: int) -> None:
    """In host placement."""
    text = f'placement = "host"\nconntrack_max = "{mode}"\nsessions_per_eni = {per_eni}\n'
    write(machine, CONFIG, text)
    machine.run("systemctl", "restart", AGENT)
    wait_until(lambda: status(machine)["enis"] != [] and status(machine)["cycle"]["number"] > 0)


@pytest.fixture
def hosted(machine: ThisMachine) -> Iterator[ThisMachine]:
    """eni-a is attached in host placement, and conntrack is small."""
    machine.run("sgdp", "detach", "--eni", "eni-a")
    for name in (LIMIT, BUCKETS):
        machine.run("sysctl", "-q", "-w", f"{name}={SMALL}")
    write(machine, CONFIG, 'placement = "host"\nconntrack_max = "keep"\nsessions_per_eni = 20000\n')
    machine.run("systemctl", "restart", AGENT)
    attach(machine)
    yield machine
    machine.run("sgdp", "detach", "--eni", "eni-a")
    machine.run("rm", CONFIG)
    machine.run("systemctl", "restart", AGENT)
    attach(machine)


def test_both_are_raised_only_if_that_is_wanted_and_never_lowered(hosted: ThisMachine) -> None:
    assert sizes(hosted) == (SMALL, SMALL)
    wait_until(lambda: any("may hold 60,000 sessions" in line for line in status(hosted)["warnings"]))
    configure(hosted, "auto", 20_000)
    wait_until(lambda: sizes(hosted) == (RAISED, RAISED))
    wait_until(lambda: status(hosted)["warnings"] == [])
    log = hosted.run("journalctl", "-u", AGENT, "--no-pager")
    assert log.count(f"conntrack-raised max_before={SMALL} buckets_before={SMALL} max={RAISED} buckets={RAISED}") == 1
    configure(hosted, "auto", 1000)
    assert sizes(hosted) == (RAISED, RAISED)
