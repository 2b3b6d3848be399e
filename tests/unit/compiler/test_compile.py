"""The whole compile: it is deterministic, names stay stable, the stamp fits, and look-ups are bounded."""

from __future__ import annotations

import itertools
import random
import re

import pytest

from sgdataplane.compiler.compile import compile_policy, with_epoch
from sgdataplane.compiler.profiles import profile_name
from sgdataplane.contract.fields import Field
from sgdataplane.contract.sites import INSTANCE
from sgdataplane.contract.stamp import STAMP_MAP
from sgdataplane.errors import InternalError, LimitError
from sgdataplane.model.options import DEFAULTS
from sgdataplane.model.state import CloudState, NicType, SecurityGroupRule
from sgdataplane.net.values import Direction
from sgdataplane.nft.interp import run
from sgdataplane.nft.ir import Table, VerdictKind, VerdictMap
from sgdataplane.nft.text import render_table
from sgdataplane.policy.resolve import Profile, resolve
from tests.support.inputs import gen
from tests.support.inputs.builders import make_eni, make_group, make_rule, make_state
from tests.support.models import wire


def compiled(state: CloudState, epoch: int = 1) -> Table:
    return compile_policy(resolve(state, {"eni-a": "eth0"}, DEFAULTS), DEFAULTS, epoch)


def example(*extra: str | SecurityGroupRule, members: int = 3) -> CloudState:
    rules = [
        "ingress tcp 443/443 from 0.0.0.0/0",
        "ingress tcp 22/22 from sg-b",
        "egress udp 53/53 to ::/0 drop",
        *extra,
    ]
    enis = [make_eni(f"eni-b{i}", f"10.0.1.{i}", "sg-b") for i in range(1, members + 1)]
    return make_state(
        [make_group("sg-a", rules), make_group("sg-b")], [make_eni("eni-a", "10.0.0.1 2001:db8::1", "sg-a"), *enis]
    )


def test_same_state_gives_the_same_bytes_whatever_the_order_of_rules() -> None:
    state = example()
    group = state.group["sg-a"]
    shuffled = make_state(
        [make_group("sg-a", group.rules[::-1]), make_group("sg-b")], tuple(reversed(state.network_interfaces))
    )
    assert render_table(compiled(state)) == render_table(compiled(shuffled))


def test_content_named_chains_keep_their_meaning_over_changes() -> None:
    before = compiled(example())
    after = compiled(example("ingress tcp 8080/8080 from 10.9.0.0/16"))
    both = set(before.chain) & set(after.chain)
    stable = ("profile-", "groups-", "address-", "eni-", "ingress", "egress")
    same = [name for name in both if not name.startswith(stable)]
    assert same
    assert all(before.chain[name].rules == after.chain[name].rules for name in same)


def test_member_that_joins_is_one_element_and_no_chain() -> None:
    before, after = compiled(example(members=3)), compiled(example(members=4))
    assert before.chains == after.chains
    changed = [entry.name for entry in after.maps if before.map[entry.name].elements != entry.elements]
    assert [name.split(".")[0] for name in changed] == ["applied", "members-ipv4"]
    assert all(len(after.map[name].elements) - len(before.map[name].elements) <= 1 for name in changed)


def test_epoch_moves_only_the_chains_that_name_it() -> None:
    first, second = compiled(example(), 1), compiled(example(), 2)
    moved = {name for name in first.chain if first.chain[name] != second.chain[name]}
    ends = ("", "-accept.ingress", "-accept.egress", "-related")
    assert moved == {f"{hook.value}{end}" for hook in Direction for end in ends}
    assert with_epoch(first, 2) == second


def test_stamp_tells_the_epoch_and_equal_policies() -> None:
    one, same, other = compiled(example(), 1), compiled(example(), 9), compiled(example("ingress gre from ::/0"), 1)
    stamps = [dict(table.map[STAMP_MAP].elements) for table in (one, same, other)]
    assert [stamp.pop(0) for stamp in stamps] == [1, 9, 1]
    assert stamps[0] == stamps[1] != stamps[2]


@pytest.mark.parametrize("epoch", [0, INSTANCE.marks.last_epoch + 1, -1])
def test_epoch_outside_its_half_of_the_mark_is_a_bug(epoch: int) -> None:
    with pytest.raises(InternalError, match="epoch"):
        compiled(example(), epoch)


def test_every_chain_ends_in_a_verdict_for_every_packet() -> None:
    for chain in compiled(example()).chains:
        # these are jumped to, and come back
        if not re.search("-link-|-checks-|-related$|^errors-|^eni-|^profile-|^groups-|^rank|^leaf|^steps-", chain.name):
            kind = chain.rules[-1].statements[-1]
            assert getattr(kind, "kind", None) in (VerdictKind.ACCEPT, VerdictKind.DROP, VerdictKind.GOTO), chain


def test_packet_of_an_unknown_interface_is_dropped_at_both_hooks() -> None:
    table = compiled(example())
    for hook in Direction:
        outcome = run(table, hook.value, {INSTANCE.interface(hook): "eth9", Field.CT_MARK: 0})
        assert (outcome.verdict, outcome.counters) == (VerdictKind.DROP, [f"{hook.value}.unknown-interface"])


def test_hooks_stand_after_conntrack_and_around_nat() -> None:
    hooks = {chain.name: (chain.hook.name, chain.hook.priority) for chain in compiled(example()).chains if chain.hook}
    assert hooks == {"ingress": ("prerouting", -150), "egress": ("postrouting", 150)}


def test_more_enis_than_the_mark_can_tell_are_refused() -> None:
    enis = [make_eni(f"eni-{i}", f"10.0.0.{i + 1}", "sg-a") for i in range(INSTANCE.marks.max_links + 1)]
    state = make_state([make_group("sg-a")], enis)
    interfaces = {eni.network_interface_id: f"eth{i}" for i, eni in enumerate(enis)}
    with pytest.raises(LimitError, match="has 33, the limit is 32"):
        compile_policy(resolve(state, interfaces, DEFAULTS), DEFAULTS)


def test_group_of_another_vpc_is_nobody() -> None:
    rule = make_rule("ingress tcp 22/22 from sg-far", "r")
    state = make_state(
        [make_group("sg-a", [rule]), make_group("sg-far", vpc_id="vpc-other")],
        [make_eni("eni-a", "10.0.0.1", "sg-a"), make_eni("eni-far", "10.0.0.9", "sg-far", vpc_id="vpc-other")],
    )
    assert "rule.sg-a.r" not in compiled(state).counter
    assert all(
        permission.decision.reason != "rule"
        for permission in resolve(state, {"eni-a": "eth0"}, DEFAULTS).profiles[0].ingress
    )


def test_two_policies_never_share_a_name() -> None:
    ids = [f"sg-{'x' * 30}{number}" for number in range(2000)]
    profiles = [Profile((group_id,), NicType.INTRANET, (), ()) for group_id in ids]
    assert len({profile_name(profile) for profile in profiles}) == len(ids)


def test_many_five_tuple_rules_stay_within_eight_look_ups() -> None:
    rules = [
        make_rule(
            f"ingress tcp {port}/{port + 3} from 10.{port % 7}.0.0/{length} "
            f"{'drop' if port % 2 else 'accept'} {1 + port % 50}",
            f"r{port}-{length}",
            source_port_range=f"{port}/{port + 9}",
            narrowing="10.0.0.1" if port % 3 else "10.0.0.0/24",
        )
        for port, length in itertools.product(range(1, 30), (8, 16, 24))
    ]
    state = example(*rules)
    table = compiled(state)
    worst = max(
        run(table, packet.direction.value, wire.opening(packet, "eth0")).lookups
        for packet in gen.packets(state, random.Random(1), 4000)
        if packet.eni_id == "eni-a"
    )
    assert 4 <= worst <= 8


def test_rules_on_a_list_without_ports_make_no_empty_map() -> None:
    for seed in range(200):  # two of them did
        table = compiled(_on_port_lists(random.Random(seed)))
        asked = (s for chain in table.chains for rule in chain.rules for s in rule.statements)
        assert all(one.entries or one.name for one in asked if isinstance(one, VerdictMap)), seed


def _on_port_lists(chance: random.Random) -> CloudState:
    own, remotes = ("", "10.0.0.1", "10.0.0.2", "10.0.0.0/31", "10.0.0.0/24"), ("0.0.0.0/0", "10.1.0.0/16")
    rules = [
        make_rule(
            f"ingress tcp from {chance.choice(remotes)} {chance.choice(('drop', 'accept'))} {chance.randint(1, 4)}",
            f"r{number}",
            source_port_range=chance.choice(("", "1/5")),
            narrowing=chance.choice(own),
            port_list_id=chance.choice(("plp-none", "plp-none", "plp-one")),
        )
        for number in range(16)
    ]
    enis = [make_eni("eni-a", "10.0.0.1 10.0.0.2", "sg-a")]
    lists = {"plp-none": "", "plp-one": "7/7"}
    return make_state([make_group("sg-a", rules, advanced=True)], enis, port_lists=lists)
