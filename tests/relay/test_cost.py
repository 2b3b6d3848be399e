"""What a revision costs depends on what it changes, and not on how many hosts there are."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from bench.fleet import HOSTS_A_VPC, Fleet

from sgdataplane.relay.closure import Closures
from sgdataplane.store.documents import Documents
from sgdataplane.store.hosts import host_of
from sgdataplane.store.interface import Body, Path, Revision, Snapshot

FEW, MANY, TRIES = 60, 1500, 15  # hosts; and steps, of which the fastest counts
MAX_TIMES = 3.0  # longer, with 25 times as many hosts


def rule(fleet: Fleet, number: int) -> dict[Path, Body]:
    return dict([fleet.group(1, 2, more=100 + number)])


def member(fleet: Fleet, number: int) -> dict[Path, Body]:
    return dict([next(fleet.eni(1, 3, move=1 + number))])


class Line:
    """Documents and closures that go on; `asked`: how often it was asked which host an ENI is bound to."""

    def __init__(self, hosts: int) -> None:
        self.fleet, self.asked = Fleet(hosts, enis_a_host=4), 0
        self.documents = Documents.of(Snapshot(1, dict(self.fleet.documents()), {}))
        self.closures = Closures(self.documents, self._host_of)
        self.asked = 0

    def _host_of(self, documents: Documents, body: Body) -> str | None:
        self.asked += 1
        return host_of(documents, body)

    def seconds(self, puts: dict[Path, Body]) -> float:
        """Processor time of one step, which concerns the hosts of one VPC."""
        change = Revision(self.documents.revision + 1, puts, frozenset(), frozenset())
        begin = time.process_time()
        self.documents = self.documents.after(change)
        heard = self.closures.after(self.documents, change)
        seconds = time.process_time() - begin
        assert 0 < len(heard) <= HOSTS_A_VPC
        return seconds


@pytest.mark.parametrize(("change", "most_asked"), [(rule, 0), (member, 2)])
def test_a_step_does_not_walk_all_hosts(change: Callable[[Fleet, int], dict[Path, Body]], most_asked: int) -> None:
    few, many = Line(FEW), Line(MANY)
    pairs = [
        (few.seconds(change(few.fleet, number)), many.seconds(change(many.fleet, number))) for number in range(TRIES)
    ]
    shortest = [min(times) for times in zip(*pairs, strict=True)]
    print(shortest)
    assert many.asked == few.asked == most_asked * TRIES
    assert shortest[1] < shortest[0] * MAX_TIMES


def test_what_stays_is_shared() -> None:
    line = Line(FEW)
    before = line.documents
    line.seconds(member(line.fleet, 1))
    changed = [kind for kind, bodies in line.documents.of_kind.items() if bodies is not before.of_kind[kind]]
    assert changed == ["network_interface"]
