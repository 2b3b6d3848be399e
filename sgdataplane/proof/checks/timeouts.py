"""Compare idle timeouts with their specification.

An ENI has timeouts of its own. If two ENIs meet on one conntrack entry, the shorter timeout counts. Owns the
comparison, and the ways of a session's first packet through the fixed part of a table. It also checks that the chains
which set timeouts do nothing else, so that the rest of the proof may pass by them (program.py). It is given the table.
It must not know rules, or how the compiler gets there.

A packet that opens a session is followed from the base chain where it comes in to where it leaves or stays, until it is
accepted or the rules of an ENI begin. It must pass the same rules that set timeouts on all ways, whatever isn't known
about it. What these rules set is worked out for each pair of interfaces, and for the namespace itself. In host
placement that is one timeout at most, as kernels differ in which of several they heed. In an instance that forwards,
the last one is what Linux 6.18 heeds.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from itertools import product

from sgdataplane.contract.counters import name_fixed_counter
from sgdataplane.contract.fields import NFPROTO, CtDirection, CtState, Field
from sgdataplane.contract.tables import DELIVERED, LOOPBACK, pass_name
from sgdataplane.model.state import ConnectionTracking
from sgdataplane.net.values import TCP, UDP, Direction, Family
from sgdataplane.nft.ir import (
    ACCEPT,
    RETURN,
    Count,
    Exceeds,
    InSet,
    Key,
    MapCount,
    Match,
    OneIn,
    Rule,
    SessionsExceed,
    SetTimeout,
    Statement,
    Table,
    Timeout,
    Verdict,
    VerdictKind,
    VerdictMap,
    goto,
    rule,
)
from sgdataplane.proof.reuse.proven import RULES
from sgdataplane.proof.spec.axes import LACKING, holds, representatives
from sgdataplane.proof.spec.specification import Namespace
from sgdataplane.proof.walk.step import TIMEOUTS

ASKED = (Field.NFPROTO, Field.L4PROTO, Field.IIFNAME, Field.CT_STATE)
ALWAYS = {Count(name_fixed_counter(hook, "always")) for hook in Direction}
PASSES = (ACCEPT, *(goto(pass_name(hook)) for hook in Direction))
# Only TCP and UDP have timeouts. A session's first packet has mark 0, or the mark of the session that it is related to.
OPENING: Mapping[Field, Key | None] = {
    Field.CT_DIRECTION: CtDirection.ORIGINAL,
    **dict.fromkeys((Field.ICMP_TYPE, Field.ICMPV6_TYPE, Field.ND_TARGET), LACKING),
}
FIRST: tuple[Mapping[Field, Key | None], ...] = (
    {**OPENING, Field.CT_STATE: CtState.NEW, Field.CT_MARK: 0},
    {**OPENING, Field.CT_STATE: CtState.RELATED},
)
Passed = tuple[Rule, ...]
Ways = AbstractSet[Passed]
NONE: Ways = frozenset()


class WrongTimeoutsError(Exception):
    """A table's timeouts are wrong; str() says how."""


def sets_timeouts(entry: Rule) -> bool:
    """Return whether a rule sets timeouts, or leads to a chain that does."""
    return any(
        isinstance(part, SetTimeout) or (isinstance(part, Verdict) and part.chain.startswith(TIMEOUTS))
        for part in entry.statements
    )


def is_harmless(part: object) -> bool:
    """Return whether a statement does nothing but what chains for timeouts may do.

    They may set timeouts, return, ask for fields that timeouts may depend on, and lead to chains that set them.
    """
    if isinstance(part, Verdict):
        return part.kind is VerdictKind.RETURN or part.chain.startswith(TIMEOUTS)
    return isinstance(part, SetTimeout) or (isinstance(part, Match) and part.field in ASKED)


@dataclass
class Openings:
    """Follows packets that open sessions."""

    table: Table
    walked: set[str] = field(default_factory=set)
    """The chains that packets were followed through."""

    def collect_rules(self, base: str, asked: Field, ifname: str | None) -> Passed | None:
        """Return the rules that set timeouts and that packets at an interface meet before they are accepted.

        Return None if none may be accepted. DHCP, which always passes, is left out, as it needs no session.

        Raises:
            WrongTimeoutsError: Packets meet different rules.
        """
        known: dict[Field, Key | None] = {asked: ifname} if ifname is not None else {}
        if asked is Field.IIFNAME:
            known[Field.OIFNAME] = LACKING
        accepted: set[Passed] = set()
        for first in FIRST:
            walk = _OpeningWalk(self.table, {**first, **known}, self.walked, accepted)
            walk.chain(base, {()})
        if len(accepted) > 1:
            raise WrongTimeoutsError(
                f"only some packets through {base} at {ifname or 'any interface'} are given timeouts"
            )
        return accepted.pop() if accepted else None

    def check_others(self) -> None:
        """Check that no chain sets timeouts to which no packet was followed.

        Raises:
            WrongTimeoutsError: One does.
        """
        for name, chain in self.table.chain.items():
            if name not in self.walked and not name.startswith(TIMEOUTS) and any(map(sets_timeouts, chain.rules)):
                raise WrongTimeoutsError(f"chain {name} sets timeouts")


@dataclass
class _OpeningWalk:
    """A walk with packets of which only some fields are known. Any other condition may hold or not."""

    table: Table
    known: Mapping[Field, Key | None]
    """The fields that are known, with their values."""
    walked: set[str]
    """The chains that packets were followed through; filled by the walk."""
    accepted: set[Passed]
    """What accepted packets have met; filled by the walk."""

    def chain(self, name: str, ways: Ways) -> Ways:
        """Follow packets through a chain. Return the rules that those have met which return from it."""
        if name.startswith(RULES):
            self.accepted |= ways
            return NONE
        self.walked.add(name)
        back: set[Passed] = set()
        for entry in self.table.chain[name].rules:
            if sets_timeouts(entry):
                _check_setting(name, entry)
                ways = {(*way, entry) for way in ways}
                continue
            verdicts, is_sure = self._verdicts(entry)
            if _is_always(entry):
                continue
            on: set[Passed] = set() if is_sure else set(ways)
            for verdict in verdicts:
                if verdict.kind is VerdictKind.ACCEPT:
                    self.accepted |= ways
                elif verdict.kind is VerdictKind.RETURN:
                    back |= ways
                elif verdict.chain:
                    (on if verdict.kind is VerdictKind.JUMP else back).update(self.chain(verdict.chain, ways))
            ways = on
            if not ways:
                return back
        return back | ways

    def _verdicts(self, entry: Rule) -> tuple[Collection[Verdict], bool]:
        """Return the verdicts that a rule may have, and whether it certainly has one of them."""
        is_sure = True
        for statement in entry.statements:
            if isinstance(statement, Match) and statement.field in self.known:
                if not holds(statement, self.known[statement.field]):
                    return (), False
            elif isinstance(statement, InSet) and not self._may_be_in(statement):
                return (), False
            elif isinstance(statement, Match | InSet | Exceeds | OneIn | SessionsExceed | MapCount):
                is_sure = False
            elif isinstance(statement, Verdict):
                return (statement,), is_sure
            elif isinstance(statement, VerdictMap):
                found, is_known = self._look_up(statement)
                return found, is_sure and is_known
        return (), False

    def _may_be_in(self, asked: InSet) -> bool:
        """Return whether a packet may have what the set asks for, at whatever interface."""
        if asked.negate or asked.field not in self.known or asked.name not in self.table.map:
            return True
        if self.table.map[asked.name].room:
            return True
        value = self.known[asked.field]
        if not isinstance(value, int):
            return False
        masked = value if asked.mask is None else value & asked.mask
        return any(isinstance(key, tuple) and key[0] == masked for key in self.table.elements_of(asked.name))

    def _look_up(self, vmap: VerdictMap) -> tuple[Collection[Verdict], bool]:
        """Return the verdicts that a look-up may find, and whether it certainly finds one.

        The rest of the proof reports maps that don't exist.
        """
        if vmap.name not in self.table.map:
            return {verdict for _, verdict in vmap.entries}, False
        if self.table.map[vmap.name].lifetime:
            return (RETURN,), False
        elements = self.table.elements_of(vmap.name)
        if vmap.field not in self.known:
            return {value for value in elements.values() if isinstance(value, Verdict)}, False
        key = self.known[vmap.field]
        found = None if key is None else elements.get(key)
        return ((found,), True) if isinstance(found, Verdict) else ((), False)


def _is_always(entry: Rule) -> bool:
    """Return whether a rule is the one that always accepts, which DHCP meets."""
    counts = (part in ALWAYS for part in entry.statements if isinstance(part, Count))
    return any(counts) and entry.statements[-1] in PASSES


def _check_setting(name: str, entry: Rule) -> None:
    """Check that a rule that sets timeouts lets every packet go on and does nothing else.

    Only chains for timeouts may ask for interfaces.

    Raises:
        WrongTimeoutsError: It does more.
    """
    for part in entry.statements:
        is_jump = isinstance(part, Verdict) and part.kind is VerdictKind.JUMP
        is_asked = isinstance(part, Match) and part.field is not Field.IIFNAME
        if not is_harmless(part) or not (is_jump or is_asked or isinstance(part, SetTimeout)):
            raise WrongTimeoutsError(f"chain {name} sets timeouts for some packets only, or does more")


KINDS = tuple(product(Family, (TCP, UDP)))
OPENING_STATES = (CtState.NEW, CtState.RELATED)  # the conntrack states that a session's first packet may have
States = Mapping[str, int]  # the timeout, in seconds, of each of the kernel's states of a session


def wrong_timeouts(namespace: Namespace, table: Table) -> str:
    """Return what is wrong with the table's timeouts; "" if nothing is."""
    own = namespace.timeouts
    names = [chain.name for chain in table.chains if chain.name.startswith(TIMEOUTS)]
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
    """Check that such a chain only sets timeouts and returns; the base chain among them accepts.

    Raises:
        WrongTimeoutsError: It does more, or less.
    """
    rules = table.chain[name].rules
    if name == DELIVERED:
        rules, end = rules[:-1], rules[-1:]
        if end != (rule(ACCEPT),):
            raise WrongTimeoutsError(f"chain {name} does more than set timeouts and accept, or less")
    for statement in (statement for entry in rules for statement in entry.statements):
        if not all(map(is_harmless, _parts(table, statement))):
            raise WrongTimeoutsError(f"chain {name} does more than set timeouts")


def _parts(table: Table, statement: Statement) -> Iterator[object]:
    """Yield all that a statement may do; for a look-up, the match and all verdicts of the map."""
    if not isinstance(statement, VerdictMap):
        yield statement
    elif statement.name in table.map and not statement.entries:
        yield from (Match(statement.field, ()), *{value for _, value in table.map[statement.name].elements})
    else:
        yield None


def states_of(tracking: ConnectionTracking, protocol: int) -> States:
    """Return the kernel's timeouts that follow from an ENI's settings (semantics.md, section 4)."""
    if protocol == UDP:
        return dict.fromkeys(("unreplied", "replied"), tracking.udp_timeout)
    closed = tracking.tcp_closed_and_time_wait_timeout
    return {"established": tracking.tcp_established_timeout, "close": closed, "time_wait": closed}


def shortest(all_states: Sequence[States]) -> States:
    """Return the shortest timeout of each state."""
    return {state: min(states[state] for states in all_states) for state in all_states[0]}


@dataclass(frozen=True, slots=True)
class _Setting:
    """Rules that set timeouts, which a packet meets one after the other."""

    table: Table
    rules: Passed

    def all(self, family: Family, protocol: int, came_by: str | None) -> list[States]:
        """Return the timeouts that the rules set at a session's first packet, in order.

        Raises:
            WrongTimeoutsError: One is missing, or is for another protocol.
        """
        fields: dict[Field, Key | None] = {
            Field.NFPROTO: NFPROTO[family],
            Field.L4PROTO: protocol,
            Field.IIFNAME: came_by,
        }
        wanted = ("tcp" if protocol == TCP else "udp", "ip" if family is Family.IPV4 else "ip6")
        found = [self._timeout(name) for name in self._walk(self.rules, fields)]
        for timeout in found:
            if (timeout.protocol, timeout.family) != wanted:
                raise WrongTimeoutsError(f"timeout {timeout.name} isn't one of {' '.join(wanted)}")
        return [dict(timeout.policy) for timeout in found]

    def _timeout(self, name: str) -> Timeout:
        for timeout in self.table.timeouts:
            if timeout.name == name:
                return timeout
        raise WrongTimeoutsError(f"there is no timeout {name}")

    def _walk(self, rules: Sequence[Rule], fields: Mapping[Field, Key | None]) -> Iterator[str]:
        """Yield the names of timeouts that rules set at a packet with these fields."""
        for entry in rules:
            for statement in entry.statements:
                if isinstance(statement, Match) and not _is_met(statement, fields):
                    break
                if isinstance(statement, SetTimeout):
                    yield statement.timeout
                verdict = self._verdict(statement, fields)
                if verdict is None:
                    continue
                if verdict.chain:
                    yield from self._walk(self.table.chain[verdict.chain].rules, fields)
                if verdict.kind is not VerdictKind.JUMP:
                    return

    def _verdict(self, statement: Statement, fields: Mapping[Field, Key | None]) -> Verdict | None:
        if isinstance(statement, VerdictMap):
            key = fields.get(statement.field)
            found = None if key is None else self.table.elements_of(statement.name).get(key)
            return found if isinstance(found, Verdict) else None
        return statement if isinstance(statement, Verdict) else None


def _is_met(match: Match, fields: Mapping[Field, Key | None]) -> bool:
    """Return whether a match holds for a session's first packet.

    Raises:
        WrongTimeoutsError: It holds in one of the states that such a packet may have, and not in the other.
    """
    if match.field is not Field.CT_STATE:
        return holds(match, fields.get(match.field))
    found = {holds(match, int(state)) for state in OPENING_STATES}
    if len(found) > 1:
        raise WrongTimeoutsError("timeouts are set for some new sessions only")
    return found.pop()


@dataclass(frozen=True, slots=True)
class _End:
    """Where packets leave or stay."""

    ifname: str | None
    """The interface; None for the namespace itself."""
    own: ConnectionTracking | None
    """The timeouts of the ENI there."""
    setting: _Setting
    """The rules that set timeouts there."""


class _Meetings:
    """Compares sessions between all pairs of interfaces, and with the namespace itself."""

    def __init__(self, table: Table, namespace: Namespace) -> None:
        self._table, self._namespace, self._own = table, namespace, namespace.timeouts
        self._is_once = namespace.wanted.site.delivery is not None
        self._unset = namespace.unset_timeouts
        self._openings = Openings(table)

    def check(self) -> None:
        """Compare all pairs. Ends with equal timeouts and equal rules are compared once.

        Raises:
            WrongTimeoutsError: A pair has another timeout than it should.
        """
        names = self._names()
        (arriving,) = (hook for hook in Direction if not self._namespace.wanted.site.is_leaving(hook))
        came_by: dict[str | None, Passed] = {None: ()}
        for ifname in names:
            rules = self._openings.collect_rules(arriving.value, Field.IIFNAME, ifname)
            if rules is not None:
                came_by[ifname] = rules
        ends = {(end.own, end.setting.rules): end for end in self._ends(arriving.other.value, names)}
        self._openings.check_others()
        for kind in KINDS:
            before = {ifname: _Setting(self._table, rules).all(*kind, ifname) for ifname, rules in came_by.items()}
            for end, (came, found) in product(ends.values(), before.items()):
                self._compare(end, came, kind[1], [*found, *end.setting.all(*kind, came)])

    def _names(self) -> list[str]:
        """Return all interfaces that matter, one for each name that stands for many, and one that nobody names."""
        wanted, table = self._namespace.wanted, self._table
        maps = (table.elements_of(name) for name in table.map if name.startswith(TIMEOUTS))
        rules = (entry for name, found in table.chain.items() if name.startswith(TIMEOUTS) for entry in found.rules)
        asked = (s for entry in rules for s in entry.statements if isinstance(s, Match) and s.field is Field.IIFNAME)
        mentioned = (str(item.first) for match in asked for item in match.ranges)
        found = {*(str(key) for keys in maps for key in keys), *mentioned, *self._own}
        return representatives(found | {LOOPBACK, *wanted.internal, *wanted.uplinks})

    def _ends(self, leaving: str, names: Sequence[str]) -> Iterator[_End]:
        """Yield all places where packets leave, and the namespace itself."""
        for ifname in names:
            rules = self._openings.collect_rules(leaving, Field.OIFNAME, ifname)
            if rules is not None:
                yield _End(ifname, self._own.get(ifname), _Setting(self._table, rules))
        is_delivered = DELIVERED in self._table.chain
        stays = self._openings.collect_rules(DELIVERED, Field.IIFNAME, None) if is_delivered else None
        yield _End(None, None, _Setting(self._table, stays or ()))

    def _compare(self, end: _End, came_by: str | None, protocol: int, found: Sequence[States]) -> None:
        """Compare the timeouts that sessions get between one place where they come in and one where they end.

        Raises:
            WrongTimeoutsError: They aren't the shorter ones of both, or are set too often.
        """
        known = None if came_by is None else self._own.get(came_by)
        concerned = [tracking for tracking in (known, end.own) if tracking is not None] or [self._unset]
        wanted = shortest([states_of(tracking, protocol) for tracking in concerned])
        ways = f"a session of protocol {protocol} from {came_by or 'here'} to {end.ifname or 'here'}"
        if len(found) > 1 and self._is_once:
            raise WrongTimeoutsError(f"{ways} is given timeouts {len(found)} times")
        has = found[-1] if found else states_of(self._unset, protocol)
        if has != wanted:
            raise WrongTimeoutsError(f"{ways} has {has}, not {wanted}")
