"""The kernel's doors to many namespaces, one after the other.

Owns when they are closed, and what one has shown of the kernel that all share. Must not know what is done there.

Who closes a door just after something was deleted in its namespace has to wait until it is gone (10 ms); a moment later
nobody has to. But an open door keeps its namespace, so none is open longer than this is in use.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Self

from sgdataplane.nft.kernel import LibnftKernel

MOST_OPEN = 32


class Doors:
    """A context: at its end all are closed."""

    def __init__(self) -> None:
        self._used: deque[LibnftKernel] = deque()
        self._features: set[str] = set()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        while self._used:
            self._used.popleft().close()

    @contextmanager
    def open(self, namespace: str) -> Iterator[LibnftKernel]:
        """For the block only. Errors as of LibnftKernel."""
        kernel = LibnftKernel(namespace, self._features)
        try:
            yield kernel
        finally:
            self._used.append(kernel)
            if len(self._used) > MOST_OPEN:
                self._used.popleft().close()
