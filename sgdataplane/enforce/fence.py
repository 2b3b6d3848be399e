"""The anti-spoofing filter (fence) of a namespace: a table of its own, put in force beside the policy.

Owns when it is written, and what of it. Its input is what the policy's table holds. Must not know what the fence drops,
or run anything.

If the kernel certainly holds the fence of what was enforced before, only the chains of interfaces that differ are
written.
"""

from __future__ import annotations

import secrets
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from functools import lru_cache

from sgdataplane.compiler.fence import compile_fence
from sgdataplane.compiler.verdicts import HAS_SOCKET
from sgdataplane.contract.stamp import Stamp
from sgdataplane.contract.tables import ARP, NETDEV, TABLE
from sgdataplane.enforce.arp import plan_marking
from sgdataplane.enforce.desired import Desired, Settings
from sgdataplane.enforce.run import fit_to_kernel
from sgdataplane.errors import UnsupportedError
from sgdataplane.model.options import Options, Placement
from sgdataplane.model.state import Eni
from sgdataplane.net.values import IFNAME
from sgdataplane.nft.changes import ById
from sgdataplane.nft.delta import Plan, plan, plan_removal
from sgdataplane.nft.ir import ACCEPT, Chain, Table, rule
from sgdataplane.nft.kernel import Kernel, NetlinkKernel
from sgdataplane.nft.outline import stamp_of
from sgdataplane.nft.snapshot import Inventory
from sgdataplane.nft.transaction import Kind, Operation, Transaction, Verb

NEEDS_EGRESS = "Linux 5.16 or newer with CONFIG_NETFILTER_EGRESS and CONFIG_IP_ROUTE_CLASSID"
MAX_OBJECTS = 5000  # objects of a kind: a fence has two counters and a chain for each of at most 1,500 ENIs
NEEDS_BOTH = "Linux 5.16 or newer with CONFIG_NETFILTER_INGRESS, CONFIG_NETFILTER_EGRESS and CONFIG_NF_TABLES_NETDEV"
NEEDS_ARP, NEEDS_SOCKETS = "a kernel with CONFIG_NF_TABLES_ARP", "a kernel with CONFIG_CGROUP_NET_CLASSID"
PROBE = Chain("probe", (rule(HAS_SOCKET, ACCEPT),))


@dataclass(frozen=True, slots=True)
class Fence:
    """The fence of a namespace, and the way to it."""

    ifnames: tuple[str, ...]  # the interfaces to fence
    secret: int  # the mark of packets that may pass
    table: Table | None  # None: no fence
    steps: Plan  # put it in force, or remove it; empty if nothing has to change
    arp: Plan  # the same for the table that marks a router's own ARP
    is_live: bool  # whether there is a fence already

    def is_first(self, stamp: Stamp | None) -> bool:
        """Whether the fence changes before the policy.

        It does only if the policy's table, which has that stamp, already marks what may pass.
        """
        return not self.ifnames or (stamp is not None and stamp.secret == self.secret)


def build_wanted_fence(
    kernel: Kernel, inventory: Inventory, desired: Desired, settings: Settings, previous: Desired | None = None
) -> Fence:
    """Return the fence for the interfaces that exist or that the fence has already.

    Some kernels keep a chain whose interface is gone. `inventory` is what the kernel holds of the policy's table;
    `previous` is what was enforced before, if the caller knows.

    Raises:
        UnsupportedError: The kernel can't have such a fence.
    """
    present = kernel.interfaces()
    stamp, there = inventory.stamp, _there(kernel, inventory, previous, present)
    known = next((found.secret for found in (stamp, there.stamp) if found and found.secret), 0)
    fenceable = present | _devices(there)
    ifnames = tuple(ifname for _, ifname in sorted(desired.interfaces.items()) if ifname in fenceable)
    if not ifnames or not settings.fence:
        gone = Plan((plan_removal(there, TABLE, NETDEV),)) if there.exists else Plan()
        secret = known if settings.fence else 0
        return Fence((), secret, None, gone, _plan_marking(kernel, inventory, desired, secret, settings), there.exists)
    secret = known or 1 + secrets.randbelow(0xFFFFFFFF)
    table = fence_of(desired, ifnames, secret, _uplinks(fenceable - {*ifnames}, desired))
    is_certain = inventory.is_untouched and there.generation == inventory.generation and not settings.resync
    steps = _way_to(kernel, there, table, previous, is_certain=is_certain)
    if not there.exists:
        _check_support(kernel, fence_of(desired, ifnames[:1], secret), there, desired.placement)
    arp = _plan_marking(kernel, inventory, desired, secret, settings)
    return Fence(tuple(sorted(ifnames)), secret, table, steps, arp, there.exists)


def _plan_marking(kernel: Kernel, inventory: Inventory, desired: Desired, secret: int, settings: Settings) -> Plan:
    return plan_marking(kernel, inventory, secret, settings) if desired.placement.is_outside else Plan()


def _there(kernel: Kernel, inventory: Inventory, previous: Desired | None, present: frozenset[str]) -> Inventory:
    """Return what the kernel holds of the fence. `present` are the interfaces that exist.

    If the policy's stamp vouches for the fence of what was enforced before, only its base chains are read, as these may
    have gone with their interfaces.
    """
    if inventory.stamp is not None and inventory.is_untouched and previous is not None:
        owners = previous.interfaces.values()
        ifnames = [ifname for ifname in owners if ifname in present]
        held = fence_of(previous, ifnames, inventory.stamp.secret, _uplinks(present.difference(owners), previous))
        found = kernel.read_vouched(held)
        if found is not None:
            return found
    return kernel.inventory(TABLE, NETDEV, MAX_OBJECTS)


def fence_of(desired: Desired, ifnames: Collection[str], secret: int, uplinks: Collection[str] = ()) -> Table:
    """Return the table that fences these interfaces and uplinks. `secret` is the mark of packets that may pass."""
    owners = {ifname: desired.state.eni[eni] for eni, ifname in desired.interfaces.items()}
    enis = tuple([(ifname, ById(owners[ifname])) for ifname in ifnames])
    return _compile_fence(enis, desired.options, secret, desired.placement, tuple(uplinks))


@lru_cache(maxsize=8)
def _compile_fence(
    enis: tuple[tuple[str, ById[Eni]], ...],
    options: Options,
    secret: int,
    placement: Placement,
    uplinks: tuple[str, ...],
) -> Table:
    """Return the fence of these ENIs: the same object while the records of all ENIs stay the same objects."""
    return compile_fence({ifname: eni.value for ifname, eni in enis}, options, secret, placement, uplinks)


def _uplinks(there: Iterable[str], desired: Desired) -> tuple[str, ...]:
    """Return the uplinks among existing interfaces: a chain at the netdev hook takes one device, and no pattern."""
    nameable = [name for name in sorted(there) if IFNAME.fullmatch(name)]
    return tuple(name for name in nameable if any(fnmatchcase(name, uplink) for uplink in desired.uplinks))


def check_fence(namespace: str, desired: Desired) -> None:
    """Check that the kernel can fence ENIs there, even before their interfaces exist. It changes nothing.

    Raises:
        UnsupportedError: It can't.
    """
    eni = desired.state.eni[min(desired.interfaces)]
    with NetlinkKernel(namespace) as kernel:
        there = kernel.inventory(TABLE, NETDEV)
        if not there.exists:
            table = compile_fence({"lo": eni}, desired.options, 1, desired.placement)
            _check_support(kernel, table, there, desired.placement)


def _check_support(kernel: Kernel, table: Table, there: Inventory, placement: Placement) -> None:
    """Check that this kernel can have such a fence, of which nothing is `there`. It changes nothing.

    Raises:
        UnsupportedError: It can't; the error names what is missing.
    """
    (change,) = plan(None, there, fit_to_kernel(kernel, table)).changes
    what, needs = "the netdev egress hook, which fences an instance,", NEEDS_EGRESS
    if placement.is_outside:
        what, needs = "the netdev ingress and egress hooks, which fence a router,", NEEDS_BOTH
    with _name_missing(what, needs):
        whole = replace(change.stage, operations=change.stage.operations + change.switch.operations)
        kernel.check(whole, f"fence of {placement.value} placement")
    if placement.is_outside:
        _check_marking(kernel)


def _check_marking(kernel: Kernel) -> None:
    """Check that this kernel can tell a router's own packets from others'. It changes nothing.

    Raises:
        UnsupportedError: It can't.
    """
    for family, needs in ((ARP, NEEDS_ARP), ("inet", NEEDS_SOCKETS)):
        probe = Table(f"{TABLE}-probe", family=family)
        kinds: tuple[tuple[Kind, Table | Chain], ...] = ((Kind.TABLE, probe), (Kind.CHAIN, PROBE))
        kinds += () if family == ARP else ((Kind.RULES, PROBE),)
        with _name_missing("the fence of a router", needs):
            operations = (Operation(Verb.ADD, kind, subject) for kind, subject in kinds)
            kernel.check(Transaction.of(probe, operations), f"marks by {family}")


@contextmanager
def _name_missing(what: str, needs: str) -> Iterator[None]:
    """Name what is missing if the kernel doesn't support what the block does."""
    try:
        yield
    except UnsupportedError as error:
        raise UnsupportedError(what, needs) from error


def _way_to(kernel: Kernel, there: Inventory, table: Table, previous: Desired | None, *, is_certain: bool) -> Plan:
    """Return the plan that puts the table in force; an empty one if nothing has to change.

    `there` is what the kernel holds of the fence. Nobody has changed anything of it if it `is_certain`.
    """
    held = None
    if is_certain:
        if _is_fence_there(there, table):
            return Plan()
        held = None if previous is None else _fence_in_kernel(there, previous)
    if held is None:
        return plan(None, there, fit_to_kernel(kernel, table))
    return plan(fit_to_kernel(kernel, held), _vouch(there), fit_to_kernel(kernel, table), may_miss=kernel.may_miss())


def _devices(there: Inventory) -> frozenset[str]:
    """Return the interfaces that the fence has chains for."""
    return frozenset(hook.device for hook in there.chains.values() if hook is not None)


def _fence_in_kernel(there: Inventory, previous: Desired) -> Table | None:
    """Return the fence of what was enforced before, if that is there and nobody has committed anything since."""
    devices, owners = _devices(there), previous.interfaces.values()
    ifnames = [ifname for ifname in owners if ifname in devices]
    if there.stamp is None or not ifnames:
        return None
    held = fence_of(previous, ifnames, there.stamp.secret, _uplinks(devices.difference(owners), previous))
    return held if _is_fence_there(there, held) else None


def _vouch(there: Inventory) -> Inventory:
    """Return the fence's inventory once the policy's stamp vouches for it."""
    stamp = there.stamp
    return there if stamp is None else replace(there, stamp=replace(stamp, generation=there.generation))


def _is_fence_there(there: Inventory, wanted: Table) -> bool:
    """Whether the fence is as wanted, given that nobody has committed anything since.

    A chain may have gone with its interface.
    """
    stamp = stamp_of(wanted)
    is_same = there.stamp is not None and (there.stamp.digest, there.stamp.secret) == (stamp.digest, stamp.secret)
    return is_same and there.chains == {chain.name: chain.hook for chain in wanted.chains}
