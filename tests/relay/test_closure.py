"""What a host gets: enough to decide each packet at its own ENIs as all documents do, and nothing else; and a revision
that changes what a host gets is one that the host hears of."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace

import pytest
from hypothesis import Phase, given, seed, settings
from hypothesis import strategies as st

from sgdataplane.model.options import Options
from sgdataplane.model.semantics import decide
from sgdataplane.model.state import (
    CloudState,
    ConnectionTracking,
    Eni,
    EniType,
    GroupRef,
    PrefixListRef,
    SecurityGroup,
)
from sgdataplane.policy.reach import Reach
from sgdataplane.relay.closure import Closures
from sgdataplane.relay.part import is_far
from sgdataplane.relay.wire import canonical, digest_in
from sgdataplane.statefile import load_native
from sgdataplane.statefile.proposals import propose
from sgdataplane.store.documents import Documents, Fields, ResourceKind, kind_of, name_of, native, path_of, state_in
from sgdataplane.store.hosts import host_of
from sgdataplane.store.interface import Body, Path, Revision
from tests.support.inputs import gen
from tests.support.inputs.tenants import HOSTS, Tenants
from tests.support.run.spilling import tiny_texts

# Each one must see each kind of case; the slow tests have the others.
SHARDS = [0, *(pytest.param(number, marks=pytest.mark.slow) for number in range(1, 4))]
WORLDS, REVISIONS, PACKETS = 15, 20, 400


def loaded(closure: dict[Path, Fields]) -> CloudState:
    bodies: list[tuple[ResourceKind, Body]] = [(kind_of(path), {"state": dict(one)}) for path, one in closure.items()]
    return load_native(native(bodies), profile="unlimited").state


def own_enis(documents: Documents, host: str) -> set[str]:
    found = documents.of_kind[ResourceKind.ENI]
    return {name for name, body in found.items() if host_of(documents, body) == host}


# What a host needs, said once more: from the state alone, and one step after the other.


def needed(state: CloudState, own: set[str]) -> set[Path]:
    """The paths of all that the policies of these ENIs follow from."""
    groups = {group for eni in own for group in state.eni[eni].security_group_ids}
    rules = [(state.group[group], rule) for group in groups for rule in state.group[group].rules]
    asked, found = set(groups), {path_of(ResourceKind.GROUP, group) for group in groups}
    for group, rule in rules:
        match rule.remote:
            case GroupRef(name):
                found.add(path_of(ResourceKind.GROUP, name))
                if state.group[name].vpc_id == group.vpc_id:
                    asked.add(name)
            case PrefixListRef(name):
                found.add(path_of(ResourceKind.PREFIX_LIST, name))
        if rule.port_list_id:
            found.add(path_of(ResourceKind.PORT_LIST, rule.port_list_id))
    found |= {path_of(ResourceKind.VPC, state.group[name_of(path)].vpc_id) for path in found if "group/" in path}
    members = (eni for eni in state.network_interfaces if eni.is_member and asked & set(eni.security_group_ids))
    enis = {eni.network_interface_id for eni in members} | own
    return found | {path_of(ResourceKind.ENI, eni) for eni in enis}


def check_nothing_else(closure: dict[Path, Fields], state: CloudState, own: set[str]) -> None:
    instances = {path for path in closure if kind_of(path) is ResourceKind.INSTANCE}
    assert closure.keys() - instances == needed(state, own)
    assert {name_of(path) for path in instances} <= {state.eni[eni].instance_id for eni in own}
    groups = {group for eni in own for group in state.eni[eni].security_group_ids}
    for path, fields in closure.items():
        if kind_of(path) is ResourceKind.GROUP and name_of(path) not in groups:
            assert fields.keys() <= {"security_group_id", "vpc_id", "security_group_type", "service_managed"}
        if kind_of(path) is ResourceKind.ENI:
            assert is_far(path, fields) == (name_of(path) not in own), "a host takes those without a MAC for members"
        if kind_of(path) is ResourceKind.ENI and name_of(path) not in own:
            assert fields.keys() <= {
                "network_interface_id", "vpc_id", "private_ip_addresses", "ipv6_addresses", "ipv4_prefixes",
                "ipv6_prefixes", "security_group_ids",
            }  # fmt: skip
            names = fields["security_group_ids"]
            assert isinstance(names, list)
            assert all(path_of(ResourceKind.GROUP, str(name)) in closure for name in names)


def check_own_are_whole(closure: dict[Path, Fields], documents: Documents, own: set[str]) -> Counter[str]:
    seen: Counter[str] = Counter()
    for eni in own:
        fields, whole = closure[path_of(ResourceKind.ENI, eni)], state_in(documents.of_kind[ResourceKind.ENI][eni])
        is_split = fields.keys() != whole.keys()
        assert fields == ({k: v for k, v in whole.items() if k != "instance_id"} if is_split else whole)
        seen["split" if is_split else "with its instance"] += 1
    return seen


@pytest.mark.parametrize("shard", SHARDS)
def test_a_host_decides_as_all_documents_do_and_gets_nothing_else(shard: int) -> None:
    seen: Counter[str] = Counter()

    @seed(shard)
    @settings(max_examples=WORLDS, database=None, phases=[Phase.generate])
    @given(gen.states(), gen.states(), gen.options(), st.integers(0, 1 << 32))
    def check(one: CloudState, other: CloudState, options: Options, number: int) -> None:
        chance = random.Random(number)
        tenants = Tenants((one, other), chance)
        for _ in tenants.revisions(5):
            pass
        documents, state = tenants.documents, tenants.state
        closures = Closures(documents)
        assert closures.hosts() == {name for name in HOSTS if own_enis(documents, name)}
        packets = list(gen.packets(state, chance, PACKETS)) if state.network_interfaces else []
        for host in closures.hosts():
            closure, own = closures.of(host), own_enis(documents, host)
            check_nothing_else(closure, state, own)
            seen.update(check_own_are_whole(closure, documents, own))
            small = loaded(closure)
            for packet in packets:
                if packet.eni_id in own:
                    decision = decide(state, packet, options)
                    assert decide(small, packet, options) == decision
                    seen[f"{packet.direction.value} {packet.local.family.value} {decision.verdict.value}"] += 1
                    seen[decision.cause] += 1
            seen["smaller"] += len(small.network_interfaces) < len(state.network_interfaces)
            seen["stub"] += any(not group.rules for group in small.security_groups)

    with tiny_texts():
        check()
    print(seen)
    for what in ("rule", "inner_accept", "smaller", "split", "with its instance"):
        assert seen[what] > 10, what
    for way in ("ingress ipv4", "ingress ipv6", "egress ipv4", "egress ipv6"):
        assert min(seen[f"{way} accept"], seen[f"{way} drop"]) > 10, way


@pytest.mark.parametrize("shard", SHARDS)
def test_a_host_compares_with_what_is_on_trial_as_all_documents_do(shard: int) -> None:
    """A group has the rules of another one on trial. What these name is in the closure, too."""
    seen: Counter[str] = Counter()

    @seed(shard)
    @settings(max_examples=WORLDS, database=None, phases=[Phase.generate])
    @given(gen.states(), gen.states(), gen.options(), st.integers(0, 1 << 32))
    def check(one: CloudState, other: CloudState, options: Options, number: int) -> None:
        chance = random.Random(number)
        tenants = Tenants((one, other), chance)
        state = tenants.state
        groups = [group for group in state.security_groups if len(group.rules) > 0]
        pairs = [(a, b) for a in groups for b in groups if a != b and is_like(a, b) and not names(b, a)]
        if not pairs:
            return
        group, model = chance.choice(pairs)
        path = path_of(ResourceKind.GROUP, group.security_group_id)
        rules = state_in(tenants.documents.get(path_of(ResourceKind.GROUP, model.security_group_id)) or {})["rules"]
        trial: Fields = {"since": "2026-12-01T00:00:00Z", "until": "2026-12-02T00:00:00Z", "rules": rules}
        body: Body = {"state": {**state_in(tenants.documents.get(path) or {}), "trial": trial}, "about": {}}
        before = tenants.documents
        change = Revision(before.revision + 1, {path: body}, frozenset(), frozenset())
        documents, closures = before.after(change), Closures(before)
        told = everything(closures)
        for host, paths in closures.step(documents, change).items():
            told[host] |= {path: fields for path, fields in closures.some(host, paths).items() if fields is not None}
        assert told == everything(Closures(documents)), "a trial takes nothing away"
        whole = propose(loaded_all(documents), group.security_group_id)
        packets = list(gen.packets(whole, chance, PACKETS)) if whole.network_interfaces else []
        for host in closures.hosts():
            own = own_enis(documents, host)
            small = loaded(closures.of(host))
            if group.security_group_id not in {name for eni in own for name in whole.eni[eni].security_group_ids}:
                assert all(one.trial is None for one in small.security_groups), "a host that isn't concerned"
                continue
            small = propose(small, group.security_group_id)
            for packet in packets:
                if packet.eni_id in own:
                    assert decide(small, packet, options) == decide(whole, packet, options)
                    seen["same"] += decide(whole, packet, options) == decide(state, packet, options)
                    seen["other"] += decide(whole, packet, options) != decide(state, packet, options)

    with tiny_texts():
        check()
    print(seen)
    assert seen["other"] > 10
    assert seen["same"] > 10


def is_like(one: SecurityGroup, other: SecurityGroup) -> bool:
    """Whether one may have the other's rules."""
    return (one.vpc_id, one.security_group_type, one.service_managed) == (
        other.vpc_id,
        other.security_group_type,
        other.service_managed,
    )


def names(one: SecurityGroup, other: SecurityGroup) -> bool:
    """Whether a rule of one names the other, which no group may do of itself."""
    return any(rule.remote == GroupRef(other.security_group_id) for rule in one.rules)


def loaded_all(documents: Documents) -> CloudState:
    return load_native(native(documents.bodies()), profile="unlimited").state


# What a revision changes.


def everything(closures: Closures) -> dict[str, dict[Path, Fields]]:
    return {host: closures.of(host) for host in HOSTS}


def is_touched(before: CloudState, after: CloudState, own: set[str]) -> bool:
    """Whether `Reach` says that a policy of these ENIs may differ. It is asked about each VPC alone: a group means the
    members in the VPC of whoever names it."""
    vpcs = {state.eni[eni].vpc_id for state in (before, after) for eni in own}
    return any(
        Reach(seen_from(before, vpc, own), seen_from(after, vpc, own)).touches(
            eni for eni in own if after.eni[eni].vpc_id == vpc
        )
        for vpc in vpcs
    )


def seen_from(state: CloudState, vpc_id: str, own: set[str]) -> CloudState:
    """The state without what policies of these ENIs can't follow from: other VPCs, and what far ENIs have besides."""
    enis = [eni for eni in state.network_interfaces if eni.vpc_id == vpc_id]
    far = [as_member(eni) if eni.network_interface_id not in own else eni for eni in enis]
    return replace(
        state,
        vpcs=(state.vpc[vpc_id],),
        network_interfaces=tuple(eni for eni in far if eni.is_member or eni.network_interface_id in own),
    )


def as_member(eni: Eni) -> Eni:
    nothing = {"instance_id": "", "mac_address": "", "allowed_address_pairs": (), "type": EniType.PRIMARY}
    return replace(eni, **nothing, connection_tracking=ConnectionTracking())  # type: ignore[arg-type]


@pytest.mark.parametrize("shard", SHARDS)
def test_no_host_misses_what_concerns_it(shard: int) -> None:
    """Both what the hosts get before and after, and `Reach` on the states, judge who has to hear of a revision."""
    seen: Counter[str] = Counter()

    @seed(shard)
    @settings(max_examples=WORLDS, database=None, phases=[Phase.generate])
    @given(gen.states(), gen.states(), st.integers(0, 1 << 32))
    def check(one: CloudState, other: CloudState, number: int) -> None:
        tenants = Tenants((one, other), random.Random(number))
        closures, told = Closures(tenants.documents), everything(Closures(tenants.documents))
        state = tenants.state
        for before, after, change in tenants.revisions(REVISIONS):
            news = closures.step(after, change)
            told = {host: after_news(closures, host, told[host], news.get(host, ())) for host in HOSTS}
            assert told == everything(Closures(after)) == everything(closures)
            assert closures.hosts() == {host for host in HOSTS if told[host]}
            for host in HOSTS:
                digests, texts = closures.digests(host)
                assert digests == {path: digest_in(canonical(fields)) for path, fields in told[host].items()}
                assert texts == {path: canonical(told[host][path]) for path in texts}
                seen["known"] += len(digests) - len(texts)
                seen["unknown"] += len(texts)
            state_before, state = state, tenants.state
            for host in HOSTS:
                own = own_enis(before, host) & own_enis(after, host)
                if is_touched(state_before, state, own):
                    assert host in news
                seen["concerned" if host in news else "not concerned"] += 1

    def after_news(
        closures: Closures, host: str, before: dict[Path, Fields], paths: Iterable[Path]
    ) -> dict[Path, Fields]:
        found = closures.some(host, paths)
        same = found and all(before.get(path) == fields for path, fields in found.items())
        seen["heard in vain" if same else "heard" if found else "unheard"] += 1
        merged = {**before, **found}
        return {path: fields for path, fields in sorted(merged.items()) if fields is not None}

    with tiny_texts():
        check()
    print(seen)
    assert seen["heard"] > WORLDS * 10
    assert seen["unheard"] > WORLDS * 10
    assert seen["heard in vain"] < seen["heard"] / 10
    assert min(seen["known"], seen["unknown"]) > WORLDS * 10
