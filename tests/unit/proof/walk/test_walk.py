"""Wrong tables that the walks must refuse, beside the same table as it is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from sgdataplane.compiler.compile import compile_policy
from sgdataplane.contract.fields import Field, Nfproto
from sgdataplane.contract.priority import CODES, RANKS
from sgdataplane.contract.tables import PROFILES, WINNERS
from sgdataplane.model.options import DEFAULTS
from sgdataplane.net.values import UDP, Direction, Verdict
from sgdataplane.nft.ir import (
    RETURN,
    Chain,
    Match,
    Range,
    Rule,
    SetPriority,
    Statement,
    Table,
    VerdictMap,
    goto,
    jump,
    rule,
)
from sgdataplane.policy.resolve import resolve
from sgdataplane.proof.prove import prove
from sgdataplane.proof.spec.specification import Specification
from tests.support.inputs.builders import make_eni, make_group, make_state

STATE = make_state(
    [
        make_group("sg-0", ["ingress tcp 22/22 from sg-1 drop", "ingress all from 192.0.2.0/24"]),
        make_group("sg-1", ["ingress tcp 23/23 from sg-0"]),
    ],
    [
        make_eni("eni-a", "10.0.0.1", "sg-0"),
        make_eni("eni-b", "10.0.0.2", "sg-0"),
        make_eni("eni-c", "10.0.0.3", "sg-1"),
    ],
)
INTERFACES = {"eni-a": "eth0", "eni-b": "eth1", "eni-c": "eth2"}
TABLE = compile_policy(resolve(STATE, INTERFACES, DEFAULTS), DEFAULTS)
COPY = "address-ingress.zz"
IS_UDP = (Match(Field.NFPROTO, (Range.of(int(Nfproto.IPV4)),)), Match(Field.CT_PROTOCOL, (Range.of(UDP),)))
ACCEPTING = SetPriority(CODES[Direction.INGRESS, Verdict.ACCEPT])


def chain_of(name: str) -> Chain:
    """Return the only chain whose name begins so."""
    (found,) = (chain for chain in TABLE.chains if chain.name.startswith(name))
    return found


def with_rules(name: str, *rules: Rule, more: tuple[Chain, ...] = ()) -> Table:
    """Return the table with these rules in that chain, and with more chains."""
    changed = replace(chain_of(name), rules=rules)
    others = [chain for chain in TABLE.chains if chain.name != changed.name]
    return replace(TABLE, chains=tuple(sorted((*others, changed, *more), key=lambda chain: chain.name)))


def begin_elsewhere() -> Table:
    """The second ENI of sg-0 begins at the rules of sg-1."""
    *others, _ = chain_of("eni-ingress.eth1").rules
    return with_rules("eni-ingress.eth1", *others, chain_of("eni-ingress.eth2").rules[-1])


def lead_udp(*verdict: Statement, more: tuple[Chain, ...] = ()) -> Table:
    """Packets of UDP over IPv4 go from the rules of sg-0 to a second chain for addresses."""
    *others, last = chain_of("profile-ingress.sg-0").rules
    return with_rules("profile-ingress.sg-0", *others, rule(*IS_UDP, *verdict), last, more=more)


def copy_addresses() -> Chain:
    """Return a copy of the chain for addresses of sg-0."""
    return replace(chain_of("address-ingress.sg-0"), name=COPY)


def lead_to_others() -> Table:
    return lead_udp(goto(chain_of("address-ingress.sg-1").name))


def return_to_an_entry() -> Table:
    """One chain for addresses jumps to another one, at which packets begin, too."""
    name = chain_of("address-ingress.sg-0").name
    table = lead_udp(goto(COPY), more=(copy_addresses(),))
    chains = (replace(chain, rules=(rule(jump(COPY)),)) if chain.name == name else chain for chain in table.chains)
    return replace(table, chains=tuple(chains))


def return_from_a_leaf() -> Table:
    """What the default has refused comes back, and is accepted."""
    name = "address-ingress-ipv6.sg-0"
    return with_rules(name, rule(jump(chain_of("rank.ingress.default").name)), rule(ACCEPTING, RETURN))


def forget_to_begin() -> Table:
    """Packets come to the rules of sg-0 with the priority that they had before, if no member has sent them."""
    return with_rules("profile-ingress.sg-0", *chain_of("profile-ingress.sg-0").rules[1:])


def ask_for_a_priority() -> Table:
    """The default is only for packets with a priority that none has here; all others are accepted."""
    is_one = Match(Field.PACKET_PRIORITY, (Range.of(1),))
    default = goto(chain_of("rank.ingress.default").name)
    return with_rules("address-ingress-ipv6.sg-0", rule(is_one, default), rule(ACCEPTING, RETURN))


def look_up_a_port() -> Table:
    """A look-up by the port, also of packets without ports, leads where all others go, too."""
    default = goto(chain_of("rank.ingress.default").name)
    asked = VerdictMap(Field.CT_ORIGINAL_DPORT, ((Range.of(5), default),))
    return with_rules("address-ingress-ipv6.sg-0", rule(asked), rule(default))


def lead_past_the_profile() -> Table:
    """The look-up of profiles leads to the chain for addresses of sg-0, past that for groups."""
    profile, addresses = (chain_of(f"{name}-ingress.sg-0").name for name in ("profile", "address"))
    profiles = TABLE.map[PROFILES]
    elements = tuple((key, jump(addresses) if found == jump(profile) else found) for key, found in profiles.elements)
    assert elements != profiles.elements
    changed = replace(profiles, elements=elements)
    return replace(TABLE, maps=tuple(changed if entry is profiles else entry for entry in TABLE.maps))


def rank_one_leaf_twice() -> Table:
    """A second rank, which no packet has, leads to the same refusal as the first one."""
    winners = TABLE.map[WINNERS]
    (rank, leaf), *_ = winners.elements
    assert isinstance(rank, int)
    spare = next(number for number in RANKS if number not in dict(winners.elements))
    changed = replace(winners, elements=tuple(sorted((*winners.elements, (spare, leaf)))))
    return replace(TABLE, maps=tuple(changed if entry is winners else entry for entry in TABLE.maps))


def come_back_to_the_profile() -> Table:
    """Packets return from the chain for addresses to the profile's chain, which sends them there once more."""
    on_the_way = Chain("between", (rule(goto(chain_of("address-ingress.sg-0").name)),))
    return lead_udp(jump(on_the_way.name), more=(on_the_way,))


def judge_in_an_eni_s_chain() -> Table:
    """The second ENI's own chain looks its profile up, and goes on behind that."""
    profiles = VerdictMap(Field.PACKET_PRIORITY, name=PROFILES)
    return with_rules("eni-ingress.eth1", *chain_of("eni-ingress.eth1").rules, rule(profiles))


def prove_table(table: Table) -> str:
    return str(prove(Specification(STATE, INTERFACES, DEFAULTS), table))


def test_as_it_is_it_is_proven_also_with_a_copy_of_a_chain() -> None:
    assert prove_table(TABLE).startswith("proven")
    assert prove_table(lead_udp(goto(COPY), more=(copy_addresses(),))).startswith("proven")


@pytest.mark.parametrize(
    ("make", "words"),
    [
        pytest.param(begin_elsewhere, "ingress at eth1: protocol tcp", id="second-eni"),
        pytest.param(lead_to_others, "ingress at eth0: protocol udp", id="second-chain"),
        pytest.param(return_to_an_entry, f"{COPY}: packets that return don't come to the end", id="second-visit"),
        pytest.param(return_from_a_leaf, "packets that return don't come to the end", id="after-a-leaf"),
        pytest.param(forget_to_begin, "it asks for a priority that nobody has set", id="unset-priority"),
        pytest.param(ask_for_a_priority, "it asks for the priority", id="unknown-priority"),
        pytest.param(lead_past_the_profile, "leads to address-ingress.sg-0", id="unread-chain"),
        pytest.param(look_up_a_port, "it reads a port of a packet without ports", id="port-of-none"),
        pytest.param(rank_one_leaf_twice, "several ranks stand for one decision", id="second-rank"),
        pytest.param(come_back_to_the_profile, "don't come back to the base chain", id="back-to-the-profile"),
        pytest.param(judge_in_an_eni_s_chain, "don't return to the base chain", id="other-place"),
    ],
)
def test_each_of_these_tables_is_wrong(make: Callable[[], Table], words: str) -> None:
    assert words in prove_table(make())
