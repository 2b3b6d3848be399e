"""Namespaces are read within a time limit, the oldest reading first, and those that have ended are forgotten. Real
ones: tests/agent/test_metrics.py."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Mapping

from sgdataplane.attach.registry import Binding
from sgdataplane.attach.report import EniOutcome, EniReport, NamespaceReport
from sgdataplane.daemon.readings import MAX_S, Readings
from sgdataplane.enforce import Desired, build
from sgdataplane.errors import HostError
from sgdataplane.host.identity import Identity
from sgdataplane.observe.capacity import TableUse
from sgdataplane.observe.drops import Reason
from tests.support.scenes.attachbench import state_of

DEFAULT = Reason("ingress", "default")


def namespace(key: str) -> NamespaceReport:
    binding = Binding("eni-a", "eth0", key, f"/run/netns/{key}", Identity(1, 2))
    proven = build(Desired(state_of(80), {"eni-a": "eth0"}))
    return NamespaceReport(key, (EniReport(binding, EniOutcome.IN_FORCE),), proven)


class Kernel:
    """Each reading takes a second."""

    def __init__(self) -> None:
        self.now, self.packets = 0.0, 0
        self.read_keys: list[str] = []
        self.refused: set[str] = set()

    def read(self, entry: NamespaceReport) -> tuple[Mapping[str, int], TableUse]:
        self.now += 1
        self.read_keys.append(entry.named)
        if entry.named in self.refused:
            raise HostError(entry.named, "it has ended")
        return {"default.ingress.drop": self.packets}, TableUse(7, 100, 0, 0, 0)


def test_what_there_is_no_time_for_keeps_its_numbers_and_is_first_the_next_time() -> None:
    kernel = Kernel()
    readings = Readings(lambda: kernel.now, kernel.read)
    entries = [namespace(key) for key in "abcde"]
    known = readings.refresh([])[0]
    for read, old, uses in (("ab", 3, 2), ("cd", 3, 4), ("ea", 3, 5)):
        kernel.packets += 1
        kernel.read_keys = []
        known, found_old = readings.refresh(entries)
        assert ("".join(kernel.read_keys), found_old) == (read, old)
        assert sum(reading.use is not None for reading in known.values()) == uses
    assert MAX_S == 2
    assert [known[key].tally.packets[DEFAULT] for key in "abcde"] == [3, 1, 2, 2, 3]


def test_one_that_refuses_keeps_its_numbers_and_others_are_read() -> None:
    kernel = Kernel()
    kernel.packets = 5
    readings = Readings(lambda: kernel.now, kernel.read)
    entries = [namespace("a"), namespace("b")]
    assert readings.refresh(entries)[1] == 0
    kernel.packets, kernel.refused = 6, {"a"}
    known, old = readings.refresh(entries)
    assert old == 1
    assert [known[key].tally.packets[DEFAULT] for key in "ab"] == [5, 6]


def test_one_that_is_gone_is_forgotten() -> None:
    kernel = Kernel()
    kernel.packets = 5
    readings = Readings(lambda: kernel.now, kernel.read)
    readings.refresh([namespace("a"), namespace("b")])
    assert set(readings.refresh([namespace("b")])[0]) == {"b"}


def test_a_policy_that_is_no_longer_in_force_is_not_kept() -> None:
    kernel = Kernel()
    readings = Readings(lambda: kernel.now, kernel.read)
    entry = namespace("a")
    assert entry.desired is not None
    desired = weakref.ref(entry.desired)
    readings.refresh([entry])
    del entry
    gc.collect()
    assert desired() is None
