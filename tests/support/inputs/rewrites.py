"""Other ways to write the same policy: names, order, blocks cut in two, lists written out, rules moved. No packet fares
differently by any of them."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import replace

from sgdataplane.model.state import (
    CloudState,
    GroupRef,
    NicType,
    PrefixListRef,
    SecurityGroup,
    SecurityGroupRule,
)
from sgdataplane.net.values import PortRange, Prefix, Verdict

Rewrite = Callable[[CloudState, random.Random], CloudState]
RuleRewrite = Callable[[CloudState, SecurityGroup, SecurityGroupRule], Iterator[SecurityGroupRule]]


def rewritten(state: CloudState, chance: random.Random) -> CloudState:
    """The state after two or three rewrites."""
    for rewrite in chance.choices(REWRITES, k=chance.randint(2, 3)):
        state = rewrite(state, chance)
    return state


def _each_rule(rewrite: RuleRewrite) -> Rewrite:
    """Half of all rules are written another way, as one or more; new ones get ids of their own."""

    def apply(state: CloudState, chance: random.Random) -> CloudState:
        groups = []
        for group in state.security_groups:
            rules = []
            for rule in group.rules:
                made = list(rewrite(state, group, rule)) if chance.random() < 0.5 else [rule]
                rules += [replace(one, security_group_rule_id=f"sgr-{chance.getrandbits(60):x}") for one in made]
            groups.append(replace(group, rules=tuple(sorted(rules, key=lambda one: one.security_group_rule_id))))
        return replace(state, security_groups=tuple(groups))

    return apply


@_each_rule
def _rename(_: CloudState, __: SecurityGroup, rule: SecurityGroupRule) -> Iterator[SecurityGroupRule]:
    yield replace(rule, description="the same")


@_each_rule
def _repeat(_: CloudState, __: SecurityGroup, rule: SecurityGroupRule) -> Iterator[SecurityGroupRule]:
    yield rule
    yield rule


@_each_rule
def _split_block(_: CloudState, __: SecurityGroup, rule: SecurityGroupRule) -> Iterator[SecurityGroupRule]:
    remote = rule.remote
    if not isinstance(remote, Prefix) or remote.length == remote.family_bits:
        yield rule
        return
    half = Prefix(remote.family_bits, remote.first, remote.length + 1)
    yield replace(rule, remote=half)
    yield replace(rule, remote=Prefix(remote.family_bits, half.last + 1, remote.length + 1))


@_each_rule
def _split_ports(_: CloudState, __: SecurityGroup, rule: SecurityGroupRule) -> Iterator[SecurityGroupRule]:
    ports = rule.port_range
    if ports is None or ports.first == ports.last:
        yield rule
        return
    middle = (ports.first + ports.last) // 2
    yield replace(rule, port_range=PortRange(ports.first, middle))
    yield replace(rule, port_range=PortRange(middle + 1, ports.last))


@_each_rule
def _write_out(state: CloudState, group: SecurityGroup, rule: SecurityGroupRule) -> Iterator[SecurityGroupRule]:
    """A group's members and a list's entries, one by one."""
    remotes: list[Prefix] | None = None
    match rule.remote:
        case PrefixListRef(prefix_list_id):
            remotes = [entry.cidr for entry in state.prefix_list[prefix_list_id].entries]
        case GroupRef(other) if other in state.group and state.group[other].vpc_id == group.vpc_id:
            enis = [eni for eni in state.enis_of_group[other] if eni.nic_type is NicType.INTRANET]
            remotes = [prefix for eni in enis for prefix in eni.private_prefixes]
    if remotes is None:
        yield rule
        return
    yield from (replace(rule, remote=remote) for remote in remotes)


@_each_rule
def _write_ports_out(state: CloudState, _: SecurityGroup, rule: SecurityGroupRule) -> Iterator[SecurityGroupRule]:
    if not rule.port_list_id:
        yield rule
        return
    for entry in state.port_list[rule.port_list_id].entries:
        yield replace(rule, port_list_id="", port_range=entry.port_range)


def _spread_priorities(state: CloudState, _: random.Random) -> CloudState:
    """Others, in the same order."""
    every = sorted({rule.priority for group in state.security_groups for rule in group.rules})
    becomes = {priority: 3 + 4 * place for place, priority in enumerate(every)}
    groups = (
        replace(group, rules=tuple(replace(rule, priority=becomes[rule.priority]) for rule in group.rules))
        for group in state.security_groups
    )
    return replace(state, security_groups=tuple(groups))


def _move_rules(state: CloudState, chance: random.Random) -> CloudState:
    """To a new group that all ENIs of the old one join."""
    old = chance.choice(state.security_groups)
    new_id = f"sg-new-{chance.getrandbits(30):x}"
    new = replace(old, security_group_id=new_id, inner_access_policy=Verdict.DROP)
    groups = [replace(group, rules=()) if group is old else group for group in (*state.security_groups, new)]
    enis = tuple(
        replace(eni, security_group_ids=tuple(sorted((*eni.security_group_ids, new_id))))
        if old.security_group_id in eni.security_group_ids
        else eni
        for eni in state.network_interfaces
    )
    ordered = tuple(sorted(groups, key=lambda group: group.security_group_id))
    return replace(state, security_groups=ordered, network_interfaces=enis)


REWRITES: tuple[Rewrite, ...] = (
    _rename,
    _repeat,
    _split_block,
    _split_ports,
    _write_out,
    _write_ports_out,
    _spread_priorities,
    _move_rules,
)
