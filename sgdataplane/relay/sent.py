"""What hosts have, by digests: of each open stream, and of each host whose stream has ended.

Owns how that is kept, on disk, and what is forgotten. Must not know sockets, or what an object is.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from sgdataplane.relay.digests import DIGEST
from sgdataplane.relay.spill import SpillFile, Text
from sgdataplane.relay.wire import digest_of_all
from sgdataplane.store.interface import Path

MAX_KEPT = 20_000  # hosts of which is kept where their stream ended, each with some 0.4 KB of memory
MAX_MISSED = 32  # paths that may have changed for such a host, with 2 KB more
HASH = 8  # bytes


@dataclass(frozen=True, slots=True)
class Sent:
    """The objects that a host has: 24 bytes an object, which are on disk if there are more than a few.

    In place of a path there are 64 bits of Python's hash of it. Its key is of this process alone, so nobody can make
    two paths that have the same bits on purpose. By chance, two among the 100,000 paths of a host have the same once
    in 10^10 times.
    """

    text: Text = b""  # the hashes of the paths, and then the digests in the same order

    @staticmethod
    def of(digests: Mapping[int, bytes], file: SpillFile) -> Sent:
        """Keep digests by the hashes of their objects' paths, in a file."""
        return Sent(file.keep(array("q", digests).tobytes() + b"".join(digests.values())))

    def by_path(self) -> dict[int, bytes]:
        """Return each object's digest, by the hash of its path.

        Raises:
            DamagedError: The file isn't read as it was written.
        """
        text = self._read()
        hashes = array("q", text[: len(text) // (HASH + DIGEST) * HASH])
        return dict(zip(hashes, _digests(text), strict=True))

    def digest_of_all(self) -> str:
        """Return the digest that a host with all these objects says.

        Raises:
            DamagedError: The file isn't read as it was written.
        """
        return digest_of_all(_digests(self._read()))

    def _read(self) -> bytes:
        return self.text if isinstance(self.text, bytes) else self.text.file.read(self.text)


def _digests(text: bytes) -> list[bytes]:
    first = len(text) // (HASH + DIGEST) * HASH
    return [text[start : start + DIGEST] for start in range(first, len(text), DIGEST)]


def by_hash(digests: Mapping[Path, bytes]) -> dict[int, bytes]:
    """Return digests by the hashes of their paths, as `Sent` keeps them."""
    return {hash(path): digest for path, digest in digests.items()}


@dataclass(frozen=True, slots=True)
class ResumePoint:
    """Where the last stream of a host ended. The next one goes on from there."""

    sent: Sent
    missed: frozenset[Path]  # the paths of which the host may have to hear


class ResumePoints:
    """The resume points of hosts that have no stream, or one that isn't answered yet. So who comes back costs little.

    It holds those of at most `most` hosts, and forgets the oldest of more. It also forgets that of a host for which
    more than `MAX_MISSED` paths may have changed.
    """

    def __init__(self, most: int = MAX_KEPT) -> None:
        self._most = most
        self._points: dict[str, ResumePoint] = {}  # host -> where its stream ended

    def find(self, host: str, digest: str) -> ResumePoint | None:
        """Return where the stream of a host ended that has `digest`; None if it isn't known what the host has.

        Raises:
            DamagedError: What the host had isn't read as it was written.
        """
        found = self._points.get(host) if digest else None
        return found if found is not None and found.sent.digest_of_all() == digest else None

    def keep(self, host: str, point: ResumePoint) -> None:
        """Keep a resume point in place of the last one."""
        self.forget(host)
        if len(point.missed) <= MAX_MISSED:
            self._points[host] = point
        if len(self._points) > self._most:
            del self._points[next(iter(self._points))]

    def note(self, host: str, paths: Iterable[Path]) -> None:
        """Note paths whose objects may be different now for a host."""
        if (point := self._points.get(host)) is None:
            return
        missed = point.missed.union(paths)
        if len(missed) <= MAX_MISSED:
            self._points[host] = ResumePoint(point.sent, missed)
        else:
            del self._points[host]

    def forget(self, host: str) -> None:
        """Forget the resume point of a host, whose stream goes on elsewhere."""
        self._points.pop(host, None)
