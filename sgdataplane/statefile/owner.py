"""Who may change what is read: nobody but root and one user.

Owns that rule. Is given what the kernel says of files and folders. Must not know what is in them.

The user who can change the state decides what root enforces. That may be root, or one user to whom root has left it.
From where that user's folders begin, everything must be this user's. Then no link of theirs leads to a file that only
root may read, whose text an error would show.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from sgdataplane.errors import Where
from sgdataplane.statefile.problems import Problems

MAX_LINKS = 40  # as in the kernel
ROOT = 0
SHARED = stat.S_IWGRP | stat.S_IWOTH  # this covers access control lists, too: the group's bits are their mask


class SoleOwner:
    """Finds out which user owns a state, while the state is read."""

    def __init__(self) -> None:
        self._user = ROOT
        self._is_known = self._is_refused = False

    @property
    def user(self) -> int:
        """The one user; root if there is no other, or if the rule was broken."""
        return ROOT if self._is_refused else self._user

    def leads(self, path: Path, problems: Problems) -> bool:
        """Return whether every folder and link on the way to the path is root's or one user's.

        Raises:
            OSError: the path leads nowhere.
        """
        return all(self._passes(place, found, problems) for place, found in way_to(path))

    def holds(self, path: Path, opened: int, problems: Problems) -> bool:
        """Return whether an open file or folder of that path is that user's."""
        found = os.fstat(opened)
        if found.st_mode & SHARED:
            return self._refuse_shared(path, found, problems)
        if found.st_uid != self._user and (self._is_known or self._user != ROOT):
            words = "it isn't its folder's owner's", f"a file or folder of the user {self._user}"
            return self._refuse(path, "Owner", (*words, f"user {found.st_uid}"), problems)
        self._user, self._is_known = found.st_uid, True
        return True

    def _passes(self, place: Path, found: os.stat_result, problems: Problems) -> bool:
        """Return whether a folder or link may lead on; in a sticky folder, others can't replace what is there."""
        if not stat.S_ISLNK(found.st_mode) and found.st_mode & SHARED and not found.st_mode & stat.S_ISVTX:
            return self._refuse_shared(place, found, problems)
        if found.st_uid not in (ROOT, self._user) and self._user != ROOT:
            words = "two users could change the state", f"a folder or link of root or the user {self._user}"
            return self._refuse(place, "Owner", (*words, f"user {found.st_uid}"), problems)
        self._user = found.st_uid or self._user
        return True

    def _refuse_shared(self, place: Path, found: os.stat_result, problems: Problems) -> bool:
        words = "others than its owner could change the state", f"chmod go-w {place}", stat.filemode(found.st_mode)
        return self._refuse(place, "Writable", words, problems)

    def _refuse(self, place: Path, code: str, words: tuple[str, str, str], problems: Problems) -> bool:
        """Note a problem; `words` are what is wrong, what would be right, and what it is."""
        message, expected, value = words
        self._is_refused = True
        problems.add(Where(str(place)), f"InvalidSource.{code}", message, value=value, expected=expected)
        return False


def way_to(path: Path) -> Iterator[tuple[Path, os.stat_result]]:
    """Yield every folder and link on the way to a path, in order, without what is at its end."""
    here, left, links = Path("/"), [*reversed(path.absolute().parts[1:])], 0
    yield here, here.lstat()
    while left:
        step = left.pop()
        place = here.parent if step == ".." else here / step
        found = place.lstat()
        if stat.S_ISLNK(found.st_mode):
            links += 1
            if links > MAX_LINKS:
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
            yield place, found
            target = place.readlink()
            here = Path("/") if target.is_absolute() else here
            left += reversed(target.parts[1:] if target.is_absolute() else target.parts)
            continue
        here = place
        if left:
            yield here, found
