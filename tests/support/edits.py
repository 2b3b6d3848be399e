"""What people do to a state: rules come, go and turn, ENIs move, prefix lists shrink. By chance, several at once."""

from __future__ import annotations

import random
from dataclasses import replace

from sgdataplane.model.state import CloudState


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
