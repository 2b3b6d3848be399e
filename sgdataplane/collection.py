"""A pause of Python's garbage collector, for work that makes very many values and no reference cycles.

Owns the pause. Must not know the work.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def no_collection() -> Iterator[None]:
    """The collector would take two fifths of a compile's time, half of a proof's, and now and then more than half of an
    apply's in a large router (measured with CPython 3.13)."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
