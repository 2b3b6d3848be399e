"""A state and what becomes of it: small changes one by one, those that people make (edits.py), or another state."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

from hypothesis import strategies as st

from sgdataplane.model.modes import Mode
from sgdataplane.model.options import Options
from sgdataplane.model.state import CloudState, Eni, SecurityGroup
from sgdataplane.net.values import Verdict
from tests.support.inputs import edits, gen

Edit = Callable[[CloudState, random.Random], CloudState]


def with_group(state: CloudState, chance: random.Random) -> CloudState:
    """A rule is removed, or the group's inner policy changes."""
    old = chance.choice(state.security_groups)
    turned = Verdict.DROP if old.inner_access_policy is Verdict.ACCEPT else Verdict.ACCEPT
    new = replace(old, rules=old.rules[1:]) if chance.random() < 0.7 else replace(old, inner_access_policy=turned)
    return replace(state, security_groups=replaced(state.security_groups, old, new))


def with_eni(state: CloudState, chance: random.Random) -> CloudState:
    """An ENI moves to the groups of another, takes the place of another, gets another MAC, or is removed."""
    old, other = chance.choice(state.network_interfaces), chance.choice(state.network_interfaces)
    if chance.random() < 0.2 and len(state.network_interfaces) > 1:
        return replace(state, network_interfaces=tuple(eni for eni in state.network_interfaces if eni is not old))
    changes: tuple[dict[str, object], ...] = (
        {"security_group_ids": other.security_group_ids},
        {"private_ip_addresses": other.private_ip_addresses},
        {"ipv6_addresses": other.ipv6_addresses, "ipv4_prefixes": other.ipv4_prefixes},
        {"mac_address": "02:00:00:00:00:99"},
        {"allowed_address_pairs": other.allowed_address_pairs},
    )
    new: Eni = replace(old, **chance.choice(changes))  # type: ignore[arg-type]
    return replace(state, network_interfaces=replaced(state.network_interfaces, old, new))


def with_mode(state: CloudState, chance: random.Random) -> CloudState:
    """An ENI is put into audit mode, or into mode enforce."""
    eni = chance.choice(state.network_interfaces)
    return state.with_mode({eni.network_interface_id}, Mode.ENFORCE if eni.is_audited else Mode.AUDIT)


def with_list(state: CloudState, chance: random.Random) -> CloudState:
    prefixes = tuple(replace(e, entries=e.entries[1:]) if chance.random() < 0.5 else e for e in state.prefix_lists)
    ports = tuple(replace(e, entries=e.entries[:-1] or e.entries) for e in state.port_lists)
    return replace(state, prefix_lists=prefixes, port_lists=ports if chance.random() < 0.5 else state.port_lists)


def with_lone_group(state: CloudState, _: random.Random) -> CloudState:
    """A group that no ENI is in and no rule names."""
    groups = (*state.security_groups, SecurityGroup("sg-lone", gen.VPC_ID))
    return replace(state, security_groups=groups)


EDITS: tuple[Edit, ...] = (with_group, with_group, with_eni, with_eni, with_mode, with_list, with_lone_group)


def replaced(records: tuple[object, ...], old: object, new: object) -> tuple:  # type: ignore[type-arg]
    return tuple(new if record is old else record for record in records)


def moved(state: CloudState, chance: random.Random) -> CloudState:
    for edit in chance.choices(EDITS, k=chance.randint(1, 2)):
        state = edit(state, chance)
    return state


def stricter(state: CloudState, chance: random.Random) -> CloudState:
    """Some groups accept less: rules that accept are removed, and at times an ENI. Back again, they accept more."""
    some = chance.sample(state.security_groups, chance.randint(1, len(state.security_groups)))
    for group in some:
        rules = tuple(rule for rule in group.rules if rule.policy is Verdict.DROP or chance.random() < 0.5)
        state = replace(state, security_groups=replaced(state.security_groups, group, replace(group, rules=rules)))
    enis = state.network_interfaces
    if chance.random() < 0.3:
        state = replace(state, network_interfaces=state.network_interfaces[: chance.choice((1, -1, -2))] or enis)
    return state


class Change(NamedTuple):
    """Two states, how both are judged, and what goes on by chance."""

    before: CloudState
    after: CloudState
    options: Options
    chance: random.Random

    @property
    def states(self) -> tuple[CloudState, CloudState]:
        return self.before, self.after


@st.composite
def changes(draw: st.DrawFn) -> Change:
    """Of each kind as many."""
    before, other, options = draw(gen.states()), draw(gen.states()), draw(gen.options())
    chance = random.Random(draw(st.integers(0, 1 << 32)))
    kind = chance.randrange(3)
    after = other if kind == 0 else (edits.edited if kind == 1 else moved)(before, chance)
    return Change(before, after, options, chance)
