"""More ENIs than the base chains name: packets of an accepted session pass by their mark and a set of slots, until the
epoch or the ENI is another one."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace

import pytest

from sgdataplane.contract.sites import SITES
from sgdataplane.contract.tables import TABLE
from sgdataplane.enforce import Desired, Proven, build, enforce
from sgdataplane.host import netns
from sgdataplane.host.marks import clear_mark_fields
from sgdataplane.model.state import CloudState, SecurityGroupRule
from sgdataplane.net.values import Direction
from sgdataplane.nft.kernel import NetlinkKernel
from tests.support.inputs.builders import make_eni, make_group, make_rule, make_state
from tests.support.scenes.pair import ARRIVAL, HERE, Pair, desired_at, made_pair

pytestmark = pytest.mark.kernel
PORT, RULE = 5000, "rule.sg-a.sgr-in"
OTHERS = ("eni-b", "eni-c", "eni-d")


def state(*more: str) -> CloudState:
    rules: list[str | SecurityGroupRule] = [
        make_rule(f"ingress udp {PORT}/{PORT} from {HERE['peer'][0]}", "sgr-in"),
        *more,
    ]
    enis = [make_eni("eni-a", " ".join(HERE["instance"]), "sg-a")]
    enis += [make_eni(eni, f"10.0.1.{number}", "sg-a") for number, eni in enumerate(OTHERS, 1)]
    return make_state([make_group("sg-a", rules)], enis)


@dataclass
class Session:
    """Packets of one UDP session between the peer (`far`) and the instance (`near`)."""

    pair: Pair
    far: socket.socket
    near: socket.socket

    def exchange(self) -> int:
        """One packet each way; how many of them the rule has counted."""
        with NetlinkKernel(self.pair["policy"]) as kernel:
            before = kernel.read_counters(TABLE, [RULE])[RULE].packets
            self.far.sendto(b"question", (HERE["instance"][0], PORT))
            _, client = self.near.recvfrom(64)
            self.near.sendto(b"answer", client)
            assert self.far.recv(64) == b"answer"
            return kernel.read_counters(TABLE, [RULE])[RULE].packets - before


@pytest.fixture
def pair(make_lab_name: Callable[[], str], placement: str) -> Iterator[Pair]:
    with made_pair(make_lab_name, placement) as names:
        yield names


@pytest.fixture
def session(pair: Pair) -> Iterator[Session]:
    with ExitStack() as stack:
        sockets = {}
        for role in HERE:
            with netns.inside(pair[role]):
                sockets[role] = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            sockets[role].settimeout(ARRIVAL)
        sockets["instance"].bind((HERE["instance"][0], PORT))
        yield Session(pair, sockets["peer"], sockets["instance"])


def desired(pair: Pair, wanted: CloudState, *others: str) -> Desired:
    found = desired_at(pair, wanted)
    return replace(found, interfaces={**found.interfaces, **{eni: f"h-{eni}" for eni in others}})


def put_in(pair: Pair, wanted: Desired, before: Proven | None = None) -> Proven:
    proven = build(wanted, previous=before)
    enforce(pair["policy"], proven, before)
    return proven


def test_a_session_is_judged_once_in_each_epoch(pair: Pair, session: Session) -> None:
    narrower = state("ingress udp 6000/6000 from 10.0.0.9 drop")
    proven = put_in(pair, desired(pair, state(), *OTHERS))
    assert [session.exchange() for _ in range(3)] == [1, 0, 0]
    put_in(pair, desired(pair, narrower, *OTHERS), proven)
    assert [session.exchange() for _ in range(2)] == [1, 0]


def test_when_enis_come_and_go_no_packet_is_lost_and_each_session_is_judged_again(pair: Pair, session: Session) -> None:
    proven: Proven | None = None
    for others in (OTHERS[:1], OTHERS, OTHERS[1:], OTHERS[:2], ()):
        proven = put_in(pair, desired(pair, state(), *others), proven)
        assert [session.exchange() for _ in range(2)] == [1, 0], others


def test_a_session_of_this_epoch_without_this_slot_is_judged(pair: Pair, session: Session) -> None:
    wanted = desired(pair, state(), *OTHERS)
    put_in(pair, wanted)
    assert [session.exchange() for _ in range(2)] == [1, 0]
    marks = SITES[wanted.placement].marks
    with netns.inside(pair["policy"]):
        assert clear_mark_fields([marks.slot_mask(side) for side in Direction], range(1, 1 << 32))
    assert [session.exchange() for _ in range(2)] == [1, 0]
