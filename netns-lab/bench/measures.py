"""What is measured and in which unit, and what samples say: medians, spread, and ratios pair by pair.

Owns the arithmetic. Must not know how a sample is measured.
"""

from __future__ import annotations

import enum
import statistics
from collections.abc import Sequence
from dataclasses import dataclass


class Measure(enum.Enum):
    """A measure, in ns for each packet or connection, in ms for each command. Less is always better."""

    UDP_IN = "established UDP, in"
    UDP_OUT = "established UDP, out"
    TCP_IN = "established TCP, in"
    TCP_OUT = "established TCP, out"
    ONE_WAY = "one-way UDP"
    DENIED = "denied flood"
    AUDITED = "audited flood"
    CONNECT = "new connection"
    LOAD = "load"
    ADD = "add a rule"
    REMOVE = "remove a rule"


ESTABLISHED = (Measure.TCP_IN, Measure.TCP_OUT, Measure.UDP_IN, Measure.UDP_OUT)


@dataclass(frozen=True, slots=True)
class Spread:
    """A median with its quartiles."""

    low: float
    median: float
    high: float

    @property
    def half(self) -> float:
        """Half the distance between the quartiles."""
        return (self.high - self.low) / 2


def spread(samples: Sequence[float]) -> Spread:
    """The spread of at least one sample."""
    if len(samples) == 1:
        return Spread(samples[0], samples[0], samples[0])
    return Spread(*statistics.quantiles(samples, n=4, method="inclusive"))


def ratios(above: Sequence[float], below: Sequence[float]) -> list[float]:
    """The ratios, sample by sample. Two samples of one round belong together, whatever the machine's speed was then."""
    return [a / b for a, b in zip(above, below, strict=True)]


def differences(left: Sequence[float], right: Sequence[float]) -> list[float]:
    """The differences, sample by sample."""
    return [a - b for a, b in zip(left, right, strict=True)]
