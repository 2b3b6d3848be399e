"""Random sequences of API calls, invalid ones among them: what they leave in a store is a state, and packets obey it.

One lab stays up and follows. After each sequence the store is read anew, the lab follows, and a sample of its matrix is
judged by real packets. Each world begins with an empty store, and with the lab as the world before left it. A test
prints its seeds; `SGDP_TEST_SEED` makes others.
"""

from __future__ import annotations

import os
import random
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import pytest

from sgdataplane.control.actions.engine import Engine
from sgdataplane.control.calls.answers import ApiError
from sgdataplane.control.hosts.following import state_of
from sgdataplane.lab import manage
from sgdataplane.lab.expect import explain_result
from sgdataplane.lab.following import FollowingLab
from sgdataplane.lab.matrix import matrix_probes, probe_all
from sgdataplane.lab.probe import default_services
from sgdataplane.store.documents import Documents, ResourceKind, name_of, path_of
from sgdataplane.store.sqlite.store import SqliteStore
from tests.support.inputs.controlling import Client, Randomly, counted_ids
from tests.support.scenes import labs

pytestmark = pytest.mark.traffic
SEED = os.environ.get("SGDP_TEST_SEED", "1")
STEPS = (5, 25)  # calls in a sequence
WORLD = 20  # sequences on one store
MAX_INSTANCES, MAX_VPCS = 7, 3
SAMPLE = 48  # probes after each sequence


class World:
    """A store with a random client, and the lab that follows it."""

    def __init__(self, store: SqliteStore, place: FollowingLab, chance: random.Random) -> None:
        self.store, self.place, self.chance = store, place, chance
        self.engine = Engine(store, new_id=counted_ids())
        self.caller = Randomly(Client(self.engine), chance)
        self.told: Counter[str] = Counter()
        _, switch = self.caller.client.network()
        group = self.caller.client.group("vpc-1")
        self.caller.client("RunInstances", VSwitchId=switch, SecurityGroupId=group, Amount=3)

    def run(self) -> None:
        """One sequence."""
        for _ in range(self.chance.randint(*STEPS)):
            self.make_room()
            action, code = self.caller.step()
            self.told[f"{action} {code}".strip()] += 1

    def make_room(self) -> None:
        """Delete some of the instances, and VPCs without any, so that the lab stays small."""
        there, chance = self.engine.documents.of_kind, self.chance
        instances, vpcs = sorted(there[ResourceKind.INSTANCE]), sorted(there[ResourceKind.VPC])
        if len(instances) > MAX_INSTANCES:
            self.caller.client("DeleteInstances", InstanceId=[*chance.sample(instances, len(instances) // 2)])
        for vpc_id in vpcs if len(vpcs) > MAX_VPCS else ():
            self.remove(vpc_id)

    def remove(self, vpc_id: str) -> None:
        """Delete a VPC with its VSwitches, unless there is something else in it."""
        documents = self.engine.documents
        switches = [name_of(path) for path in sorted(documents.users.get(path_of(ResourceKind.VPC, vpc_id), ()))]
        with suppress(ApiError):
            for name in switches:
                self.caller.client("DeleteVSwitch", VSwitchId=name)
            self.caller.client("DeleteVpc", VpcId=vpc_id)

    def judge(self, name: str) -> Counter[str]:
        """How often packets passed and how often they didn't."""
        read = Documents.of(self.store.snapshot())
        assert read == self.engine.documents
        self.place.put(read.version, state_of(read, "seed"))
        with manage.watch(name) as lab:
            probes = matrix_probes(lab.topology.nodes, default_services(lab.state))
            results = probe_all(lab, self.chance.sample(probes, min(SAMPLE, len(probes))))
        wrong = [f"{result.probe}: {explain_result(result)}" for result in results if not result.agrees]
        assert not wrong, wrong
        return Counter(str(result.observed.verdict) for result in results)


@contextmanager
def world(folder: Path, place: FollowingLab, seed: str) -> Iterator[World]:
    print(f"seed {seed}")
    with closing(SqliteStore(folder / f"store-{seed.replace('/', '-')}")) as store:
        yield World(store, place, random.Random(seed))


@pytest.mark.parametrize(
    ("shard", "sequences"), [("smaller", 4), *(pytest.param(str(one), 50, marks=pytest.mark.slow) for one in range(10))]
)
def test_random_sequences_of_calls_leave_a_state_that_packets_obey(
    shard: str, sequences: int, make_lab_name: Callable[[], str], tmp_path: Path, placement: str
) -> None:
    """A thousand sequences in the slow tests of both placements."""
    name = make_lab_name()
    place = FollowingLab(labs.record_of(name, placement))
    told, seen = Counter[str](), Counter[str]()
    try:
        for start in range(0, sequences, WORLD):
            with world(tmp_path, place, f"{SEED}/{placement}/{shard}/{start}") as one:
                for _ in range(min(WORLD, sequences - start)):
                    one.run()
                    seen += one.judge(name)
                told += one.told
    finally:
        manage.down(name)
    labs.assert_gone(name)
    print(seen, dict(told))
    assert min(seen["accept"], seen["drop"]) > 3 * sequences
    assert len(told) > 15  # kinds of answers
