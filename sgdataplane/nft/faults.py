"""List faults of kernels that concern what we do, and what we do about each.

Owns the table. It is given a kernel's version, and what the kernel says of itself. It must not know who asks.

The version decides only what is reported. What we do doesn't depend on it: it is the same on all kernels, or it depends
on what the kernel itself says or shows, since distributions bring fixes back without another version.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from sgdataplane.host import btf
from sgdataplane.host.kernelversion import RunningKernel, Version

COMMITS = "https://git.kernel.org/linus/"
Branch = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault of kernels."""

    name: str
    commit: str
    """The upstream commit that mends it."""
    fixed: Branch
    """The first version without it."""
    effect: str
    """What it does, for people."""
    answer: str
    """What we do about it, for people."""
    stable: Mapping[Branch, int] = field(default_factory=dict)
    """The first patch level without it, by older version."""
    is_felt: bool = True
    """Whether a newer kernel serves users better."""

    def is_in(self, version: Version | None) -> bool | None:
        """Return whether a kernel of that version has it; None if that can't be told."""
        if version is None:
            return None
        major, minor, patch = version
        if (major, minor) >= self.fixed:
            return False
        first = self.stable.get((major, minor))
        if first is None:
            return True if patch is not None else None
        return None if patch is None else patch < first


MISSED_KEYS = Fault(
    "missed-keys",
    "b2f742c846ca",
    (6, 17),
    "a look-up during a commit may find neither element of a key that gets another value",
    "a change that gives a key another value takes a detour of two switches, so that rules ask maps that stay whole",
    {(6, 12): 48, (6, 16): 8},
)
FAULTS = (
    MISSED_KEYS,
    Fault(
        "missed-ranges",
        "7e43e0a1141d",
        (7, 0),
        "a look-up in a set of ranges may miss while the set changes",
        "none of our sets of ranges ever changes: each comes and goes with its rule",
        is_felt=False,
    ),
    Fault(
        "kept-timeouts",
        "4201f3938914",
        (6, 12),
        "an element that is added again keeps the time that it has left",
        "an ENI that returns has its old adoption window taken away first",
        is_felt=False,
    ),
    Fault(
        "walks-every-path",
        "8e1a1bc4f5a4",
        (6, 19),
        "each commit walks every path through the rules",
        "the walk is estimated: above 1 s there is a warning, above 10 s the change is refused",
        {(6, 12): 66, (6, 18): 6},
    ),
    Fault(
        "walks-other-tables",
        "00c320f9b755",
        (6, 4),
        "a commit to one table walks the other tables of the namespace, too",
        "the estimate counts the policy's table for the fence's commits",
        is_felt=False,
    ),
)


@dataclass(frozen=True, slots=True)
class FoundFault:
    """A fault that the kernel has, or, unless it `is_certain`, may have."""

    fault: Fault
    is_certain: bool

    def as_json(self) -> dict[str, object]:
        """Return it as a JSON object."""
        fault = self.fault
        return {
            "name": fault.name,
            "certain": self.is_certain,
            "felt": fault.is_felt,
            "effect": fault.effect,
            "answer": fault.answer,
            "source": COMMITS + fault.commit,
        }


def looks_again() -> bool | None:
    """Return whether this kernel repeats a look-up that finds nothing during a commit; None if it doesn't say.

    Kernels with b2f742c846ca do. What that commit needs is in each namespace (64102d9bbc3d) since then.
    """
    known = btf.members("netns_nftables")
    return None if known is None else "base_seq" in known


def faults_of(kernel: RunningKernel, looking: bool | None) -> tuple[FoundFault, ...]:
    """Return the faults of that kernel. `looking` is what looks_again() says there."""
    return tuple(_faults_of(kernel, looking))


def _faults_of(kernel: RunningKernel, looking: bool | None) -> Iterator[FoundFault]:
    for fault in FAULTS:
        is_there = fault.is_in(kernel.version)
        if fault is MISSED_KEYS and looking is not None:
            is_there = not looking
        if is_there is not False:
            yield FoundFault(fault, is_certain=is_there is True)
