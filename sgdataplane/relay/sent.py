"""What hosts have, by digests: of each open stream, and of each host that was answered before.

Owns how that is kept, on disk, and which answers are forgotten. Must not know sockets, or what an object is.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from sgdataplane.relay.spill import SpillFile, Text
from sgdataplane.store.interface import Path

MAX_KEPT = 20_000  # hosts whose last answer is kept, each with some 0.4 KB of memory


@dataclass(frozen=True, slots=True)
class Sent:
    """The objects that a host has: 16 bytes an object, which are on disk if there are more than a few.

    In place of a path and of its object's digest there are 64 bits of Python's hash of each. Its key is of this process
    alone, so nobody can make two that have the same bits on purpose. By chance, a change has the bits of what was there
    before once in 10^19 times, and two among the 100,000 paths of a host have the same once in 10^10 times.
    """

    text: Text = b""  # the hashes of the paths, 8 bytes each, and those of the digests in the same order

    @staticmethod
    def of(digests: Mapping[int, int], file: SpillFile) -> Sent:
        """Keep the hashes of digests, by the hashes of the objects' paths, in a file."""
        return Sent(file.keep(array("q", [*digests, *digests.values()]).tobytes()))

    def by_path(self) -> dict[int, int]:
        """Return the hash of each object's digest, by the hash of its path.

        Raises:
            DamagedError: The file isn't read as it was written.
        """
        hashes = array("q", self.text if isinstance(self.text, bytes) else self.text.file.read(self.text))
        count = len(hashes) // 2
        return dict(zip(hashes[:count], hashes[count:], strict=True))


def hash_all(digests: Mapping[Path, bytes]) -> dict[int, int]:
    """Return the hashes of digests by the hashes of their paths, as `Sent` keeps them."""
    return {hash(path): hash(digest) for path, digest in digests.items()}


@dataclass(frozen=True, slots=True)
class LastAnswer:
    """All that a host gets, as it was when the host was answered last."""

    digest: str  # `digest_of_all` of the objects
    sent: Sent


class LastAnswers:
    """The last answers to hosts whose part of the store hasn't changed since. So who comes back costs little.

    It holds those of at most `most` hosts, and forgets the oldest of more.
    """

    def __init__(self, most: int = MAX_KEPT) -> None:
        self._most = most
        self._answers: dict[str, LastAnswer] = {}  # host -> its last answer

    def find(self, host: str, digest: str) -> LastAnswer | None:
        """Return the answer to a host that has all of it; None if it isn't known whether the host has."""
        found = self._answers.get(host)
        return found if found is not None and found.digest == digest else None

    def keep(self, host: str, answer: LastAnswer) -> None:
        """Keep an answer in place of the last one."""
        self._answers.pop(host, None)
        self._answers[host] = answer
        if len(self._answers) > self._most:
            del self._answers[next(iter(self._answers))]

    def forget(self, hosts: Iterable[str]) -> None:
        """Forget the answers to hosts, because what they get may be different now."""
        for host in hosts:
            self._answers.pop(host, None)
