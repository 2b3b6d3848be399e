"""Transactions: which operations exist, their text and size, and which rule they are made for."""

from __future__ import annotations

import pytest

from sgdataplane.contract.fields import KeyType
from sgdataplane.errors import InternalError
from sgdataplane.nft.ir import ACCEPT, DROP, Chain, Counter, Map, Table, goto, rule
from sgdataplane.nft.transaction import PART, Kind, Operation, Subject, Transaction, Verb, make_addition
from tests.support.models.kernel_contract import CREATION, TABLE

CHAIN = Chain("c", (rule(ACCEPT), rule(DROP)), origin="sg-a sgr-1 ingress")
MAP = Map("m", KeyType.IPV4, tuple((number, goto("c")) for number in range(1100)))


@pytest.mark.parametrize(
    ("verb", "kind", "subject"),
    [
        pytest.param(Verb.FLUSH, Kind.CHAIN, CHAIN, id="flush-is-of-rules"),
        pytest.param(Verb.FLUSH, Kind.TABLE, Table("t"), id="no-flush-of-a-table"),
        pytest.param(Verb.FLUSH, Kind.COUNTER, Counter("n"), id="no-flush-of-a-counter"),
        pytest.param(Verb.DELETE, Kind.RULES, CHAIN, id="no-delete-of-rules"),
        pytest.param(Verb.ADD, Kind.MAP, CHAIN, id="chain-is-no-map"),
        pytest.param(Verb.ADD, Kind.ELEMENTS, CHAIN, id="chain-has-no-elements"),
    ],
)
def test_operation_that_does_not_exist_is_a_bug(verb: Verb, kind: Kind, subject: Subject) -> None:
    with pytest.raises(InternalError, match="no such operation"):
        Operation(verb, kind, subject)


def test_what_tables_share_is_the_same_message_for_all_and_one_for_each_family() -> None:
    counter = Counter("shared")

    def sent(family: str) -> list[object]:
        added = Transaction("t", (make_addition(Kind.COUNTER, counter),), family)
        return [message for messages, _ in added.requests() for message in messages]

    assert sent("inet") == sent("inet")
    (first,), (again,), (elsewhere,) = sent("inet"), sent("inet"), sent("netdev")
    assert first is again
    assert elsewhere != first
    anew = Transaction("t", (Operation(Verb.ADD, Kind.COUNTER, counter),))
    assert [message for messages, _ in anew.requests() for message in messages] == [first]


def test_messages_of_a_long_load_are_not_kept() -> None:
    """A short one keeps each chain and counter, since other namespaces have the same."""
    kinds: dict[Kind, Subject] = {Kind.CHAIN: CHAIN, Kind.RULES: CHAIN, Kind.COUNTER: Counter("n")}
    operations = tuple(Operation(Verb.ADD, kind, subject) for kind, subject in kinds.items())
    others = (Operation(Verb.ADD, Kind.CHAIN, Chain(f"c{number}", ())) for number in range(PART + 1))

    def sent(transaction: Transaction) -> list[int]:
        made = [message for messages, _ in transaction.requests() for message in messages][:4]
        held.extend(made)
        return list(map(id, made))

    held: list[object] = []  # so that no two have one id
    short = Transaction("t", operations)
    assert sent(short) == sent(short)
    first, *_ = Transaction("t", (*operations, *others)).parts()
    assert not set(sent(first)) & set(sent(first))
    assert held[:4] == held[-4:]


def test_operations_with_nothing_to_add_are_left_out() -> None:
    nothing = [
        Operation(Verb.ADD, Kind.RULES, Chain("c", ())),
        Operation(Verb.ADD, Kind.ELEMENTS, Map("m", KeyType.IPV4, ())),
        Operation(Verb.DELETE, Kind.ELEMENTS, Map("m", KeyType.IPV4, ())),
    ]
    assert Transaction.of(Table("t"), nothing) == Transaction("t")


def test_rules_and_elements_count_one_each_and_a_flush_one() -> None:
    operations = (
        Operation(Verb.ADD, Kind.CHAIN, CHAIN),
        Operation(Verb.ADD, Kind.RULES, CHAIN),
        Operation(Verb.ADD, Kind.ELEMENTS, MAP),
        Operation(Verb.FLUSH, Kind.ELEMENTS, MAP),
        Operation(Verb.FLUSH, Kind.RULES, CHAIN),
    )
    assert [len(Transaction("t", (operation,))) for operation in operations] == [1, 2, 1100, 1, 1]
    assert len(Transaction("t", operations)) == 1105


@pytest.mark.parametrize(
    ("counts", "parts"),
    [
        ((), []),
        ((1, 1, 1), [3]),
        ((3, 1, 2, 2, 1), [2, 2, 1]),
        ((4,), [1]),
        ((5, 1), [1, 1]),
        ((1, 9, 1, 1), [1, 1, 2]),
    ],
)
def test_parts_are_short_or_one_operation_and_the_whole_in_order(
    monkeypatch: pytest.MonkeyPatch, counts: tuple[int, ...], parts: list[int]
) -> None:
    """`counts`: rules of each operation. `parts`: operations of each part, which has room for four rules."""
    monkeypatch.setattr("sgdataplane.nft.transaction.PART", 4)
    whole = Transaction(
        "t",
        tuple(
            Operation(Verb.ADD, Kind.RULES, Chain(f"c-{place}", (rule(ACCEPT),) * count))
            for place, count in enumerate(counts)
        ),
        "netdev",
    )
    found = whole.parts()
    assert [len(part.operations) for part in found] == parts
    assert tuple(entry for part in found for entry in part.operations) == whole.operations
    assert {(part.name, part.family) for part in found} <= {("t", "netdev")}


def test_each_line_leads_back_to_its_operation() -> None:
    elements, rules = Operation(Verb.ADD, Kind.ELEMENTS, MAP), Operation(Verb.ADD, Kind.RULES, CHAIN)
    lines = list(Transaction("t", (elements, rules)).lines())
    assert [entry for _, entry in lines] == [elements] * 3 + [rules] * 2
    assert [line for line, _ in lines[3:]] == ["add rule inet t c accept", "add rule inet t c drop"]
    assert (elements.origin, rules.origin) == ("", "sg-a sgr-1 ingress")


def test_text_is_one_operation_a_line() -> None:
    policy = "{ protocol tcp; l3proto ip; policy = { established : 300, close : 5 }; }"
    assert str(CREATION).splitlines()[:3] == [
        "add table inet sgdataplane",
        f"add ct timeout inet sgdataplane tcp-300 {policy}",
        "add counter inet sgdataplane rule.sg-a.sgr-1",
    ]


@pytest.mark.parametrize(
    ("verb", "kind", "subject", "line"),
    [
        pytest.param(Verb.DELETE, Kind.TABLE, TABLE, "delete table inet sgdataplane", id="table"),
        pytest.param(Verb.FLUSH, Kind.RULES, CHAIN, "flush chain inet sgdataplane c", id="rules"),
        pytest.param(Verb.DELETE, Kind.CHAIN, CHAIN, "delete chain inet sgdataplane c", id="chain"),
        pytest.param(Verb.DELETE, Kind.POLICY, CHAIN, "add chain inet sgdataplane c { policy accept; }", id="policy"),
        pytest.param(Verb.FLUSH, Kind.ELEMENTS, MAP, "flush map inet sgdataplane m", id="elements"),
        pytest.param(Verb.DELETE, Kind.MAP, MAP, "delete map inet sgdataplane m", id="map"),
        pytest.param(
            Verb.DELETE,
            Kind.ELEMENTS,
            Map("m", KeyType.IPV4, ((1, goto("c")), (2, DROP))),
            "delete element inet sgdataplane m { 0.0.0.1, 0.0.0.2 }",
            id="some-elements",
        ),
        pytest.param(Verb.DELETE, Kind.COUNTER, Counter("n"), "delete counter inet sgdataplane n", id="counter"),
        pytest.param(
            Verb.DELETE, Kind.TIMEOUT, TABLE.timeouts[0], "delete ct timeout inet sgdataplane tcp-300", id="timeout"
        ),
    ],
)
def test_deletion_names_the_object_only(verb: Verb, kind: Kind, subject: Subject, line: str) -> None:
    assert str(Transaction("sgdataplane", (Operation(verb, kind, subject),))) == line + "\n"
