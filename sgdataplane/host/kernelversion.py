"""The upstream version that the running kernel is made of, as far as the kernel says it.

Owns the distributions' ways to say it. Must not know what a version means.

Debian 12's `uname -r` is 6.1.0-56-cloud-amd64 for 6.1.192: the last number is that of its interface, and `uname -v` has
the version. Ubuntu's and Red Hat's third number is always 0, and both bring fixes back without another one.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import TypeAlias

Version: TypeAlias = tuple[int, int, int | None]  # the last is None where the kernel doesn't say it
DEBIAN = re.compile(r"\bDebian (\d{1,3})\.(\d{1,3})\.(\d{1,4})\b")
RELEASE = re.compile(r"(\d{1,3})\.(\d{1,3})(?!\d)(?:\.(\d{1,4})(?!\d))?(.*)", re.DOTALL)
COUNTED = re.compile(r"-\d")  # the build of a kernel whose third number is always 0


@dataclass(frozen=True, slots=True)
class RunningKernel:
    """A kernel and its version."""

    release: str  # what `uname -r` says
    version: Version | None  # None if that isn't one of Linux

    @property
    def words(self) -> str | None:
        """The whole version; None if the kernel doesn't say it."""
        if self.version is None or self.version[2] is None:
            return None
        return ".".join(map(str, self.version))


def read_running() -> RunningKernel:
    """Return the kernel of this machine."""
    found = os.uname()
    return RunningKernel(found.release, parse(found.release, found.version))


def parse(release: str, build: str) -> Version | None:
    """Return the version that a kernel is made of; None if it isn't known.

    `release` and `build` are what `uname -r` and `uname -v` say.
    """
    if found := DEBIAN.search(build):
        major, minor, patch = map(int, found.groups())
        return major, minor, patch
    if not (found := RELEASE.match(release)):
        return None
    *numbers, rest = found.groups()
    major, minor, patch = (int(number or 0) for number in numbers)
    is_unsaid = (patch == 0 and COUNTED.match(rest) is not None) or ".el" in rest
    return major, minor, None if is_unsaid else patch
