"""The plan of an apply for the policy's table, worked out before anything is changed.

Owns the choice of the epoch and of the plan. Its input is what the kernel holds, and what is wanted. Must not change
anything.
"""

from __future__ import annotations

from dataclasses import dataclass

from sgdataplane.compiler.compile import with_adoption, with_stamp
from sgdataplane.contract.stamp import Stamp
from sgdataplane.enforce.desired import Desired, Settings
from sgdataplane.enforce.epochs import Clear, Epochs, NextEpoch, Slots
from sgdataplane.enforce.proven import Proven
from sgdataplane.enforce.run import fit_to_kernel
from sgdataplane.nft.delta import Plan, plan
from sgdataplane.nft.ir import Table
from sgdataplane.nft.kernel import Kernel
from sgdataplane.nft.snapshot import Inventory
from sgdataplane.policy.reach import Reach

SOME = 1000


@dataclass(frozen=True, slots=True)
class ApplyRequest:
    """What an apply is asked for."""

    proven: Proven  # what is to be enforced
    previous: Proven | None  # what was enforced before; None if the caller doesn't know
    settings: Settings  # how to apply

    @property
    def previously_desired(self) -> Desired | None:
        """What was to be obeyed before, if the caller knows."""
        return None if self.previous is None else self.previous.desired

    @property
    def most(self) -> int | None:
        """How many objects of a kind our table may hold: twice our own, and SOME of others.

        It is None if we don't know what the table should hold. A table with more is replaced unread, so that nobody
        makes us read without end.
        """
        if self.previous is None:
            return None
        tables = self.proven.table, self.previous.table
        return SOME + 2 * max(len(kind) for t in tables for kind in (t.chains, t.maps, t.counters, t.timeouts))


@dataclass(frozen=True, slots=True)
class ApplyPlan:
    """The way from what the kernel holds to what is wanted."""

    inventory: Inventory  # where it starts
    chosen: NextEpoch  # the epoch that comes, and what is in force
    newcomers: tuple[str, ...]  # interfaces that no table here has known so far
    adopting: tuple[str, ...]  # the newcomers, if they get a mid-stream pickup window
    steps: Plan  # empty if nothing has to change

    @property
    def stamp(self) -> Stamp | None:
        """The stamp of what is in force, if it can be used."""
        return self.chosen.stamp

    @property
    def epoch(self) -> int:
        """The epoch that comes."""
        return self.chosen.epoch


def foresee_next_epoch(inventory: Inventory, request: ApplyRequest, slots: Slots) -> NextEpoch:
    """Return the epoch that comes if no session keeps an epoch that is used again. Change nothing."""
    return _choose_epoch(inventory, request, slots, lambda *_: True)


def take_next_epoch(inventory: Inventory, request: ApplyRequest, slots: Slots, clear: Clear) -> NextEpoch:
    """Return the epoch that comes. `clear` makes sure that no session carries the epochs that it is given."""
    return _choose_epoch(inventory, request, slots, clear)


def _choose_epoch(inventory: Inventory, request: ApplyRequest, slots: Slots, clear: Clear) -> NextEpoch:
    epochs = Epochs(request.proven.desired.site.marks.last_epoch)
    on_change = "revoke" if slots.all is None else request.settings.on_change
    return epochs.next(inventory, request.proven.summary.digest, on_change, clear, slots)


def slots_of(inventory: Inventory, request: ApplyRequest) -> Slots:
    """Return the slots of the ENIs.

    All are narrowed, unless we know what is in force, and only groups, lists and ENIs elsewhere differ from it.
    """
    if not _is_same_links(inventory, request):
        return Slots()
    desired, previous = request.proven.desired, request.previously_desired
    slots = desired.site.marks.slots(desired.interfaces.values())
    every = frozenset(slots.values())
    if previous is None or not _is_in_force(request, inventory) or not _is_alike(previous, desired):
        return Slots(every, every)
    reach = Reach(previous.state, desired.state)
    narrowed = frozenset(slots[ifname] for eni_id, ifname in desired.interfaces.items() if reach.narrows([eni_id]))
    return Slots(every, narrowed)


def plan_apply(
    kernel: Kernel, inventory: Inventory, request: ApplyRequest, secret: int, chosen: NextEpoch
) -> ApplyPlan:
    """Plan the apply from what the kernel holds. `secret` is the mark of packets that may pass the fence."""
    settings, digest = request.settings, request.proven.summary.digest
    newcomers = _newcomers(inventory, request.proven.desired)
    adopting = newcomers if settings.adoption_window else ()
    after = chosen.make_stamp(Stamp(chosen.epoch, digest, inventory.generation, secret))
    if inventory.stamp == after and not settings.resync:
        steps = Plan()  # nothing to do; interfaces that the table knows aren't adopted again
    else:
        wanted = with_stamp(request.proven.table, after)
        if adopting:
            wanted = with_adoption(wanted, adopting, round(settings.adoption_window * 1000))
        held = _table_in_kernel(chosen.stamp, request)
        known = None if held is None else fit_to_kernel(kernel, held)
        steps = plan(known, inventory, fit_to_kernel(kernel, wanted), may_miss=kernel.may_miss())
    return ApplyPlan(inventory, chosen, newcomers, adopting, steps)


def _newcomers(inventory: Inventory, desired: Desired) -> tuple[str, ...]:
    """Return the interfaces that no table here has known so far."""
    return tuple(sorted(ifname for ifname in desired.interfaces.values() if ifname not in inventory.ifnames))


def _is_same_links(inventory: Inventory, request: ApplyRequest) -> bool:
    """Whether each slot of the mark still stands for the same ENI.

    A session may only stay with the ENI that accepted it.
    """
    is_known = request.previous is None or request.previous.desired.interfaces == request.proven.desired.interfaces
    return is_known and inventory.ifnames == frozenset(request.proven.desired.interfaces.values())


def _is_in_force(request: ApplyRequest, inventory: Inventory) -> bool:
    """Whether the kernel certainly has what was enforced before."""
    stamp, previous = inventory.stamp, request.previous
    is_known = previous is not None and stamp is not None and stamp.digest == previous.summary.digest
    return is_known and inventory.is_untouched and not request.settings.resync


def _is_alike(previous: Desired, desired: Desired) -> bool:
    """Whether only the state differs, and not in the ENIs that are here, but for their mode."""
    if previous.on(desired.state) != desired:
        return False
    old, new = previous.state.eni, desired.state.eni
    return all(new[eni_id].is_same_but_mode(old[eni_id]) for eni_id in desired.interfaces)


def _table_in_kernel(stamp: Stamp | None, request: ApplyRequest) -> Table | None:
    """Return the table that the kernel should hold; None if that isn't known.

    The same policy has the same table but for the epoch.
    """
    if stamp is None or request.settings.resync:
        return None
    if stamp.digest == request.proven.summary.digest:
        return with_stamp(request.proven.table, stamp)
    return None if request.previous is None else with_stamp(request.previous.table, stamp)
