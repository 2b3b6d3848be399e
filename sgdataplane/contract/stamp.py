"""The stamp: what an apply writes into its table about itself.

Owns the map that holds it, and its keys. Must not know how a map is written or read.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

STAMP_MAP = "applied"  # number -> mark
EPOCH_KEY, GENERATION_KEY, SECRET_KEY = 0, 5, 6
DIGEST_KEYS = (1, 2, 3, 4)  # 128 bits of the table's digest
LAST_GENERATION = 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class Stamp:
    """What the last apply wrote about itself: its epoch, the digest of its table, and the generation that its commit
    made. As long as the namespace's generation is that one, nobody has changed any nftables object since.
    `secret` is the packet mark of approved packets, 0 if they get none."""

    epoch: int
    digest: str
    generation: int | None = None
    secret: int = 0

    @classmethod
    def of(cls, elements: Mapping[int | str, object]) -> Stamp | None:
        """None if the elements are no whole stamp."""
        words = {key: value for key, value in elements.items() if isinstance(value, int)}
        if not all(key in words for key in (EPOCH_KEY, *DIGEST_KEYS)):
            return None
        digest = "".join(f"{words[key]:08x}" for key in DIGEST_KEYS)
        return cls(words[EPOCH_KEY], digest, words.get(GENERATION_KEY), words.get(SECRET_KEY, 0))


def next_generation(generation: int, commits: int = 1) -> int:
    """The generation after that many commits; 0 is never one (nft_base_seq_inc)."""
    return (generation + commits - 1) % LAST_GENERATION + 1
