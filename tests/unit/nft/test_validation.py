"""How many chains the kernel goes through at a commit, and what follows from the times that commits take."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sgdataplane.contract.fields import Field, Hook, KeyType
from sgdataplane.nft import pages
from sgdataplane.nft.delta import Change, Plan
from sgdataplane.nft.ir import (
    ACCEPT,
    DROP,
    RETURN,
    Chain,
    Map,
    MapPage,
    MapPriority,
    Match,
    Paged,
    Range,
    Rule,
    Statement,
    Table,
    VerdictMap,
    goto,
    jump,
    rule,
)
from sgdataplane.nft.transaction import Kind, Operation, Subject, Transaction, Verb
from sgdataplane.nft.validation import (
    LEVELS,
    NOTHING,
    REMEMBERING,
    Pace,
    Times,
    Visits,
    count_validations,
    judge,
    lattice_of,
    measure,
)
from tests.support.models.oldkernel import OldKernel

HOOK = Hook("prerouting", 0)
END = Chain("end", (rule(ACCEPT),))
TCP = Match(Field.L4PROTO, (Range.of(6),))
NUMBERS = Map("p", KeyType.NUMBER, ((6, 1), (17, 2)), holds=KeyType.CLASSID)


def base(*rules: Rule, name: str = "base") -> Chain:
    return Chain(name, rules, HOOK)


def asking(*targets: str, name: str = "") -> Statement:
    """A map without a name that leads there, or the named one."""
    return VerdictMap(Field.L4PROTO, tuple((Range.of(n), goto(t)) for n, t in enumerate(targets)), name)


def named(*values: str) -> Map:
    """Leads to these chains, and nowhere by its last element."""
    elements = [(key, goto(value)) for key, value in enumerate(values)]
    return Map("m", KeyType.NUMBER, (*elements, (len(values), RETURN)))


def levels(count: int, ways: int) -> tuple[Chain, ...]:
    """Each leads so often to the next one."""
    ahead = [Chain(f"c{n}", tuple(rule(goto(f"c{n + 1}")) for _ in range(ways))) for n in range(count)]
    return (base(rule(goto("c0"))), *ahead, Chain(f"c{count}", (rule(DROP),)))


@pytest.mark.parametrize(
    ("chains", "maps", "every_path", "remembered"),
    [
        ((END,), (), 0, 0),
        ((base(),), (), 1, 1),
        ((base(rule(TCP, ACCEPT), rule(DROP)), END), (), 1, 1),
        ((base(rule(goto("end")), rule(TCP, jump("end"))), END), (), 3, 3),
        ((base(rule(asking("end", "end"))), END), (), 3, 3),
        ((base(rule(asking(name="m"))), END), (named("end", "end", "end"),), 4, 4),
        ((base(rule(asking(name="m")), rule(TCP, asking(name="m"))), END), (named("end"),), 3, 3),
        ((base(rule(MapPriority(Field.L4PROTO, "p"), goto("end"))), END), (NUMBERS,), 2, 2),
        ((base(rule(goto("end"))), base(rule(goto("end")), name="other"), END), (), 4, 4),
        (levels(3, 2), (), 1 + 1 + 2 + 4 + 8, 1 + 1 + 2 + 2 + 2),
        (levels(12, 3), (), 1 + (3**13 - 1) // 2, 2 + 12 * 3),
    ],
    ids=[
        "no base chain",
        "no rule",
        "verdicts",
        "goto and jump",
        "map without a name",
        "named map",
        "a map asked twice",
        "map of priorities",
        "two base chains",
        "lattice",
        "large lattice",
    ],
)
def test_visits_are_chains_entered(
    chains: tuple[Chain, ...], maps: tuple[Map, ...], every_path: int, remembered: int
) -> None:
    visits = Visits.of(Table("t", chains, maps))
    assert (visits.every_path, visits.remembered) == (every_path, remembered)


def test_what_no_base_chain_leads_to_is_not_visited() -> None:
    staged = Chain("staged", (rule(goto("end")),))
    visits = Visits.of(Table("t", (base(rule(goto("end"))), staged, END)))
    assert (visits.every_path, visits.remembered, visits.by_chain["staged"]) == (2, 2, 2)


@pytest.mark.parametrize("target", ["nowhere", "base"], ids=["missing", "circle"])
def test_table_that_the_kernel_refuses_is_counted_without_what_it_refuses(target: str) -> None:
    Visits.of(Table("t", (base(rule(goto(target)), rule(goto("end"))), END)))


def test_chain_that_was_in_a_circle_is_counted_once_it_isnt() -> None:
    circle = Table("t", (base(rule(goto("a"))), Chain("a", (rule(goto("b")),)), Chain("b", (rule(goto("a")),))))
    straight = Table("t", (*circle.chains[:2], Chain("b", (rule(ACCEPT),))))
    assert Visits.of(circle).every_path == 0
    assert Visits.of(straight, Visits.of(circle)).every_path == 3


def paged(counts: dict[str, int], known: Paged | None = None) -> Paged:
    """Five pages. Those that say the same are those of `known`."""
    elements = [goto(name) for name, count in counts.items() for _ in range(count)]
    made = {n: MapPage(tuple((key, v) for key, v in enumerate(elements) if key % 5 == n)) for n in range(5)}
    old = {} if known is None else known.pages
    return Paged({n: old[n] if old.get(n) == page else page for n, page in made.items() if page.elements})


def crowd(elements: Paged) -> Table:
    chains = (base(rule(asking(name="m"))), Chain("a", (rule(goto("end")),)), END)
    return Table("t", chains, (Map("m", KeyType.NUMBER, elements),))


def test_of_two_maps_that_differ_little_only_other_pages_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    before = paged({"a": 40, "end": 7})
    after = paged({"a": 40, "end": 8}, before)
    one = Visits.of(crowd(before))
    new = [page for number, page in after.pages.items() if page is not before.pages[number]]
    assert len(new) == 1
    counted: list[object] = []

    def tally(page: MapPage) -> tuple[tuple[object, int], ...]:
        counted.append(page)
        return tuple((value, 1) for _, value in page.elements)

    monkeypatch.setattr(pages.MapPage, "tally", property(tally))
    two = Visits.of(crowd(after), one)
    assert (one.every_path, two.every_path) == (1 + 80 + 7, 1 + 80 + 8)
    assert sorted(map(id, counted)) == sorted(map(id, [*new, before.pages[2]]))


@pytest.mark.parametrize("counts", [{"a": 3}, {"end": 40}, {"a": 60, "end": 7}, {"a": 1, "end": 1}])
def test_count_that_follows_another_is_that_from_nothing(counts: dict[str, int]) -> None:
    before = paged({"a": 40, "end": 7})
    after = crowd(paged(counts, before))
    assert Visits.of(after, Visits.of(crowd(before))) == Visits.of(after)


def test_chain_that_leads_to_a_changed_one_is_counted_anew_and_others_are_not() -> None:
    table = Table("t", (*levels(3, 2), Chain("beside", (rule(goto("aside")),)), Chain("aside", ())))
    one = Visits.of(table)
    changed = tuple(
        replace(chain, rules=(rule(goto("c2")),)) if chain.name == "c1" else chain
        for chain in table.chains
        if chain.name != "aside"
    )
    two = Visits.of(Table("t", changed), one)
    assert dict(two.by_chain) == {"c3": 1, "c2": 3, "c1": 4, "c0": 9, "base": 10, "beside": 1}
    assert list(two.by_chain)[:2] == ["c3", "c2"], "those that stay as they were come first"
    assert two.by_chain == Visits.of(Table("t", changed)).by_chain


def transaction(verb: Verb, kind: Kind, subject: Subject) -> Transaction:
    return Transaction("t", (Operation(verb, kind, subject),))


ADDED = transaction(Verb.ADD, Kind.RULES, base(rule(ACCEPT)))
NO_OPERATION = Transaction("t")


@pytest.mark.parametrize(
    ("change", "count"),
    [
        (ADDED, 1),
        (transaction(Verb.ADD, Kind.ELEMENTS, named("end")), 1),
        (transaction(Verb.ADD, Kind.ELEMENTS, named()), 0),
        (transaction(Verb.ADD, Kind.ELEMENTS, NUMBERS), 0),
        (transaction(Verb.DELETE, Kind.ELEMENTS, named("end")), 0),
        (transaction(Verb.FLUSH, Kind.RULES, base()), 0),
        (transaction(Verb.ADD, Kind.CHAIN, END), 0),
        (transaction(Verb.DELETE, Kind.CHAIN, END), 0),
    ],
    ids=["rule", "element", "element to nowhere", "number", "element gone", "rules gone", "chain", "chain gone"],
)
def test_commit_is_validated_if_it_adds_a_rule_or_an_element_with_a_target(change: Transaction, count: int) -> None:
    assert count_validations(Plan((Change(change, NO_OPERATION, change),))) == count
    assert count_validations(Plan((Change(change, change, change),) * 2)) == 4 * count


def test_plan_takes_each_validated_commit_and_what_rules_lead_to_that_are_written_anew() -> None:
    table = Table("t", (base(rule(asking(name="m"))), END), (named("end", "end"),))
    visits, held = Visits.of(table), Visits.of(Table("t", levels(3, 2)))
    rules = transaction(Verb.ADD, Kind.RULES, table.chains[0])
    element = transaction(Verb.ADD, Kind.ELEMENTS, named("end"))
    assert visits.of_plan(Plan((Change(NO_OPERATION, element, NO_OPERATION),)), visits) == 3
    assert visits.of_plan(Plan((Change(NO_OPERATION, rules, NO_OPERATION),)), visits) == 3 + 3
    assert visits.of_plan(Plan((Change(ADDED, rules, NO_OPERATION),)), visits) == 3 + 3 + 3
    assert visits.of_plan(Plan((Change(ADDED, rules, NO_OPERATION),)), held) == 16 + 3 + 3
    assert visits.of_plan(Plan((Change(ADDED, rules, NO_OPERATION),)), NOTHING) == 0 + 3 + 3
    assert visits.of_plan(Plan((Change(ADDED, rules, NO_OPERATION),) * 2), None) == 2 * (3 + 3 + 3)


def test_each_part_of_a_stage_is_a_commit_that_is_validated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sgdataplane.nft.transaction.PART", 1)
    stage = Transaction("t", (*ADDED.operations, Operation(Verb.ADD, Kind.CHAIN, END), *ADDED.operations))
    steps = Plan((Change(stage, NO_OPERATION, NO_OPERATION),))
    assert count_validations(steps) == 2
    held = Visits.of(Table("t", levels(3, 2)))
    assert NOTHING.of_plan(steps, held) == 2 * held.every_path


VISITS = 100_000
MS = 1e-3


def times(*rows: tuple[float, float, float]) -> list[Times]:
    """Milliseconds, deep, beside and flat."""
    return [Times(deep * MS, beside * MS, flat * MS) for deep, beside, flat in rows]


@pytest.mark.parametrize(
    ("rows", "pace"),
    [
        ([(0.2, 0.2, 0.2)] * 5, REMEMBERING),
        ([(0.4, 0.2, 0.2), (0.3, 0.2, 0.2), (0.25, 0.2, 0.2)], REMEMBERING),
        ([(4.7, 4.6, 0.2)] * 5, Pace(remembers=False, ns_per_visit=45, is_wide=True)),
        ([(4.7, 0.3, 0.2)] * 5, Pace(remembers=False, ns_per_visit=45, is_wide=False)),
        ([(47, 46, 2)] * 5, Pace(remembers=False, ns_per_visit=450, is_wide=True)),
        ([(0.2, 0.2, 0.2), (0.2, 0.2, 0.2), (90, 90, 0.2)], REMEMBERING),
        ([(4.7, 4.7, 0.2), (4.7, 4.7, 0.2), (90, 90, 80)], Pace(remembers=False, ns_per_visit=45, is_wide=True)),
    ],
    ids=["remembers", "noisy", "walks", "of its own table", "ten times slower", "one long", "one long, all places"],
)
def test_ratios_decide(rows: list[tuple[float, float, float]], pace: Pace) -> None:
    found = judge(times(*rows), VISITS)
    assert (found.remembers, found.is_wide) == (pace.remembers, pace.is_wide)
    assert found.ns_per_visit == pytest.approx(pace.ns_per_visit)


def test_seconds_are_those_of_visits_unless_it_remembers() -> None:
    assert Pace(remembers=False, ns_per_visit=40).seconds(50_000_000) == 2
    assert REMEMBERING.seconds(10**15) == 0


def test_lattice_has_many_paths_and_few_chains() -> None:
    visits = Visits.of(lattice_of(LEVELS))
    assert visits.every_path == (3 ** (LEVELS + 1) - 1) // 2 > 80_000
    assert visits.remembered < 50


def test_measuring_walks_the_lattice_once_a_commit_and_when_it_is_made() -> None:
    """And hardly at all as its rules come; so what a bad kernel takes is bounded."""
    deep, flat = OldKernel(REMEMBERING), OldKernel(REMEMBERING)
    measure(deep, flat)
    paths = Visits.of(lattice_of(LEVELS)).every_path
    assert 0 <= deep.walked - 12 * paths < 200, "made, made beside, and five times at each of two places"
    assert flat.walked < 50
