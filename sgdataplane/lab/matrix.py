"""Probe every pair of ends with every service, side by side, and compare the results with the policy.

Owns which probes make a matrix, and how they run concurrently. It is given a lab. Must not judge a probe.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterable
from contextlib import AsyncExitStack

from sgdataplane.lab.ends import in_family, list_watched_routers, pairs_of_ends, path_between
from sgdataplane.lab.expect import ProbeResult, expect
from sgdataplane.lab.fleet import Fleet, run_fleet
from sgdataplane.lab.judge import observe
from sgdataplane.lab.manage import Lab
from sgdataplane.lab.parts import LabNode
from sgdataplane.lab.probe import Probe, Service

AT_ONCE = 64


def matrix_probes(nodes: Iterable[LabNode], services: Iterable[Service]) -> tuple[Probe, ...]:
    """Return all probes between nodes that can reach each other, by sender, receiver, ends, family and service."""
    wanted, asked = tuple(nodes), tuple(services)
    return tuple(
        Probe(source, target, service)
        for sender in wanted
        for receiver in wanted
        if sender is not receiver and (sender.is_instance or receiver.is_instance)
        for source, target in pairs_of_ends(sender, receiver)
        for service in dict.fromkeys(in_family(service, source.address.family) for service in asked)
    )


def probe_all(
    lab: Lab, probes: Iterable[Probe], on_done: Callable[[ProbeResult], None] = lambda _: None
) -> list[ProbeResult]:
    """Do what `run_probes` does, for callers that aren't asynchronous."""
    return asyncio.run(run_probes(lab, probes, on_done))


async def run_probes(
    lab: Lab, probes: Iterable[Probe], on_done: Callable[[ProbeResult], None] = lambda _: None
) -> list[ProbeResult]:
    """Run probes in a running lab, at most AT_ONCE at once; return the results in the order of the probes.

    Probes that conntrack could mistake for each other run one by one. `on_done` is called with each result as it comes.
    """
    slots, pairs = asyncio.Semaphore(AT_ONCE), defaultdict[object, asyncio.Lock](asyncio.Lock)

    async def run(fleet: Fleet, probe: Probe) -> ProbeResult:
        async with AsyncExitStack() as stack:
            if probe.is_tuple_reused:
                await stack.enter_async_context(pairs[probe.pair])
            await stack.enter_async_context(slots)
            observed = await observe(fleet, probe, path_between(lab, probe.source, probe.target))
        expected = expect(lab.state, probe, observed.source_port or probe.source_port, lab.options)
        result = ProbeResult(probe, expected, observed)
        on_done(result)
        return result

    ordered = tuple(probes)
    taking_part = {end.node for probe in ordered for end in (probe.source, probe.target)}
    nodes = tuple(node for node in lab.topology.nodes if node.name in taking_part)
    async with run_fleet(nodes, list_watched_routers(lab)) as fleet:
        tasks = [asyncio.create_task(run(fleet, probe)) for probe in ordered]
        try:
            return list(await asyncio.gather(*tasks))
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
