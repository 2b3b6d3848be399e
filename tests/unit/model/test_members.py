"""The index of members is the same whether it is made from nothing or from another index."""

from __future__ import annotations

import random
from dataclasses import replace

from sgdataplane.model.members import Members, difference
from sgdataplane.model.state import CloudState, Eni, NicType
from sgdataplane.net.values import Address, Family, Prefix
from tests.support.inputs.builders import make_eni


def eni(number: int, groups: str = "sg-a", **fields: object) -> Eni:
    return make_eni(f"eni-{number:04}", f"10.0.{number // 250}.{number % 250} 2001:db8::{number:x}", groups, **fields)


def whole(members: Members) -> object:
    """Everything that an index says."""
    return [
        (
            {
                address: group_set
                for page in members.pages(family).values()
                for address, group_set in page.group_set.items()
            },
            members.group_sets(family),
            {number: page.addresses for number, page in members.pages(family).items()},
            [sorted(members.list_delegated(group, family)) for group in ("sg-a", "sg-b", "sg-none")],
        )
        for family in Family
    ]


def test_an_address_is_a_member_of_all_groups_of_whoever_has_it() -> None:
    twin = replace(eni(2, "sg-b"), private_ip_addresses=eni(1).private_ip_addresses)
    outside = replace(eni(3), nic_type=NicType.INTERNET)
    (page,) = (p for p in Members((eni(1), twin, outside)).pages(Family.IPV4).values())
    assert page.group_set == {Address.parse("10.0.0.1").value: ("sg-a", "sg-b")}


def test_delegated_prefixes_are_their_groups() -> None:
    block = Prefix.parse("10.9.0.0/28")
    members = Members((eni(1), replace(eni(2, "sg-b"), ipv4_prefixes=(block,))))
    assert members.list_delegated("sg-b", Family.IPV4) == ((block.first, block.last),)
    assert members.list_delegated("sg-a", Family.IPV4) == () == members.list_delegated("sg-b", Family.IPV6)


def test_index_that_follows_another_is_the_one_made_from_nothing() -> None:
    chance = random.Random(1)
    enis = tuple(eni(n, chance.choice(("sg-a", "sg-b", "sg-a sg-b"))) for n in range(700))
    before = Members(enis)
    before.group_sets(Family.IPV4)
    for _ in range(30):
        some = list(before._enis)
        for _ in range(chance.randint(1, 3)):
            del some[chance.randrange(len(some))]
            blocks = (Prefix.parse(f"10.9.{chance.randrange(200)}.0/28"),) * chance.randint(0, 1)
            other = replace(chance.choice(some), network_interface_id=f"eni-{chance.random()}", ipv4_prefixes=blocks)
            some.insert(chance.randrange(len(some)), other)
        if chance.random() < 0.2:
            chance.shuffle(some)
        after = Members(tuple(some))
        after.follow(before)
        assert after._index is not None
        assert whole(after) == whole(Members(tuple(some)))
        before = after


def test_pages_that_nothing_touches_are_the_same_objects() -> None:
    enis = tuple(eni(n) for n in range(700))
    before, after = Members(enis), Members(enis[:-1])
    before.pages(Family.IPV4)
    after.follow(before)
    old, new = before.pages(Family.IPV4), after.pages(Family.IPV4)
    assert sum(old[number] is not new.get(number) for number in old) == 1


def test_difference_is_what_only_one_has_wherever_it_stands() -> None:
    enis = tuple(eni(n) for n in range(9))
    assert difference(enis, enis) == ([], [])
    assert difference(enis, enis[:4] + enis[5:]) == ([enis[4]], [])
    assert difference(enis[1:], enis) == ([], [enis[0]])
    assert difference((), enis) == ([], list(enis))
    assert difference(enis[:5], (enis[4], enis[8], *enis[:4])) == ([], [enis[8]])


def test_an_eni_is_found_by_id_whether_or_not_they_are_sorted() -> None:
    for enis in ((eni(1), eni(2), eni(3)), (eni(3), eni(1), eni(2))):
        by_id = CloudState(network_interfaces=enis).eni
        assert [by_id[f"eni-000{n}"].network_interface_id for n in (1, 2, 3)] == ["eni-0001", "eni-0002", "eni-0003"]
        assert list(by_id) == [entry.network_interface_id for entry in enis]
        assert "eni-0004" not in by_id
