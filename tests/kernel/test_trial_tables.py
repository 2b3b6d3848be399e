"""A trial's table in a real namespace: it counts as what was asked for says, whatever was there before."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import pytest

from sgdataplane.analyse.diff import StateDiff
from sgdataplane.contract.sites import INSTANCE
from sgdataplane.model.options import DEFAULTS
from sgdataplane.model.state import CloudState
from sgdataplane.nft.ir import Table
from sgdataplane.nft.kernel import NetlinkKernel
from sgdataplane.trial import running
from sgdataplane.trial.lines import lines_at
from sgdataplane.trial.tables import TrialPlace, compile_trial
from tests.support.inputs.builders import make_eni, make_group, make_state
from tests.support.kernel.nft import listing
from tests.support.scenes.pair import HERE, Pair, bound, know, mac_at, made_pair

pytestmark = pytest.mark.kernel
A, B = HERE["instance"][0], "10.0.0.3"
OTHERS = {f"eni-{name}": f"10.0.1.{number}" for number, name in enumerate("cd", 1)}
ADDRESSES = {"eni-a": A, "eni-b": B, **OTHERS}


def state_of(*rules: str) -> CloudState:
    enis = [make_eni(eni_id, address, "sg-a") for eni_id, address in ADDRESSES.items()]
    return make_state([make_group("sg-a", rules)], enis)


BEFORE, AFTER = state_of("ingress udp 5000/5000 from 10.0.0.1/32"), state_of()


@pytest.fixture
def pair(make_lab_name: Callable[[], str]) -> Iterator[Pair]:
    with made_pair(make_lab_name, "instance") as pair:
        know(pair["peer"], "eth0", [B], mac_at(pair["instance"], "eth0"))
        yield pair


def table_of(interfaces: Mapping[str, str]) -> Table:
    """Each of these ENIs has the same line: port 5000 closes."""
    found = lines_at(StateDiff(BEFORE, AFTER, DEFAULTS), interfaces)
    assert len(found.lines) == len(interfaces)
    return compile_trial("t", TrialPlace(INSTANCE, interfaces, DEFAULTS), found)


def counted(place: str, table: Table) -> dict[str, int]:
    with NetlinkKernel(place) as kernel:
        found = running.read(kernel, table.name, [counter.name for counter in table.counters])
    return {name: count.packets for name, count in found.items()}


def put(place: str, table: Table) -> None:
    with NetlinkKernel(place) as kernel:
        running.put(kernel, table)


def send(pair: Pair, address: str) -> None:
    """It arrives at the instance's eth0, whichever address it is for."""
    with bound(pair, "peer", 0) as sender:
        sender.sendto(b"trial", (address, 5000))


@pytest.mark.parametrize("count", [2, 4])
def test_interfaces_that_change_places_are_counted_as_what_they_are_now(pair: Pair, count: int) -> None:
    """What the chains of ENIs hold is the same as before; only the base chain leads elsewhere."""
    place, enis = pair["instance"], tuple(ADDRESSES)[:count]
    more = {eni_id: f"eth{number}" for number, eni_id in enumerate(enis)}
    table = table_of(more)
    put(place, table)
    send(pair, A)
    send(pair, B)  # at eth0 it is of no line
    assert sorted(counted(place, table).values()) == [*[0] * (count - 1), 1]
    before = counted(place, table)
    swapped = table_of(more | {"eni-a": "eth1", "eni-b": "eth0"})
    put(place, swapped)
    send(pair, A)
    send(pair, B)
    grown = {name: packets - before[name] for name, packets in counted(place, swapped).items()}
    assert sum(grown.values()) == 1
    assert {name for name, packets in grown.items() if packets} != {name for name, packets in before.items() if packets}
    found = listing(place, swapped.name)
    with NetlinkKernel(place) as kernel:
        running.remove(kernel, swapped.name)
    put(place, swapped)
    assert without_counts(found) == without_counts(listing(place, swapped.name)), "as if nothing had been there"


def without_counts(text: str) -> list[str]:
    return [line for line in text.splitlines() if "packets" not in line]
