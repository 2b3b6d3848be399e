"""A namespace whose root is hostile, a policy for it, and how one sees that all is as it has to be.

Owns these. Must not know attacks.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from inotify_simple import INotify, flags

from sgdataplane.compiler.compile import with_epoch
from sgdataplane.contract.tables import TABLE
from sgdataplane.enforce import ApplyReport, Desired, Settings
from sgdataplane.enforce.fence import fence_of
from sgdataplane.host import netns
from sgdataplane.host.links import Links
from sgdataplane.host.nfnetlink import Nfnetlink
from sgdataplane.model.options import Placement
from sgdataplane.nft.ir import Table
from sgdataplane.nft.readback import HeldTable, differences, read_table
from tests.support.inputs.builders import make_eni, make_group, make_state
from tests.support.inputs.building import enforce, table_of
from tests.support.kernel import rawnft

OURS = TABLE.encode()
SSH, WEB = "ingress tcp 22/22 from sg-b", "ingress tcp 80/80 from 0.0.0.0/0"
PLAIN = Settings(adoption_window=0)


def policy(*rules: str, placement: Placement = Placement.INSTANCE) -> Desired:
    """For the ENI at eth0."""
    groups = [make_group("sg-a", rules or (SSH, WEB)), make_group("sg-b")]
    enis = [make_eni("eni-a", "10.0.0.2 2001:db8::2", "sg-a"), make_eni("eni-b", "10.1.0.1", "sg-b")]
    return Desired(make_state(groups, enis), {"eni-a": "eth0"}, placement=placement)


def must_obey(namespace: str, desired: Desired, settings: Settings = PLAIN) -> ApplyReport:
    """Apply it, as who knows nothing of before; then all of it is in force there, and nothing else is in our tables."""
    report = enforce(namespace, desired, None, settings)
    assert report.leftover == ""
    assert list(surplus(namespace, desired)) == []
    assert not enforce(namespace, desired, None, settings).changed
    return report


def surplus(namespace: str, desired: Desired) -> Iterator[str]:
    """What our tables there have otherwise than they should."""
    held = held_in(namespace)
    assert held is not None
    stamp = held.inventory.stamp
    if stamp is None:
        yield "there is no stamp"
        return
    table = with_epoch(table_of(desired), stamp.epoch, stamp.secret)
    yield from held.odd
    yield from differences(table, held.table)
    yield from _names(namespace, table, rawnft.INET)
    if "eth0" in _interfaces(namespace):
        yield from _names(namespace, fence_of(desired, ("eth0",), stamp.secret), rawnft.NETDEV)


def held_in(namespace: str) -> HeldTable | None:
    with netns.inside(namespace), Nfnetlink() as door:
        return read_table(door, TABLE)


def _interfaces(namespace: str) -> frozenset[str]:
    with Links(namespace) as links:
        return frozenset(link.ifname for link in links.links())


def _names(namespace: str, table: Table, family: int) -> Iterator[str]:
    """By bytes, and by kinds that we never make, too."""
    wanted = {
        "chain": {chain.name for chain in table.chains},
        "set": {entry.name for entry in table.maps},
        "object": {
            *(f"{rawnft.COUNTER}:{entry.name}" for entry in table.counters),
            *(f"{rawnft.CT_TIMEOUT}:{entry.name}" for entry in table.timeouts),
        },
        "flowtable": set[str](),
    }
    for kind, found in rawnft.names_in(namespace, OURS, family).items():
        names = {name.encode() for name in wanted[kind]}
        yield from (f"{kind} {name!r} of family {family} is one too many" for name in sorted(found - names))
        yield from (f"{kind} {name!r} of family {family} is missing" for name in sorted(names - found))


class Canary:
    """A file that nobody has any reason to open. What is in it is no word of nft's, so an error would quote it."""

    def __init__(self, path: Path, text: str = "root-only-secret") -> None:
        self.path, self.text = path, text
        path.write_text(text + "\n", "ascii")
        path.chmod(0o600)
        self._watch = INotify(nonblocking=True)
        self._watch.add_watch(path, flags.OPEN | flags.ACCESS)

    @property
    def was_opened(self) -> bool:
        return bool(self._watch.read(timeout=0))

    def close(self) -> None:
        self._watch.close()
