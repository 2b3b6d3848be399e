"""Which sessions end where another program has a flowtable: those that the state refuses and a flowtable may carry."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sgdataplane.contract.sites import HOST, INSTANCE
from sgdataplane.contract.stamp import Stamp
from sgdataplane.enforce import Desired
from sgdataplane.enforce.sessions import _make_refusal_test
from sgdataplane.host.conntrack import Tracked
from sgdataplane.model.options import Placement
from sgdataplane.net.values import GRE, ICMP, TCP, UDP, Direction
from tests.support.inputs.builders import make_eni, make_group, make_state
from tests.support.kernel.conntrack import tracked

EPOCH = 5
STAMP = Stamp(EPOCH, "0" * 32)
RULES = ["ingress tcp 22/22 from 0.0.0.0/0", "egress tcp 25/25 to 0.0.0.0/0 drop", "egress gre to 0.0.0.0/0 drop"]
STATE = make_state(
    [make_group("sg-a", RULES), make_group("sg-b", ["ingress tcp 22/22 from 0.0.0.0/0"])],
    [make_eni("eni-a", "10.0.0.1", "sg-a"), make_eni("eni-b", "10.0.0.2", "sg-b")],
)
OUTSIDE = "198.51.100.7"
IN_ROUTER = Desired(STATE, {"eni-a": "eni-a", "eni-b": "eni-b"}, placement=Placement.HOST, uplinks=("out",))
IN_INSTANCE = Desired(STATE, {"eni-a": "eth0"})
SLOT = HOST.marks.slots(IN_ROUTER.interfaces.values())["eni-a"]


def accepted(side: Direction, epoch: int = EPOCH) -> int:
    return HOST.marks.encode_acceptance(side, epoch, SLOT)


IN, OUT = Direction.INGRESS, Direction.EGRESS
REFUSED = f"{OUTSIDE}/40000 10.0.0.1/23"


@pytest.mark.parametrize(
    ("entry", "goes"),
    [
        pytest.param(tracked(f"{OUTSIDE}/40000 10.0.0.1/22"), False, id="allowed in"),
        pytest.param(tracked(REFUSED), True, id="refused in"),
        pytest.param(tracked(REFUSED, mark=accepted(IN, EPOCH - 1)), True, id="refused, accepted before"),
        pytest.param(tracked(REFUSED, mark=accepted(IN)), False, id="accepted since"),
        pytest.param(tracked(REFUSED, mark=accepted(OUT)), True, id="accepted by the other side only"),
        pytest.param(tracked(REFUSED, protocol=UDP), True, id="UDP"),
        pytest.param(tracked(f"{OUTSIDE} 10.0.0.1", protocol=ICMP, icmp_type=8), False, id="what no flowtable takes"),
        pytest.param(tracked("10.0.0.1/40000 198.51.100.7/443"), False, id="allowed out"),
        pytest.param(tracked("10.0.0.1/40000 198.51.100.7/25"), True, id="refused out"),
        pytest.param(tracked("10.0.0.1 198.51.100.7", protocol=GRE), True, id="refused out, GRE"),
        pytest.param(tracked("10.0.0.1/40000 198.51.100.7/25", "198.51.100.7/25 169.254.1.1/9"), True, id="translated"),
        pytest.param(tracked("10.0.0.1/40000 10.0.0.2/22"), False, id="between ENIs, allowed by both"),
        pytest.param(tracked("10.0.0.1/40000 10.0.0.2/23"), True, id="between ENIs, refused by one"),
        pytest.param(tracked("10.9.9.9/1 198.51.100.7/2"), False, id="nobody's"),
    ],
)
def test_in_a_router_all_that_is_refused_goes(entry: Tracked, goes: bool) -> None:
    assert _make_refusal_test(IN_ROUTER, STAMP)(entry) == goes


@pytest.mark.parametrize("is_carried", [False, True])
def test_in_an_instance_only_what_is_carried_already_goes(is_carried: bool) -> None:
    is_refused = _make_refusal_test(IN_INSTANCE, STAMP)
    assert is_refused(replace(tracked(REFUSED), is_carried=is_carried)) == is_carried
    assert not is_refused(replace(tracked(f"{OUTSIDE}/40000 10.0.0.1/22", protocol=TCP), is_carried=True))
    mark = INSTANCE.marks.encode_acceptance(IN, EPOCH, 1)
    assert not is_refused(replace(tracked(REFUSED, mark=mark), is_carried=True))
