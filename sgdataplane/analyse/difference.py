"""Everything that a change of the state does: the answer of `sgdp diff`, SgdpDiff and the library's `diff()`.

Owns what belongs to the answer. Is given a comparison, and the findings about what can't be judged. Must not know
files, nor how anything is printed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol, TypeVar

from sgdataplane.analyse.diff import EniDiff, StateDiff
from sgdataplane.analyse.hypothetical import WouldOpen
from sgdataplane.analyse.view import Exposure, VerdictChange
from sgdataplane.analyse.wouldopen import is_blind, unknown_members
from sgdataplane.policy.findings import Finding

T = TypeVar("T")


class StepListener(Protocol):
    """Learns how far a comparison is."""

    def expect(self, total: int) -> None:
        """Take note of how many steps there are."""

    def advance(self) -> None:
        """Take note that one more step is done."""


class _Unheard:
    def expect(self, total: int) -> None: ...

    def advance(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Difference:
    """Everything that a change does."""

    enis: tuple[EniDiff, ...]
    """What changes at each ENI where something does."""
    would_open: tuple[WouldOpen, ...]
    """What would open at ENIs that aren't there."""
    not_judged: tuple[Finding, ...]
    """What can't be judged."""
    added: tuple[str, ...]
    """The ENIs that are in the second state only."""
    removed: tuple[str, ...]
    """The ENIs that are in the first state only."""

    def __bool__(self) -> bool:
        """Return whether any verdict changes or would change, or may do so unseen."""
        return bool(self.enis or self.would_open or self.not_judged)

    @property
    def changes(self) -> tuple[VerdictChange, ...]:
        """The traffic whose verdict changes, of all ENIs."""
        return tuple(change for one in self.enis for change in one.changes)

    @property
    def exposures(self) -> tuple[Exposure, ...]:
        """The traffic that opens to the internet."""
        return tuple(exposure for one in self.enis for exposure in one.exposures)

    @property
    def is_exposed(self) -> bool:
        """Whether something opens to the internet, or may do so unseen."""
        return bool(self.not_judged or self.exposures) or any(one.exposures for one in self.would_open)

    @property
    def is_open(self) -> bool:
        """Whether anything at all opens, or may do so unseen."""
        return bool(self.not_judged or self.would_open) or any(change.is_opening for change in self.changes)


def compare(diff: StateDiff, not_judged: tuple[Finding, ...] = (), steps: StepListener | None = None) -> Difference:
    """Return everything that changes from one state to the other.

    `not_judged` has what can't be judged in their files.
    """
    steps = steps or _Unheard()
    concerned, places = diff.list_concerned(), diff.hypothetical.places()
    steps.expect(len(concerned) + len(places))
    enis = tuple(one for one in _each(map(diff.at, concerned), steps) if one.changes)
    would_open = tuple(one for some in _each(map(diff.hypothetical.at, places), steps) for one in some)
    blind = (*not_judged, *unknown_members(filter(is_blind, would_open)))
    would_open = tuple(one for one in would_open if not is_blind(one))
    return Difference(enis, would_open, blind, tuple(diff.added), tuple(diff.removed))


def _each(results: Iterable[T], steps: StepListener) -> Iterator[T]:
    for result in results:
        yield result
        steps.advance()
