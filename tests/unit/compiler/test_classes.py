"""Far addresses to classes."""

from __future__ import annotations

from sgdataplane.compiler.classes import AddressClasses, Segments, classify
from sgdataplane.model.state import GroupRef, Remote
from sgdataplane.net.values import Family, Prefix
from sgdataplane.policy.resolve import RemoteAddresses

WEB, DB = GroupRef("sg-web"), GroupRef("sg-db")
TEN, TEN_ONE = Prefix.parse("10.0.0.0/8"), Prefix.parse("10.1.0.0/16")
BASE = TEN.first


def addresses(**singles: tuple[int, ...]) -> dict[Remote, dict[Family, RemoteAddresses]]:
    found: dict[Remote, dict[Family, RemoteAddresses]] = {
        prefix: {Family.IPV4: RemoteAddresses(ranges=((prefix.first, prefix.last),)), Family.IPV6: RemoteAddresses()}
        for prefix in (TEN, TEN_ONE)
    }
    for group, name in ((WEB, "web"), (DB, "db")):
        found[group] = {Family.IPV4: RemoteAddresses(singles.get(name, ())), Family.IPV6: RemoteAddresses()}
    return found


def spelt(classes: AddressClasses, segments: Segments) -> list[tuple[int, int, set[Remote]]]:
    """Segments with their remotes by name."""
    return [(first, last, set(classes.named(held))) for (first, last), held in segments]


def kin(classes: AddressClasses, *groups: GroupRef) -> int:
    """The number of a kinship."""
    return sum(1 << classes.remotes.index(group) for group in groups)


def test_nested_blocks_are_cut_into_disjoint_segments() -> None:
    classes = classify([TEN, TEN_ONE], addresses(), Family.IPV4)
    assert spelt(classes, classes.segments) == [
        (0, TEN.first - 1, set()),
        (TEN.first, TEN_ONE.first - 1, {TEN}),
        (TEN_ONE.first, TEN_ONE.last, {TEN, TEN_ONE}),
        (TEN_ONE.last + 1, TEN.last, {TEN}),
        (TEN.last + 1, Family.IPV4.last, set()),
    ]


def test_members_are_told_by_the_exact_groups_they_are_in() -> None:
    classes = classify([WEB, DB], addresses(web=(5, 6), db=(6, 7)), Family.IPV4)
    assert classes.members == ((5, kin(classes, WEB)), (6, kin(classes, WEB, DB)), (7, kin(classes, DB)))


def test_kinship_inside_one_block_needs_no_second_look_up() -> None:
    classes = classify([WEB, TEN], addresses(web=(BASE + 1, BASE + 2)), Family.IPV4)
    assert spelt(classes, classes.kin[kin(classes, WEB)]) == [(TEN.first, TEN.last, {WEB, TEN})]


def test_kinship_that_a_block_cuts_apart_keeps_its_segments() -> None:
    classes = classify([WEB, TEN], addresses(web=(5, BASE + 1)), Family.IPV4)
    assert [held for _, _, held in spelt(classes, classes.kin[kin(classes, WEB)])] == [{WEB}, {WEB, TEN}]


def test_block_that_joins_changes_no_member() -> None:
    before = classify([WEB], addresses(web=(BASE + 1,)), Family.IPV4)
    after = classify([WEB, TEN], addresses(web=(BASE + 1,)), Family.IPV4)
    assert [(a, before.named(some)) for a, some in before.members] == [
        (a, after.named(some)) for a, some in after.members
    ]


def test_empty_group_has_no_member_and_no_segment_of_its_own() -> None:
    classes = classify([WEB], addresses(), Family.IPV4)
    assert classes.members == ()
    assert classes.segments == (((0, Family.IPV4.last), 0),)
