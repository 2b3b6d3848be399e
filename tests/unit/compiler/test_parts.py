"""What tables have in common is taken over from one compile to the next as objects, and never shows in a result."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sgdataplane.compiler.compile import compile_policy, with_epoch
from sgdataplane.compiler.memo import Memo
from sgdataplane.model.options import DEFAULTS, Placement
from sgdataplane.model.state import CloudState
from sgdataplane.nft.ir import Table
from sgdataplane.nft.outline import stamp_of
from sgdataplane.policy.resolve import resolve
from tests.support.inputs.builders import make_eni, make_group, make_state

GROUPS = [
    make_group("sg-0", ["ingress tcp 443/443 from sg-1"]),
    make_group("sg-1", ["egress all to 192.0.2.0/24 drop"]),
]
ENIS = [make_eni(f"eni-{number}", f"10.0.0.{number + 1}", "sg-0") for number in range(3)]
STATE = make_state(GROUPS, [*ENIS, make_eni("eni-m", "10.0.9.1", "sg-1")])


def compiled(state: CloudState, eni_id: str, memo: Memo | None = None) -> Table:
    return compile_policy(resolve(state, {eni_id: "eth0"}, DEFAULTS), DEFAULTS, memo=memo)


def common(one: Table, other: Table) -> int:
    """How many chains are the same objects."""
    return len({id(chain) for chain in one.chains} & {id(chain) for chain in other.chains})


def test_tables_of_enis_with_equal_groups_share_all_chains_without_own_addresses() -> None:
    memo = Memo()
    first, second = compiled(STATE, "eni-0", memo), compiled(STATE, "eni-1", memo.next())
    assert second == compiled(STATE, "eni-1")
    own = [chain.name for chain in second.chains if chain.name.startswith(("eni-", "ends-egress."))]
    assert len(own) == 3
    assert common(first, second) >= len(second.chains) - len(own)


def test_in_a_router_only_the_chains_of_enis_that_change_are_made_again() -> None:
    enis = [make_eni(f"eni-{number}", f"10.0.0.{number + 1}", f"sg-{number % 2}") for number in range(12)]
    ends = {eni.network_interface_id: f"v{number}" for number, eni in enumerate(enis)}

    def router_of(state: CloudState) -> Table:
        policy = resolve(state, ends, DEFAULTS)
        return compile_policy(replace(policy, placement=Placement.HOST), DEFAULTS)

    before = router_of(make_state(GROUPS, enis))
    changed = make_state([make_group("sg-0", ["ingress tcp 80/80 from sg-1"]), GROUPS[1]], enis)
    moved = make_state(GROUPS, [*enis[:-1], make_eni("eni-11", "10.0.0.99", "sg-1")])
    for state, names in ((changed, set[str]()), (moved, {"eni-egress.v11", "eni-ingress.v11"})):
        known, after = {id(chain) for chain in before.chains}, router_of(state)
        anew = (chain.name for chain in after.chains if chain.name.startswith("eni-") and id(chain) not in known)
        assert after != before
        assert {name.rpartition("-")[0] for name in anew} == names


MEMBER = make_eni("eni-n", "10.0.9.2", "sg-1")
CHANGED = {
    "a rule": make_state([make_group("sg-0", ["ingress tcp 80/80 from sg-1"]), GROUPS[1]], STATE.network_interfaces),
    "a member": make_state(GROUPS, [*STATE.network_interfaces, MEMBER]),
    "nothing": replace(STATE),
}


@pytest.mark.parametrize("what", CHANGED)
def test_a_changed_state_is_compiled_anew(what: str) -> None:
    memo, state = Memo(), CHANGED[what]
    before, after = compiled(STATE, "eni-0", memo), compiled(state, "eni-0", memo.next())
    assert after == compiled(state, "eni-0")
    assert (after == before) == (what == "nothing")


def test_digest_is_of_the_policy_and_not_of_the_epoch() -> None:
    one, other = compiled(STATE, "eni-0"), compiled(STATE, "eni-1")
    assert stamp_of(one).digest != stamp_of(other).digest
    assert stamp_of(with_epoch(one, 5, 7)).digest == stamp_of(one).digest
