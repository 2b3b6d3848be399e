"""A user's name for a namespace, and the path to which it leads now.

Owns the three ways to name one. Must not know ENIs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from pathlib import Path
from typing import Self

from sgdataplane.attach import containers
from sgdataplane.attach.registry import Binding
from sgdataplane.errors import BindingError
from sgdataplane.host import netns
from sgdataplane.visible import visible


class Naming(Enum):
    """The way in which a namespace is named."""

    NETNS = "netns"  # a path, or a name that `ip netns` lists
    PID = "pid"  # a process in it
    CONTAINER = "container"  # a container's name or id


@dataclass(frozen=True, slots=True)
class Workload:
    """A namespace as the user names it."""

    naming: Naming
    value: str

    @classmethod
    def of(cls, binding: Binding) -> Self | None:
        """Return the workload that was attached; None if its whole name wasn't kept."""
        return cls._of(binding.named, binding.path)

    @classmethod
    @lru_cache(maxsize=1 << 12)  # each cycle asks for all of them
    def _of(cls, named: str, path: str) -> Self | None:
        word, _, value = named.partition(" ")
        naming = next((naming for naming in Naming if naming.value == word), None)
        if naming is Naming.NETNS:
            return cls(naming, path)  # the name may be a short form of it
        found = None if naming is None or not value or "\\" in value else cls(naming, value)
        return found if found is not None and str(found) == named else None

    def __str__(self) -> str:
        """Return the words for the namespace, for people."""
        return visible(f"{self.naming.value} {self.value}")

    def locate(self) -> str:
        """Return the path of its namespace, which need not exist.

        Raises:
            BindingError: No such container runs.
        """
        if self.naming is Naming.NETNS and self.value.startswith("/"):  # the quick way, as each cycle asks for it
            return self.value
        if self.naming is Naming.NETNS:
            return str(Path(self.value).absolute()) if "/" in self.value else str(netns.path_of(self.value))
        pid = containers.pid_of(self.value) if self.naming is Naming.CONTAINER else int(self.value)
        return f"/proc/{pid}/ns/net"

    def locate_by(self, found: Mapping[str, int | BindingError]) -> str | None:
        """Return what `locate` does, but take containers' processes from `found` and ask no engine.

        It is None if the container isn't in there.
        """
        if self.naming is not Naming.CONTAINER:
            return self.locate()
        known = found.get(self.value)
        if isinstance(known, BindingError):
            raise known
        return None if known is None else f"/proc/{known}/ns/net"

    @property
    def wanted(self) -> str:
        """The words for what would be right, for the message that refuses this workload."""
        if self.naming is Naming.NETNS:
            return "the path of a network namespace, or a name that `ip netns` lists"
        return f"a {'process' if self.naming is Naming.PID else 'container'} that runs"
