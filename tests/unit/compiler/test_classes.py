"""How far addresses are split into classes."""

from __future__ import annotations

from sgdataplane.compiler.classes import AddressClasses, Segments, classify
from sgdataplane.model.members import Members
from sgdataplane.model.state import GroupRef, Remote
from sgdataplane.net.values import Address, Family, Prefix
from sgdataplane.policy.resolve import RemoteAddresses
from tests.support.builders import make_eni

WEB, DB = GroupRef("sg-web"), GroupRef("sg-db")
TEN, TEN_ONE = Prefix.parse("10.0.0.0/8"), Prefix.parse("10.1.0.0/16")
BASE = TEN.first
BLOCKS: dict[Remote, dict[Family, RemoteAddresses]] = {
    prefix: {Family.IPV4: RemoteAddresses(ranges=((prefix.first, prefix.last),)), Family.IPV6: RemoteAddresses()}
    for prefix in (TEN, TEN_ONE)
}


Groups = dict[str, tuple[int, ...]]


def classes_of(
    remotes: list[Remote], groups: Groups | None = None, before: AddressClasses | None = None
) -> AddressClasses:
    """Of these remotes; the groups' members by their addresses."""
    owners: dict[int, list[str]] = {}
    for name, addresses in (groups or {}).items():
        for address in addresses:
            owners.setdefault(address, []).append(f"sg-{name}")
    enis = [make_eni(f"eni-{a}", str(Address(32, a)), " ".join(ids)) for a, ids in sorted(owners.items())]
    return classify(remotes, BLOCKS, Members(tuple(enis)), Family.IPV4, before)


def spelt(classes: AddressClasses, segments: Segments) -> list[tuple[int, int, set[Remote]]]:
    """Segments with their remotes by name."""
    return [(first, last, set(classes.named(held))) for (first, last), held in segments]


def kin(classes: AddressClasses, *groups: GroupRef) -> int:
    """The number of a kinship."""
    return sum(1 << classes.places[group] for group in groups)


def whole(classes: AddressClasses) -> object:
    """All there is to know of classes, without the bits that stand for remotes."""
    members = {address: classes.named(mask) for address, mask in classes.kinships().items()}
    kinds = {tuple(map(str, classes.named(mask))): spelt(classes, some) for mask, some in classes.kin.items()}
    return members, kinds, spelt(classes, classes.segments)


def test_nested_blocks_are_cut_into_disjoint_segments() -> None:
    classes = classes_of([TEN, TEN_ONE])
    assert spelt(classes, classes.segments) == [
        (0, TEN.first - 1, set()),
        (TEN.first, TEN_ONE.first - 1, {TEN}),
        (TEN_ONE.first, TEN_ONE.last, {TEN, TEN_ONE}),
        (TEN_ONE.last + 1, TEN.last, {TEN}),
        (TEN.last + 1, Family.IPV4.last, set()),
    ]


def test_block_that_is_everything_cuts_nothing() -> None:
    assert classes_of([Prefix.parse("0.0.0.0/0")]).segments == (((0, Family.IPV4.last), 0),)


def test_members_are_told_by_the_exact_groups_they_are_in() -> None:
    classes = classes_of([WEB, DB], {"web": (5, 6), "db": (6, 7)})
    assert classes.kinships() == {5: kin(classes, WEB), 6: kin(classes, WEB, DB), 7: kin(classes, DB)}


def test_groups_that_nobody_names_have_no_members() -> None:
    classes = classes_of([WEB], {"web": (5, 6), "db": (6, 7)})
    assert classes.kinships() == {5: kin(classes, WEB), 6: kin(classes, WEB)}


def test_kinship_inside_one_block_needs_no_second_look_up() -> None:
    classes = classes_of([WEB, TEN], {"web": (BASE + 1, BASE + 2)})
    assert spelt(classes, classes.kin[kin(classes, WEB)]) == [(0, Family.IPV4.last, {WEB, TEN})]


def test_kinship_that_a_block_cuts_apart_keeps_its_segments() -> None:
    classes = classes_of([WEB, TEN], {"web": (5, BASE + 1)})
    assert spelt(classes, classes.kin[kin(classes, WEB)]) == [
        (0, TEN.first - 1, {WEB}),
        (TEN.first, TEN.last, {WEB, TEN}),
        (TEN.last + 1, Family.IPV4.last, {WEB}),
    ]


def test_block_that_joins_changes_no_member() -> None:
    before = classes_of([WEB], {"web": (BASE + 1,)})
    after = classes_of([WEB, TEN], {"web": (BASE + 1,)})
    assert [before.named(mask) for mask in before.kinships().values()] == [
        after.named(mask) for mask in after.kinships().values()
    ]


def test_empty_group_has_no_member_and_no_segment_of_its_own() -> None:
    classes = classes_of([WEB])
    assert classes.kinships() == {} == classes.kin
    assert classes.segments == (((0, Family.IPV4.last), 0),)


def test_what_was_classified_before_does_not_show() -> None:
    inside = tuple(range(BASE, BASE + 600))
    steps: list[tuple[list[Remote], Groups]] = [
        ([WEB], {"web": inside}),
        ([WEB, TEN_ONE], {"web": inside, "db": (5,)}),  # a block without members
        ([DB, WEB, TEN], {"web": inside[1:], "db": (5, BASE)}),  # a block and a group, and a member elsewhere
        ([DB, TEN], {"db": (5, BASE, BASE + (1 << 16))}),  # a group that nobody names any more
        ([TEN_ONE], {"web": inside, "db": (5,)}),
        ([DB, WEB, TEN, TEN_ONE], {"web": (*inside, BASE + (1 << 16)), "db": inside[:9]}),
    ]
    known = None
    for remotes, groups in steps:
        known = classes_of(remotes, groups, known)
        assert whole(known) == whole(classes_of(remotes, groups))
        assert sum(known.spread.counts.values()) == len(known.kinships())
