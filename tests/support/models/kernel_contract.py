"""What every Kernel does: one class of tests, run on the kernel in memory and on the real one.

A subclass gives the fixture `kernel`. The table is small but has each kind of object and each kind of reference.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from sgdataplane.contract.fields import Field, Hook, KeyType
from sgdataplane.contract.stamp import Stamp, next_generation
from sgdataplane.errors import BusyError, ExistsError, KernelError, NotFoundError
from sgdataplane.nft.ir import (
    ACCEPT,
    DROP,
    Chain,
    Count,
    Counter,
    Map,
    MapCount,
    MapPriority,
    Match,
    Range,
    SetTimeout,
    Table,
    Timeout,
    VerdictMap,
    goto,
    rule,
)
from sgdataplane.nft.kernel import Kernel
from sgdataplane.nft.snapshot import Inventory, MapShape
from sgdataplane.nft.transaction import Kind, Operation, Subject, Transaction, Verb

NAME = "sgdataplane"
HOOK = Hook("prerouting", -150)
TIMEOUT = Timeout("tcp-300", "tcp", "ip", (("established", 300), ("close", 5)))
LEAF = Chain("leaf-1", (rule(Count("rule.sg-a.sgr-1"), ACCEPT),), origin="sg-a sgr-1")
TCP_ONLY = Match(Field.L4PROTO, (Range.of(6),))
BASE = Chain("ingress", (rule(VerdictMap(Field.IP_SADDR, name="members")), rule(DROP)), HOOK)
TIMED = Chain("timed", (rule(TCP_ONLY, SetTimeout(TIMEOUT.name)), rule(goto(LEAF.name))))
MEMBERS = Map("members", KeyType.IPV4, ((0x0A000001, goto("leaf-1")), (0x0A000002, goto("timed"))))
STAMP_MAP = Map("applied", KeyType.MARK, ((0, 7), *((word, word << 28) for word in range(1, 5))), holds=KeyType.MARK)
COUNTER = Counter("rule.sg-a.sgr-1")
TABLE = Table(NAME, (BASE, LEAF, TIMED), (STAMP_MAP, MEMBERS), (COUNTER,), (TIMEOUT,))


def transaction(*operations: tuple[Verb, Kind, Subject]) -> Transaction:
    return Transaction(NAME, tuple(Operation(*entry) for entry in operations))


MADE = ((Verb.ADD, Kind.MAP), (Verb.ADD, Kind.ELEMENTS))
CREATION = transaction(
    (Verb.ADD, Kind.TABLE, TABLE),
    (Verb.ADD, Kind.TIMEOUT, TIMEOUT),
    (Verb.ADD, Kind.COUNTER, COUNTER),
    *((Verb.ADD, Kind.CHAIN, chain) for chain in TABLE.chains),
    *((Verb.ADD, Kind.MAP, entry) for entry in TABLE.maps),
    *((Verb.ADD, Kind.ELEMENTS, entry) for entry in TABLE.maps),
    *((Verb.ADD, Kind.RULES, chain) for chain in TABLE.chains),
)


class KernelContract:
    @pytest.fixture
    def loaded(self, kernel: Kernel) -> Kernel:
        kernel.run(CREATION)
        return kernel

    def test_absent_table_is_an_empty_inventory(self, kernel: Kernel) -> None:
        found = kernel.inventory(NAME)
        assert found == Inventory(found.generation, exists=False)

    def test_inventory_names_everything(self, loaded: Kernel) -> None:
        assert loaded.inventory(NAME) == Inventory(
            loaded.inventory(NAME).generation,
            chains={"ingress": HOOK, "leaf-1": None, "timed": None},
            maps={"applied": MapShape(KeyType.MARK, holds=KeyType.MARK), "members": MapShape(KeyType.IPV4)},
            counters=frozenset({"rule.sg-a.sgr-1"}),
            timeouts=frozenset({"tcp-300"}),
            stamp=Stamp(7, "10000000200000003000000040000000"),
        )

    def test_another_tables_objects_are_not_in_the_inventory(self, loaded: Kernel) -> None:
        assert loaded.inventory("other").exists is False

    def test_each_commit_is_one_generation(self, loaded: Kernel) -> None:
        before = loaded.inventory(NAME).generation
        loaded.run(transaction((Verb.FLUSH, Kind.RULES, BASE), (Verb.ADD, Kind.RULES, BASE)))
        assert loaded.inventory(NAME).generation == next_generation(before)

    def test_empty_transaction_commits_nothing(self, loaded: Kernel) -> None:
        before = loaded.inventory(NAME)
        loaded.run(Transaction(NAME))
        assert loaded.inventory(NAME) == before

    def test_commits_are_done_in_order_until_one_is_refused(self, kernel: Kernel) -> None:
        added = [transaction((Verb.ADD, Kind.COUNTER, Counter(name))) for name in ("first", "second")]
        refused = transaction((Verb.DELETE, Kind.CHAIN, Chain("nowhere", ())))
        commits = [(CREATION,), (added[0], Transaction(NAME)), (refused,), (added[1],)]
        each = kernel.run_each(commits)
        assert [next(each), next(each)] == commits[:2]
        assert kernel.inventory(NAME).counters == {COUNTER.name, "first"}
        with pytest.raises(NotFoundError):
            next(each)
        assert kernel.inventory(NAME).counters == {COUNTER.name, "first"}
        assert list(kernel.run_each([(added[1],)])) == [(added[1],)]
        assert list(kernel.run_each([])) == []
        assert kernel.inventory(NAME).counters == {COUNTER.name, "first", "second"}

    def test_settling_changes_nothing(self, loaded: Kernel) -> None:
        before = loaded.inventory(NAME)
        loaded.settle()
        assert loaded.inventory(NAME) == before

    def test_check_accepts_what_run_would_and_changes_nothing(self, kernel: Kernel) -> None:
        before = kernel.inventory(NAME)
        kernel.check(CREATION, "creation")
        assert kernel.inventory(NAME) == before

    def test_adding_what_is_there_is_no_error(self, loaded: Kernel) -> None:
        names = loaded.inventory(NAME)
        loaded.run(
            transaction(
                (Verb.ADD, Kind.TABLE, TABLE),
                (Verb.ADD, Kind.CHAIN, BASE),
                (Verb.ADD, Kind.CHAIN, LEAF),
                *((verb, Kind.POLICY, BASE) for verb in (Verb.ADD, Verb.ADD, Verb.DELETE)),
                (Verb.ADD, Kind.MAP, MEMBERS),
                (Verb.ADD, Kind.ELEMENTS, MEMBERS),
                (Verb.ADD, Kind.COUNTER, COUNTER),
            )
        )
        assert replace(loaded.inventory(NAME), generation=names.generation) == names

    def test_value_of_a_key_changes_by_delete_and_add_at_once(self, loaded: Kernel) -> None:
        old, new = replace(STAMP_MAP, elements=((0, 7),)), replace(STAMP_MAP, elements=((0, 8),))
        loaded.run(transaction((Verb.DELETE, Kind.ELEMENTS, old), (Verb.ADD, Kind.ELEMENTS, new)))
        assert loaded.inventory(NAME).stamp == Stamp(8, "10000000200000003000000040000000")

    def test_everything_can_be_taken_apart_at_once(self, loaded: Kernel) -> None:
        loaded.run(
            transaction(
                *((Verb.FLUSH, Kind.RULES, chain) for chain in TABLE.chains),
                *((Verb.DELETE, Kind.MAP, entry) for entry in TABLE.maps),
                *((Verb.DELETE, Kind.CHAIN, chain) for chain in TABLE.chains),
                (Verb.DELETE, Kind.COUNTER, COUNTER),
                (Verb.DELETE, Kind.TIMEOUT, TIMEOUT),
            )
        )
        found = loaded.inventory(NAME)
        assert found == Inventory(found.generation)

    def test_an_element_goes_together_with_the_chain_that_it_leads_to(self, loaded: Kernel) -> None:
        ranks = Map("ranks", KeyType.IPV4, ((5, 7),), holds=KeyType.CLASSID)
        winners, end = Map("winners", KeyType.CLASSID, ((7, goto("end")),)), Chain("end", ())
        asking = (rule(MapPriority(Field.IP_SADDR, "ranks")), rule(VerdictMap(Field.PACKET_PRIORITY, name="winners")))
        asked = ((verb, kind, entry) for entry in (ranks, winners) for verb, kind in MADE)
        loaded.run(transaction((Verb.ADD, Kind.CHAIN, end), *asked, (Verb.ADD, Kind.RULES, Chain("timed", asking))))
        loaded.run(transaction((Verb.DELETE, Kind.ELEMENTS, winners), (Verb.DELETE, Kind.CHAIN, end)))
        shapes = loaded.inventory(NAME).maps
        assert "end" not in loaded.inventory(NAME).chains
        assert shapes["ranks"] == MapShape(KeyType.IPV4, holds=KeyType.CLASSID)
        assert shapes["winners"] == MapShape(KeyType.CLASSID)
        with pytest.raises(BusyError):
            loaded.run(transaction((Verb.DELETE, Kind.MAP, ranks)))

    def test_a_counter_stays_as_long_as_an_element_names_it(self, loaded: Kernel) -> None:
        counter = Counter("of-one")
        counting = Map("counting", KeyType.IPV4, ((5, Count("of-one")),), holds=KeyType.COUNTER)
        asking = Chain("timed", (rule(MapCount(Field.IP_SADDR, "counting"), DROP),))
        made = ((verb, kind, counting) for verb, kind in MADE)
        loaded.run(transaction((Verb.ADD, Kind.COUNTER, counter), *made, (Verb.ADD, Kind.RULES, asking)))
        assert loaded.inventory(NAME).maps["counting"] == MapShape(KeyType.IPV4, holds=KeyType.COUNTER)
        with pytest.raises(BusyError):
            loaded.run(transaction((Verb.DELETE, Kind.COUNTER, counter)))
        loaded.run(transaction((Verb.DELETE, Kind.ELEMENTS, counting), (Verb.DELETE, Kind.COUNTER, counter)))
        assert "of-one" not in loaded.inventory(NAME).counters
        with pytest.raises(BusyError):
            loaded.run(transaction((Verb.DELETE, Kind.MAP, counting)))

    def test_pruning_leaves_what_the_table_has_and_nothing_else(self, loaded: Kernel) -> None:
        kept = Table(NAME, (BASE,), (STAMP_MAP, MEMBERS))
        emptied = (Verb.FLUSH, Kind.ELEMENTS, MEMBERS)
        before = loaded.inventory(NAME)
        loaded.run(transaction(emptied, (Verb.PRUNE, Kind.TABLE, kept), (Verb.ADD, Kind.POLICY, BASE)))
        found = loaded.inventory(NAME)
        assert found == Inventory(
            next_generation(before.generation), chains={"ingress": HOOK}, maps=before.maps, stamp=before.stamp
        )

    def test_pruning_what_is_still_asked_for_is_refused_and_changes_nothing(self, loaded: Kernel) -> None:
        before = loaded.inventory(NAME)
        with pytest.raises(BusyError):
            loaded.run(transaction((Verb.PRUNE, Kind.TABLE, Table(NAME, (BASE,), (STAMP_MAP, MEMBERS)))))
        assert loaded.inventory(NAME) == before

    def test_counters_that_are_there_say_what_they_have_counted(self, loaded: Kernel) -> None:
        found = loaded.read_counters(NAME, ["none", COUNTER.name, "none"])
        assert {name: (counted.packets, counted.bytes) for name, counted in found.items()} == {COUNTER.name: (0, 0)}
        assert loaded.read_counters("none", [COUNTER.name]) == {}

    def test_deleted_table_is_gone(self, loaded: Kernel) -> None:
        loaded.run(transaction((Verb.DELETE, Kind.TABLE, TABLE)))
        assert not loaded.inventory(NAME).exists

    @pytest.mark.parametrize(
        ("verb", "kind", "subject", "expected"),
        [
            pytest.param(Verb.FLUSH, Kind.RULES, Chain("none", ()), NotFoundError, id="flush-absent-chain"),
            pytest.param(Verb.ADD, Kind.RULES, Chain("none", (rule(DROP),)), NotFoundError, id="rule-in-absent-chain"),
            pytest.param(
                Verb.ADD, Kind.RULES, Chain("timed", (rule(goto("none")),)), NotFoundError, id="goto-absent-chain"
            ),
            pytest.param(
                Verb.ADD, Kind.RULES, Chain("timed", (rule(Count("none"), DROP),)), NotFoundError, id="absent-counter"
            ),
            pytest.param(
                Verb.ADD,
                Kind.RULES,
                Chain("timed", (rule(TCP_ONLY, SetTimeout("none")),)),
                NotFoundError,
                id="absent-timeout",
            ),
            pytest.param(
                Verb.ADD,
                Kind.RULES,
                Chain("timed", (rule(VerdictMap(Field.IP_SADDR, name="none")),)),
                NotFoundError,
                id="absent-map",
            ),
            pytest.param(
                Verb.ADD,
                Kind.RULES,
                Chain("timed", (rule(MapPriority(Field.IP_SADDR, "none")),)),
                NotFoundError,
                id="absent-map-of-priorities",
            ),
            pytest.param(Verb.DELETE, Kind.CHAIN, Chain("none", ()), NotFoundError, id="delete-absent-chain"),
            pytest.param(Verb.DELETE, Kind.CHAIN, LEAF, BusyError, id="delete-chain-in-use"),
            pytest.param(Verb.ADD, Kind.POLICY, LEAF, KernelError, id="policy-of-no-base-chain"),
            pytest.param(Verb.DELETE, Kind.CHAIN, TIMED, BusyError, id="delete-chain-that-an-element-names"),
            pytest.param(Verb.DELETE, Kind.MAP, MEMBERS, BusyError, id="delete-map-in-use"),
            pytest.param(Verb.DELETE, Kind.MAP, replace(MEMBERS, name="none"), NotFoundError, id="delete-absent-map"),
            pytest.param(Verb.DELETE, Kind.COUNTER, COUNTER, BusyError, id="delete-counter-in-use"),
            pytest.param(Verb.DELETE, Kind.COUNTER, Counter("none"), NotFoundError, id="delete-absent-counter"),
            pytest.param(Verb.DELETE, Kind.TIMEOUT, TIMEOUT, BusyError, id="delete-timeout-in-use"),
            pytest.param(
                Verb.DELETE, Kind.TIMEOUT, replace(TIMEOUT, name="none"), NotFoundError, id="delete-absent-timeout"
            ),
            pytest.param(
                Verb.ADD,
                Kind.ELEMENTS,
                replace(MEMBERS, elements=((0x0A000001, goto("timed")),)),
                ExistsError,
                id="key-with-another-value",
            ),
            pytest.param(
                Verb.ADD,
                Kind.ELEMENTS,
                replace(MEMBERS, elements=((0x0A000009, goto("none")),)),
                NotFoundError,
                id="element-to-absent-chain",
            ),
            pytest.param(
                Verb.DELETE,
                Kind.ELEMENTS,
                replace(MEMBERS, elements=((0x0A000009, DROP),)),
                NotFoundError,
                id="delete-absent-element",
            ),
            pytest.param(Verb.ADD, Kind.MAP, replace(MEMBERS, key_type=KeyType.IPV6), ExistsError, id="other-type"),
            pytest.param(
                Verb.ADD,
                Kind.CHAIN,
                replace(BASE, hook=Hook("postrouting", 150)),
                KernelError,  # the kernel in memory says that it exists, the real one that it can't be changed
                id="other-hook",
            ),
        ],
    )
    def test_refusal_names_its_cause_and_changes_nothing(
        self, loaded: Kernel, verb: Verb, kind: Kind, subject: Subject, expected: type[Exception]
    ) -> None:
        before = loaded.inventory(NAME)
        welcome = (Verb.ADD, Kind.CHAIN, Chain("welcome", ()))
        with pytest.raises(expected):
            loaded.check(transaction(welcome, (verb, kind, subject)), "all of it")
        with pytest.raises(expected):
            loaded.run(transaction(welcome, (verb, kind, subject)))
        assert loaded.inventory(NAME) == before

    def test_operation_on_an_absent_table_is_refused(self, kernel: Kernel) -> None:
        with pytest.raises(NotFoundError):
            kernel.run(transaction((Verb.ADD, Kind.CHAIN, LEAF)))
        with pytest.raises(NotFoundError):
            kernel.run(transaction((Verb.DELETE, Kind.TABLE, TABLE)))

    def test_refusal_says_the_line_and_the_users_rule(self, loaded: Kernel) -> None:
        bad = Chain("leaf-1", (rule(Count("none"), ACCEPT),), origin="sg-b sgr-9 ingress priority 3 accept")
        with pytest.raises(NotFoundError) as caught:
            loaded.run(
                transaction((Verb.FLUSH, Kind.RULES, LEAF), (Verb.ADD, Kind.CHAIN, LEAF), (Verb.ADD, Kind.RULES, bad))
            )
        assert caught.value.operation == f'add rule inet {NAME} leaf-1 counter name "none" accept'
        assert caught.value.origin == bad.origin
