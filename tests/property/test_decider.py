"""decide() with a memory says what decide() says: over generated states, all features."""

from __future__ import annotations

import random

from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from sgdataplane.model.options import Options
from sgdataplane.model.semantics import decide
from sgdataplane.model.state import CloudState
from sgdataplane.observe.decisions import Decider
from tests.support.inputs import gen
from tests.support.run.amounts import shards

STATES, FEW, PACKETS, SHARDS = 150, 40, 400, 2


@shards(SHARDS, few=FEW, many=STATES)
def test_remembered_decisions_are_those_of_decide(shard: int, states: int) -> None:
    remembered = 0

    @seed(30260 + shard)
    @settings(max_examples=states, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(gen.states(), gen.options(), st.integers(0, 2**32))
    def agrees(state: CloudState, options: Options, packet_seed: int) -> None:
        nonlocal remembered
        decider = Decider(state, options)
        for packet in gen.packets(state, random.Random(packet_seed), PACKETS):
            assert decider.decide(packet) == decide(state, packet, options), packet
        remembered += PACKETS - len(decider._known)

    agrees()
    assert remembered > states * PACKETS / 8  # it has been asked about what it knew
