"""What policies cost: the command counts what is there."""

from __future__ import annotations

from bench.policycost import cells, makers, measured

from sgdataplane.contract.fields import Field, KeyType
from sgdataplane.nft.ir import ACCEPT, DROP, Chain, Map, Range, Table, VerdictMap, goto, rule
from tests.support.inputs.builders import make_eni, make_group, make_state
from tests.support.inputs.classbench_seeds import SEEDS
from tests.support.inputs.hardpolicies import POLICIES, TARGET


def test_cells_are_entries_of_maps_without_a_name() -> None:
    ports = VerdictMap(Field.TH_DPORT, ((Range(1, 9), ACCEPT), (Range(20, 30), DROP)))
    members = Map("members", KeyType.IPV4, ((1, goto("ports")), (2, goto("ports")), (3, goto("ports"))))
    base = Chain("base", (rule(VerdictMap(Field.IP_SADDR, name="members")), rule(ports)))
    assert cells(Table("t", (base, Chain("ports", (rule(ports),))), (members,))) == 4


def test_cost_of_a_policy() -> None:
    group = make_group("sg-a", [f"ingress tcp {port}/{port} from 192.0.2.0/24" for port in range(1, 41, 2)])
    cost = measured("ports", make_state([group], [make_eni(TARGET, "10.0.0.1", "sg-a")]), with_lookups=True)
    assert (cost.policy, cost.rules) == ("ports", 20)
    assert cost.cells > 0 < cost.elements
    assert cost.bytes > 1000
    of_maps, with_sets = map(int, cost.lookups.split("/"))
    assert 2 <= of_maps <= with_sets  # at least the interface and the port


def test_there_is_a_maker_for_each_hard_policy_and_each_set() -> None:
    assert makers(10).keys() == POLICIES.keys() | {f"{kind}-{size}" for kind in SEEDS for size in (500, 1000, 10000)}
