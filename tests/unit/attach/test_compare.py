"""The stand-in for an ENI that the state doesn't have: it passes nothing, and changes nothing else in the state."""

from __future__ import annotations

from dataclasses import replace

from sgdataplane.attach.compare import Interfaces, find_known_eni, look, with_closed
from sgdataplane.attach.registry import Binding
from sgdataplane.enforce import Desired, build
from sgdataplane.host.identity import Identity
from sgdataplane.model.semantics import decide
from sgdataplane.model.state import CloudState, GroupRef, Instance
from sgdataplane.net.packet import Packet
from sgdataplane.net.values import Address, Direction, Verdict
from tests.support.inputs.builders import as_member, make_eni, make_group, make_packet, make_state

STATE = make_state(
    [make_group("sg-a", ["ingress all from 0.0.0.0/0", "ingress all from sg-a"])],
    [make_eni("eni-b", "10.0.0.2 2001:db8::2", "sg-a")],
)


STATE_OF_TWO = make_state(
    [make_group("sg-a", ["ingress all from sg-b"]), make_group("sg-b", ["egress all to 0.0.0.0/0 drop"])],
    [make_eni("eni-a", "10.0.0.1", "sg-a"), make_eni("eni-b", "10.0.0.2", "sg-b")],
)


def test_a_state_that_has_them_all_is_itself() -> None:
    assert with_closed(STATE, ["eni-b"]) is STATE


def test_the_table_with_stand_ins_is_proven_and_the_state_stays_in_order() -> None:
    state = with_closed(STATE, ["eni-c", "eni-b", "eni-a"])
    assert list(state.eni) == ["eni-a", "eni-b", "eni-c"]
    assert list(state.group) == sorted(state.group)
    assert state.eni["eni-b"] == STATE.eni["eni-b"]
    assert all(
        not isinstance(rule.remote, GroupRef) or rule.remote.security_group_id == "sg-a"
        for group in state.security_groups
        for rule in group.rules
    )
    build(Desired(state, {"eni-a": "eth0", "eni-b": "eth1"}))
    build(Desired(state, {"eni-c": "eth0"}))


def test_who_is_a_member_only_stays_a_member_beside_its_stand_in() -> None:
    """A policy that names its group lets its addresses in: they may be in use on another host."""
    far = as_member(STATE_OF_TWO, "eni-b")
    state = with_closed(far, ["eni-a", "eni-b"])
    assert [*state.eni] == ["(eni-b)", "eni-a", "eni-b"]
    assert find_known_eni(state, "eni-a") == STATE_OF_TWO.eni["eni-a"]
    assert find_known_eni(far, "eni-b") is find_known_eni(state, "eni-b") is None
    assert decide(state, make_packet("ingress tcp/1 10.0.0.2")).verdict is Verdict.ACCEPT
    assert decide(state, make_packet("ingress tcp/1 10.0.0.3")).verdict is Verdict.DROP
    build(Desired(state, {"eni-a": "eth0", "eni-b": "eth1"}))


def test_a_stand_in_needs_no_vpc() -> None:
    build(Desired(with_closed(CloudState(), ["eni-a"]), {"eni-a": "eth0"}))


def test_nothing_of_a_stand_in_passes() -> None:
    state = with_closed(STATE, ["eni-a"])
    for local, remote in (("10.0.0.2", "10.0.0.9"), ("224.0.0.251", "10.0.0.9"), ("2001:db8::2", "2001:db8::9")):
        for direction in Direction:
            packet = Packet("eni-a", direction, Address.parse(remote), Address.parse(local), 17, 1, 2)
            assert decide(state, packet).verdict is Verdict.DROP


def test_an_instance_that_was_attached_as_an_eni_is_told_with_its_eni() -> None:
    """`attach` without a state takes any name for an id."""
    (eni,) = STATE.network_interfaces
    owned = replace(eni, instance_id="i-app")
    state = replace(STATE, instances=(Instance("i-app", "app"),), network_interfaces=(owned,))

    def warnings(name: str) -> tuple[str, ...]:
        binding = Binding(name, "eth0", "container app", "/", Identity(1, 1))
        return look(Interfaces((), frozenset()), with_closed(state, {name}), binding).warnings

    for name in ("app", "i-app"):
        undo = f"`sgdp detach --eni {name}`, then attach that"
        assert warnings(name) == (f"{name} is an instance's name or id, and its ENI is eni-b: {undo}",)
    assert warnings("eni-other") == ()
