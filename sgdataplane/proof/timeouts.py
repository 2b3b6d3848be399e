"""Idle timeouts against their specification: an ENI's own, and of two that meet on one conntrack entry the shorter.

Owns the comparison, and that the chains which set timeouts do nothing else, so that whoever follows packets may pass by
them (`program.py`). Is given the table. Must not know rules, nor how the compiler gets there.

This speaks of Linux 6.18, which heeds what was set last before a session's first packet has passed: where it left by an
ENI's interface what was set there, else what was set where it came, else its namespace's settings.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

from sgdataplane.compiler.skeleton import dispatch_name
from sgdataplane.model.state import ConnectionTracking
from sgdataplane.net.values import TCP, UDP, Direction, Family
from sgdataplane.nft.ir import (
    Field,
    Key,
    Match,
    Rule,
    SetTimeout,
    Statement,
    Table,
    Timeout,
    Verdict,
    VerdictKind,
    VerdictMap,
)
from sgdataplane.proof.axes import holds
from sgdataplane.proof.crossing import NFPROTO
from sgdataplane.proof.program import TIMEOUTS
from sgdataplane.proof.specification import Namespace

ASKED = (Field.NFPROTO, Field.L4PROTO, Field.IIFNAME)
KINDS = tuple(product(Family, (TCP, UDP)))
States = Mapping[str, int]  # seconds of each of the kernel's states


class WrongTimeoutsError(Exception):
    """What is wrong with a table's timeouts."""


def wrong_timeouts(namespace: Namespace, table: Table) -> str:
    """What is wrong with them, or ""."""
    own = namespace.timeouts
    names = [name for name in table.chain if name.startswith(TIMEOUTS)]
    if not names and not table.timeouts and set(own.values()) <= {namespace.unset_timeouts}:
        return ""
    try:
        for name in names:
            _check_alone(table, name)
        _Meetings(table, namespace).check()
    except WrongTimeoutsError as error:
        return str(error)
    return ""


def _check_alone(table: Table, name: str) -> None:
    """Such a chain sets timeouts, and comes back."""
    for statement in (statement for rule in table.chain[name].rules for statement in rule.statements):
        if not isinstance(statement, SetTimeout) and not all(_is_harmless(part) for part in _parts(table, statement)):
            raise WrongTimeoutsError(f"chain {name} does more than set timeouts")


def _parts(table: Table, statement: Statement) -> Iterator[object]:
    if not isinstance(statement, VerdictMap):
        yield statement
    elif statement.name in table.map and not statement.entries:
        yield from (Match(statement.field, ()), *{value for _, value in table.map[statement.name].elements})
    else:
        yield None


def _is_harmless(part: object) -> bool:
    if isinstance(part, Verdict):
        return part.kind is VerdictKind.RETURN or part.chain.startswith(TIMEOUTS)
    return isinstance(part, Match) and part.field in ASKED


def states_of(tracking: ConnectionTracking, protocol: int) -> States:
    """What an ENI's timeouts mean to the kernel (semantics.md section 4)."""
    if protocol == UDP:
        return dict.fromkeys(("unreplied", "replied"), tracking.udp_timeout)
    closed = tracking.tcp_closed_and_time_wait_timeout
    return {"established": tracking.tcp_established_timeout, "close": closed, "time_wait": closed}


def shortest(all_states: Sequence[States]) -> States:
    return {state: min(states[state] for states in all_states) for state in all_states[0]}


@dataclass(frozen=True, slots=True)
class _Setting:
    """The rules of an ENI's chain that set timeouts."""

    table: Table
    rules: tuple[Rule, ...]

    @classmethod
    def of(cls, table: Table, hook: Direction, ifname: str) -> _Setting:
        to_eni = table.elements_of(dispatch_name(hook)).get(ifname)
        if not isinstance(to_eni, Verdict) or to_eni.chain not in table.chain:
            raise WrongTimeoutsError(f"{hook.value} has no chain for {ifname}")
        return cls(table, tuple(rule for rule in table.chain[to_eni.chain].rules if _is_setting(rule)))

    def states(self, family: Family, protocol: int, came_by: str | None) -> States | None:
        """What is set for such a packet; None: nothing."""
        fields: dict[Field, Key | None] = {Field.NFPROTO: NFPROTO[family], Field.L4PROTO: protocol}
        name = self._walked(self.rules, {**fields, Field.IIFNAME: came_by}, "")
        if not name:
            return None
        wanted = ("tcp" if protocol == TCP else "udp", "ip" if family is Family.IPV4 else "ip6")
        found = self._timeout(name)
        if (found.protocol, found.family) != wanted:
            raise WrongTimeoutsError(f"timeout {name} isn't one of {' '.join(wanted)}")
        return dict(found.policy)

    def _timeout(self, name: str) -> Timeout:
        for timeout in self.table.timeouts:
            if timeout.name == name:
                return timeout
        raise WrongTimeoutsError(f"there is no timeout {name}")

    def _walked(self, rules: Sequence[Rule], fields: Mapping[Field, Key | None], name: str) -> str:
        """The name of the last one that is set."""
        for rule in rules:
            for statement in rule.statements:
                if isinstance(statement, Match) and not holds(statement, fields.get(statement.field)):
                    break
                if isinstance(statement, SetTimeout):
                    name = statement.timeout
                verdict = self._verdict(statement, fields)
                if verdict is None:
                    continue
                if verdict.chain:
                    name = self._walked(self.table.chain[verdict.chain].rules, fields, name)
                if verdict.kind is not VerdictKind.JUMP:
                    return name
        return name

    def _verdict(self, statement: Statement, fields: Mapping[Field, Key | None]) -> Verdict | None:
        if isinstance(statement, VerdictMap):
            key = fields.get(statement.field)
            found = None if key is None else self.table.elements_of(statement.name).get(key)
            return found if isinstance(found, Verdict) else None
        return statement if isinstance(statement, Verdict) else None


def _is_setting(rule: Rule) -> bool:
    """Whether a rule sets timeouts, of whatever it is asked about; WrongTimeoutsError if that is too much."""
    is_one = any(
        isinstance(entry, SetTimeout) or (isinstance(entry, Verdict) and entry.chain.startswith(TIMEOUTS))
        for entry in rule.statements
    )
    if is_one and any(isinstance(entry, Match) and entry.field not in ASKED for entry in rule.statements):
        raise WrongTimeoutsError("timeouts are set for some packets only")
    return is_one


class _Meetings:
    """Every ENI alone, and with each other one."""

    def __init__(self, table: Table, namespace: Namespace) -> None:
        self._own, self._unset = namespace.timeouts, namespace.unset_timeouts
        site = namespace.wanted.site
        (arriving,) = (hook for hook in Direction if not site.is_leaving(hook))
        self._arriving = {ifname: _Setting.of(table, arriving, ifname) for ifname in self._own}
        self._leaving = {ifname: _Setting.of(table, arriving.other, ifname) for ifname in self._own}

    def check(self) -> None:
        """ENIs with equal timeouts and equal rules are one, where packets leave."""
        first = {(self._own[ifname], setting.rules): ifname for ifname, setting in self._leaving.items()}
        for family, protocol in KINDS:
            came = {
                ifname: setting.states(family, protocol, ifname) or states_of(self._unset, protocol)
                for ifname, setting in self._arriving.items()
            }
            for ifname, states in came.items():
                self._compare((ifname,), protocol, states)
            for (_, rules), leaves_by in first.items():
                setting = _Setting(self._leaving[leaves_by].table, rules)
                alone = setting.states(family, protocol, None) or states_of(self._unset, protocol)
                self._compare((leaves_by,), protocol, alone)
                for came_by, states in came.items():
                    both = setting.states(family, protocol, came_by) or states
                    self._compare((came_by, leaves_by), protocol, both)

    def _compare(self, ifnames: tuple[str, ...], protocol: int, found: States) -> None:
        wanted = shortest([states_of(self._own[ifname], protocol) for ifname in ifnames])
        if found != wanted:
            ends = " and ".join(ifnames)
            raise WrongTimeoutsError(f"a session of protocol {protocol} at {ends} has {found}, not {wanted}")
