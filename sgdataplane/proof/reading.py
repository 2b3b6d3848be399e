"""How the fields of one kind of packet are read: known, on an axis, or by the far address.

Owns which is which. Must not know chains.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from sgdataplane.contract.fields import Field
from sgdataplane.nft.ir import Key, Match, Range

Asked = tuple[Field, int | None]  # a field, under a mask where it is split by masks


@dataclass(frozen=True)
class Reading:
    """How one kind of packet's fields are read: `known` (LACKING: it has none), `far` (known once an address is
    chosen), or on an axis; `axes` maps a field, or a field under one mask, to its index. Nothing else may be read.
    `passing`: keys that are there, at the moment, in maps whose elements go by themselves. `answers`: whether these
    matches hold, where nothing else is known of their fields."""

    known: Mapping[Field, Key | None]
    axes: Mapping[Asked, int]
    far: Field | None = None
    passing: tuple[Key, ...] = ()
    answers: Mapping[Match, bool] = field(default_factory=dict)

    def parts(self, match: Match) -> list[Match]:
        """The same as several matches, each under the mask of one axis, if it isn't on one itself."""
        mask = match.mask
        if mask is None or match.negate or len(match.ranges) != 1 or self.axis(match.field, mask) is not None:
            return [match]
        masks = [part for asked, part in self.axes if asked is match.field and part and not part & ~mask]
        (value,) = match.ranges
        if sum(masks) != mask or value.first != value.last:
            return [match]
        return [Match(match.field, (Range.of(int(value.first) & part),), mask=part) for part in masks]

    def axis(self, asked: Field, mask: int | None) -> int | None:
        found = self.axes.get((asked, None))
        return self.axes.get((asked, mask)) if found is None else found
