"""The size of conntrack, which has to be enough for what the ENIs of each router may hold.

Owns how much that is, and what is said about it. Its input is the reports of cycles. Must not know how the kernel is
asked.

Each namespace tracks its own sessions, but their limit is one number for all. So it follows the router that needs most.
It is only ever raised: somebody else may need what they have set, or what another router needed before.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from sgdataplane.attach.report import HostReport
from sgdataplane.daemon.logs import event
from sgdataplane.errors import HostError
from sgdataplane.host.conntracksize import FOLDER, TableSize, memory_of_machine, raise_size, read_size, size_for
from sgdataplane.model.words import pluralize

SIDES = 2  # what an ENI opens and what is opened to it have a limit each
OVER = 3, 2  # an ENI gets at most half as many more as the limit says (docs/design/session-limit.md)


def sessions_of(enis: int, limit: int) -> int:
    """Return how many sessions so many ENIs may hold together, if each has this limit (sessions_per_eni)."""
    more, less = OVER
    return enis * SIDES * limit * more // less


class SessionCapacity:
    """The size of conntrack, as far as it was found and changed. `follow` is for the agent's thread."""

    def __init__(self, folder: Path = FOLDER, memory: Callable[[], int] = memory_of_machine) -> None:
        self._folder, self._memory = folder, memory
        self._refusal = ""

    def follow(self, host: HostReport | None, mode: str) -> tuple[str, ...]:
        """Raise what is too small, if the mode is "auto".

        Return a line about each router whose ENIs may hold more sessions than it can track. Nothing is raised if `host`
        is None, as after a cycle that failed.
        """
        needs = {} if host is None else _needs(host)
        if not needs:
            return ()
        if mode == "auto":
            self._raise(size_for(max(needs.values()), self._memory()))
        found = self._read()
        if found is None or not found.limit:
            return ()
        return tuple(
            _describe_shortage(router, need, found.limit) for router, need in needs.items() if need > found.limit
        )

    def _read(self) -> TableSize | None:
        with suppress(HostError):
            return read_size(self._folder)
        return None

    def _raise(self, size: int) -> None:
        before, refusal = self._read(), ""
        try:
            raise_size(size, self._folder)
        except HostError as error:
            refusal = str(error)
        after = self._read()
        if before is not None and after is not None and after != before:
            event(logging.INFO, "conntrack-raised", **_read_needs(before, "_before"), **_read_needs(after))
        if refusal and refusal != self._refusal:  # once, not in each cycle
            event(logging.WARNING, "conntrack-not-raised", error=refusal)
        self._refusal = refusal


def _read_needs(size: TableSize, when: str = "") -> dict[str, int]:
    return {f"max{when}": size.limit, f"buckets{when}": size.buckets}


def _needs(host: HostReport) -> dict[str, int]:
    """Return by router how many sessions its ENIs may hold. Routers whose ENIs have no limit are left out."""
    wanted = ((entry.named, entry.desired) for entry in host.namespaces if entry.desired is not None)
    return {
        named: sessions_of(len(desired.interfaces), desired.options.sessions_per_eni)
        for named, desired in sorted(wanted, key=lambda found: found[0])
        if desired.placement.is_outside and desired.options.sessions_per_eni and desired.interfaces
    }


def _describe_shortage(router: str, need: int, limit: int) -> str:
    return (
        f"{router}: its ENIs may hold {pluralize(need, 'session')} together, and conntrack takes {limit:,} of them: "
        "raise net.netfilter.nf_conntrack_max, or lower sessions_per_eni"
    )
