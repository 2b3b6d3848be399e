"""Decision diagrams and address classes -> chains, each named after what it holds.

Owns the shape below an ENI's chain (ruleset.md, "The decision, compiled"). Is given one profile at a time.
Must not know hooks, epochs, or what the kernel holds now.

Every chain below a profile's root is named by a hash of its rules: equal ones are one chain, and a name never
changes its meaning, so an update adds new chains, turns to them in one step, and removes what nobody asks for.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from sgdataplane.compiler.classes import AddressClasses, RemoteSet, Segments, classify
from sgdataplane.compiler.content import content_chain
from sgdataplane.compiler.diagram import Box, DiagramBuilder, Dim, Leaf, Node
from sgdataplane.compiler.skeleton import DESTINATION, SOURCE
from sgdataplane.errors import InternalError
from sgdataplane.model.state import GroupRef, Remote
from sgdataplane.net.values import Direction, Family
from sgdataplane.net.values import Verdict as Fate
from sgdataplane.nft import names
from sgdataplane.nft.ir import (
    Chain,
    Count,
    Counter,
    CtDirection,
    Field,
    Key,
    KeyType,
    Map,
    Match,
    Nfproto,
    Range,
    Rule,
    Verdict,
    VerdictMap,
    goto,
    rule,
)
from sgdataplane.policy.resolve import Cause, Permission, Profile, RemoteAddresses

ADDRESS_TYPE = {Family.IPV4: KeyType.IPV4, Family.IPV6: KeyType.IPV6}


@dataclass(frozen=True, slots=True)
class View:
    """Where the header of a packet at one hook keeps what a diagram asks about.

    The far address is the source at the ingress hook and the destination at the egress hook. A reply shows the ports
    of its session's opening packet the other way round.
    """

    hook: Direction
    family: Family
    is_reply: bool

    @property
    def far(self) -> Field:
        return (SOURCE if self.hook is Direction.INGRESS else DESTINATION)[self.family]

    def field(self, dim: Dim) -> Field:
        if dim is Dim.PROTOCOL:
            return Field.L4PROTO
        if dim is Dim.LOCAL:
            return (DESTINATION if self.hook is Direction.INGRESS else SOURCE)[self.family]
        return Field.TH_DPORT if (dim is Dim.PORT) != self.is_reply else Field.TH_SPORT


@dataclass
class Lowering:
    """Collects the chains, maps and counters of the profiles of one namespace."""

    remotes: Mapping[Remote, Mapping[Family, RemoteAddresses]]
    chains: dict[str, Chain] = field(default_factory=dict)
    maps: dict[str, Map] = field(default_factory=dict)
    counters: dict[str, Counter] = field(default_factory=dict)

    def profile(self, profile: Profile, hook: Direction) -> str:
        """The root chain that judges, at one hook, the packets of every ENI with this profile."""
        roots = {family: self._family(profile, hook, family) for family in Family}
        name = names.identifier(f"profile-{hook.value}", profile_name(profile))
        rules = (
            rule(Match(Field.NFPROTO, (Range.of(Nfproto.IPV6),)), goto(roots[Family.IPV6])),
            rule(goto(roots[Family.IPV4])),
        )
        self._keep(Chain(name, rules, comment=names.comment(f"groups {', '.join(profile.security_group_ids)}")))
        return name

    def _family(self, profile: Profile, hook: Direction, family: Family) -> str:
        tables = [_Judge(self, profile, View(hook, family, is_reply)) for is_reply in (False, True)]
        remotes = [p.remote for p in (*profile.ingress, *profile.egress) if p.remote is not None]
        classes = classify(remotes, self.remotes, family)
        name = names.identifier(f"far-{hook.value}-{family.value}", profile_name(profile))
        segments = rule(goto(self._segments(tables, classes.segments)))
        self._keep(Chain(name, (*self._member_rules(name, tables, classes), segments)))
        return name

    def _member_rules(self, name: str, judges: list[_Judge], classes: AddressClasses) -> tuple[Rule, ...]:
        """Look a far address up among the members; those of each kinship have a chain of their own."""
        if not classes.members:
            return ()
        view = judges[0].view
        chains = {}
        for kin, segments in classes.kin.items():
            chains[kin] = f"{name}.kin-{names.digest(repr(sorted(kin, key=repr)))}"
            rules = (rule(goto(self._segments(judges, segments))),)
            self._keep(Chain(chains[kin], rules, comment=_kin_comment(kin)))
        elements: tuple[tuple[Key, Verdict | int], ...] = tuple(
            (address, goto(chains[kin])) for address, kin in classes.members
        )
        members = name.replace("far-", "members-", 1)
        self.maps[members] = Map(members, ADDRESS_TYPE[view.family], elements)
        return (rule(VerdictMap(view.far, name=members)),)

    def _segments(self, judges: list[_Judge], segments: Segments) -> str:
        """Far addresses by the CIDR blocks around them."""
        targets = [(Range(*interval), self._class(judges, holding)) for interval, holding in segments]
        return self.content("segments", _choose(judges[0].view.far, targets))

    def _class(self, judges: list[_Judge], holding: RemoteSet) -> str:
        """One class of far addresses: opening packets meet this hook's direction, replies the other's."""
        opening, reply = (judge.target(holding) for judge in judges)
        if opening == reply:
            return opening
        return self.content(
            "class",
            (
                rule(Match(Field.CT_DIRECTION, (Range.of(CtDirection.REPLY),)), goto(reply)),
                rule(goto(opening)),
            ),
        )

    def content(self, prefix: str, rules: tuple[Rule, ...], comment: str = "", origin: str = "") -> str:
        """Keep a chain under a name made from what it holds."""
        chain = content_chain(prefix, rules, comment, origin)
        self._keep(chain)
        return chain.name

    def _keep(self, chain: Chain) -> None:
        if self.chains.get(chain.name, chain) != chain:
            raise InternalError(f"two chains would be named {chain.name}")
        self.chains[chain.name] = chain

    def leaf(self, cause: Cause) -> str:
        """The chain that a verdict's packets end in: counted by name, then accepted or refused for that direction."""
        counter = Counter(counter_name(cause), names.comment(_counted(cause)))
        self.counters[counter.name] = counter
        end = f"{cause.direction.value}-{'accept' if cause.verdict is Fate.ACCEPT else 'refuse'}"
        prefix = names.identifier("leaf", cause.direction.value, cause.security_group_rule_id or cause.reason)
        rules = (rule(Count(counter.name), goto(end)),)
        return self.content(prefix, rules, names.comment(describe(cause)), describe(cause))


class _Judge:
    """One direction of a profile as one view sees it: class of far addresses -> chain."""

    def __init__(self, lowering: Lowering, profile: Profile, view: View) -> None:
        direction = view.hook.other if view.is_reply else view.hook
        self.view = view
        self._lowering = lowering
        self._builder = DiagramBuilder(view.family.last)
        self._permissions = [
            (permission.remote, box)
            for permission in profile.permissions(direction)
            if (box := _box(permission, view.family)) is not None
        ]
        self._targets: dict[RemoteSet, str] = {}
        self._names: dict[int, str] = {}

    def target(self, holding: RemoteSet) -> str:
        if holding not in self._targets:
            boxes = [box for remote, box in self._permissions if remote is None or remote in holding]
            self._targets[holding] = self._lower(self._builder.build(boxes))
        return self._targets[holding]

    def _lower(self, node: Node) -> str:
        if id(node) not in self._names:
            self._names[id(node)] = self._chain(node)
        return self._names[id(node)]

    def _chain(self, node: Node) -> str:
        if isinstance(node, Leaf):
            return self._lowering.leaf(node.cause)
        targets = [(Range(*interval), self._lower(child)) for interval, child in node.segments]
        return self._lowering.content(
            node.dim.name.lower().replace("_", "-"), _choose(self.view.field(node.dim), targets)
        )


def _choose(asked: Field, targets: list[tuple[Range, str]]) -> tuple[Rule, ...]:
    """Rules that go to the target of the range that holds the field: a map for all but the most frequent target,
    which takes the rest; nothing but a goto when there is only one."""
    counts: dict[str, int] = {}
    for _, target in targets:
        counts[target] = counts.get(target, 0) + 1
    rest = max(counts, key=lambda target: (counts[target], target))
    entries = tuple((item, goto(target)) for item, target in _joined(targets) if target != rest)
    end = rule(goto(rest))
    return (rule(VerdictMap(asked, entries)), end) if entries else (end,)


def _joined(targets: Iterable[tuple[Range, str]]) -> list[tuple[Range, str]]:
    """Join neighbours with the same target."""
    joined: list[tuple[Range, str]] = []
    for item, target in targets:
        before = joined[-1] if joined else None
        if before and before[1] == target and int(before[0].last) + 1 == item.first:
            joined[-1] = (Range(before[0].first, item.last), target)
        else:
            joined.append((item, target))
    return joined


def _box(permission: Permission, family: Family) -> Box | None:
    """The permission as a region of one family; None if it can't match there."""
    narrowing = permission.narrowing
    if narrowing is not None and narrowing.family is not family:
        return None
    if not permission.protocol.exists_in(family):
        return None
    number = permission.protocol.number
    protocol = None if permission.protocol.is_all else ((number, number),)
    local = None if narrowing is None else ((narrowing.first, narrowing.last),)
    return Box(permission.cause, (protocol, local, permission.source_ports, permission.ports))


def profile_name(profile: Profile) -> str:
    """A readable, stable name for a set of groups and a nic type."""
    ids = profile.security_group_ids
    return f"{ids[0][:24]}-{names.digest(repr((ids, profile.nic_type.value)))}"


def counter_name(cause: Cause) -> str:
    """Named after the rule, or after the direction and what else decided: stable over recompiles."""
    if cause.reason == "rule":
        return names.identifier("rule", cause.security_group_id, cause.security_group_rule_id)
    if cause.reason == "inner_accept":
        return names.identifier("inner", cause.direction.value, cause.security_group_id)
    return names.identifier(cause.reason, cause.direction.value, cause.verdict.value)


def describe(cause: Cause) -> str:
    """One line for people: which rule, or what else."""
    if cause.reason == "rule":
        ids = f"{cause.security_group_id} {cause.security_group_rule_id}"
        return f"{ids} {cause.direction.value} priority {cause.priority} {cause.verdict.value}"
    subject = f" {cause.security_group_id}" if cause.security_group_id else ""
    return f"{cause.reason}{subject} {cause.direction.value} {cause.verdict.value}"


def _counted(cause: Cause) -> str:
    """What a counter is for, as far as its name says it: nft can't change the comment of a counter that stays."""
    if cause.reason == "rule":
        return f"{cause.security_group_id} {cause.security_group_rule_id}"
    return describe(cause)


def _kin_comment(kin: RemoteSet) -> str:
    return names.comment("members of " + ", ".join(sorted(r.security_group_id for r in kin if isinstance(r, GroupRef))))
