"""plan(): how a first load, differences, full resyncs and misfits become changes, and what is trusted. The kernel in
memory runs them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from sgdataplane.contract.fields import Field, Hook, KeyType
from sgdataplane.errors import KernelError
from sgdataplane.nft.delta import Plan, plan, plan_removal, undo
from sgdataplane.nft.ir import (
    ACCEPT,
    DROP,
    Chain,
    Count,
    Counter,
    Map,
    MapPriority,
    SetPriority,
    Table,
    VerdictMap,
    goto,
    rule,
)
from sgdataplane.nft.outline import stamp_of
from sgdataplane.nft.snapshot import MAX_FOREIGN_OBJECTS, Inventory, MapShape, with_generation
from sgdataplane.nft.transaction import Kind, Operation, Transaction, Verb
from tests.support.models.fakekernel import FakeKernel
from tests.support.models.kernel_contract import HOOK, LEAF, MEMBERS, NAME, TABLE


def stamped(table: Table, epoch: int, digest: int) -> Table:
    """With another stamp."""
    words = ((0, epoch), *((word, digest) for word in range(1, 5)))
    return replace(table, maps=tuple(replace(m, elements=words) if m.name == "applied" else m for m in table.maps))


FIRST = stamped(TABLE, 1, 11)
NEW_LEAF = Chain("leaf-2", (rule(Count("rule.sg-a.sgr-2"), ACCEPT),), origin="sg-a sgr-2")
NEW_TIMED = Chain("timed", (rule(goto("leaf-2")),))
BOTH_COUNTERS = (*TABLE.counters, Counter("rule.sg-a.sgr-2"))
# `timed` changes in place, and a leaf is born
NEW_RULES = stamped(replace(TABLE, chains=(TABLE.chains[0], LEAF, NEW_LEAF, NEW_TIMED), counters=BOTH_COUNTERS), 2, 22)
# one member leaves, one joins, one moves
NEW_MEMBERS = replace(MEMBERS, elements=((0x0A000001, goto("timed")), (0x0A000003, goto("leaf-1"))))
JOINED = stamped(replace(TABLE, maps=(TABLE.maps[0], NEW_MEMBERS)), 2, 33)
OTHERS = replace(MEMBERS, elements=(MEMBERS.elements[0], (0x0A000003, goto("leaf-1"))))
MORE_MEMBERS = stamped(replace(TABLE, maps=(TABLE.maps[0], OTHERS)), 2, 34)
ALL_NEW = stamped(replace(NEW_RULES, maps=(TABLE.maps[0], NEW_MEMBERS), timeouts=()), 2, 44)


def loaded(table: Table = FIRST) -> FakeKernel:
    kernel = FakeKernel()
    run(kernel, plan(None, kernel.inventory(NAME), table))
    return kernel


def run(kernel: FakeKernel, steps: Plan) -> None:
    for step in commits(steps):
        kernel.run(step)


def commits(steps: Plan) -> list[Transaction]:
    """All transactions of a plan, in order."""
    return [step for change in steps.changes for step in (*change.stage.parts(), change.switch, change.sweep)]


def sizes(steps: Plan) -> list[tuple[int, int, int]]:
    return [(len(change.stage), len(change.switch), len(change.sweep)) for change in steps.changes]


def test_first_load_takes_effect_with_its_base_chains_at_once() -> None:
    kernel = FakeKernel()
    (change,) = plan(None, kernel.inventory(NAME), FIRST).changes
    kernel.run(change.stage)
    found = kernel.inventory(NAME)
    assert (found.stamp, set(found.chains.values())) == (None, {None})
    kernel.run(change.switch)
    assert kernel.inventory(NAME).chains["ingress"] == HOOK
    assert not kernel.inventory(NAME).is_untouched
    assert kernel.dropping(NAME) == frozenset()  # it would be the fate of packets that met it empty
    kernel.run(change.sweep)
    assert kernel.dropping(NAME) == {"ingress"}
    assert kernel.table(NAME) == with_generation(FIRST, kernel.generation)
    assert change.commits == 3


def test_removed_table_drops_nothing_while_it_goes() -> None:
    kernel = loaded()
    change = plan_removal(kernel.inventory(NAME), NAME, "inet")
    kernel.run(change.switch)
    assert kernel.dropping(NAME) == frozenset()
    kernel.run(change.sweep)
    assert not kernel.inventory(NAME).exists


def test_new_base_chain_beside_others_drops_by_its_policy_last() -> None:
    kernel = loaded()
    more = stamped(replace(FIRST, chains=(*FIRST.chains, Chain("more", (rule(DROP),), Hook("output", 7)))), 2, 55)
    (change,) = plan(FIRST, kernel.inventory(NAME), more).changes
    kernel.run(change.switch)
    assert kernel.dropping(NAME) == {"ingress"}
    kernel.run(change.sweep)
    assert kernel.dropping(NAME) == {"ingress", "more"}
    assert kernel.inventory(NAME).is_untouched


def test_undone_first_stage_leaves_no_table() -> None:
    kernel = FakeKernel()
    stage = plan(None, kernel.inventory(NAME), FIRST).changes[0].stage
    kernel.run(stage)
    kernel.run(undo(stage))
    assert not kernel.inventory(NAME).exists


@pytest.mark.parametrize(
    ("desired", "changes"),
    [
        pytest.param(NEW_RULES, 1, id="rules"),
        pytest.param(JOINED, 2, id="elements-by-way-of-a-detour"),
        pytest.param(MORE_MEMBERS, 1, id="elements-of-other-keys"),
        pytest.param(ALL_NEW, 2, id="both-by-way-of-a-copy"),
    ],
)
def test_difference_ends_in_the_desired_table_and_is_known_to(desired: Table, changes: int) -> None:
    kernel = loaded()
    steps = plan(FIRST, kernel.inventory(NAME), desired)
    assert (len(steps.changes), steps.is_full_resync) == (changes, False)
    run(kernel, steps)
    assert kernel.table(NAME) == with_generation(desired, kernel.generation)
    assert plan(desired, kernel.inventory(NAME), desired) == Plan()
    run(kernel, plan(desired, kernel.inventory(NAME), FIRST))
    assert kernel.table(NAME) == with_generation(FIRST, kernel.generation)


def test_difference_is_no_more_than_what_differs() -> None:
    steps = plan(FIRST, loaded().inventory(NAME), JOINED, may_miss=False)
    stamp, members = 6 + 6, 2 + 2  # deleted and added; the first time the stamp holds the generation too
    assert sizes(steps) == [(0, stamp + members, 0)]


def test_stage_adds_only_and_switch_deletes_no_object() -> None:
    (change,) = plan(FIRST, loaded().inventory(NAME), NEW_RULES).changes
    assert {entry.verb for entry in change.stage.operations} == {Verb.ADD}
    assert {entry.kind for entry in change.switch.operations} <= {Kind.RULES, Kind.ELEMENTS}
    assert all(entry.verb is not Verb.ADD for entry in change.sweep.operations)  # there are no new base chains


def test_kept_counters_keep_counting_through_differences_copies_and_refills() -> None:
    kernel, counter = loaded(), TABLE.counters[0].name
    kernel.count(NAME, counter)
    held: Table | None = FIRST
    for desired in (NEW_RULES, ALL_NEW, FIRST):
        run(kernel, plan(held, kernel.inventory(NAME), desired))
        run(kernel, plan(None, kernel.inventory(NAME), desired))
        held = desired
    assert kernel.packets_of(NAME, counter) == 1


@pytest.mark.parametrize(
    "held",
    [
        pytest.param(None, id="nothing-believed"),
        pytest.param(NEW_RULES, id="another-policy-believed"),
        pytest.param(stamped(FIRST, 9, 11), id="another-epoch-believed"),
    ],
)
def test_without_trust_everything_is_made_anew(held: Table | None) -> None:
    kernel = loaded()
    steps = plan(held, kernel.inventory(NAME), ALL_NEW)
    assert steps.is_full_resync
    run(kernel, steps)
    assert kernel.table(NAME) == with_generation(ALL_NEW, kernel.generation)


@pytest.mark.parametrize(
    "meddling",
    [
        pytest.param([Operation(Verb.FLUSH, Kind.RULES, TABLE.chains[0])], id="base-chain-flushed"),
        pytest.param([Operation(Verb.FLUSH, Kind.RULES, LEAF)], id="leaf-flushed"),
        pytest.param([Operation(Verb.DELETE, Kind.POLICY, TABLE.chains[0])], id="policy-opened"),
        pytest.param([Operation(Verb.ADD, Kind.RULES, Chain("leaf-1", (rule(ACCEPT),)))], id="rule-added"),
        pytest.param([Operation(Verb.FLUSH, Kind.ELEMENTS, MEMBERS)], id="members-flushed"),
        pytest.param([Operation(Verb.FLUSH, Kind.ELEMENTS, TABLE.maps[0])], id="stamp-flushed"),
        pytest.param([Operation(Verb.DELETE, Kind.MAP, TABLE.maps[0])], id="stamp-deleted"),
        pytest.param(
            [Operation(Verb.FLUSH, Kind.ELEMENTS, MEMBERS), Operation(Verb.DELETE, Kind.CHAIN, TABLE.chains[2])],
            id="chain-deleted",
        ),
        pytest.param(
            [
                Operation(Verb.ADD, Kind.CHAIN, Chain("theirs", (), Hook("input", 3))),
                Operation(Verb.ADD, Kind.MAP, Map("their-map", KeyType.MARK, ())),
                Operation(Verb.ADD, Kind.COUNTER, Counter("their-counter")),
                Operation(Verb.ADD, Kind.ELEMENTS, replace(MEMBERS, elements=((7, goto("theirs")),))),
            ],
            id="strangers-added",
        ),
    ],
)
@pytest.mark.parametrize("desired", [FIRST, ALL_NEW], ids=["same-policy", "new-policy"])
def test_whatever_somebody_changed_is_put_right(meddling: list[Operation], desired: Table) -> None:
    kernel = loaded()
    kernel.run(Transaction(NAME, tuple(meddling)))
    steps = plan(FIRST, kernel.inventory(NAME), desired)
    assert steps.is_full_resync
    run(kernel, steps)
    assert kernel.table(NAME) == with_generation(desired, kernel.generation)
    assert kernel.dropping(NAME) == {"ingress"}


@pytest.mark.parametrize(
    "odd",
    [
        pytest.param({"chains": {"ingress": Hook("output", -150)}}, id="other-hook"),
        pytest.param({"chains": {"ingress": None}}, id="no-hook"),
        pytest.param({"maps": {"members": MapShape(KeyType.IPV6)}}, id="other-type"),
        pytest.param({"maps": {"members": MapShape(None, KeyType.NOTHING)}}, id="a-set-of-that-name"),
        pytest.param({"has_flags": True}, id="dormant"),
        pytest.param({"stamp": None, "is_crowded": True}, id="more-than-was-read"),
        pytest.param({"stamp": None, "odd": MAX_FOREIGN_OBJECTS + 1}, id="too-many-to-be-removed-one-by-one"),
        pytest.param(
            {"stamp": None, "counters": frozenset(f"c{number}" for number in range(MAX_FOREIGN_OBJECTS + 9))},
            id="too-many-named-as-ours-are",
        ),
    ],
)
def test_what_can_not_be_changed_is_replaced_whole(odd: dict[str, object]) -> None:
    found = replace(loaded().inventory(NAME), **odd)  # type: ignore[arg-type]  # fields by name
    steps = plan(FIRST, found, FIRST)
    (change,) = steps.changes
    assert steps.is_full_resync
    assert not change.stage.operations
    assert {entry.kind for entry in change.sweep.operations} == {Kind.POLICY}
    assert [(entry.verb, entry.kind) for entry in change.switch.operations[:2]] == [
        (Verb.DELETE, Kind.TABLE),
        (Verb.ADD, Kind.TABLE),
    ]


def test_strangers_that_do_nothing_are_no_misfits() -> None:
    found = Inventory(
        3, chains={"ingress": HOOK}, maps={"theirs": MapShape(None, KeyType.NOTHING)}, odd=MAX_FOREIGN_OBJECTS // 2
    )
    assert len(plan(None, found, FIRST).changes) == 2


def test_what_stands_where_the_copy_has_to_has_the_table_replaced() -> None:
    found = replace(loaded().inventory(NAME), generation=9, stamp=None)
    taken = replace(found, maps={**found.maps, "members.9": MapShape(None, KeyType.NOTHING)})
    assert [len(plan(None, entry, FIRST).changes) for entry in (found, taken)] == [2, 1]


def test_beside_a_crowd_that_was_there_a_known_table_is_changed_as_ever() -> None:
    found = replace(loaded().inventory(NAME), is_crowded=True)
    assert plan(FIRST, found, FIRST) == Plan()


def test_a_refill_prunes_and_names_the_counters_that_end() -> None:
    found = replace(loaded().inventory(NAME), stamp=None, counters=frozenset({*FIRST.counter, "old"}))
    first, second = plan(None, found, FIRST).changes
    pruned, *closed = first.sweep.operations
    assert (pruned.verb, pruned.kind) == (Verb.PRUNE, Kind.TABLE)
    assert {entry.kind for entry in closed} == {Kind.POLICY}
    assert (first.ending, second.ending) == (frozenset({"old"}), frozenset())


@pytest.fixture(params=[4000, 1], ids=["whole", "parts"])
def part(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """How much a part of a stage adds."""
    monkeypatch.setattr("sgdataplane.nft.transaction.PART", request.param)
    return int(request.param)


@pytest.mark.parametrize("held", [FIRST, None], ids=["difference", "full-resync"])
def test_undone_stage_leaves_nothing_of_any_of_its_parts(held: Table | None, part: int) -> None:
    kernel = loaded()
    before = kernel.table(NAME)
    stage = plan(held, kernel.inventory(NAME), ALL_NEW).changes[0].stage
    assert (len(stage.parts()) > 2) is (part == 1)
    for count in range(1, len(stage.parts()) + 1):
        for entry in stage.parts()[:count]:
            kernel.run(entry)
        assert kernel.table(NAME) != before
        kernel.run(undo(replace(stage, operations=tuple(o for p in stage.parts()[:count] for o in p.operations))))
        assert kernel.table(NAME) == before


@pytest.mark.usefixtures("part")
@pytest.mark.parametrize("held", [FIRST, None], ids=["difference", "full-resync"])
def test_apply_that_dies_between_two_commits_is_put_right_by_the_next(held: Table | None) -> None:
    transactions = commits(plan(held, loaded().inventory(NAME), ALL_NEW))
    for done in range(len(transactions)):
        kernel = loaded()
        for step in transactions[:done]:
            kernel.run(step)
        for believed in (FIRST, ALL_NEW):
            again = plan(believed, kernel.inventory(NAME), ALL_NEW)
            run(kernel, again)
            assert kernel.table(NAME) == with_generation(ALL_NEW, kernel.generation)


BY_GROUP_SET = Chain(
    "ingress", (rule(SetPriority(0)), rule(MapPriority(Field.IP_SADDR, "members")), rule(goto("kin"))), HOOK
)
GROUP_SET = Chain("kin", (rule(VerdictMap(Field.PACKET_PRIORITY, name="leaves")), rule(DROP)))
OLD_LEAF, NEXT_LEAF = Chain("leaf-7", (rule(ACCEPT),)), Chain("leaf-8", (rule(DROP),))


def group_set_table(digest: int, group_sets: dict[int, int], *leaves: Chain) -> Table:
    """An address has a number, and by that a leaf."""
    members = Map("members", KeyType.IPV4, tuple(group_sets.items()), holds=KeyType.CLASSID)
    by_group_set = Map("leaves", KeyType.CLASSID, tuple((int(leaf.name[-1]), goto(leaf.name)) for leaf in leaves))
    chains = (BY_GROUP_SET, GROUP_SET, *leaves)
    return stamped(replace(TABLE, chains=chains, maps=(TABLE.maps[0], by_group_set, members), timeouts=()), 1, digest)


GROUP_SETS, OTHER_GROUP_SETS = group_set_table(1, {5: 7}, OLD_LEAF), group_set_table(2, {5: 8}, NEXT_LEAF)


def elements(transaction: Transaction) -> dict[str, list[tuple[Verb, object]]]:
    found: dict[str, list[tuple[Verb, object]]] = {}
    for entry in transaction.operations:
        if isinstance(entry.subject, Map) and entry.kind is Kind.ELEMENTS and entry.subject.name != "applied":
            found.setdefault(entry.subject.name, []).append((entry.verb, entry.subject.elements))
    return found


def test_an_element_by_priority_comes_with_its_chain_and_goes_with_it() -> None:
    kernel = loaded(GROUP_SETS)
    (change,) = plan(GROUP_SETS, kernel.inventory(NAME), OTHER_GROUP_SETS, may_miss=False).changes
    assert elements(change.stage) == {"leaves": [(Verb.ADD, ((8, goto("leaf-8")),))]}
    assert elements(change.switch) == {"members": [(Verb.DELETE, ((5, 7),)), (Verb.ADD, ((5, 8),))]}
    assert elements(change.sweep) == {"leaves": [(Verb.DELETE, ((7, goto("leaf-7")),))]}
    kernel.run(change.stage)
    kernel.run(change.switch)
    assert kernel.table(NAME).elements_of("leaves") == {7: goto("leaf-7"), 8: goto("leaf-8")}
    kernel.run(change.sweep)
    assert kernel.table(NAME) == with_generation(OTHER_GROUP_SETS, kernel.generation)


def test_undone_stage_takes_elements_out_of_maps_that_stay() -> None:
    kernel = loaded(GROUP_SETS)
    before = kernel.table(NAME)
    stage = plan(GROUP_SETS, kernel.inventory(NAME), OTHER_GROUP_SETS).changes[0].stage
    kernel.run(stage)
    kernel.run(undo(stage))
    assert kernel.table(NAME) == before


@pytest.mark.usefixtures("part")
def test_first_load_that_dies_between_two_commits_judges_nothing_and_is_put_right_by_the_next() -> None:
    transactions = commits(plan(None, Inventory(1, exists=False), FIRST))
    for done in range(1, len(transactions)):
        kernel = FakeKernel()
        for step in transactions[:done]:
            kernel.run(step)
        left = kernel.inventory(NAME)
        assert left.is_inert is (done < len(transactions) - 1)  # before the switch
        again = plan(FIRST, left, ALL_NEW)
        assert again.is_full_resync is not left.is_inert
        run(kernel, again)
        assert kernel.table(NAME) == with_generation(ALL_NEW, kernel.generation)


@pytest.mark.parametrize(
    "differs",
    [
        pytest.param({"exists": False}, id="none"),
        pytest.param({"chains": {"leaf": None, "ingress": HOOK}}, id="base-chain"),
        pytest.param({"stamp": stamp_of(FIRST)}, id="stamp"),
        pytest.param({"odd": 1}, id="others-objects"),
        pytest.param({"is_crowded": True}, id="unread"),
    ],
)
def test_table_that_may_judge_packets_is_not_inert(differs: dict[str, Any]) -> None:
    bare = Inventory(1, chains={"leaf": None})
    assert bare.is_inert
    assert not replace(bare, **differs).is_inert


def test_refused_step_names_the_users_rule() -> None:
    kernel = loaded()
    steps = plan(FIRST, kernel.inventory(NAME), replace(NEW_RULES, counters=TABLE.counters))
    with pytest.raises(KernelError) as caught:
        run(kernel, steps)
    assert caught.value.origin == NEW_LEAF.origin


def test_a_map_comes_after_the_rules_that_ask_none_and_its_elements_after_those_that_ask_it() -> None:
    """The kernel compares each set without a name with the names of all maps, and walks a map that a chain asks."""
    plain, asking = (
        Chain("a-plain", (rule(ACCEPT),)),
        Chain("asking", (rule(VerdictMap(Field.IP_SADDR, name="members")),)),
    )
    stage = plan(None, Inventory(1, exists=False), replace(ALL_NEW, chains=(plain, asking))).changes[0].stage
    kinds = [(entry.kind, entry.subject.name) for entry in stage.operations]
    wanted = (Kind.RULES, "a-plain"), (Kind.MAP, "members"), (Kind.RULES, "asking"), (Kind.ELEMENTS, "members")
    places = [kinds.index(one) for one in wanted]
    assert places == sorted(places)
