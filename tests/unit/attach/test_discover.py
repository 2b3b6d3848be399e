"""What interfaces claim, and what follows. A scene is written in words: `place: ifname alias mac, ...`, with - for
none; `mac-eni-a` is the MAC of eni-a. Bindings: `eni means place ifname`."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sgdataplane.attach.discover import LabelledNamespace, Matched, claims_of, match
from sgdataplane.attach.registry import Binding, HostEnd, Means
from sgdataplane.host.identity import Identity
from sgdataplane.host.rtnetlink import Label
from sgdataplane.model.state import CloudState
from tests.support.inputs.builders import mac_of, make_eni, make_group, make_state

NAMES = ("p", "q", "r")
IDS = ("eni-a", "eni-b", "web.2")
STATE = make_state([make_group("sg")], [make_eni(eni, f"10.0.0.{n + 1}", "sg") for n, eni in enumerate(IDS)])
SAME = {"mac_address": mac_of("eni-a")}
TWINS = make_state([make_group("sg")], [make_eni(eni, "10.0.0.1", "sg", **SAME) for eni in IDS[:2]])
BOTH = (Means.ALIAS, Means.MAC)


def place_of(text: str) -> LabelledNamespace:
    name, _, interfaces = text.partition(":")
    labels = []
    for entry in interfaces.split(",") if interfaces.strip() else ():
        ifname, alias, mac = ("" if word == "-" else word for word in entry.split())
        labels.append(Label(ifname, alias, mac_of(mac.removeprefix("mac-")) if mac else ""))
    return LabelledNamespace(name, f"/run/netns/{name}", identity_of(name), NAMES.index(name), tuple(labels))


def identity_of(name: str) -> Identity:
    return Identity(100 + NAMES.index(name), 1 + NAMES.index(name))


def binding_of(text: str) -> Binding:
    eni, means, place, ifname = text.split()
    return Binding(eni, ifname, f"netns {place}", f"/run/netns/{place}", identity_of(place), means=Means(means))


def matched(
    scene: Sequence[str],
    bound: Sequence[str] = (),
    *,
    means: Collection[Means] = BOTH,
    state: CloudState = STATE,
    ended: Collection[str] = (),
) -> tuple[list[str], dict[str, str]]:
    """What is to be bound, as `eni means place ifname`; and by ENI the reason and the interfaces of each refusal."""
    places = [place_of(text) for text in scene]
    found = match(claims_of(state, means, places), places, [binding_of(text) for text in bound], ended)
    made = [f"{b.eni_id} {b.means.value} {b.named.removeprefix('netns ')} {b.ifname}" for b in found.bindings]
    return made, {entry.eni_id: f"{entry.reason}: {', '.join(entry.interfaces)}" for entry in found.refusals}


CLEAR = [
    pytest.param(["p: eth0 eni-a -"], [], ["eni-a alias p eth0"], id="alias"),
    pytest.param(["p: eth0 - mac-eni-a"], [], ["eni-a mac p eth0"], id="mac"),
    pytest.param(["p: eth0 eni-a mac-eni-a"], [], ["eni-a alias p eth0"], id="alias-and-mac"),
    pytest.param(["p: eth0 web.2 -"], [], ["web.2 alias p eth0"], id="an-id-of-the-state"),
    pytest.param(["p: eth0 eni-none -"], [], ["eni-none alias p eth0"], id="an-id-that-the-state-has-not-yet"),
    pytest.param(["p: eth0 uplink mac-none"], [], [], id="neither"),
    pytest.param(["p: eth0 eni-a -, eth1 eni-b -"], [], ["eni-a alias p eth0", "eni-b alias p eth1"], id="two-in-one"),
    pytest.param(["p: eth0 eni-a -"], ["eni-a alias p eth0"], [], id="bound-already"),
    pytest.param(["p: eth0 - mac-eni-a"], ["eni-a attach p eth0"], [], id="bound-so-by-attach"),
    pytest.param(["p: eth0 - -"], ["eni-a alias p eth0"], [], id="alias-lost"),
    pytest.param(["p: eth0 eni-a -, eth1 eni-b -"], ["eni-a mac p eth0"], ["eni-b alias p eth1"], id="one-comes-later"),
    pytest.param(["p: eth7 eni-a -"], ["eni-a alias p eth0"], ["eni-a alias p eth7"], id="renamed"),
    pytest.param(["p:", "q: eth0 eni-a -"], ["eni-a mac p eth0"], ["eni-a alias q eth0"], id="moved"),
    pytest.param(["p: eth1 eni-a -"], ["eni-b mac p eth0"], ["eni-a alias p eth1"], id="beside-one-that-is-gone"),
]


@pytest.mark.parametrize(("scene", "bound", "made"), CLEAR)
def test_what_is_clear_is_bound(scene: list[str], bound: list[str], made: list[str]) -> None:
    assert matched(scene, bound) == (made, {})


REFUSED = [
    pytest.param(
        ["p: eth0 eni-a -", "q: eth0 eni-a -"],
        [],
        {"eni-a": "several interfaces name it: eth0 of netns p, eth0 of netns q"},
        id="two-interfaces",
    ),
    pytest.param(
        ["p: eth0 eni-a -, eth1 - mac-eni-a"],
        [],
        {"eni-a": "several interfaces name it: eth0 of netns p, eth1 of netns p"},
        id="one-by-alias-one-by-mac",
    ),
    pytest.param(
        ["p: eth0 eni-a mac-eni-b"],
        [],
        dict.fromkeys(
            ("eni-a", "eni-b"), "the interface has the alias of one ENI and the MAC of another: eth0 of netns p"
        ),
        id="alias-and-mac-disagree",
    ),
    pytest.param(
        ["p: eth0 eni-a -"],
        ["eni-a attach q eth0"],
        {"eni-a": "it stays bound where it is, although other interfaces name it: eth0 of netns q, eth0 of netns p"},
        id="bound-by-attach-elsewhere",
    ),
    pytest.param(
        ["p: eth0 eni-a -", "q: eth1 - -"],
        ["eni-a attach q eth0"],
        {"eni-a": "it stays bound where it is, although other interfaces name it: eth0 of netns q, eth0 of netns p"},
        id="bound-by-attach-and-absent",
    ),
    pytest.param(
        ["p: eth0 eni-a -"],
        ["eni-a alias q eth0"],
        {"eni-a": "it stays bound where it is, although other interfaces name it: eth0 of netns q, eth0 of netns p"},
        id="bound-where-nobody-looked",
    ),
    pytest.param(
        ["p: eth0 eni-a -", "q: eth0 eni-a -"],
        ["eni-a alias p eth0"],
        {"eni-a": "it stays bound where it is, although other interfaces name it: eth0 of netns p, eth0 of netns q"},
        id="a-second-one-comes",
    ),
    pytest.param(
        ["p: eth0 eni-b -"],
        ["eni-a alias p eth0"],
        {"eni-b": "the interface stays bound to eni-a: eth0 of netns p"},
        id="alias-changed-to-another",
    ),
    pytest.param(
        ["p: eth1 eni-a -, eth2 eni-a -"],
        ["eni-a alias p eth0"],
        {"eni-a": "several interfaces name it: eth1 of netns p, eth2 of netns p"},
        id="renamed-and-doubled",
    ),
    pytest.param(
        ['p: et"h0 eni-a -'],
        [],
        {"eni-a": "the interface has a name that can't stand in rules: et\"h0 of netns p"},
        id="a-name-that-rules-cannot-have",
    ),
]


@pytest.mark.parametrize(("scene", "bound", "refused"), REFUSED)
def test_what_is_not_clear_is_refused_with_all_places(
    scene: list[str], bound: list[str], refused: dict[str, str]
) -> None:
    assert matched(scene, bound) == ([], refused)


def test_a_mac_of_two_enis_binds_none_unless_the_alias_says_which() -> None:
    reason = "the interface has a MAC that several ENIs have: eth0 of netns p"
    assert matched(["p: eth0 - mac-eni-a"], state=TWINS) == ([], dict.fromkeys(("eni-a", "eni-b"), reason))
    assert matched(["p: eth0 eni-b mac-eni-a"], state=TWINS) == (["eni-b alias p eth0"], {})


def test_only_what_the_rule_names_counts() -> None:
    scene = ["p: eth0 eni-a mac-eni-b"]
    assert matched(scene, means=(Means.ALIAS,)) == (["eni-a alias p eth0"], {})
    assert matched(scene, means=(Means.MAC,)) == (["eni-b mac p eth0"], {})


def test_an_eni_whose_namespace_has_ended_is_bound_where_one_other_names_it() -> None:
    bound = ["eni-a attach q eth0"]
    assert matched(["p: eth0 eni-a -"], bound, ended=("eni-a",)) == (["eni-a alias p eth0"], {})
    assert matched(["p: eth0 - -"], bound, ended=("eni-a",)) == ([], {})
    twice = matched(["p: eth0 eni-a -, eth1 eni-a -"], bound, ended=("eni-a",))
    assert twice == ([], {"eni-a": "several interfaces name it: eth0 of netns p, eth1 of netns p"})


def test_an_interface_with_its_end_in_a_router_is_followed_nowhere() -> None:
    """It is enforced in the router, wherever the interface goes."""
    places = [place_of("p: eth1 eni-a -")]
    end = HostEnd("sgdp-vpc", "eni-a", "v0", "/run/netns/q", identity_of("q"))
    bound = Binding("eni-a", "eth0", "netns p", "/run/netns/p", identity_of("p"), end, Means.ALIAS)
    found = match(claims_of(STATE, BOTH, places), places, [bound], ())
    assert found.bindings == ()
    assert [entry.eni_id for entry in found.refusals] == ["eni-a"]


ALIASES, MACS = st.sampled_from(["", *IDS, "eni-none", "text"]), st.sampled_from(["", *map(mac_of, IDS)])
INTERFACES = ("eth0", "eth1", "et h")


@st.composite
def scenes(draw: st.DrawFn) -> tuple[tuple[LabelledNamespace, ...], tuple[Binding, ...]]:
    """Namespaces, and bindings that a registry can hold."""
    places = []
    for name in draw(st.lists(st.sampled_from(NAMES), unique=True)):
        ifnames = draw(st.lists(st.sampled_from(INTERFACES), unique=True))
        labels = tuple(Label(ifname, draw(ALIASES), draw(MACS)) for ifname in ifnames)
        places.append(LabelledNamespace(name, f"/run/netns/{name}", identity_of(name), NAMES.index(name), labels))
    bindings = []
    spots = [(name, ifname) for name in NAMES for ifname in INTERFACES[:2]]
    for eni, (name, ifname) in zip(IDS, draw(st.permutations(spots)), strict=False):
        if draw(st.booleans()):
            means = draw(st.sampled_from(Means))
            bindings.append(binding_of(f"{eni} {means.value} {name} {ifname}"))
    return tuple(places), tuple(bindings)


def after(bindings: Sequence[Binding], found: Matched) -> list[Binding]:
    again = {binding.eni_id for binding in found.bindings}
    return [*(binding for binding in bindings if binding.eni_id not in again), *found.bindings]


@given(scenes())
def test_of_any_scene_each_claim_is_bound_or_told_and_nothing_that_is_there_is_taken_away(
    scene: tuple[tuple[LabelledNamespace, ...], tuple[Binding, ...]],
) -> None:
    places, bindings = scene
    claims = claims_of(STATE, BOTH, places)
    found = match(claims, places, bindings, ())
    now = after(bindings, found)
    there = {(place.identity, label.ifname): label for place in places for label in place.labels}
    # as the registry asks: each ENI and each interface once
    assert len({b.eni_id for b in now}) == len({(b.identity, b.ifname) for b in now}) == len(now)
    # what is bound says so, and in no other ENI's name
    for made in found.bindings:
        label = there[made.identity, made.ifname]
        assert {label.alias, label.mac} & {made.eni_id, mac_of(made.eni_id)}
        assert {c.eni_id for c in claims if c.interface == (made.identity, made.ifname)} == {made.eni_id}
    # what is there stays, and so does what `sgdp attach` bound
    for old in bindings:
        if (old.identity, old.ifname) in there or old.means is Means.ATTACH:
            assert old in now
    # nothing that an interface says is passed over
    for claim in claims:
        is_bound = any((b.eni_id, b.identity, b.ifname) == (claim.eni_id, *claim.interface) for b in now)
        told = {interface for entry in found.refusals if entry.eni_id == claim.eni_id for interface in entry.interfaces}
        assert is_bound or str(claim) in told
    # and it is settled
    again = match(claims, places, now, ())
    assert (again.bindings, again.refusals) == ((), found.refusals)


@given(scenes())
def test_the_order_in_which_it_is_seen_does_not_matter(
    scene: tuple[tuple[LabelledNamespace, ...], tuple[Binding, ...]],
) -> None:
    places, bindings = scene
    turned = tuple(reversed(places))
    one = match(claims_of(STATE, BOTH, places), places, bindings, ())
    other = match(claims_of(STATE, BOTH, turned), turned, bindings[::-1], ())
    assert one.bindings == other.bindings
    assert [entry.eni_id for entry in one.refusals] == [entry.eni_id for entry in other.refusals]
