"""What the base chains of a router begin with: packets at its uplinks, which no ENI has accepted there."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sgdataplane.compiler.compile import with_epoch
from sgdataplane.compiler.skeleton import FEW_UPLINKS
from sgdataplane.contract.fields import CtState, Field
from sgdataplane.enforce import Desired, build
from sgdataplane.model.options import Placement
from sgdataplane.model.state import ConnectionTracking
from sgdataplane.nft.interp import run
from sgdataplane.nft.ir import ACCEPT, Key, Match, Rule, Table, is_value, rule
from tests.support.inputs.builders import make_eni, make_group, make_state

DEFAULT_TIMEOUTS = ConnectionTracking()
OWN, FAR = 0x0A000001, 0x08080808  # 10.0.0.1, 8.8.8.8


def router(*uplinks: str, timeouts: ConnectionTracking = DEFAULT_TIMEOUTS) -> Table:
    """A router with one ENI, at eni-a. It is proven."""
    eni = replace(make_eni("eni-a", "10.0.0.1", "sg-a"), connection_tracking=timeouts)
    state = make_state([make_group("sg-a", ["ingress tcp 80/80 from 0.0.0.0/0"])], [eni])
    return build(Desired(state, {"eni-a": "eni-a"}, placement=Placement.HOST, uplinks=uplinks)).table


def asked_first(table: Table, hook: str, field: Field) -> list[Rule]:
    """The rules that ask for interfaces before any session is looked at."""
    found = []
    for one in table.chain[hook].rules:
        asked = one.statements[0]
        if not (isinstance(asked, Match) and asked.field is field):
            break
        found.append(one)
    return found


def test_packets_at_an_uplink_pass_before_sessions_are_looked_for() -> None:
    table = router("up0")
    (arriving,) = asked_first(table, "egress", Field.IIFNAME)
    assert arriving in table.chain["egress-entry"].rules
    assert asked_first(table, "ingress", Field.OIFNAME) == [rule(is_value(Field.OIFNAME, "up0"), ACCEPT)]


def test_another_epoch_keeps_these_rules() -> None:
    table = router("up0")
    assert asked_first(with_epoch(table, 9), "egress", Field.IIFNAME) == asked_first(table, "egress", Field.IIFNAME)


def test_only_a_few_uplinks_come_first() -> None:
    table = router("up0", "up1", "up2")
    for hook, field in (("egress", Field.IIFNAME), ("ingress", Field.OIFNAME)):
        names = [one.statements[0] for one in asked_first(table, hook, field)]
        assert names == [is_value(field, name) for name in ("up0", "up1")]
        assert len(names) == FEW_UPLINKS


def test_a_name_for_many_interfaces_never_comes_first() -> None:
    """It may stand for an ENI's interface, too."""
    table = router("e*")
    assert not asked_first(table, "egress", Field.IIFNAME)
    assert not asked_first(table, "ingress", Field.OIFNAME)


def test_an_interface_of_an_eni_never_passes_as_an_uplink() -> None:
    assert not asked_first(router("eni-a"), "egress", Field.IIFNAME)


def test_packets_that_may_open_a_session_pass_the_rules_that_set_timeouts() -> None:
    """Only the first packet of a session can be given one."""
    table = router("up0", timeouts=ConnectionTracking(udp_timeout=99))
    assert asked_first(table, "ingress", Field.OIFNAME) == [
        rule(is_value(Field.OIFNAME, "up0"), is_value(Field.CT_STATE, CtState.ESTABLISHED), ACCEPT)
    ]
    assert asked_first(table, "egress", Field.IIFNAME)[0] in table.chain["egress-entry"].rules


@pytest.mark.parametrize(("source", "verdict"), [(FAR, "accept"), (OWN, "drop")])
def test_whoever_claims_to_be_an_eni_of_this_host_is_dropped_at_an_uplink(source: int, verdict: str) -> None:
    packet: dict[Field, Key] = {
        Field.IIFNAME: "up0",
        Field.NFPROTO: 2,
        Field.L4PROTO: 17,
        Field.IP_SADDR: source,
        Field.IP_DADDR: 0x0A000002,
        Field.CT_STATE: CtState.ESTABLISHED,
        Field.CT_MARK: 0,
    }
    assert run(router("up0"), "egress", packet).verdict.value == verdict
