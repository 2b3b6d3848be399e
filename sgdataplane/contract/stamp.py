"""The stamp: what an apply notes in its table about itself.

Owns the name and the keys of the map that holds it. Must not know how a map is written or read.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

STAMP_MAP = "applied"  # number -> mark
EPOCH_KEY, GENERATION_KEY, SECRET_KEY, UNSETTLED_KEY = 0, 5, 6, 7
DIGEST_KEYS = (1, 2, 3, 4)  # 128 bits of the table's digest
LAST_GENERATION = 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class Stamp:
    """What the last apply noted: its epoch, the digest of its table, and the nftables generation that its commit made.
    While the namespace still has that generation, nobody has changed any nftables object there. `secret`: the mark of
    packets that the policy approved, 0 if they get none. `is_unsettled`: sessions may carry the epoch that this policy
    never accepted."""

    epoch: int
    digest: str
    generation: int | None = None
    secret: int = 0
    is_unsettled: bool = False

    @classmethod
    def of(cls, elements: Mapping[Any, object]) -> Stamp | None:
        """The stamp that a map's elements hold; None if it isn't whole."""
        words = {key: value for key, value in elements.items() if isinstance(value, int)}
        if not all(key in words for key in (EPOCH_KEY, *DIGEST_KEYS)):
            return None
        digest = "".join(f"{words[key]:08x}" for key in DIGEST_KEYS)
        generation, secret, is_unsettled = words.get(GENERATION_KEY), words.get(SECRET_KEY, 0), UNSETTLED_KEY in words
        return cls(words[EPOCH_KEY], digest, generation, secret, is_unsettled)


def next_generation(generation: int, commits: int = 1) -> int:
    """The generation after that many commits. It is never 0 (nft_base_seq_inc)."""
    return (generation + commits - 1) % LAST_GENERATION + 1
