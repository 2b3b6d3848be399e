"""Labs for tests: states from text, labs that are proven gone afterwards, rules for a test's own namespaces.

Owns how a test gets a lab. Must not know what a test asserts of it.
"""

from __future__ import annotations

import asyncio
import select
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path

from sgdataplane import enforce as enforcement
from sgdataplane.enforce import Cache
from sgdataplane.host import netns
from sgdataplane.lab import manage
from sgdataplane.lab.ends import Asked, find_probes
from sgdataplane.lab.expect import ProbeResult, explain_result
from sgdataplane.lab.manage import Enforcer, EnforceRequest, Lab
from sgdataplane.lab.matrix import matrix_probes, run_probes
from sgdataplane.lab.probe import Observation, parse_services
from sgdataplane.lab.record import LABS_DIR, LabRecord
from sgdataplane.model.choices import IN_LAB, Choices
from sgdataplane.model.options import Placement
from sgdataplane.model.state import CloudState
from sgdataplane.net.values import Verdict
from sgdataplane.statefile import load

DROP = Verdict.DROP
EVERYTHING = "tcp/22,udp/53,icmp,gre,proto/253"


def state_of(text: str) -> CloudState:
    """A checked state from native YAML."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "state.yaml"
        path.write_text(text, encoding="utf-8")
        return load(path).state


def no_policy(_: EnforceRequest) -> None:
    """An enforcer that enforces nothing, so that everything the lab carries is accepted."""


@contextmanager
def running(
    name: str,
    state: CloudState,
    enforce: Enforcer = no_policy,
    externals: tuple[tuple[str, ...], ...] | None = None,
    *,
    placement: str = "instance",
    hosts: int = 1,
    time_scale: float = 1.0,
) -> Iterator[Lab]:
    """A lab that is up while the block runs. Nothing of it is left afterwards."""
    record = replace(record_of(name, placement, hosts), time_scale=time_scale)
    lab = manage.up(record if externals is None else replace(record, externals=externals), state, enforce)
    try:
        yield lab
    finally:
        manage.down(name)
        assert_gone(name)


def record_of(name: str, placement: str = "instance", hosts: int = 1) -> LabRecord:
    return replace(manage.default_record(name), choices=choices_at(placement), hosts=hosts)


def choices_at(placement: str) -> Choices:
    return replace(IN_LAB, placement=Placement(placement))


def assert_gone(name: str) -> None:
    """Assert that no namespace and no file of that lab is left."""
    assert [entry for entry in netns.list_names() if entry.startswith(f"{name}-")] == []
    assert not (LABS_DIR / name).exists()


def run_in(namespace: str, *command: str, text: str = "") -> str:
    """Run a command in a namespace and return its output. The test fails if the command does."""
    with netns.inside(namespace):
        done = subprocess.run(command, input=text, capture_output=True, text=True, check=False, timeout=30)
    assert done.returncode == 0, f"{command} in {namespace}: {done.stderr}"
    return done.stdout


def wait_ended(handle: int, seconds: float) -> bool:
    """Whether the process behind a pidfd ends within that time."""
    return bool(select.select([handle], [], [], seconds)[0])


def load_rules(namespace: str, rules: str) -> None:
    """Load an nft ruleset into a namespace of the test's own."""
    run_in(namespace, "nft", "-f", "-", text=rules)


def matrix(lab: Lab, services: str = EVERYTHING) -> list[ProbeResult]:
    """Probe every pair with every service."""
    return asyncio.run(run_probes(lab, matrix_probes(lab.topology.nodes, parse_services(services))))


def observe(lab: Lab, sender: str, receiver: str, service: str, source_port: int = 0) -> Observation:
    """Run one probe, in the first family that both ends have."""
    (wanted,) = parse_services(service)
    probes = find_probes(lab, Asked(sender, receiver, wanted, source_port))
    (cell,) = asyncio.run(run_probes(lab, probes[:1]))
    return cell.observed


def observe_all(lab: Lab, asked: Iterable[tuple[str, str, str]]) -> list[Observation]:
    """Run these probes (sender, receiver, service) at once, each in the first family that both its ends have."""
    wanted = [Asked(sender, receiver, parse_services(service)[0]) for sender, receiver, service in asked]
    probes = [find_probes(lab, one)[0] for one in wanted]
    return [cell.observed for cell in asyncio.run(run_probes(lab, probes))]


@cache
def _tables() -> Cache:
    return Cache()


def enforce_policy(request: EnforceRequest) -> None:
    """As that of lab/manage.py, with a proof of each table. What was proven of others here isn't proven again."""
    unproven = replace(request.settings, prove=False)
    before = None if request.previous is None else enforcement.build(request.previous, unproven)
    wanted = _tables().build(request.wanted, request.settings, before)
    enforcement.enforce(request.netns, wanted, before, request.settings)


def unlike(cells: Iterable[ProbeResult], verdict: str) -> list[str]:
    """A line for each result whose packets did not get that verdict."""
    return [
        f"{cell.probe.source.address} -> {cell.probe.target.address} {cell.probe.service}: {cell.observed}"
        for cell in cells
        if cell.observed.verdict != verdict
    ]


def disagreements(lab: Lab, services: str = EVERYTHING) -> list[str]:
    """A line for each result in which packets didn't do what the policy says."""
    return [f"{cell.probe}: {explain_result(cell)}" for cell in matrix(lab, services) if not cell.agrees]
