"""The limit of sessions an ENI: what is counted, and which packets meet it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sgdataplane.compiler.sessionlimit import COUNTED, sample_of
from sgdataplane.contract.fields import CtDirection, CtState, Field, Nfproto
from sgdataplane.contract.sites import HOST
from sgdataplane.enforce import Desired
from sgdataplane.model.options import DEFAULTS, Placement
from sgdataplane.net.values import TCP, Direction
from sgdataplane.nft.interp import run
from sgdataplane.nft.ir import Key, Table, VerdictKind
from tests.support.inputs.builders import make_eni, make_group, make_state
from tests.support.inputs.building import table_of

STATE = make_state(
    [make_group("sg-a", ["ingress tcp 22/22 from 0.0.0.0/0", "egress tcp 80/80 to 0.0.0.0/0"], advanced=True)],
    [make_eni("eni-a", "10.0.0.1", "sg-a"), make_eni("eni-b", "10.0.0.2", "sg-a")],
)
OUTSIDE, A = 0xC6336407, 0x0A000001


def table(limit: int = 100, placement: Placement = Placement.HOST) -> Table:
    options = replace(DEFAULTS, sessions_per_eni=limit)
    uplinks = ("up",) if placement is Placement.HOST else ()
    interfaces = {"eni-a": "host-a"} | ({"eni-b": "host-b"} if uplinks else {})
    return table_of(Desired(STATE, interfaces, options, placement, uplinks))


def packet(hook: Direction, port: int, **more: Key) -> dict[Field, Key]:
    """An opening packet between the ENI and a host outside."""
    ends = (A, OUTSIDE) if hook is Direction.EGRESS else (OUTSIDE, A)
    ways = ("host-a", "up") if hook is Direction.EGRESS else ("up", "host-a")
    return {
        Field.NFPROTO: Nfproto.IPV4,
        Field.L4PROTO: TCP,
        Field.IP_SADDR: ends[0],
        Field.IP_DADDR: ends[1],
        Field.TH_SPORT: 40000,
        Field.TH_DPORT: port,
        Field.TCP_FLAGS: 2,
        Field.CT_STATE: CtState.NEW,
        Field.CT_DIRECTION: CtDirection.ORIGINAL,
        Field.CT_MARK: 0,
        Field.IIFNAME: ways[0],
        Field.OIFNAME: "" if hook is Direction.EGRESS else ways[1],
        **{Field[name]: value for name, value in more.items()},
    }


OPENING = {Direction.EGRESS: 80, Direction.INGRESS: 22}
by_hook = pytest.mark.parametrize("hook", Direction, ids=lambda hook: hook.value)


@by_hook
def test_a_full_eni_opens_no_session_and_is_opened_none(hook: Direction) -> None:
    made, opening = table(), packet(hook, OPENING[hook])
    assert run(made, hook.value, opening, is_flood=False).verdict is VerdictKind.ACCEPT
    refused = run(made, hook.value, opening, is_flood=True)
    assert refused.verdict is VerdictKind.DROP
    assert refused.counters[-2:] == [f"{hook.value}.session-limit", f"dropped.{hook.value}.host-a"]
    assert refused.mark == 0


@by_hook
def test_what_the_rules_refuse_never_meets_the_limit(hook: Direction) -> None:
    refused = run(table(), hook.value, packet(hook, 9), is_flood=True)
    assert refused.verdict is VerdictKind.DROP
    assert f"limit-{hook.value}" not in refused.chains


@by_hook
@pytest.mark.parametrize("state", [CtState.ESTABLISHED, CtState.NEW], ids=["answered", "unanswered"])
def test_a_session_that_an_earlier_epoch_accepted_never_pays(hook: Direction, state: CtState) -> None:
    """Its mark says so, also if nobody has answered yet."""
    slot = HOST.marks.slots(("host-a", "host-b"))["host-a"]
    mark = HOST.marks.encode_acceptance(hook, 7, slot)
    found = run(table(), hook.value, packet(hook, OPENING[hook], CT_STATE=state, CT_MARK=mark), is_flood=True)
    assert found.verdict is VerdictKind.ACCEPT


def test_a_session_between_two_enis_is_its_openers() -> None:
    mark = HOST.marks.encode_acceptance(Direction.EGRESS, 1, HOST.marks.slots(("host-a", "host-b"))["host-b"])
    between = packet(Direction.INGRESS, 22, IP_SADDR=0x0A000002, IIFNAME="host-b", CT_MARK=mark)
    assert run(table(), "ingress", between, is_flood=True).verdict is VerdictKind.ACCEPT
    outside = packet(Direction.INGRESS, 22)
    assert run(table(), "ingress", outside, is_flood=True).verdict is VerdictKind.DROP


@by_hook
def test_replies_never_pay(hook: Direction) -> None:
    reply = packet(hook.other, 0, CT_STATE=CtState.ESTABLISHED, CT_DIRECTION=CtDirection.REPLY, TCP_FLAGS=0x12)
    reply |= {Field.TH_SPORT: OPENING[hook], Field.TH_DPORT: 40000}
    assert run(table(), hook.other.value, reply, is_flood=True).verdict is VerdictKind.ACCEPT


@by_hook
@pytest.mark.parametrize("stands", Placement)
def test_without_a_limit_and_in_instances_nobody_is_counted(hook: Direction, stands: Placement) -> None:
    made = table(0 if stands is Placement.HOST else 100, stands)
    opening = packet(hook, OPENING[hook])
    ours = {Field.IIFNAME: "", Field.OIFNAME: "host-a"} if hook is Direction.EGRESS else {Field.IIFNAME: "host-a"}
    opening |= ours if stands is Placement.INSTANCE else {}
    assert run(made, hook.value, opening, is_flood=True).verdict is VerdictKind.ACCEPT
    assert not any(entry.room for entry in made.maps)


def test_the_limit_holds_for_metadata_too() -> None:
    """It can always be reached, but not by any number of sessions."""
    made = table()
    assert "limit-egress" in made.chain["egress-accept.egress"].ways.chains
    assert all("egress-pass" not in chain.ways.chains for chain in made.chains if chain.name.startswith("eni-"))


@pytest.mark.parametrize("limit", [1, COUNTED, COUNTED + 1, 4096, 65_536, 1 << 24])
def test_as_many_are_counted_at_any_limit(limit: int) -> None:
    one_in, most = sample_of(limit)
    assert most <= COUNTED * 4 // 3 + 1
    assert limit <= one_in * most <= (limit if one_in == 1 else 1.34 * limit + one_in)


def test_counts_and_limits_have_sets_of_their_own() -> None:
    names = [{entry.name for entry in table(limit).maps if "-held" in entry.name} for limit in (100, 200)]
    assert names[0].isdisjoint(names[1])
