"""Which epoch an apply uses, and that no session carries it from long ago.

Owns the order of epochs: from 1 to the last one of the site, and again from 1. They are two halves; before one is
entered, all its epochs, given a long time ago, are taken off the sessions that still carry them. The present epoch is
in the other half, so no packet renews them. Is given the stamp of what is in force. Must not know policies.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Protocol

from sgdataplane.contract.marks import FIRST_EPOCH, MarkLayout
from sgdataplane.contract.stamp import Stamp
from sgdataplane.host import netns
from sgdataplane.host.conntrack import Bound, clear_mark_fields, shorten_tracked
from sgdataplane.host.sockets import seed_sessions
from sgdataplane.net.values import Prefix
from sgdataplane.nft.kernel import Kernel


class Sessions(Protocol):
    """The running sessions of the namespace."""

    def forget_epochs(self, epochs: range) -> int:
        """Take these epochs off every session, so that its next packet is judged; how many there were."""

    def seed(self, own: Collection[Prefix]) -> int:
        """Have those tracked that sockets with these addresses have running already; how many were not yet."""

    def shorten(self, longest: Bound) -> int:
        """Leave each no more seconds than that (None: as many as it has); how many had more."""


@dataclass(frozen=True, slots=True)
class KernelSessions:
    """The sessions in the conntrack table of a namespace, whose marks are laid out so."""

    namespace: str
    marks: MarkLayout

    def forget_epochs(self, epochs: range) -> int:
        with netns.inside(self.namespace):
            return clear_mark_fields(self.marks.epoch_fields, epochs)

    def seed(self, own: Collection[Prefix]) -> int:
        with netns.inside(self.namespace):
            return seed_sessions(own)

    def shorten(self, longest: Bound) -> int:
        with netns.inside(self.namespace):
            return shorten_tracked(longest)


@dataclass(frozen=True, slots=True)
class Epochs:
    """1..last, in two halves."""

    last: int

    @property
    def all(self) -> range:
        return range(FIRST_EPOCH, self.last + 1)

    @property
    def second_half(self) -> int:
        """Its first epoch."""
        return (self.last + 1) // 2

    def usable(self, stamp: Stamp | None) -> Stamp | None:
        return stamp if stamp is not None and stamp.epoch in self.all else None

    def choose(self, stamp: Stamp | None, digest: str, on_change: str, *, is_certain: bool) -> int:
        """A new epoch for a changed policy, so that every session is judged once more; and for the same one, unless it
        is certain that nobody else has changed the rules: what these have accepted meanwhile is to be judged, too."""
        if stamp is None:
            return FIRST_EPOCH
        if on_change == "keep" or (stamp.digest == digest and is_certain):
            return stamp.epoch
        return FIRST_EPOCH if stamp.epoch == self.last else stamp.epoch + 1

    def _half_of(self, epoch: int) -> range:
        is_first = epoch < self.second_half
        return range(FIRST_EPOCH, self.second_half) if is_first else range(self.second_half, self.last + 1)

    def retire(self, kernel: Kernel, sessions: Sessions, stamp: Stamp | None, epoch: int) -> None:
        """Make sure that no session carries `epoch` yet, if it is about to be used anew."""
        old = self.all if stamp is None else self._half_of(epoch)
        if stamp is not None and stamp.epoch in old:
            return
        if sessions.forget_epochs(old):
            kernel.settle()  # a packet that read such a mark just before may have written it back
            sessions.forget_epochs(old)
