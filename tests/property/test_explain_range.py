"""The parts into which `explain` divides a range of ports: in each, the same decides about every port at both ends, and
two that follow each other differ."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace
from itertools import pairwise

from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from sgdataplane.analyse.explain import explain_flow, explain_range
from sgdataplane.model.options import Options, Placement
from sgdataplane.model.state import CloudState
from sgdataplane.net.values import PortRange
from tests.support.inputs import gen

RANGES = [PortRange(1, 100), PortRange(60, 90), PortRange(440, 445), PortRange(65530, 65535), PortRange(8000, 8090)]


def test_every_port_of_a_part_is_decided_alike() -> None:
    sizes: Counter[int] = Counter()

    @seed(702)
    @settings(max_examples=40, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(gen.states(), gen.options(), st.integers(0, 1 << 32), st.sampled_from(RANGES))
    def holds(state: CloudState, options: Options, packet_seed: int, ports: PortRange) -> None:
        for packet in gen.packets(state, random.Random(packet_seed), 8):
            if packet.port is None or packet.local.family is not packet.remote.family:
                continue
            parts = explain_range(state, packet, ports, options, Placement.INSTANCE)
            sizes[min(len(parts), 3)] += 1
            assert (parts[0][0].first, parts[-1][0].last) == (ports.first, ports.last)
            assert all(one.last + 1 == other.first for (one, _), (other, _) in pairwise(parts))
            assert all(one.decisions != other.decisions for (_, one), (_, other) in pairwise(parts))
            for part, flow in parts:
                for port in range(part.first, part.last + 1):
                    found = explain_flow(state, replace(packet, port=port), options)
                    assert found.decisions == flow.decisions, (packet, port)

    holds()
    assert sizes.keys() >= {1, 2}, sizes
