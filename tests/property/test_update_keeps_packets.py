"""Every packet on its way during an update is judged as by the old policy or the new one, and the result is exact."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, event, given, seed, settings
from hypothesis import strategies as st

from sgdataplane.compiler.compile import with_epoch
from sgdataplane.compiler.marks import accepted_mark
from sgdataplane.compiler.skeleton import TABLE
from sgdataplane.enforce import Desired, Settings, apply, compiled
from sgdataplane.model.state import CloudState
from sgdataplane.net.values import Direction
from sgdataplane.nft.interp import run
from sgdataplane.nft.ir import Field, Key
from sgdataplane.nft.snapshot import stamp_of, with_generation
from sgdataplane.policy.resolve import interfaces_of
from tests.support import gen, wire
from tests.support.inflight import Commit, RecordingKernel

SHARDS, SEQUENCES, PACKETS = 4, 40, 60


class NoSessions:
    def forget_epochs(self, epochs: range) -> int:
        return 0 * len(epochs)


def edited(state: CloudState, chance: random.Random) -> CloudState:
    """The state after some of the changes that people make, one or several at once."""
    for edit in chance.choices((_drop_rule, _turn_rule, _move_eni, _drop_entry), k=chance.randint(1, 3)):
        state = edit(state, chance)
    return state


def _drop_rule(state: CloudState, chance: random.Random) -> CloudState:
    return _with_rules(state, chance, keep=False)


def _turn_rule(state: CloudState, chance: random.Random) -> CloudState:
    return _with_rules(state, chance, keep=True)


def _with_rules(state: CloudState, chance: random.Random, *, keep: bool) -> CloudState:
    group = chance.choice(state.security_groups)
    if not group.rules:
        return state
    index = chance.randrange(len(group.rules))
    rule = group.rules[index]
    turned = (replace(rule, priority=101 - rule.priority, remote=chance.choice(group.rules).remote),) if keep else ()
    changed = replace(group, rules=(*group.rules[:index], *turned, *group.rules[index + 1 :]))
    groups = tuple(changed if entry is group else entry for entry in state.security_groups)
    return replace(state, security_groups=groups)


def _move_eni(state: CloudState, chance: random.Random) -> CloudState:
    eni = chance.choice(state.network_interfaces)
    kind = state.group[eni.security_group_ids[0]].security_group_type
    choices = [group.security_group_id for group in state.security_groups if group.security_group_type is kind]
    moved = replace(eni, security_group_ids=tuple(sorted(chance.sample(choices, chance.randint(1, len(choices))))))
    enis = tuple(moved if entry is eni else entry for entry in state.network_interfaces)
    return replace(state, network_interfaces=enis)


def _drop_entry(state: CloudState, chance: random.Random) -> CloudState:
    lists = tuple(
        replace(entry, entries=entry.entries[:-1]) if chance.random() < 0.5 else entry for entry in state.prefix_lists
    )
    return replace(state, prefix_lists=lists)


def desired_of(state: CloudState) -> Desired:
    return Desired(state, interfaces_of(state, state.network_interfaces[0]))


def probes(states: Sequence[CloudState], chance: random.Random) -> list[tuple[str, dict[Field, Key]]]:
    """Hook and fields of packets at the edges of what the states say, opening and answering."""
    found = []
    for state in states:
        interfaces = desired_of(state).interfaces
        for packet in gen.packets(state, chance, PACKETS):
            ifname = interfaces.get(packet.eni_id)
            if ifname and chance.random() < 0.4:
                found.append((packet.direction.other.value, wire.reply(packet, ifname, 0)))
            elif ifname:
                found.append((packet.direction.value, wire.opening(packet, ifname)))
    return found


def check_commit(commit: Commit, packets: Sequence[tuple[str, dict[Field, Key]]], chance: random.Random) -> int:
    """How many packets the commit judges anew. Their sessions are new, or marked before it with its epoch or an older
    one."""
    epoch, changed = stamp_of(commit.before).epoch, 0
    for hook, unmarked in packets:
        marks = (accepted_mark(side, chance.choice((0, epoch - 1, epoch)), 0) for side in Direction)
        fields = {**unmarked, Field.CT_MARK: sum(marks)} if Field.CT_MARK in unmarked else unmarked
        before, after = (run(table, hook, fields).verdict for table in (commit.before, commit.after))
        between = run(commit.mixture(chance), hook, fields).verdict
        assert between in (before, after), (hook, fields, str(commit.transaction))
        changed += before is not after
    return changed


@pytest.mark.parametrize("resync", [False, True], ids=["delta", "refill"])
@pytest.mark.parametrize("shard", range(SHARDS))
def test_packets_on_their_way_are_judged_by_one_policy(shard: int, resync: bool) -> None:
    judged_anew = []

    @seed(shard)
    @settings(max_examples=SEQUENCES, suppress_health_check=list(HealthCheck))
    @given(gen.states(), gen.states(), st.integers(0, 1 << 32))
    def check(first: CloudState, other: CloudState, number: int) -> None:
        chance = random.Random(number)
        second = edited(first, chance)
        kernel, previous = RecordingKernel(TABLE), None
        for state in (first, second, edited(second, chance), other):
            desired = desired_of(state)
            kernel.commits.clear()
            report = apply(kernel, NoSessions(), desired, previous, Settings(resync=resync))
            event(f"{len(kernel.commits)} commits")
            packets = probes([state, previous.state if previous else state], chance)
            judged = [check_commit(commit, packets, chance) for commit in kernel.commits]
            assert sum(count > 0 for count in judged) <= 1, "a policy came into force in two steps"
            judged_anew.append(sum(judged))
            wanted = with_generation(with_epoch(compiled(desired), report.epoch), kernel.generation)
            assert kernel.table(TABLE) == wanted
            assert not apply(kernel, NoSessions(), desired, None, Settings()).changed
            previous = desired

    check()
    assert sum(judged_anew) > 100, "hardly any packet's verdict ever changed: this proves nothing"
