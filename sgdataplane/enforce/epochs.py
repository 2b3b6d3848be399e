"""The choice of the next policy's epoch, and of the epochs that no session may carry before that.

Owns these decisions. Its input is stamps. Must not know how marks are cleared, or rules written.

Epochs go from 1 to the last one of the site, and start again. They form two halves. Before the first epoch of a half is
used again, all epochs of that half, given long ago, are cleared from the sessions that still carry one. The epochs in
force are in the other half then, so no packet writes a cleared one again.

Each change has an epoch. An ENI takes it if the change may refuse something of the ENI's, and else keeps the one that
it has, so that its sessions aren't judged again. With the change that comes to the middle of a half, all ENIs take an
epoch of this half. From then on, the other half can be cleared at any time.

Where no stamp says what sessions may carry, the policy doesn't wait. It comes into force with a stamp that says that it
is unsettled: sessions may carry its epoch that it never accepted. Then all other epochs are cleared, and the same
policy takes the next one.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace

from sgdataplane.contract.marks import FIRST_EPOCH
from sgdataplane.contract.stamp import Stamp
from sgdataplane.nft.snapshot import Inventory

Clear = Callable[[Collection[int], Stamp | None], bool]  # whether no session carries these, under that stamp


@dataclass(frozen=True, slots=True)
class NextEpoch:
    """The epoch of the policy that comes."""

    stamp: Stamp | None  # the stamp in force, if it can be used
    epoch: int  # the epoch that comes
    is_unsettled: bool = False  # whether sessions may carry it already
    is_held_up: bool = False  # whether it can't come yet, since sessions carry it
    of_enis: Mapping[int, int] | None = None  # the epoch at each slot; None: the one that comes, at all of them
    is_lenient: bool = False  # whether sessions may carry it that it refuses, since a change kept them

    def make_stamp(self, stamp: Stamp) -> Stamp:
        """Return the stamp of what comes. `stamp` has what else it says."""
        found = replace(stamp, epoch=self.epoch, is_unsettled=self.is_unsettled, is_lenient=self.is_lenient)
        return found if self.of_enis is None else found.with_epochs(self.of_enis)


@dataclass(frozen=True, slots=True)
class Slots:
    """The slots of the ENIs in a namespace."""

    all: AbstractSet[int] | None = None
    """None if they aren't those of what is in force."""
    narrowed: AbstractSet[int] = frozenset()
    """Slots of ENIs for which the new policy may refuse something that the one in force accepts."""


@dataclass(frozen=True, slots=True)
class Epochs:
    """The epochs of a site, from 1 to `last`, in two halves."""

    last: int

    @property
    def all(self) -> range:
        """All epochs."""
        return range(FIRST_EPOCH, self.last + 1)

    @property
    def second_half(self) -> int:
        """The first epoch of the second half."""
        return (self.last + 1) // 2

    def usable(self, stamp: Stamp | None) -> Stamp | None:
        """Return the stamp, if it has epochs that can be in force together; else None."""
        if stamp is None or not all(epoch in self.all for epoch in stamp.every_epoch):
            return None
        return stamp if all(self.may_stay(epoch, stamp.epoch) for epoch in stamp.every_epoch) else None

    def may_stay(self, epoch: int, newest: int) -> bool:
        """Whether an ENI may keep that epoch when a change has the newest."""
        half = self.half_of(newest)
        return epoch in half or newest < self.middle_of(half)

    def middle_of(self, half: range) -> int:
        """Return the middle epoch of a half."""
        return half.start + len(half) // 2

    def choose(self, stamp: Stamp | None, digest: str, on_change: str, *, is_certain: bool) -> int:
        """Return the epoch to use.

        A changed policy gets a new one, so that every session is judged once more. So does the same policy unless it
        `is_certain` that nobody else has changed the rules; else what these accepted would pass.
        """
        if stamp is None:
            return FIRST_EPOCH
        if on_change == "keep" or (stamp.digest == digest and is_certain):
            return stamp.epoch
        return self.after(stamp.epoch)

    def after(self, epoch: int) -> int:
        """Return the epoch after this one. After the last one comes the first."""
        return FIRST_EPOCH if epoch == self.last else epoch + 1

    def half_of(self, epoch: int) -> range:
        """Return the half that an epoch is in."""
        is_first = epoch < self.second_half
        return range(FIRST_EPOCH, self.second_half) if is_first else range(self.second_half, self.last + 1)

    def others(self, epoch: int) -> frozenset[int]:
        """Return all epochs but this one."""
        return frozenset(self.all) - {epoch}

    def next(
        self, inventory: Inventory, digest: str, on_change: str, clear: Clear, slots: Slots = Slots()
    ) -> NextEpoch:
        """Return the next epoch, once it is clear."""
        stamp = self.usable(inventory.stamp)
        if stamp is None:
            is_first = not inventory.exists or inventory.is_inert  # else rules mark sessions with an unknown epoch
            return NextEpoch(None, FIRST_EPOCH, is_unsettled=not (is_first and clear(self.all, None)))
        if stamp.is_unsettled:
            is_clear = clear(self.others(stamp.epoch), stamp)
            if not is_clear and stamp.digest == digest and inventory.is_untouched:
                return NextEpoch(stamp, stamp.epoch, is_unsettled=True)
            return NextEpoch(stamp, self.after(stamp.epoch), is_unsettled=not is_clear)
        epoch = self.choose(stamp, digest, on_change, is_certain=inventory.is_untouched)
        half = self.half_of(epoch)
        is_clear = stamp.epoch in half or clear(half, stamp)
        # What others have changed is repaired at once. What is in force untouched may stay until that can be replaced.
        is_known = inventory.is_untouched
        is_lenient = epoch == stamp.epoch and (stamp.is_lenient or stamp.digest != digest)
        return NextEpoch(
            stamp,
            epoch,
            is_unsettled=not is_clear and not is_known,
            is_held_up=not is_clear and is_known,
            of_enis=self.of_enis(stamp, epoch, slots),
            is_lenient=is_lenient,
        )

    def of_enis(self, stamp: Stamp, epoch: int, slots: Slots) -> Mapping[int, int] | None:
        """Return the epoch at each slot with the change that has this epoch; None: this one at all of them."""
        if slots.all is None:
            return None
        if epoch == stamp.epoch:
            return stamp.epochs(slots.all)
        if stamp.is_lenient:
            return None
        staying = {old for old in stamp.every_epoch if self.may_stay(old, epoch)}
        kept = {slot: old for slot, old in stamp.epochs(slots.all - slots.narrowed).items() if old in staying}
        return dict.fromkeys(slots.all, epoch) | kept

    def due(self, stamp: Stamp) -> Collection[int]:
        """Return the epochs to clear ahead of their use, while that stamp is in force; few changes need any."""
        if stamp.is_unsettled:
            return self.others(stamp.epoch)
        half = self.half_of(stamp.epoch)
        if stamp.epoch < self.middle_of(half):
            return ()
        return self.half_of(self.after(half.stop - 1))


@dataclass(frozen=True, slots=True)
class Ageing:
    """The ageing of one namespace's epochs."""

    found: Stamp | None
    """The stamp before an apply."""
    stamp: Stamp
    """The stamp after it."""
    since: Stamp
    """The first stamp of a row of our own applies.

    In all of them the same epochs were due, and nobody wrote any of them.
    """

    def after(self, previous: Ageing | None, epochs: Epochs) -> Ageing:
        """Return this, with what is known of the apply before it."""
        if previous is None or previous.stamp != self.found:
            return self
        old, new = previous.stamp, self.stamp
        is_same = not old.is_unsettled and not new.is_unsettled and old.epoch in epochs.half_of(new.epoch)
        return replace(self, since=previous.since) if is_same or old == new else self


def get_ageing(known: Ageing | None, stamp: object) -> Ageing | None:
    """Return what is known of the last apply, if that stamp is in force."""
    if (known is not None and known.stamp == stamp) or not isinstance(stamp, Stamp):
        return known
    return Ageing(stamp, stamp, stamp)


@dataclass(frozen=True, slots=True)
class ClearedEpochs:
    """Epochs that no session of a namespace carries, while the row of applies lasts that began with that stamp."""

    since: Stamp
    epochs: frozenset[int]


@dataclass(frozen=True, slots=True)
class Clearance:
    """What is known of the sessions' marks in a namespace, and what an apply may do there."""

    ageing: Ageing | None = None  # what the apply before has left
    clear: frozenset[int] = frozenset()  # epochs that no session carries, while that ageing lasts
    most: int | None = None  # how many sessions it may look through itself, since others wait for it; None: any number

    @classmethod
    def of(cls, ageing: Ageing | None, known: ClearedEpochs | None, most: int) -> Clearance:
        """Return what is known, if the cleared epochs are of the row of applies that lasts."""
        is_so = known is not None and ageing is not None and known.since == ageing.since
        return cls(ageing, known.epochs if known is not None and is_so else frozenset(), most)

    def covers(self, epochs: Collection[int], stamp: Stamp | None) -> bool:
        """Whether no session carries one of these epochs, while that stamp is in force."""
        return stamp is not None and self.ageing is not None and self.ageing.stamp == stamp and self.clear >= {*epochs}


UNKNOWN = Clearance()
