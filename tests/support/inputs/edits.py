"""What people do to a state: rules come, go and turn, ENIs come, go and move, prefixes are delegated, groups let their
members in or not, prefix lists grow and shrink. By chance, several at once."""

from __future__ import annotations

import random
from dataclasses import replace

from sgdataplane.model.modes import Mode
from sgdataplane.model.state import CloudState, Eni, GroupType, PrefixListEntry, PrefixListRef, SecurityGroup
from sgdataplane.net.values import Address, Family, Prefix, Verdict
from tests.support.inputs.hardpolicies import TARGET

FIRST = {Family.IPV4: Address.parse("198.18.0.0").value, Family.IPV6: Address.parse("2001:db8:18::").value}
FIRST_DELEGATED = Address.parse("198.20.0.0").value
NEWCOMER = "eni-new-"


def edited(state: CloudState, chance: random.Random) -> CloudState:
    """The state after some of the changes that people make, one or several at once. The first ENI and targets stay."""
    for edit in chance.choices(EDITS, k=chance.randint(1, 3)):
        state = edit(state, chance)
    return state


def _drop_rule(state: CloudState, chance: random.Random) -> CloudState:
    return _with_rules(state, chance, keep=False)


def _turn_rule(state: CloudState, chance: random.Random) -> CloudState:
    return _with_rules(state, chance, keep=True)


def _turn_mode(state: CloudState, chance: random.Random) -> CloudState:
    """An ENI is put into audit mode, or into mode enforce."""
    eni = chance.choice(state.network_interfaces)
    return state.with_mode({eni.network_interface_id}, Mode.ENFORCE if eni.is_audited else Mode.AUDIT)


def _with_rules(state: CloudState, chance: random.Random, *, keep: bool) -> CloudState:
    group = chance.choice(state.security_groups)
    if not group.rules:
        return state
    index = chance.randrange(len(group.rules))
    rule = group.rules[index]
    turned = (replace(rule, priority=101 - rule.priority, remote=chance.choice(group.rules).remote),) if keep else ()
    changed = replace(group, rules=(*group.rules[:index], *turned, *group.rules[index + 1 :]))
    return _with_group(state, group, changed)


def _add_rule(state: CloudState, chance: random.Random) -> CloudState:
    """One more on a block of few or many addresses, whichever are there already."""
    group = chance.choice(state.security_groups)
    if not group.rules:
        return state
    like, eni = chance.choice(group.rules), chance.choice(state.network_interfaces)
    remote = _around(chance.choice(eni.addresses), chance)
    if like.narrowing is not None or isinstance(like.remote, PrefixListRef):
        return state
    rule = replace(like, security_group_rule_id=f"sgr-{chance.getrandbits(60):x}", remote=remote)
    return _with_group(state, group, replace(group, rules=(*group.rules, rule)))


def _with_group(state: CloudState, group: SecurityGroup, changed: SecurityGroup) -> CloudState:
    groups = tuple(changed if entry is group else entry for entry in state.security_groups)
    return replace(state, security_groups=groups)


def _move_eni(state: CloudState, chance: random.Random) -> CloudState:
    eni = chance.choice(state.network_interfaces)
    kind = state.group[eni.security_group_ids[0]].security_group_type
    choices = [group.security_group_id for group in state.security_groups if group.security_group_type is kind]
    moved = replace(eni, security_group_ids=tuple(sorted(chance.sample(choices, chance.randint(1, len(choices))))))
    return _with_eni(state, eni, moved)


def _with_eni(state: CloudState, eni: Eni, changed: Eni) -> CloudState:
    enis = tuple(changed if entry is eni else entry for entry in state.network_interfaces)
    return replace(state, network_interfaces=enis)


def _renumber_eni(state: CloudState, chance: random.Random) -> CloudState:
    """Its last address of a family goes, or others come in its place."""
    eni = chance.choice(state.network_interfaces)
    old = eni.ipv6_addresses
    return _with_eni(state, eni, replace(eni, ipv6_addresses=old[:-1] or (_address(Family.IPV6, chance),)))


def _add_eni(state: CloudState, chance: random.Random) -> CloudState:
    """One like another one, somewhere among them; often of the same instance."""
    enis = state.network_interfaces
    like = chance.choice((enis[0], enis[-1], chance.choice(enis)))
    fresh = replace(
        like,
        network_interface_id=f"{NEWCOMER}{chance.getrandbits(60):x}",
        mac_address="02:" + chance.randbytes(5).hex(":"),
        private_ip_addresses=(_address(Family.IPV4, chance),),
        ipv6_addresses=(_address(Family.IPV6, chance),) * chance.randint(0, 1),
        ipv4_prefixes=(Prefix(32, _address(Family.IPV4, chance).value & ~15, 28),) * (chance.random() < 0.2),
        ipv6_prefixes=(),
    )
    place = chance.randint(1, len(enis))
    return replace(state, network_interfaces=(*enis[:place], fresh, *enis[place:]))


def _drop_eni(state: CloudState, chance: random.Random) -> CloudState:
    others = [eni for eni in state.network_interfaces[1:] if not eni.network_interface_id.startswith(TARGET)]
    gone = chance.choice(others) if others else None
    return replace(state, network_interfaces=tuple(eni for eni in state.network_interfaces if eni is not gone))


def _address(family: Family, chance: random.Random) -> Address:
    """One that nobody is likely to have."""
    return Address(family.bits, FIRST[family] + chance.randrange(1 << 17))


def _around(address: Address, chance: random.Random) -> Prefix:
    length = address.family_bits - chance.choice((0, 0, 4, 8, 16, 28))
    host = (1 << (address.family_bits - length)) - 1
    return Prefix(address.family_bits, address.value & ~host, length)


def _delegate(state: CloudState, chance: random.Random) -> CloudState:
    """An ENI's last delegated prefix goes, or it gets one that nobody is likely to have."""
    eni = chance.choice(state.network_interfaces)
    one = Prefix(32, FIRST_DELEGATED + (chance.randrange(1 << 12) << 4), 28)
    return _with_eni(state, eni, replace(eni, ipv4_prefixes=eni.ipv4_prefixes[:-1] or (one,)))


def _turn_inner(state: CloudState, chance: random.Random) -> CloudState:
    """Members of a normal group, often of a target's, accept each other, or don't any more. There is another member."""
    enis = state.network_interfaces
    target = next((eni for eni in enis if eni.network_interface_id.startswith(TARGET)), enis[0])
    group = state.group[chance.choice((target, chance.choice(enis))).security_group_ids[0]]
    if group.security_group_type is not GroupType.NORMAL:
        return state
    turned = Verdict.DROP if group.inner_access_policy is Verdict.ACCEPT else Verdict.ACCEPT
    state = _with_group(state, group, replace(group, inner_access_policy=turned))
    is_alone = sum(group.security_group_id in eni.security_group_ids for eni in enis) < 2
    if not is_alone or enis[-1] is target:
        return state
    return _with_eni(state, enis[-1], replace(enis[-1], security_group_ids=(group.security_group_id,)))


def _drop_entry(state: CloudState, chance: random.Random) -> CloudState:
    lists = tuple(
        replace(entry, entries=entry.entries[:-1]) if chance.random() < 0.5 else entry for entry in state.prefix_lists
    )
    return replace(state, prefix_lists=lists)


def _add_entry(state: CloudState, chance: random.Random) -> CloudState:
    """To one list, of the addresses that are there already or of others."""
    eni = chance.choice(state.network_interfaces)
    blocks = [_around(address, chance) for address in (*eni.addresses, *(_address(f, chance) for f in Family))]
    lists = tuple(
        replace(
            entry, entries=(*entry.entries, *(PrefixListEntry(b) for b in blocks if b.family is entry.address_family))
        )
        if chance.random() < 0.5
        else entry
        for entry in state.prefix_lists
    )
    return replace(state, prefix_lists=lists)


EDITS = (
    _drop_rule,
    _turn_rule,
    _add_rule,
    _move_eni,
    _add_eni,
    _drop_eni,
    _renumber_eni,
    _delegate,
    _turn_inner,
    _drop_entry,
    _add_entry,
    _turn_mode,
)
