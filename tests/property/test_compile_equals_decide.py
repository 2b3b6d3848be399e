"""The interpreter runs the compiled ruleset and agrees with decide(): over generated states, with all features."""

from __future__ import annotations

import random
from dataclasses import replace

from hypothesis import HealthCheck, event, given, seed, settings
from hypothesis import strategies as st

from sgdataplane.compiler.compile import compile_policy
from sgdataplane.contract.counters import counter_name, eni_counter, name_audited_at
from sgdataplane.contract.sites import INSTANCE
from sgdataplane.contract.tables import AUDITED, accept_name, refuse_name
from sgdataplane.model.always import is_dhcp, is_discovery_type
from sgdataplane.model.decision import Decision
from sgdataplane.model.options import Options
from sgdataplane.model.semantics import decide, is_foreign, is_spoofed
from sgdataplane.model.state import CloudState
from sgdataplane.net.packet import Packet
from sgdataplane.net.values import Direction, Verdict
from sgdataplane.nft.interp import PacketOutcome, run
from sgdataplane.nft.ir import Table, VerdictKind
from sgdataplane.policy.resolve import resolve
from tests.support.inputs import gen
from tests.support.models import wire
from tests.support.run.amounts import shards

EPOCH, SECRET = 7, 0x12345678
JUDGED = {name for hook in Direction for side in Direction for name in (accept_name(hook, side), refuse_name(side))}
SHARDS, STATES_PER_SHARD, PACKETS = 8, 250, 200  # slow, as test_proof.py asks of every packet
FEW = 28


def compiled(state: CloudState, options: Options) -> dict[str, tuple[Table, str]]:
    """Per ENI its instance's table and the interface that carries it."""
    tables: dict[str, tuple[Table, str]] = {}
    for enis in state.enis_of_instance.values():
        interfaces = {eni.network_interface_id: f"eth{index}" for index, eni in enumerate(enis)}
        table = compile_policy(resolve(state, interfaces, options), options, EPOCH, SECRET)
        tables |= {eni_id: (table, ifname) for eni_id, ifname in interfaces.items()}
    return tables


def check_told(outcome: PacketOutcome, packet: Packet, decision: Decision, ifname: str) -> None:
    """Counted by cause; what is dropped by ENI, too, and told to whoever listens. So is what an ENI in audit mode lets
    pass."""
    if decision.would is not None:
        assert outcome.counters == [name_audited_at(ifname, decision.would), counter_name(decision)], (packet, outcome)
        assert outcome.logs == [counter_name(decision)], (packet, outcome)
        return
    counter, *others = outcome.counters
    assert counter == counter_name(decision), (packet, decision, outcome)
    is_dropped = decision.verdict is Verdict.DROP
    assert others == ([eni_counter(packet.direction, ifname)] if is_dropped else []), (packet, decision, outcome)
    assert outcome.logs == ([counter] if is_dropped else []), (packet, decision, outcome)


def lookups_but_counts(table: Table, outcome: PacketOutcome) -> int:
    """How many look-ups the packet took, but for those that find its counters and which ENIs are audited."""
    aside = sum(counter.startswith(("dropped.", "audited-by.")) for counter in outcome.counters)
    return outcome.lookups - aside - (AUDITED in table.map)


def check_opening(table: Table, ifname: str, packet: Packet, decision: Decision) -> PacketOutcome:
    fields = wire.opening(packet, ifname)
    outcome = run(table, packet.direction.value, fields)
    assert outcome.verdict.value == decision.verdict.value, (packet, decision, outcome)
    check_told(outcome, packet, decision, ifname)
    assert lookups_but_counts(table, outcome) <= 8, (packet, outcome)
    check_approval(packet.direction, outcome)
    return outcome


def check_approval(hook: Direction, outcome: PacketOutcome) -> None:
    """The fence's mark: on all that leaves, and on nothing else."""
    leaves = hook is Direction.EGRESS and outcome.verdict is VerdictKind.ACCEPT
    assert outcome.packet_mark == (SECRET if leaves else 0), outcome


def check_reply(table: Table, ifname: str, packet: Packet, decision: Decision) -> None:
    """A session of an earlier epoch is judged again by its reply, from the reply's own header."""
    slot = 1 + int(ifname.removeprefix("eth"))
    mark = INSTANCE.marks.encode_acceptance(packet.direction, EPOCH - 1, slot)
    outcome = run(table, packet.direction.other.value, wire.reply(packet, ifname, mark))
    assert outcome.verdict.value == decision.verdict.value, (packet, decision, outcome)
    accepted = INSTANCE.marks.encode_acceptance(packet.direction, EPOCH, slot)
    assert outcome.mark == (accepted if decision.verdict is Verdict.ACCEPT else 0), (packet, outcome)
    check_approval(packet.direction.other, outcome)


@shards(SHARDS, few=FEW, many=STATES_PER_SHARD)
def test_interpreter_agrees_with_decide(shard: int, states: int) -> None:
    @seed(20260 + shard)
    @settings(max_examples=states, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(gen.states(), gen.options(), st.integers(0, 2**32))
    def agrees(state: CloudState, options: Options, packet_seed: int) -> None:
        event(gen.describe(state))
        tables = compiled(state, options)
        for packet in gen.packets(state, random.Random(packet_seed), PACKETS):
            table, ifname = tables[packet.eni_id]
            decision = decide(state, packet, options)
            outcome = check_opening(table, ifname, packet, decision)
            if not JUDGED.isdisjoint(outcome.chains) and is_answerable(state, packet, options):
                check_reply(table, ifname, packet, decision)

    agrees()


def is_answerable(state: CloudState, packet: Packet, options: Options) -> bool:
    """Whether the answer is judged as its session's: it is from and to whom it must be, and it must not be of a shape
    that always passes."""
    eni = state.eni[packet.eni_id]
    answer = replace(packet, direction=packet.direction.other, port=packet.source_port, source_port=packet.port)
    is_odd = is_spoofed(eni, answer) or is_foreign(eni, answer)
    return not (is_odd or is_discovery_type(answer) or is_dhcp(eni, answer, options))
