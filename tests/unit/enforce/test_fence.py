"""Which chains of a router's fence are written when ENIs come, change and go. The kernel is in memory."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

import pytest

from sgdataplane.contract.stamp import STAMP_MAP
from sgdataplane.contract.tables import NETDEV, TABLE
from sgdataplane.enforce import Desired, Settings
from sgdataplane.enforce.fence import fence_of
from sgdataplane.host.conntrack import Bound
from sgdataplane.model.options import Placement
from sgdataplane.net.values import Prefix
from sgdataplane.nft.ir import Chain, Table, rule
from sgdataplane.nft.outline import stamp_of
from sgdataplane.nft.transaction import Kind, Operation, Transaction, Verb
from tests.support.inputs.builders import make_eni, make_group, make_state
from tests.support.inputs.building import apply
from tests.support.models.fakekernel import FakeKernel

SETTINGS = Settings()
ENIS = {
    f"eni-{letter}": make_eni(f"eni-{letter}", f"10.0.0.{number}", "sg-a") for number, letter in enumerate("abc", 1)
}


def router_of(*letters: str, uplinks: tuple[str, ...] = (), **changed: str) -> Desired:
    """A router with the host ends of these ENIs; `changed`: other addresses of some."""
    enis = [replace(ENIS[f"eni-{letter}"]) for letter in letters]
    enis = [
        make_eni(eni.network_interface_id, changed.get(eni.network_interface_id[-1], str(eni.addresses[0])), "sg-a")
        for eni in enis
    ]
    state = make_state([make_group("sg-a", ["ingress tcp 22/22 from 0.0.0.0/0"])], enis)
    interfaces = {eni.network_interface_id: f"v-{eni.network_interface_id[-1]}" for eni in enis}
    return Desired(state, interfaces, placement=Placement.HOST, uplinks=uplinks)


class NoSessions:
    def forget_epochs(self, epochs: Collection[int], stamp: object) -> bool:
        return len(epochs) > 0 or stamp is None

    def seed(self, own: Collection[Prefix]) -> int:
        return 0 * len(own)

    def shorten(self, longest: Bound) -> int:
        return 0 * bool(longest)

    def count(self) -> int:
        return 0


class Watched(FakeKernel):
    """Notes which of the fence's chains are written."""

    def __init__(self) -> None:
        super().__init__(["v-a", "v-b", "v-c", "out"])
        self.written: set[str] = set()

    def run(self, *transactions: Transaction) -> None:
        super().run(*transactions)
        for transaction in (entry for entry in transactions if entry.family == NETDEV):
            kinds = (Kind.RULES, Kind.CHAIN)
            subjects = (entry.subject for entry in transaction.operations if entry.kind in kinds)
            self.written.update(subject.name for subject in subjects if isinstance(subject, Chain))


def put(kernel: Watched, desired: Desired, previous: Desired | None, settings: Settings = SETTINGS) -> set[str]:
    """The interfaces whose chains were written; "" for the chains of all."""
    kernel.written.clear()
    apply(kernel, NoSessions(), desired, previous, settings)
    return {next((ifname for ifname in ("v-a", "v-b", "v-c", "out") if ifname in name), "") for name in kernel.written}


def held(kernel: Watched) -> Table:
    """What the kernel holds, without the stamp."""
    table = kernel.table(TABLE, NETDEV)
    return replace(table, maps=tuple(entry for entry in table.maps if entry.name != STAMP_MAP))


def wanted(desired: Desired, kernel: Watched) -> Table:
    """With the secret that the kernel has."""
    secret = stamp_of(kernel.table(TABLE, NETDEV)).secret
    fence = fence_of(desired, tuple(desired.interfaces.values()), secret, desired.uplinks)
    return replace(fence, maps=tuple(entry for entry in fence.maps if entry.name != STAMP_MAP))


TWO = router_of("a", "b")
CHANGES = {
    "one comes": (router_of("a", "b", "c"), {"v-c"}),
    "one goes": (router_of("b"), {"v-a"}),
    "one has another address": (router_of("a", "b", b="10.0.0.99"), {"v-b"}),
    "one comes in the place of another": (router_of("a", "c"), {"v-b", "v-c"}),
    "an uplink comes": (router_of("a", "b", uplinks=("out",)), {"out"}),
}


@pytest.mark.parametrize(("desired", "written"), CHANGES.values(), ids=CHANGES)
def test_only_the_chains_of_interfaces_that_differ_are_written(desired: Desired, written: set[str]) -> None:
    kernel = Watched()
    put(kernel, TWO, None)
    assert put(kernel, desired, TWO) == written
    assert held(kernel) == wanted(desired, kernel)
    assert put(kernel, desired, desired) == set()
    assert kernel.inventory(TABLE).is_untouched
    assert put(kernel, TWO, desired) - {"out"} == written - {"out"}
    assert held(kernel) == wanted(TWO, kernel)


MORE, OTHERS = router_of("a", "b", "c"), router_of("a", "b", a="10.0.0.77")


@pytest.mark.parametrize(
    ("previous", "settings"),
    [(None, SETTINGS), (OTHERS, SETTINGS), (TWO, Settings(resync=True))],
    ids=["unknown", "wrong", "resync"],
)
def test_all_are_written_if_what_is_there_is_not_known(previous: Desired | None, settings: Settings) -> None:
    kernel, desired = Watched(), router_of("a", "c")
    put(kernel, TWO, None)
    assert {"v-a", "v-c", ""} <= put(kernel, desired, previous, settings)
    assert held(kernel) == wanted(desired, kernel)


def test_all_are_written_after_somebodys_commit() -> None:
    kernel = Watched()
    put(kernel, TWO, None)
    opened = Operation(Verb.ADD, Kind.RULES, Chain("ingress.v-a", (rule(),)))
    kernel.run(Transaction.of(kernel.table(TABLE, NETDEV), (opened,)))
    assert {"v-a", "v-b", "v-c", ""} <= put(kernel, MORE, TWO)
    assert held(kernel) == wanted(MORE, kernel)


def test_all_are_written_if_a_chain_has_gone_with_its_interface() -> None:
    kernel = Watched()
    put(kernel, TWO, None)
    del kernel._tables[NETDEV, TABLE].chains["ingress.v-a"]
    assert {"v-a", "v-b", "v-c"} <= put(kernel, MORE, TWO)
    assert held(kernel) == wanted(MORE, kernel)
    assert stamp_of(kernel.table(TABLE, NETDEV)).digest == stamp_of(fence_of(MORE, ("v-a", "v-b", "v-c"), 0)).digest
