"""Idle timeouts as compiled: the interpreter sets the right ones for each pair of legal values, and the proof finds
each wrong one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from itertools import permutations, product

import pytest

from sgdataplane.compiler.compile import compile_policy
from sgdataplane.compiler.timeouts import PREFIX
from sgdataplane.contract.fields import TCP_SYN, CtDirection, CtState, Field, Nfproto
from sgdataplane.contract.marks import FIRST_EPOCH
from sgdataplane.contract.sites import ARRIVING, HOST
from sgdataplane.contract.tables import DELIVERED
from sgdataplane.model.options import DEFAULTS, Placement
from sgdataplane.model.state import CloudState, ConnectionTracking
from sgdataplane.net.values import TCP, UDP, Address, Direction, Family
from sgdataplane.nft import interp
from sgdataplane.nft.ir import ACCEPT, DROP, RETURN, Key, Map, Range, Rule, SetTimeout, Table, VerdictMap, goto
from sgdataplane.policy.resolve import resolve
from sgdataplane.proof.prove import prove
from sgdataplane.proof.spec.specification import Specification
from sgdataplane.proof.walk.step import TIMEOUTS
from tests.support.inputs.builders import make_eni, make_group, make_state

ESTABLISHED, CLOSED, UDP_VALUES = (30, 60, 80, 100, 200, 300, 500, 700, 910), (3, 9, 15), (10, 20, 30, 60, 80, 100)
FEW = [
    ConnectionTracking(),
    ConnectionTracking(100, 9, 60),
    ConnectionTracking(300, 3, 20),
    ConnectionTracking(60, 15, 30),
]
ALL = [ConnectionTracking(e, c, UDP_VALUES[n % 6]) for n, (e, c) in enumerate(product(ESTABLISHED, CLOSED))]
UNSET = {TCP: {"established": 910, "close": 3, "time_wait": 3}, UDP: {"unreplied": 30, "replied": 30}}
FIELDS = {
    Family.IPV4: (Nfproto.IPV4, Field.IP_SADDR, Field.IP_DADDR, "10.0.0."),
    Family.IPV6: (Nfproto.IPV6, Field.IP6_SADDR, Field.IP6_DADDR, "2001:db8::"),
}


def state_of(trackings: list[ConnectionTracking]) -> CloudState:
    """ENIs 1, 2, ... that let everybody in."""
    enis = [
        make_eni(f"eni-{n}", f"10.0.0.{n} 2001:db8::{n}", "sg-all", connection_tracking=tracking)
        for n, tracking in enumerate(trackings, 1)
    ]
    return make_state([make_group("sg-all", ["ingress all from 0.0.0.0/0", "ingress all from ::/0"])], enis)


def specification_of(trackings: list[ConnectionTracking], placement: Placement, scale: float = 1.0) -> Specification:
    state = state_of(trackings)
    interfaces = {f"eni-{n}": f"eth{n}" for n, _ in enumerate(trackings, 1)}
    return Specification(state, interfaces, DEFAULTS, placement=placement, uplinks=("up",), time_scale=scale)


def compiled(wanted: Specification) -> Table:
    policy = resolve(wanted.state, wanted.interfaces, DEFAULTS)
    scale = wanted.time_scale
    enis = tuple(replace(eni, connection_tracking=eni.connection_tracking.scale(scale)) for eni in policy.enis)
    standing = replace(policy, enis=enis, idle=policy.idle.scale(scale))
    return compile_policy(replace(standing, placement=wanted.placement, uplinks=wanted.uplinks), DEFAULTS)


def packet(family: Family, protocol: int, source: int, target: int) -> dict[Field, Key]:
    """An opening one between the ENIs of these numbers."""
    nfproto, saddr, daddr, start = FIELDS[family]
    return {
        Field.NFPROTO: nfproto,
        saddr: Address.parse(f"{start}{source}").value,
        daddr: Address.parse(f"{start}{target}").value,
        Field.L4PROTO: protocol,
        Field.TH_SPORT: 40000,
        Field.TH_DPORT: 53,
        **({Field.TCP_FLAGS: TCP_SYN} if protocol == TCP else {}),
        Field.CT_STATE: CtState.NEW,
        Field.CT_DIRECTION: CtDirection.ORIGINAL,
        Field.CT_MARK: 0,
    }


def policies_set(table: Table, sent: dict[Field, Key], came_by: str, leaves_by: str) -> list[dict[str, int]]:
    """The policies of all timeouts that its session is given, from where it comes in to where it leaves or stays. ""
    is the namespace itself."""
    arriving, leaving = ("ingress", "egress") if table.chain["ingress"].hook == ARRIVING else ("egress", "ingress")
    at = {Field.IIFNAME: came_by} if came_by else {}
    passed = [interp.run(table, arriving, {**sent, **at})] if came_by else []
    if leaves_by:
        passed += [interp.run(table, leaving, {**sent, **at, Field.OIFNAME: leaves_by})]
    elif DELIVERED in table.chain:
        passed += [interp.run(table, DELIVERED, {**sent, **at})]
    assert {outcome.verdict for outcome in passed} == {ACCEPT.kind}
    policies = {timeout.name: dict(timeout.policy) for timeout in table.timeouts}
    return [policies[name] for outcome in passed for name in outcome.timeouts]


def heeded(sent: dict[Field, Key], policies: list[dict[str, int]]) -> dict[str, int]:
    """The policy of the last timeout that is set; the namespace's if none is."""
    return [UNSET[int(sent[Field.L4PROTO])], *policies][-1]


def shorter(protocol: int, *ends: ConnectionTracking) -> dict[str, int]:
    if protocol == UDP:
        return dict.fromkeys(("unreplied", "replied"), min(end.udp_timeout for end in ends))
    closed = min(end.tcp_closed_and_time_wait_timeout for end in ends)
    established = min(end.tcp_established_timeout for end in ends)
    return {"established": established, "close": closed, "time_wait": closed}


ENDS: dict[int, tuple[str, ConnectionTracking | None]] = {
    **{number: (f"eth{number}", tracking) for number, tracking in enumerate(ALL, 1)},
    98: ("", None),
    99: ("up", None),
}


@pytest.mark.parametrize("family", Family, ids=lambda family: family.name.lower())
def test_a_new_session_is_given_the_shorter_timeouts_and_no_others(family: Family) -> None:
    """From each ENI, an uplink and the router itself to each: kernels differ in which of several they heed."""
    table = compiled(specification_of(ALL, Placement.HOST))
    for (one, (came_by, of_one)), (other, (leaves_by, of_other)) in permutations(ENDS.items(), 2):
        concerned = [end for end in (of_one, of_other) if end is not None]
        for protocol in (TCP, UDP) if concerned else ():
            found = policies_set(table, packet(family, protocol, one, other), came_by, leaves_by)
            assert found == [shorter(protocol, *concerned)]


ACCEPTED_BY = ((Direction.EGRESS, "eth4"), (Direction.INGRESS, "eth2"))


@pytest.mark.parametrize("leaves_by", ["eth2", "up", ""])
def test_a_packet_of_an_established_session_passes_none(leaves_by: str) -> None:
    table, marks = compiled(specification_of(FEW, Placement.HOST)), HOST.marks
    slots = marks.slots(f"eth{number}" for number, _ in enumerate(FEW, 1))
    sent_by, got_by = (marks.encode_acceptance(side, FIRST_EPOCH, slots[ifname]) for side, ifname in ACCEPTED_BY)
    sent = {**packet(Family.IPV4, UDP, 4, 2), Field.CT_STATE: CtState.ESTABLISHED, Field.CT_MARK: sent_by | got_by}
    assert policies_set(table, sent, "eth4", leaves_by) == []


# With all timeouts, each proof takes ten times as long as the others.
PROVEN = [FEW, FEW[1:2] * 3, FEW[:1] * 3, [ConnectionTracking(udp_timeout=10), *FEW[:1] * 2]]


@pytest.mark.parametrize("where", Placement)
@pytest.mark.parametrize("scale", [1.0, 0.1, 0.001])
def test_whatever_they_have_is_proven(where: Placement, scale: float) -> None:
    for trackings in PROVEN:
        wanted = specification_of(trackings, where, scale)
        assert str(prove(wanted, compiled(wanted))).startswith("proven")


SCALES = [
    pytest.param(where, scale, marks=[pytest.mark.slow] if (where, scale) != (Placement.HOST, 0.001) else [])
    for where, scale in product(Placement, (1.0, 0.1, 0.001))
]


@pytest.mark.parametrize(("where", "scale"), SCALES)
def test_all_values_beside_each_other_are_proven(where: Placement, scale: float) -> None:
    wanted = specification_of(ALL, where, scale)
    assert str(prove(wanted, compiled(wanted))).startswith("proven")


def test_enis_without_timeouts_of_their_own_have_nothing_of_this() -> None:
    table = compiled(specification_of(FEW[:1] * 3, Placement.HOST))
    assert table.timeouts == ()
    assert not any(PREFIX in name for name in (*table.chain, *table.map))


def test_one_map_for_each_timeouts_of_some_and_one_element_for_each_eni_with_shorter_ones() -> None:
    table = compiled(specification_of(FEW * 5, Placement.HOST))
    sizes = {name: len(entry.elements) for name, entry in table.map.items() if name.startswith(PREFIX)}
    assert sizes == {
        "timeouts-tcp-910-3": 15,
        "timeouts-tcp-100-9": 15,
        "timeouts-tcp-300-3": 10,
        "timeouts-tcp-60-15": 15,
        "timeouts-udp-30": 5,
        "timeouts-udp-60": 15,
        "timeouts-tcp-elsewhere": 15,
        "timeouts-udp-elsewhere": 10,
    }


# wrong ones


@cache
def right() -> tuple[Specification, Table]:
    wanted = specification_of(FEW, Placement.HOST)
    return wanted, compiled(wanted)


@cache
def tried() -> list[tuple[dict[Field, Key], tuple[str, str], dict[str, int]]]:
    """Packets from each ENI, from elsewhere and from the router to each other one; where they come and leave; and the
    timeouts that they must be given."""
    _, table = right()
    found = []
    for source, target in permutations((*range(1, len(FEW) + 1), 98, 99), 2):
        ends = ENDS[source][0], ENDS[target][0]
        for family, protocol in product(Family, (TCP, UDP)):
            sent = packet(family, protocol, source, target)
            found.append((sent, ends, heeded(sent, policies_set(table, sent, *ends))))
    return found


def is_right(table: Table) -> bool:
    """Tried out: each ENI beside each other one, beside somebody elsewhere, and beside the router."""
    for sent, ends, wanted in tried():
        policies = policies_set(table, sent, *ends)
        if len(policies) > 1 or heeded(sent, policies) != wanted:
            return False
    return True


def judge(wrong: Table) -> bool:
    """Whether the proof refuses it, as it must if packets show the difference, and else must not."""
    specification, _ = right()
    holds = prove(specification, wrong).holds
    assert holds == is_right(wrong)
    return not holds


Change = Callable[[tuple[Rule, ...]], tuple[Rule, ...]]


def with_rules(table: Table, name: str, change: Change) -> Table:
    chains = tuple(replace(c, rules=change(c.rules)) if c.name == name else c for c in table.chains)
    return replace(table, chains=chains)


def setting(table: Table) -> list[tuple[str, int]]:
    """Where timeouts are set, or such chains are gone to."""

    def is_it(rule: Rule) -> bool:
        return any(isinstance(s, SetTimeout) or "timeouts-" in str(s) for s in rule.statements)

    return [(chain.name, n) for chain in table.chains for n, entry in enumerate(chain.rules) if is_it(entry)]


def other_timeout(entry: Rule, table: Table) -> Rule:
    """With the next one that says something else."""
    policies = {timeout.name: timeout.policy for timeout in table.timeouts}

    def other(name: str) -> str:
        names = [other for other, policy in policies.items() if other == name or policy != policies[name]]
        return names[(names.index(name) + 1) % len(names)]

    return Rule(tuple(SetTimeout(other(s.timeout)) if isinstance(s, SetTimeout) else s for s in entry.statements))


def test_the_proof_refuses_every_table_that_lacks_a_rule_it_needs() -> None:
    _, table = right()
    places, refused = setting(table), 0
    for name, n in places:
        lacking = with_rules(table, name, lambda rules, n=n: rules[:n] + rules[n + 1 :])  # type: ignore[misc]
        refused += judge(lacking)
    assert refused > len(places) // 2


def test_the_proof_refuses_every_table_that_has_another_timeout_somewhere() -> None:
    _, table = right()
    refused = 0
    places = [
        p for p in setting(table) if any(isinstance(s, SetTimeout) for s in table.chain[p[0]].rules[p[1]].statements)
    ]
    for name, n in places:
        change: Change = lambda rules, n=n: (*rules[:n], other_timeout(rules[n], table), *rules[n + 1 :])  # type: ignore[misc] # noqa: E731
        refused += judge(with_rules(table, name, change))
    assert refused > len(places) // 2


def test_the_proof_refuses_a_map_that_lacks_or_leads_elsewhere() -> None:
    _, table = right()
    refused = 0
    ends = [c.name for c in table.chains if c.name.startswith(TIMEOUTS) and not c.ways.maps]
    for entry in (entry for entry in table.maps if entry.name.startswith(TIMEOUTS)):
        for n, (key, value) in enumerate(entry.elements):
            elsewhere = next(goto(chain) for chain in ends if goto(chain) != value and chain[:12] == entry.name[:12])
            for new in ((), ((key, elsewhere),), ((key, RETURN),)):
                wrong = replace(entry, elements=(*entry.elements[:n], *new, *entry.elements[n + 1 :]))
                refused += judge(with_map(table, wrong))
    assert refused > 10


def with_map(table: Table, changed: Map) -> Table:
    return replace(table, maps=tuple(changed if entry.name == changed.name else entry for entry in table.maps))


@pytest.mark.parametrize(
    "statement", [ACCEPT, DROP, goto("ingress-accept.ingress"), VerdictMap(Field.IIFNAME, ((Range.of("eth1"), DROP),))]
)
def test_such_a_chain_may_do_nothing_else(statement: VerdictMap) -> None:
    """Also where all that leads to it is proven already."""
    wanted, table = right()
    known = prove(wanted, table).proven
    for name in (name for name in table.chain if name.startswith(TIMEOUTS)):
        wrong = with_rules(table, name, lambda rules: (*rules, Rule((statement,))))
        assert "does more" in prove(wanted, wrong, known).problem
