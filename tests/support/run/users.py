"""This process as another user for a while, with no right of root's: what it may open and connect to, the kernel says.

Owns becoming that user and root again. Must not know what is tried.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

ALICE, BOB = 60_001, 60_002  # nobody has these numbers


@contextmanager
def as_user(user: int, group: int | None = None) -> Iterator[None]:
    """As that user in that group alone; by default, the group of the same number."""
    groups = os.getgroups()
    os.setgroups(())
    os.setegid(user if group is None else group)
    os.seteuid(user)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)
        os.setgroups(groups)
