"""Say how the fields of one kind of packet are read: which are known, and which are on an axis.

Owns the way from a field and a mask to an axis. It must not know tables.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from sgdataplane.contract.fields import Field
from sgdataplane.nft.ir import Key, Match, Range

Asked = tuple[Field, int | None]  # a field, and a mask if the field has an axis for each of several masks


@dataclass(frozen=True)
class FieldReading:
    """How the fields of one kind of packet are read. No other field may be read."""

    known: Mapping[Field, Key | None]
    """The fields with a known value; LACKING if packets don't have the field."""
    axes: Mapping[Asked, int]
    """The index of the axis of each other field, or of each part of a field under a mask."""
    far: Field | None = None
    """The field with the far address, if it may be looked up in the map of members, and only there."""
    members: str = ""
    """The name of the map of members."""
    passing: tuple[Key, ...] = ()
    """The keys that are in maps whose elements expire, at this moment."""
    answers: Mapping[Match, bool] = field(default_factory=dict)
    """Whether these matches hold, where nothing else is known about their fields."""

    def parts(self, match: Match) -> list[Match]:
        """Return the match as several ones, each under the mask of one axis, unless it is on one axis itself."""
        mask = match.mask
        if mask is None or match.negate or len(match.ranges) != 1 or self.axis(match.field, mask) is not None:
            return [match]
        masks = [part for asked, part in self.axes if asked is match.field and part and not part & ~mask]
        (value,) = match.ranges
        if sum(masks) != mask or value.first != value.last:
            return [match]
        return [Match(match.field, (Range.of(int(value.first) & part),), mask=part) for part in masks]

    def axis(self, asked: Field, mask: int | None) -> int | None:
        """Return the index of the axis of a field, or of its part under a mask; None if there is none."""
        found = self.axes.get((asked, None))
        return self.axes.get((asked, mask)) if found is None else found
