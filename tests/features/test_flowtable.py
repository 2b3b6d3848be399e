"""A flowtable of somebody else's, where the policy is: what it carries meets no hook of ours. It outlives no
revocation, and nothing of it comes past the fence: so what a router's flowtable does is tested without one."""

from __future__ import annotations

import re

import pytest

from sgdataplane.net.values import Family
from tests.features.flows import TABLE, carried, carry, forwarded
from tests.features.passage import (
    CLIENT,
    SERVER,
    Passage,
    arrives,
    bridge_uplink,
    masquerade,
    must_arrive,
)
from tests.features.probes import FLOWTABLES, require
from tests.support.events.talks import Side, Talk
from tests.support.kernel.nft import nft
from tests.support.probes.flood import wait_until

pytestmark = [pytest.mark.traffic, pytest.mark.optional]

CARRIED, KEPT, PLAIN = (
    5000,
    5001,
    5050,
)  # ports: what a flowtable carries, of which one is revoked; what it leaves alone
CLOSED = "egress udp 15000/15050 drop"  # what has lost its session may not open it from within
ALL = ("ingress tcp 5000/5050", "ingress udp 5000/5050", CLOSED)
WITHOUT = ("ingress tcp 5001/5050", "ingress udp 5001/5050", CLOSED)
OUTWARD = ("egress tcp 5000/5000 drop", "egress udp 5000/5000 drop")  # the rest may leave
WAYS: dict[str, tuple[str, tuple[str, ...], tuple[str, ...]]] = {  # who opens, the rules, and those that allow less
    "in": ("far", ALL, WITHOUT),
    "out": ("near", (), OUTWARD),
}
INSIDE, ROUTER = pytest.mark.placement("instance"), pytest.mark.placement("host")

by_family = pytest.mark.parametrize("family", Family, ids=lambda family: family.value)
by_kind = pytest.mark.parametrize("kind", ["udp", "tcp"])


@pytest.fixture(scope="module", autouse=True)
def _feature() -> None:
    require(FLOWTABLES)


def be_carried(passage: Passage, talk: Talk, *sides: Side) -> None:
    """Say something until a flowtable has the session: nothing is forwarded any more, and all arrives."""

    def is_carried() -> bool:
        before = forwarded(passage.enforced)
        must_arrive(talk, *sides)
        return forwarded(passage.enforced) == before  # nor a late word of another session

    wait_until(is_carried)
    assert talk.ends.number in carried(passage.enforced)


@by_family
@by_kind
def test_without_policy_it_carries_sessions_past_every_hook(passage: Passage, kind: str, family: Family) -> None:
    """The control of all below."""
    carry(passage.enforced, passage.ways)
    be_carried(passage, passage.talk(kind, family, CARRIED), SERVER, CLIENT)


@ROUTER
@by_family
@by_kind
def test_a_session_that_it_gives_back_goes_on(passage: Passage, kind: str, family: Family) -> None:
    """Here the flowtable goes, as when its owner loads rules anew. By the kernel's own settings a UDP session had no
    time left then, so that its server's next message opened another one, which the policy refuses."""
    passage.apply()
    talk = passage.talk(kind, family, CARRIED, "near")
    for side in (SERVER, CLIENT):
        carry(passage.enforced, passage.ways)
        be_carried(passage, talk, CLIENT, SERVER)
        nft(passage.enforced, f"delete table inet {TABLE}")
        must_arrive(talk, side, side.other)


@ROUTER
@by_family
@by_kind
@pytest.mark.parametrize("way", WAYS)
def test_revoked_session_stops_and_others_go_on(passage: Passage, kind: str, family: Family, way: str) -> None:
    """In either direction, whoever speaks first, beside one that it carries and one that it doesn't."""
    client, rules, fewer = WAYS[way]
    passage.apply(*rules)
    carry(passage.enforced, passage.ways)
    revoked, kept, plain = (passage.talk(kind, family, port, client) for port in (CARRIED, KEPT, PLAIN))
    be_carried(passage, revoked, CLIENT, SERVER)
    be_carried(passage, kept, CLIENT, SERVER)
    passage.apply(*fewer)
    for side in (CLIENT, CLIENT, SERVER, CLIENT):
        assert not arrives(revoked, side, beside=plain)
        assert arrives(kept, side, beside=plain)
    assert carried(passage.enforced) == {KEPT}


@ROUTER
@by_family
def test_session_that_is_refused_is_never_taken_over(passage: Passage, family: Family) -> None:
    """Its packets meet `flow add` before they meet our hook, so that it must not be known any more."""
    passage.apply(*ALL)
    revoked, plain = (passage.talk("udp", family, port) for port in (CARRIED, PLAIN))
    must_arrive(revoked, CLIENT, SERVER)
    carry(passage.enforced, passage.ways)
    passage.apply(*WITHOUT)
    for _ in range(3):
        assert not arrives(revoked, CLIENT, beside=plain)
    assert carried(passage.enforced) == set()


@ROUTER
@by_family
def test_allowed_again_a_session_may_be_opened_anew(passage: Passage, family: Family) -> None:
    passage.apply(*ALL)
    carry(passage.enforced, passage.ways)
    revoked, plain = (passage.talk("udp", family, port) for port in (CARRIED, PLAIN))
    be_carried(passage, revoked, CLIENT, SERVER)
    passage.apply(*WITHOUT)
    assert not arrives(revoked, CLIENT, beside=plain)
    passage.apply(*ALL)
    be_carried(passage, revoked, CLIENT, SERVER)


@ROUTER
def test_open_egress_lets_the_other_end_open_one_of_its_own(passage: Passage) -> None:
    """As it may once a session has expired: what was ended isn't known any more."""
    passage.apply(*ALL[:2])
    carry(passage.enforced, passage.ways)
    revoked, plain = (passage.talk("udp", Family.IPV4, port) for port in (CARRIED, PLAIN))
    be_carried(passage, revoked, CLIENT, SERVER)
    passage.apply(*WITHOUT[:2])
    assert not arrives(revoked, CLIENT, beside=plain)
    assert arrives(revoked, SERVER, beside=plain)
    assert arrives(revoked, CLIENT, beside=plain)


@ROUTER
@by_family
@by_kind
def test_what_leaves_by_a_bridge_s_port_stops_likewise(passage: Passage, kind: str, family: Family) -> None:
    """The kernel asks no route of these, so that no change of a route would stop one."""
    bridge_uplink(passage)
    passage.apply()
    carry(passage.enforced, passage.ways)
    revoked, plain = (passage.talk(kind, family, port, "near") for port in (CARRIED, PLAIN))
    be_carried(passage, revoked, CLIENT, SERVER)
    passage.apply(*OUTWARD)
    for side in (CLIENT, CLIENT, SERVER):
        assert not arrives(revoked, side, beside=plain)


@ROUTER
@by_kind
def test_session_whose_address_is_translated_stops_likewise(passage: Passage, kind: str) -> None:
    passage.apply()
    carry(passage.enforced, passage.ways)
    masquerade(passage)
    revoked, plain = (passage.talk(kind, Family.IPV4, port, "near") for port in (CARRIED, PLAIN))
    be_carried(passage, revoked, CLIENT, SERVER)
    passage.apply(*OUTWARD)
    for side in (CLIENT, CLIENT, SERVER):
        assert not arrives(revoked, side, beside=plain)


@ROUTER
def test_running_sessions_that_are_to_be_kept_are_kept(passage: Passage) -> None:
    passage.apply(*ALL)
    carry(passage.enforced, passage.ways)
    session = passage.talk("udp", Family.IPV4, CARRIED)
    be_carried(passage, session, CLIENT, SERVER)
    passage.apply(*WITHOUT, on_change="keep")
    must_arrive(session, CLIENT, SERVER)


def dropped_by_fence(passage: Passage) -> int:
    text = nft(passage.enforced, "list counter netdev sgdataplane fence.unapproved")
    (packets,) = re.findall(r"packets (\d+)", text)
    return int(packets)


@INSIDE
@by_family
@by_kind
def test_without_the_fence_it_carries_an_instance_s_sessions_past_the_policy(
    passage: Passage, kind: str, family: Family
) -> None:
    """Control of the next one. What is revoked is ended here, too."""
    passage.apply(*ALL, fence=False)
    carry(passage.enforced, passage.ways)
    revoked, plain = (passage.talk(kind, family, port) for port in (CARRIED, PLAIN))
    be_carried(passage, revoked, CLIENT, SERVER)
    passage.apply(*WITHOUT, fence=False)
    for side in (CLIENT, SERVER, CLIENT):
        assert not arrives(revoked, side, beside=plain)


@by_family
@pytest.mark.parametrize("side", Side, ids=lambda side: side.value)
def test_nothing_that_it_carries_passes_the_fence(passage: Passage, family: Family, side: Side) -> None:
    """Allowed or not. By either ENI, and beside a session on the same way that it leaves alone."""
    passage.apply(*ALL, fence=True)
    session, plain = (passage.talk("udp", family, port) for port in (CARRIED, PLAIN))
    must_arrive(session, CLIENT, SERVER)
    carry(passage.enforced, passage.ways)
    for count in (1, 2):
        wait_until(lambda: stops_while_carried(passage, session, side, plain))
        assert dropped_by_fence(passage) == count
    passage.apply(*WITHOUT, fence=True)
    assert not arrives(session, side, beside=plain)


def stops_while_carried(passage: Passage, session: Talk, side: Side, plain: Talk) -> bool:
    """Whether a message was stopped. One may arrive only if the flowtable has given the session back meanwhile, because
    a route has changed for example: then it met the policy's hooks, as the message of `plain` did."""
    if carried(passage.enforced) != {session.ends.number}:
        must_arrive(session, side)  # it is taken over behind this message
        assert carried(passage.enforced) == {session.ends.number}
    before = forwarded(passage.enforced)
    is_stopped = not arrives(session, side, beside=plain)
    assert forwarded(passage.enforced) == before + (1 if is_stopped else 2)
    return is_stopped
