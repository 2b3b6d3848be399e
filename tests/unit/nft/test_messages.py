"""Names and keys in messages. tests/kernel/test_messages.py shows that messages do what the text says."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from sgdataplane.contract.fields import Field, Hook, KeyType
from sgdataplane.errors import InternalError
from sgdataplane.host.netlink import parse_attributes
from sgdataplane.host.nfnetlink import BatchMessage
from sgdataplane.nft import messages, text, uapi
from sgdataplane.nft.elements import key_at
from sgdataplane.nft.ir import (
    ACCEPT,
    DROP,
    Chain,
    Count,
    Counter,
    Log,
    Map,
    Match,
    Range,
    SetTimeout,
    Statement,
    Table,
    Timeout,
    VerdictMap,
    goto,
    rule,
)
from sgdataplane.nft.messages import Writer, trim_encoded
from sgdataplane.nft.transaction import Kind, Operation, Subject, Transaction, Verb

BAD = 'x\ninclude "/etc/shadow"'
T = Table("t")
ODD_STATEMENTS: dict[str, tuple[Statement, ...]] = {
    "goto": (goto(BAD),),
    "map": (VerdictMap(Field.IP_SADDR, name=BAD),),
    "entry": (VerdictMap(Field.IP_SADDR, ((Range.of(1), goto(BAD)),)),),
    "count": (Count(BAD),),
    "timeout": (SetTimeout(BAD),),
    "interface": (Match(Field.IIFNAME, (Range.of('e"'),)),),
    "interfaces": (Match(Field.IIFNAME, (Range.of("eth0"), Range.of("e;"))),),
}
ODD: dict[str, tuple[Verb, Kind, Subject]] = {
    "chain": (Verb.ADD, Kind.CHAIN, Chain(BAD, ())),
    "device": (Verb.ADD, Kind.CHAIN, Chain("c", (), Hook("ingress", 0, 'e"'))),
    "policy": (Verb.ADD, Kind.POLICY, Chain(BAD, ())),
    "flush": (Verb.FLUSH, Kind.RULES, Chain(BAD, ())),
    "delete-chain": (Verb.DELETE, Kind.CHAIN, Chain(BAD, ())),
    "rules-of": (Verb.ADD, Kind.RULES, Chain(BAD, (rule(DROP),))),
    "map": (Verb.ADD, Kind.MAP, Map(BAD, KeyType.MARK, ())),
    "delete-map": (Verb.DELETE, Kind.MAP, Map(BAD, KeyType.MARK, ())),
    "flush-map": (Verb.FLUSH, Kind.ELEMENTS, Map(BAD, KeyType.MARK, ())),
    "elements": (Verb.ADD, Kind.ELEMENTS, Map(BAD, KeyType.MARK, ((1, DROP),))),
    "key": (Verb.ADD, Kind.ELEMENTS, Map("m", KeyType.IFNAME, (('e"}', DROP),))),
    "delete-key": (Verb.DELETE, Kind.ELEMENTS, Map("m", KeyType.IFNAME, (('e"}', DROP),))),
    "value": (Verb.ADD, Kind.ELEMENTS, Map("m", KeyType.MARK, ((1, goto(BAD)),))),
    "counter": (Verb.ADD, Kind.COUNTER, Counter(BAD)),
    "delete-counter": (Verb.DELETE, Kind.COUNTER, Counter(BAD)),
    "timeout": (Verb.ADD, Kind.TIMEOUT, Timeout(BAD, "tcp", "ip", ())),
    "delete-timeout": (Verb.DELETE, Kind.TIMEOUT, Timeout(BAD, "tcp", "ip", ())),
    **{
        f"rule-{name}": (Verb.ADD, Kind.RULES, Chain("c", (rule(*statements),)))
        for name, statements in ODD_STATEMENTS.items()
    },
}


@pytest.mark.parametrize("say", [Transaction.lines, Transaction.requests], ids=["text", "messages"])
@pytest.mark.parametrize("what", ODD)
def test_a_name_that_is_none_of_ours_is_not_said(say: Callable[[Transaction], object], what: str) -> None:
    operation = Operation(*ODD[what])
    with pytest.raises(InternalError, match=r"not a name of ours|not an interface"):
        list(say(Transaction.of(T, [operation])))  # type: ignore[call-overload]


@pytest.mark.parametrize("say", [Transaction.lines, Transaction.requests], ids=["text", "messages"])
def test_nor_is_a_tables(say: Callable[[Transaction], object]) -> None:
    with pytest.raises(InternalError, match="not a name of ours"):
        list(say(Transaction.of(Table(BAD), [Operation(Verb.ADD, Kind.TABLE, Table(BAD))])))  # type: ignore[call-overload]


def test_a_log_names_only_counters_of_ours_in_text() -> None:
    with pytest.raises(InternalError, match="not a name of ours"):
        text.statement_text(Log(BAD, 1, 1))


def test_comments_say_no_quotes() -> None:
    line = text.add_counter(T, Counter("c", 'a "quoted" word\nand a line'))
    assert line == 'add counter inet t c { comment "a ?quoted? word?and a line"; }'
    (message,) = Writer().add_counter(T, Counter("c", 'a "quoted" word'))
    assert b"a ?quoted? word\0" in message.attributes


def test_text_and_messages_have_the_same_parts() -> None:
    large = Map("m", KeyType.IPV4, tuple((number, DROP) for number in range(1234)))
    made = Transaction.of(T, [Operation(Verb.ADD, kind, large) for kind in (Kind.MAP, Kind.ELEMENTS)])
    lines, requests = list(made.lines()), list(made.requests())
    assert [entry for _, entry in lines] == [entry for _, entry in requests]
    assert len(lines) == 4


def test_an_element_is_found_where_the_kernel_points_at_it() -> None:
    entry = Map("a-map-of-some-length", KeyType.IPV4, tuple((number, goto("x" * number)) for number in range(1, 9)))
    ((message,),) = Writer().add_elements(T, entry)
    found = [key_at(message, offset) for offset in range(len(message.attributes))]
    keys = list(dict.fromkeys(key for key in found if key))
    assert keys == [number.to_bytes(4, "big") for number in range(1, 9)]
    assert key_at(message, -1) == b""


PORTS = Match(Field.TH_DPORT, (Range.of(1), Range.of(2)))
ASKING = Chain("asking", (rule(VerdictMap(Field.IP_SADDR, ((Range.of(1), goto("end")),))), rule(PORTS, DROP)))


def said(chain: Chain, table: Table = T) -> list[bytes]:
    """The attributes of the messages that add its rules."""
    added = Transaction.of(table, [Operation(Verb.ADD, Kind.RULES, chain)])
    return [message.attributes for messages, _ in added.requests() for message in messages]


def test_rules_are_encoded_once_for_equal_chains_and_anew_for_all_others() -> None:
    first, kept = said(ASKING), replace(ASKING)
    assert kept is not ASKING
    assert all(again is message for again, message in zip(said(kept), first, strict=True))
    others = (
        said(replace(ASKING, rules=ASKING.rules[:1])),
        said(replace(ASKING, rules=ASKING.rules[::-1])),
        said(replace(ASKING, name="other")),
        said(ASKING, Table("other")),
        said(ASKING, replace(T, family="netdev")),
    )
    assert all(found != first for found in others)
    assert len({len(found) for found in others[:2]}) == 2


def test_sets_of_one_batch_have_different_numbers_whenever_their_rules_were_encoded() -> None:
    said(ASKING)
    chains = (replace(ASKING, name="new-1"), ASKING, replace(ASKING, name="new-2"))
    requests = Transaction.of(T, [Operation(Verb.ADD, Kind.RULES, chain) for chain in chains]).requests()
    made = [m for messages, _ in requests for m in messages if m.kind == uapi.kind_of(uapi.NEWSET)]
    numbers = {parse_attributes(message.attributes)[uapi.SET_ID] for message in made}
    assert len(made) == len(numbers) == 2 * len(chains)


def encode(number: int) -> tuple[BatchMessage, ...]:
    """Encode one of many chains. What is kept is the same object."""
    (messages,) = Writer().add_rules(T, Chain(f"chain-{number}", (rule(Count("c"), ACCEPT),)))
    return messages


def test_encoded_rules_are_kept_until_there_are_more_than_two_applies_make() -> None:
    """The first apply has eight chains, and each later one changes two of them."""
    kept = [encode(number) for number in range(8)]
    trim_encoded()
    for apply in range(4):
        assert all(encode(number) is found for number, found in enumerate(kept))
        for number in range(2):
            encode(100 + 2 * apply + number)
        trim_encoded()
    encode(200)
    trim_encoded()
    assert encode(0) is not kept[0]
    assert encode(0) == kept[0]


@pytest.fixture(autouse=True)
def none_kept() -> None:
    """What other tests have encoded doesn't count."""
    messages._KEPT = messages._KeptChains()
    messages._rules_of.cache_clear()
