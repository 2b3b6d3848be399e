"""Ways to hosts: what was asked before doesn't count once an ENI is changed."""

from __future__ import annotations

import random

import pytest

from sgdataplane.relay import topics as layout
from sgdataplane.relay.spill import SpillFile
from sgdataplane.relay.topics import EniFacts, Topics
from sgdataplane.store.closure import GroupFacts

GROUPS, HOSTS, INSTANCES = ("sg-1", "sg-2", "sg-3"), ("one", "two", None), ("i-1", "i-2", "")


@pytest.mark.parametrize("joined", [0, 5_000])
def test_answers_are_those_of_the_enis_as_they_are_now(joined: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layout, "JOINED", joined)
    chance, enis = random.Random(1), dict[str, EniFacts]()
    groups = {group: GroupFacts("vpc-1") for group in GROUPS}
    topics = Topics.of(groups.items(), [], SpillFile())
    for _ in range(300):
        eni = f"eni-{chance.randrange(6)}"
        before, after = enis.pop(eni, None), None
        if chance.random() < 0.8:
            some = chance.sample(GROUPS, chance.randrange(3))
            after = EniFacts(chance.choice(HOSTS), (*some,), chance.random() < 0.7, chance.choice(INSTANCES), True)
            enis[eni] = after
        topics.put_eni(eni, before, after)
        check(topics, enis)
        check(Topics.of(groups.items(), enis.items(), SpillFile()), enis)


def check(topics: Topics, enis: dict[str, EniFacts]) -> None:
    for group in GROUPS:
        inside = {eni: facts for eni, facts in enis.items() if group in facts.groups}
        assert {*topics.members(group)} == {eni for eni, facts in inside.items() if facts.is_member}
        hosts = sorted({facts.host for facts in inside.values() if facts.host})
        assert sorted(topics.hosts_in(group)) == hosts
    members = {eni: tuple(sorted(facts.groups)) for eni, facts in enis.items() if facts.is_member and facts.groups}
    assert topics.members_of_all(frozenset(GROUPS)) == members
    for host in filter(None, HOSTS):
        here = {eni: facts for eni, facts in enis.items() if facts.host == host}
        assert {*topics.enis_of_host(host)} == here.keys()
        assert topics.own_groups(host) == {group for facts in here.values() for group in facts.groups}
        owners = {one: {eni for eni, facts in here.items() if facts.instance == one} for one in INSTANCES if one}
        assert topics.instances_of(host) == {one: found for one, found in owners.items() if found}
    for instance in filter(None, INSTANCES):
        assert {*topics.enis_of_instance(instance)} == {
            eni for eni, facts in enis.items() if facts.instance == instance
        }
    assert topics.hosts() == {facts.host for facts in enis.values() if facts.host}
