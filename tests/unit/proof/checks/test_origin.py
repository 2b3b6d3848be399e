"""A router's table marks what leaves, and tells what the router itself sends from what others put into its stack; any
change of that is refused."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sgdataplane.compiler.compile import compile_policy
from sgdataplane.contract.fields import Field
from sgdataplane.contract.tables import SENT, pass_name
from sgdataplane.model.options import DEFAULTS, Placement
from sgdataplane.net.values import Direction
from sgdataplane.nft.ir import ACCEPT, DROP, Chain, Rule, SetPacketMark, Table, is_value, rule
from sgdataplane.policy.resolve import resolve
from sgdataplane.proof.prove import prove
from sgdataplane.proof.spec.specification import Specification
from tests.support.inputs.builders import make_eni, make_group, make_state

SECRET, UPLINKS = 0x12345678, ("up0", "up1", "up2")
STATE = make_state([make_group("sg-0", ["ingress tcp 22/22 from 0.0.0.0/0"])], [make_eni("eni-0", "10.0.0.1", "sg-0")])
INTERFACES = {"eni-0": "v-0"}
WANTED = Specification(STATE, INTERFACES, DEFAULTS, placement=Placement.HOST, uplinks=UPLINKS)
POLICY = replace(resolve(STATE, INTERFACES, DEFAULTS), placement=Placement.HOST, uplinks=UPLINKS)
TABLE = compile_policy(POLICY, DEFAULTS, secret=SECRET)
SENDS = TABLE.chain_of(SENT)
OPENS: dict[str, tuple[Rule, ...]] = {
    "all": (rule(ACCEPT),),
    "nothing": (rule(DROP),),
    "another-mark": (SENDS.rules[0], SENDS.rules[1], rule(is_value(Field.PACKET_MARK, 1), ACCEPT), SENDS.rules[3]),
    "an-interface": (rule(is_value(Field.OIFNAME, "up0"), ACCEPT), *SENDS.rules),
    "marked-there": (rule(SetPacketMark(SECRET)), *SENDS.rules),
    **{f"without-{number}": (*SENDS.rules[:number], *SENDS.rules[number + 1 :]) for number in range(4)},
}


def with_chain(chain: Chain) -> Table:
    return replace(TABLE, chains=tuple(chain if old.name == chain.name else old for old in TABLE.chains))


def test_table_is_proven() -> None:
    assert str(prove(WANTED, TABLE)).startswith("proven")


@pytest.mark.parametrize("rules", OPENS.values(), ids=OPENS)
def test_router_that_lets_other_packets_out_is_refused(rules: tuple[Rule, ...]) -> None:
    proof = prove(WANTED, with_chain(replace(SENDS, rules=rules)))
    assert (proof.holds, f"chain {SENT}" in proof.problem) == (False, True)


@pytest.mark.parametrize("name", ["ingress", pass_name(Direction.INGRESS), "ingress-accept.ingress"])
def test_accepted_packet_without_the_mark_is_refused(name: str) -> None:
    chain = TABLE.chain_of(name)
    rules = tuple(
        replace(one, statements=tuple(s for s in one.statements if not isinstance(s, SetPacketMark)))
        for one in chain.rules
    )
    assert rules != chain.rules
    assert not prove(WANTED, with_chain(replace(chain, rules=rules))).holds
