"""What opens to the internet: ports that most of the public addresses may reach after a change, and might not before.

Owns what counts as open. Is given the traffic that is accepted before and after. Must not know rules.

Most, not all: a rule for 0.0.0.0/0 with one abuser refused is open, and so are 0.0.0.0/1 and 128.0.0.0/1, in one change
or in two. What already was open and loses such an exception has not been opened.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sgdataplane.analyse.exposed import internet
from sgdataplane.analyse.order import Mask, bits, overlay
from sgdataplane.analyse.regions import Block, Region, addresses, merged
from sgdataplane.net.ranges import Ranges, count, meet, united
from sgdataplane.net.values import Family


def opened(before: Region, after: Region, family: Family) -> Region:
    """The traffic, whatever its far address, that more than half of the public addresses may send after and not before.
    Given what is accepted then, in disjoint blocks; of what it returns, `far` is all of the family."""
    public = internet(family, ())
    weights, shapes = [], []
    for sign, region in ((-1, before), (1, after)):
        for block in region:
            weight = count(meet(block.far, public))
            if weight:
                weights.append(sign * weight)
                shapes.append(block[1:])
    search = _Search(shapes, weights, count(public) // 2)
    every = (1 << len(weights)) - 1
    return merged(Block((addresses(family), *shape)) for shape in search.open(0, every))


class _Search:
    """Dimension by dimension, cut where a shape begins or ends; left as soon as what remains can't be enough."""

    def __init__(self, shapes: Sequence[tuple[Ranges, ...]], weights: Sequence[int], enough: int) -> None:
        self._shapes, self._weights, self._enough = shapes, weights, enough

    def open(self, dim: int, holding: Mask) -> Iterator[tuple[Ranges, ...]]:
        weights = [self._weights[index] for index in bits(holding)]
        if sum(weight for weight in weights if weight > 0) <= self._enough:
            return
        if dim == len(self._shapes[0]):
            if -sum(weight for weight in weights if weight < 0) <= self._enough:
                yield ()
            return
        sets = ((self._shapes[index][dim], 1 << index) for index in bits(holding))
        within = united(i for index in bits(holding) for i in self._shapes[index][dim])
        for parts, ranges in overlay(sets, within).items():
            yield from ((ranges, *rest) for rest in self.open(dim + 1, parts))
