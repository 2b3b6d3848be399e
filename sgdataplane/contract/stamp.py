"""Define the stamp: what an apply notes in its table about itself.

Owns the name and the keys of the map that holds it. It must not know how a map is written or read.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

STAMP_MAP = "applied"  # a map from numbers to marks
EPOCH_KEY, GENERATION_KEY, SECRET_KEY, UNSETTLED_KEY, USUAL_KEY, LENIENT_KEY = 0, 5, 6, 7, 8, 9
DIGEST_KEYS = (1, 2, 3, 4)  # they hold 128 bits of the table's digest
FIRST_OWN_KEY = 0x100  # plus a slot of the mark, it is the key of the epoch of the ENI there
LAST_GENERATION = 0xFFFFFFFF
OwnEpochs = tuple[tuple[int, int], ...]  # pairs of slot and epoch


@dataclass(frozen=True, slots=True)
class Stamp:
    """What the last apply noted.

    An ENI keeps an earlier epoch until a change may refuse something of its.
    """

    epoch: int
    """The epoch of the apply."""
    digest: str
    """The digest of the table, in 32 hexadecimal digits."""
    generation: int | None = None
    """The nftables generation that the apply's commit made.

    While the namespace still has it, nobody has changed any nftables object there.
    """
    secret: int = 0
    """The mark of packets that the policy approved; 0 if they get none."""
    is_unsettled: bool = False
    """Whether sessions may carry the epoch that this policy never accepted."""
    usual: int | None = None
    """The epoch of all ENIs that aren't in `own`; None if it is the apply's."""
    own: OwnEpochs = ()
    """Slots with the epochs of their ENIs, sorted."""
    is_lenient: bool = False
    """Whether sessions may carry an epoch that is in force, and be refused, since a change kept them (`on_change`)."""

    @property
    def every_epoch(self) -> set[int]:
        """All epochs that it names."""
        usual = set() if self.usual is None else {self.usual}
        return {self.epoch, *usual, *(epoch for _, epoch in self.own)}

    def epochs(self, slots: Iterable[int]) -> dict[int, int]:
        """Return the epoch of the ENI at each of these slots."""
        own, usual = dict(self.own), self.epoch if self.usual is None else self.usual
        return {slot: own.get(slot, usual) for slot in slots}

    def with_epochs(self, epochs: Mapping[int, int]) -> Stamp:
        """Return the stamp with that epoch at each slot."""
        counts = Counter(epochs.values())
        usual = max(counts, key=lambda epoch: (counts[epoch], epoch), default=self.epoch)
        own = tuple(sorted((slot, epoch) for slot, epoch in epochs.items() if epoch != usual))
        return replace(self, usual=None if usual == self.epoch else usual, own=own)

    @property
    def elements(self) -> tuple[tuple[int, int], ...]:
        """The elements of the map that says this."""
        words = [int(self.digest[start : start + 8], 16) for start in range(0, 32, 8)]
        found = [(EPOCH_KEY, self.epoch), *zip(DIGEST_KEYS, words, strict=True)]
        if self.generation is not None:
            found.append((GENERATION_KEY, self.generation))
        if self.secret:
            found.append((SECRET_KEY, self.secret))
        if self.is_unsettled:
            found.append((UNSETTLED_KEY, 1))
        if self.usual is not None:
            found.append((USUAL_KEY, self.usual))
        if self.is_lenient:
            found.append((LENIENT_KEY, 1))
        return (*found, *((FIRST_OWN_KEY + slot, epoch) for slot, epoch in self.own))

    @classmethod
    def of(cls, elements: Mapping[Any, object]) -> Stamp | None:
        """Return the stamp that a map's elements hold; None if it isn't whole."""
        words = {key: value for key, value in elements.items() if isinstance(value, int)}
        if not all(key in words for key in (EPOCH_KEY, *DIGEST_KEYS)):
            return None
        digest = "".join(f"{words[key]:08x}" for key in DIGEST_KEYS)
        own = tuple(sorted((key - FIRST_OWN_KEY, epoch) for key, epoch in words.items() if key > FIRST_OWN_KEY))
        return cls(
            words[EPOCH_KEY],
            digest,
            words.get(GENERATION_KEY),
            words.get(SECRET_KEY, 0),
            UNSETTLED_KEY in words,
            words.get(USUAL_KEY),
            own,
            LENIENT_KEY in words,
        )


def next_generation(generation: int, commits: int = 1) -> int:
    """Return the generation after that many commits. It is never 0 (nft_base_seq_inc)."""
    return (generation + commits - 1) % LAST_GENERATION + 1
