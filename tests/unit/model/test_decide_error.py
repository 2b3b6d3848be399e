"""decide_error(), clause by clause: who may send an ICMP error about which session (semantics.md, section 4)."""

from __future__ import annotations

import pytest

from sgdataplane.model.decision import Decision
from sgdataplane.model.options import Options
from sgdataplane.model.semantics import decide, decide_error, later_candidates, order_candidates
from sgdataplane.model.state import CloudState, GroupRef
from sgdataplane.net.packet import IcmpError
from sgdataplane.net.values import Address, Direction, Prefix, Verdict
from tests.support.inputs.builders import make_eni, make_group, make_packet, make_state

IN, OUT = Direction.INGRESS, Direction.EGRESS
OPENED, CLOSED = "ingress tcp/443 198.51.100.9", "ingress tcp/22 198.51.100.9"  # sessions to eni-a, 10.0.0.1
ROUTER, OWN, NEIGHBOUR = "192.0.2.1", "10.0.0.1", "10.0.0.2"


@pytest.fixture
def state() -> CloudState:
    """eni-a lets 443 in, and sends nothing; eni-b is another one of its VPC."""
    groups = [
        make_group("sg-a", ["ingress tcp 443/443 from 0.0.0.0/0", "egress all to 0.0.0.0/0 drop"]),
        make_group("sg-b"),
    ]
    return make_state(groups, [make_eni("eni-a", OWN, "sg-a"), make_eni("eni-b", NEIGHBOUR, "sg-b")])


def error(direction: Direction, session: str, remote: str, local: str = OWN, **fields: object) -> IcmpError:
    return IcmpError(direction, Address.parse(remote), Address.parse(local), make_packet(session, **fields))


def told(decision: Decision) -> str:
    return f"{decision.direction.value} {decision.verdict.value} {decision.cause}"


@pytest.mark.parametrize(
    ("judged", "decision"),
    [
        pytest.param(error(OUT, OPENED, "198.51.100.9"), "ingress accept rule", id="about_a_session_that_passes"),
        pytest.param(error(OUT, CLOSED, "198.51.100.9"), "ingress drop default", id="about_a_session_that_does_not"),
        pytest.param(error(IN, OPENED, ROUTER), "ingress accept rule", id="from_a_router_on_the_way"),
        pytest.param(
            error(OUT, OPENED, "198.51.100.9", ROUTER), "egress drop spoofed", id="from_no_address_of_its_own"
        ),
        pytest.param(error(IN, OPENED, OWN), "ingress drop spoofed", id="from_the_receiver_s_own_address"),
        pytest.param(error(IN, OPENED, ROUTER, NEIGHBOUR), "ingress drop foreign", id="to_another_one_s_address"),
    ],
)
def test_an_error_passes_as_the_session_that_it_is_about(state: CloudState, judged: IcmpError, decision: str) -> None:
    assert told(decide_error(state, judged)) == decision


def test_an_eni_sends_no_error_about_a_packet_to_another(state: CloudState) -> None:
    """The quoted packet went to 10.0.0.2, which isn't the sender's. One about a packet to itself passes."""
    about = make_packet(OPENED, local=NEIGHBOUR)
    assert (
        told(decide_error(state, IcmpError(OUT, about.remote, Address.parse(OWN), about)))
        == "egress drop icmp-error-refused"
    )
    own = make_packet(OPENED)
    assert decide_error(state, IcmpError(OUT, own.remote, own.local, own)).verdict is Verdict.ACCEPT


def test_from_elsewhere_comes_no_error_about_a_packet_to_an_eni_of_this_host(state: CloudState) -> None:
    """eni-a has opened a session with eni-b: only eni-b can have seen the packet that is quoted."""
    between = error(IN, f"egress tcp/443 {NEIGHBOUR}", ROUTER)
    refused = decide_error(state, between, here=("eni-a", "eni-b"))
    assert told(refused) == "egress drop icmp-error-refused"
    assert decide_error(state, between, here=("eni-a",)).cause == "rule"
    outside = error(IN, "egress tcp/443 198.51.100.9", ROUTER)
    assert decide_error(state, outside, here=("eni-a", "eni-b")).cause == "rule"


def test_errors_about_sessions_with_the_metadata_service_pass(state: CloudState) -> None:
    options = Options(metadata=(Prefix.parse("100.100.100.200/32"),))
    to_metadata = error(IN, "egress tcp/80 100.100.100.200", ROUTER)
    assert told(decide_error(state, to_metadata, options)) == "egress accept metadata"
    assert told(decide_error(state, error(IN, "egress tcp/80 100.100.100.201", ROUTER), options)) == "egress drop rule"


def test_decisions_name_the_direction_whose_rules_decided(state: CloudState) -> None:
    assert decide(state, make_packet(f"ingress tcp/443 {OWN}")) == Decision(IN, Verdict.DROP, "spoofed")
    assert decide(state, make_packet("egress tcp/443 198.51.100.9", local=ROUTER)) == Decision(
        OUT, Verdict.DROP, "spoofed"
    )
    shared = make_state([make_group("sg-a", inner=Verdict.ACCEPT)], [make_eni("eni-a", OWN, "sg-a")])
    inner = [found.decision for found in order_candidates(shared, shared.eni["eni-a"], IN)]
    assert [found.direction for found in inner] == [IN, IN]


def test_at_one_priority_rules_on_groups_are_named_first() -> None:
    """By their ids the other one would come first."""
    rules = ["ingress tcp 443/443 from 0.0.0.0/0", "ingress tcp 443/443 from sg-a"]
    state = make_state(
        [make_group("sg-a", rules, inner=Verdict.DROP)], [make_eni("eni-a", f"{OWN} {NEIGHBOUR}", "sg-a")]
    )
    for order in (rules, rules[::-1]):
        group = make_group("sg-a", order, inner=Verdict.DROP)
        found = order_candidates(make_state([group], [*state.eni.values()]), state.eni["eni-a"], IN)
        assert [isinstance(each.rule.remote, GroupRef) for each in found if each.rule] == [True, False]


def test_what_else_would_decide_depends_on_the_options_and_leaves_out_what_did() -> None:
    group = make_group("sg-a", ["egress tcp 443/443 to 0.0.0.0/0 drop"], inner=Verdict.ACCEPT)
    state = make_state([group], [make_eni("eni-a", OWN, "sg-a"), make_eni("eni-b", NEIGHBOUR, "sg-a")])
    packet, rules_first = make_packet(f"egress tcp/443 {NEIGHBOUR}"), Options(inner_accept_egress="custom_first")
    first, *others = later_candidates(state, packet, Decision(OUT, Verdict.DROP, "spoofed"), rules_first)
    assert [first.cause, *(each.cause for each in others)] == ["rule", "inner_accept", "default"]
    assert later_candidates(state, packet, first, rules_first) == others
