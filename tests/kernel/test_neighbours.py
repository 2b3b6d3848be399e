"""The machine's tables of neighbours are read as they are, less what is permanent."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from sgdataplane.host import netns
from sgdataplane.host.links import Links
from sgdataplane.host.neighbours import Neighbour, introduce
from sgdataplane.net.values import Address, Family
from sgdataplane.observe import capacity
from sgdataplane.observe.capacity import NeighbourUse, read_neighbour_uses
from tests.support.scenes.labs import run_in

pytestmark = pytest.mark.kernel

MAC, COUNT = "02:00:00:00:00:01", 100


@pytest.fixture
def namespace(lab_name: str) -> Iterator[str]:
    netns.create(lab_name)
    run_in(lab_name, "ip", "link", "add", "d0", "type", "veth", "peer", "name", "d1")
    with Links(lab_name) as links:
        links.set_up("d0")
    yield lab_name
    netns.remove(lab_name)


def use_of(family: Family, uses: tuple[NeighbourUse, ...]) -> NeighbourUse:
    return next(use for use in uses if use.family == family.value)


@pytest.mark.parametrize("family", Family, ids=lambda family: family.value)
def test_what_is_found_out_counts_and_what_is_told_does_not(namespace: str, family: Family) -> None:
    """Others' entries come and go meanwhile: fewer than these."""
    text = "10.9.0." if family is Family.IPV4 else "2001:db8:9::"
    addresses = [f"{text}{number}" for number in range(1, COUNT + 1)]
    before = use_of(family, read_neighbour_uses())
    assert before.limit >= 128
    introduce(namespace, [Neighbour("d0", Address.parse(address), MAC) for address in addresses])
    in_all = use_of(family, capacity._read())
    told = use_of(family, read_neighbour_uses())
    assert in_all.entries >= told.entries + COUNT
    introduce(namespace, ())
    lines = [f"neigh add {address} lladdr {MAC} dev d0 nud reachable" for address in addresses]
    run_in(namespace, "ip", "-batch", "-", text="\n".join(lines))
    assert use_of(family, read_neighbour_uses()).entries >= told.entries + COUNT // 2


@pytest.mark.parametrize(("entries", "is_told"), [(767, False), (768, True), (1024, True)])
def test_it_is_told_before_the_limit_is_met(entries: int, is_told: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    use = NeighbourUse("ipv6", entries, 1024, 3)
    monkeypatch.setattr(capacity, "_uses", lambda _: [use])
    monkeypatch.setattr(capacity, "_permanent", lambda: {"ipv6": 0})
    found = capacity.read_warnings()
    assert bool(found) == is_told
    assert all(f"{entries} of 1024 entries, 3 refused so far" in line and "gc_thresh3" in line for line in found)


def test_permanent_entries_are_no_reason_to_warn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(capacity, "_uses", lambda _: [NeighbourUse("ipv4", 5000, 1024, 0)])
    monkeypatch.setattr(capacity, "_permanent", lambda: {"ipv4": 4900})
    assert capacity.read_warnings() == ()
