"""Find one packet for which table and specification differ, and show it by running it through both.

Owns the way from sets of packets to one packet, and the wording. It is given a difference. It must not know how the
difference was found: what it says about the table is what nft/interp.py does with that packet, and nothing else.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import islice, product
from typing import NamedTuple

from sgdataplane.contract.fields import (
    DESTINATION,
    NFPROTO,
    SOURCE,
    TCP_ACK,
    TCP_SYN,
    CtDirection,
    CtState,
    Field,
    Hook,
)
from sgdataplane.contract.sites import Site
from sgdataplane.contract.tables import ADOPTING, dispatch_name
from sgdataplane.errors import InternalError
from sgdataplane.net.values import ICMP, ICMPV6, PORT_PROTOCOLS, TCP, UDP, Address, Direction, Family, Protocol
from sgdataplane.nft.interp import add_session_fields, run
from sgdataplane.nft.ir import RETURN, Chain, Key, Table, VerdictKind, goto, rule
from sgdataplane.proof.checks.gate import GateMismatch
from sgdataplane.proof.checks.kindcheck import ProfileMismatch
from sgdataplane.proof.spec.axes import Atoms, Axis, Span
from sgdataplane.proof.spec.claims import AXES
from sgdataplane.proof.spec.crossing import ICMP_TYPE, family_of
from sgdataplane.proof.spec.fixed import ends_at
from sgdataplane.proof.spec.kinds import LOCAL, SessionKind
from sgdataplane.proof.spec.order import indices
from sgdataplane.proof.spec.specification import Namespace, PacketFate, in_words

TRIES = 4096  # so many packets of a difference are tried
START = "proof-start"
HEADER = ("protocol", "local", "source_port", "port")  # the axes whose values make up a packet's header
# Each axis goes through its values with another stride, so that no two are in step.
STRIDES = (1, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59, 61, 67)


@dataclass(frozen=True, slots=True)
class Counterexample:
    """A packet at a hook, what must happen to it, and what the table does."""

    fields: Mapping[Field, Key]
    """The packet's fields."""
    hook: Direction
    chain: str
    """The chain that the packet is put into."""
    wanted: str
    """What must happen, in words; "" for nothing in particular."""
    found: str
    """What the table does, in words."""
    path: tuple[str, ...]
    """The chains on which it does so."""
    is_shown: bool
    """Whether the packet's fate is wrong.

    If not, the chain does something wrong with the packet, but no packet was found whose fate this changes: the
    addresses of the ENIs rule it out, or other chains make up for it.
    """
    is_adopting: bool = False
    """Whether this is while the packet's ENI is being adopted, so that its interface is in the map `adopting`."""
    problem: str = ""
    """What is wrong with the chain, if it isn't the verdict."""

    def __str__(self) -> str:
        hidden = f"chain {self.chain}; no packet was found whose fate is another one for it"
        lines = {
            "packet": packet_in_words(self.fields, self.hook),
            "expected": self.wanted,
            "ruleset": self.found,
            "chains": " > ".join(self.path),
            "problem": self.problem,
            "when": "its ENI is being adopted" if self.is_adopting else "",
            "at": "" if self.is_shown else hidden,
        }
        return "\n".join(f"  {name + ':':9} {text}" for name, text in lines.items() if text)


def packet_in_words(fields: Mapping[Field, Key], hook: Direction) -> str:
    """Return one line that describes a packet to people."""
    family = family_of(fields)
    interface = fields.get(Field.OIFNAME) or fields.get(Field.IIFNAME, "?")
    ends = (fields.get(names[family], 0) for names in (SOURCE, DESTINATION))
    source, destination = (str(Address(family.bits, int(end))) for end in ends)
    ports = [fields.get(name) for name in (Field.TH_SPORT, Field.TH_DPORT)]
    if None not in ports:
        source, destination = f"{source} port {ports[0]}", f"{destination} port {ports[1]}"
    state = CtState(int(fields.get(Field.CT_STATE, CtState.NEW))).name.lower()
    way = fields.get(Field.CT_DIRECTION)
    rest = state if way is None else f"{state} {CtDirection(int(way)).name.lower()}"
    for name in (Field.ICMP_TYPE, Field.ICMPV6_TYPE, Field.IP6_HOPLIMIT, Field.TCP_FLAGS, Field.CT_MARK):
        if fields.get(name):
            rest += f", {name.name.lower()} {fields[name]:#x}"
    protocol = Protocol(int(fields.get(Field.L4PROTO, 0)))
    return f"{hook.value} at {interface}: protocol {protocol} from {source} to {destination} ({rest})"


def of_gate(table: Table, namespace: Namespace, difference: GateMismatch) -> Counterexample:
    """Make a counterexample for the fixed part."""
    crossing, mismatch = difference.space.crossing, difference.mismatch
    eni = namespace.enis.get(crossing.ifname)
    local = next((p.first for p in eni.own_prefixes if p.family is crossing.family), 0) if eni else 0
    place = _Place(crossing.hook, difference.chain, difference.is_adopting)
    clause = None if mismatch.box is None else difference.clauses[mismatch.box]
    shown = _find_counterexample(table, namespace, place, _find_crossing_packets(difference, local))
    found = shown or _show_chain_alone(
        table, place, next(_find_crossing_packets(difference, local)), clause.says if clause else ""
    )
    return replace(found, problem=mismatch.problem)


def of_profile(table: Table, namespace: Namespace, difference: ProfileMismatch) -> Counterexample:
    """Make a counterexample for rules: an opening packet, or a reply, which another hook sees."""
    site, claim = namespace.wanted.site, difference.claim
    shown: Counterexample | None = None
    for hook in (difference.kind.direction, difference.kind.direction.other):
        shown = shown or _find_counterexample(
            table, namespace, _Place(hook, hook.value), _find_judged_packets(difference, site, hook)
        )
    if shown is None:
        hook = difference.kind.direction
        says = in_words(claim.decision) if claim else ""
        shown = _show_chain_alone(
            table, _Place(hook, difference.root), next(_find_judged_packets(difference, site, hook)), says
        )
    return replace(shown, problem=difference.mismatch.problem)


class _Place(NamedTuple):
    """Where packets are put in, and whether their ENI is being adopted."""

    hook: Direction
    chain: str
    is_adopting: bool = False

    @property
    def end(self) -> str:
        """What the chain stands for, if it carries verdicts out; else ""."""
        return ends_at(self.hook).get(self.chain, "")


def _find_counterexample(
    table: Table, namespace: Namespace, place: _Place, tries: Iterator[Mapping[Field, Key]]
) -> Counterexample | None:
    """Return the first packet whose fate in the table isn't the specified one; None if none was found."""
    entered = enter_at(table, *place)
    for fields in islice(tries, TRIES):
        wanted = namespace.fate(place.hook, fields, place.end, is_adopting=place.is_adopting)
        found, path = _run(entered, fields)
        if isinstance(found, str) or not found.is_same(wanted):
            described = (_describe(wanted), _describe(found))
            return Counterexample(fields, *place[:2], *described, path, True, place.is_adopting)
    return None


def _show_chain_alone(table: Table, place: _Place, fields: Mapping[Field, Key], wanted: str) -> Counterexample:
    """Make a counterexample that shows only what a chain does with a packet put into it."""
    found, path = _run(enter_at(table, *place), fields)
    return Counterexample(fields, *place[:2], wanted, _describe(found), path, False, place.is_adopting)


def enter_at(table: Table, hook: Direction, chain: str, is_adopting: bool) -> Table:
    """Return the table with one more base chain, START, which puts packets into a chain.

    If it `is_adopting`, all interfaces of the table are in the map `adopting`, else none is.
    """
    start = Chain(START, (rule(goto(chain)),), Hook(hook.value, 0))
    ifnames = [str(ifname) for ifname, _ in table.map[dispatch_name(Direction.EGRESS)].elements]
    opened = tuple((ifname, RETURN) for ifname in ifnames) if is_adopting else ()
    maps = tuple(replace(entry, elements=opened) if entry.name == ADOPTING else entry for entry in table.maps)
    return replace(table, chains=(*table.chains, start), maps=maps)


def _run(table: Table, fields: Mapping[Field, Key]) -> tuple[PacketFate | str, tuple[str, ...]]:
    """Run a packet from START on. Return its fate and the chains; or why it can't be run, and no chains."""
    try:
        outcome = run(table, START, fields)
    except InternalError as error:
        return f"can't be run: {error}", ()
    is_left = outcome.verdict is VerdictKind.ACCEPT and outcome.priority != fields.get(Field.PACKET_PRIORITY, 0)
    fate = PacketFate(
        outcome.verdict.value,
        tuple(outcome.counters),
        outcome.mark,
        outcome.packet_mark,
        priority=outcome.priority if is_left else 0,
    )
    return fate, tuple(outcome.chains[1:])


def _describe(fate: PacketFate | str) -> str:
    """Return a packet's fate in words."""
    if isinstance(fate, str):
        return fate
    counted = f"counted as {', '.join(fate.counters)}" if fate.counters else "not counted"
    says = fate.says or fate.verdict
    priority = f", priority {fate.priority:#x}" if fate.priority else ""
    return f"{says} ({counted}; session mark {fate.mark:#x}, packet mark {fate.packet_mark:#x}{priority})"


def _find_crossing_packets(difference: GateMismatch, local: int) -> Iterator[dict[Field, Key]]:
    """Yield packets of the difference, spread over it.

    Marks other than 0 come first, as they show what is written there. `local` is an address of the ENI, used where any
    address will do.
    """
    space, cell = difference.space, difference.mismatch.cell
    crossing = space.crossing
    own = (DESTINATION if crossing.hook is Direction.INGRESS else SOURCE)[crossing.family]
    anything = {Field.CT_STATE: CtState.NEW, Field.CT_MARK: 0x10001, own: local}
    choices = [(name, index, list(indices(cell[index]))) for (name, _), index in space.index.items()]
    for number in range(TRIES):
        fields = {name: value for name, value in crossing.get_known_fields().items() if value is not None}
        for (name, index, atoms), stride in zip(choices, STRIDES[: len(choices)], strict=True):
            value = space.axes[index].value(atoms[-1 - number * stride % len(atoms)])
            if index not in space.read:
                if name is not Field.IIFNAME:  # it may have come by none; later chains may ask
                    fields[name] = anything.get(name, 0)
            elif value is not None and name is Field.CT_MARK:
                fields[name] = int(fields.get(name, 0)) | int(value)
            elif value is not None:
                fields[name] = value
        yield _about_a_session(_without_ports(fields))


def _about_a_session(fields: dict[Field, Key]) -> dict[Field, Key]:
    """Add the session's fields. An ICMP error is made to be about a UDP packet between the same addresses."""
    if fields.get(Field.CT_STATE) != CtState.RELATED or fields[Field.L4PROTO] not in (ICMP, ICMPV6):
        return fields
    of_udp = {Field.L4PROTO: UDP, Field.TH_SPORT: 1, Field.TH_DPORT: 1}
    return add_session_fields({**fields, **of_udp}) | fields


def _without_ports(fields: dict[Field, Key]) -> dict[Field, Key]:
    if fields[Field.L4PROTO] in PORT_PROTOCOLS:
        return fields
    return {name: value for name, value in fields.items() if name not in (Field.TH_SPORT, Field.TH_DPORT)}


def _find_judged_packets(difference: ProfileMismatch, site: Site, hook: Direction) -> Iterator[dict[Field, Key]]:
    """Yield packets of the difference at each ENI that has the profile, with its own addresses where possible."""
    cell, axes = difference.mismatch.cell, difference.axes
    for priority, (ifname, eni) in product(difference.priorities, difference.carriers):
        own = [(p.first, p.last) for p in difference.kind.own(eni)]
        choices = [_some(axis, atoms) for axis, atoms in zip(axes, cell, strict=False)]
        here = list(islice(_reachable(axes[LOCAL], cell[LOCAL], own), 8))
        choices[LOCAL] = here or choices[LOCAL][:1]
        for chosen in product(*choices, difference.far):
            values = {axis.name: value for axis, value in zip(AXES, chosen, strict=False)}
            fields = _fields(difference.kind, hook, chosen[-1], values)
            yield {site.interface(hook): ifname, Field.PACKET_PRIORITY: priority, **fields}


def _some(axis: Axis, atoms: Atoms) -> list[int]:
    """Return a few values of an axis, from both ends."""
    found = [int(axis.value(index) or 0) for index in islice(indices(atoms), 4)]
    last = axis.ends(atoms.bit_length() - 1) if isinstance(axis, Span) else ()
    return list(dict.fromkeys((*found, *last)))


def _reachable(axis: Axis, atoms: Atoms, blocks: Iterable[tuple[int, int]]) -> Iterator[int]:
    """Yield a value from each atom that shares a number with one of the blocks."""
    if isinstance(axis, Span):
        wanted = list(blocks)
        for index in indices(atoms):
            low, high = axis.ends(index)
            yield from (max(low, first) for first, last in wanted if first <= high and last >= low)


def _fields(kind: SessionKind, hook: Direction, far: int, values: Mapping[str, int]) -> dict[Field, Key]:
    """Return the packet's fields as the kernel reads them at the hook, in a session that no ENI has accepted yet.

    At its own direction's hook it opens the session, at the other one it is a reply.
    """
    protocol, local, source_port, port = (values[name] for name in HEADER)
    family, is_reply = kind.family, hook is not kind.direction
    source, destination = (far, local) if hook is Direction.INGRESS else (local, far)
    fields: dict[Field, Key] = {
        Field.NFPROTO: NFPROTO[family],
        Field.CT_STATE: CtState.ESTABLISHED if is_reply else CtState.NEW,
        Field.CT_DIRECTION: CtDirection.REPLY if is_reply else CtDirection.ORIGINAL,
        Field.CT_MARK: 0,
        Field.L4PROTO: protocol,
        SOURCE[family]: source,
        DESTINATION[family]: destination,
        Field.TH_SPORT: port if is_reply else source_port,
        Field.TH_DPORT: source_port if is_reply else port,
    }
    if protocol == TCP:
        fields[Field.TCP_FLAGS] = TCP_ACK if is_reply else TCP_SYN
    if protocol == (ICMP if family is Family.IPV4 else ICMPV6):
        request, answer = (8, 0) if family is Family.IPV4 else (128, 129)
        fields[ICMP_TYPE[family]] = answer if is_reply else request
    if family is Family.IPV6:
        fields[Field.IP6_HOPLIMIT] = 64
    fields |= {asked: values[name] for name, asked in kind.fields.items() if name in values and name not in HEADER}
    return _without_ports(fields)
