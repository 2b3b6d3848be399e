"""The answers about hosts: SgdpWait and SgdpDescribeHosts.

Owns what is answered about hosts, and when a wait is over. Must not know places in this process (following), or HTTP.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import cast

from sgdataplane.control.actions.scope import Scope, is_among, write_time
from sgdataplane.control.hosts.status import HostBoard, HostStanding, HostStatus, standing_of
from sgdataplane.store.documents import Documents
from sgdataplane.store.history import Version
from sgdataplane.store.hosts import StoredHost, enis_at, hosts_in
from sgdataplane.store.interface import Body, Json

FAILED_S = 5.0  # a failure must last so long: it may be of the revision before
LOOK_S = 0.25  # after which hosts are judged again even if nothing was reported: some may have become silent


def list_awaited(documents: Documents, vpc_id: str = "") -> list[str]:
    """Return the hosts that a wait is about: all, or those with ENIs of a VPC.

    A host that is revoked, or was never added, counts if ENIs are bound to it.
    """
    at = enis_at(documents, vpc_id)
    if vpc_id:
        return [*at]
    return sorted({*at, *(name for name, host in hosts_in(documents).items() if not host.is_revoked)})


@dataclass
class HostWait:
    """One wait for some hosts."""

    board: HostBoard
    hosts: list[str]
    version: Version
    failed_at: dict[str, float] = field(default_factory=dict)  # since when each host fails (monotonic)
    standings: dict[str, HostStanding] = field(default_factory=dict)  # host -> how it stood at the last look
    words: Mapping[str, HostStatus] = field(default_factory=dict)  # host -> its newest report at the last look
    judged_at: float = float("-inf")  # when the standings were made (monotonic)
    may_come: bool = True  # whether it makes sense to go on waiting

    def look(self) -> bool:
        """Take over what is known now. Return whether it makes sense to go on waiting."""
        words, now = self.board.look(self.board.pause_s if self.standings else 0.0), time.monotonic()
        if words is not self.words or now - self.judged_at >= LOOK_S:
            self.words, self.judged_at = words, now
            self.may_come = self._judge(now)
        return self.may_come

    def _judge(self, now: float) -> bool:
        """Find how each host stands. Return whether it makes sense to go on waiting. `now` is monotonic."""
        at = self.board.now
        self.standings = {host: standing_of(self.words.get(host), self.version, at) for host in self.hosts}
        self.failed_at = {host: self.failed_at.get(host, now) for host in self._having(HostStanding.FAILED)}
        is_new = any(now - since < FAILED_S for since in self.failed_at.values())
        return is_new or bool(self._having(HostStanding.LAGGING))

    def answer(self) -> dict[str, list[Json]]:
        """Return SgdpWait's answer about these hosts."""
        failed: list[Json] = [
            {"Host": host, "Message": self.words[host].why} for host in self._having(HostStanding.FAILED)
        ]
        said = {one.value: cast("list[Json]", self._having(one)) for one in HostStanding}
        return {**said, HostStanding.FAILED.value: failed}

    def _having(self, standing: HostStanding) -> list[str]:
        return [host for host, one in self.standings.items() if one is standing]


def describe(scope: Scope, board: HostBoard) -> Body:
    """Answer SgdpDescribeHosts with each host, and how far it has come with the last revision."""
    documents, words, now = scope.workspace.documents, board.look(), board.now
    vpc_id, stored = scope.text("VpcId"), hosts_in(documents)
    at = enis_at(documents, vpc_id)
    names = at if vpc_id else {*at, *stored}
    wanted = [name for name in sorted(names) if is_among(name, scope.texts("HostName"))]

    def item(name: str) -> Json:
        one = HostItem(name, stored.get(name), words.get(name), tuple(at.get(name, ())))
        return one.as_shown(documents.version, now)

    return scope.page(wanted, item, "Hosts", "Host")


@dataclass(frozen=True, slots=True)
class HostItem:
    """All that is known of a host."""

    name: str
    stored: StoredHost | None  # None if it was never added
    word: HostStatus | None  # None if no relay has ever heard it
    enis: tuple[str, ...] = ()  # that are bound to it

    def as_shown(self, version: Version, now: float) -> Json:
        """Return the host as SgdpDescribeHosts has it."""
        word = self.word or HostStatus("", 0.0, 0.0)
        is_heard = self.word is not None
        return {
            "HostName": self.name,
            "CreationTime": write_time(self.stored.created) if self.stored else "",
            "Revoked": self.stored is not None and self.stored.is_revoked,
            "Status": standing_of(self.word, version, now).value,
            "Connected": word.is_connected,
            "Relay": word.relay,
            "Epoch": word.enforced.epoch if word.enforced.revision >= 0 else 0,
            "Revision": max(word.enforced.revision, 0),
            "AgeSeconds": round(max(0.0, now - word.heard), 1) if is_heard else -1,
            "Failures": {"Failure": [_failure(*one) for one in word.failed]},
            "Error": word.error,
            "NetworkInterfaceIds": {"NetworkInterfaceId": [*self.enis]},
        }


def _failure(eni: str, why: str) -> Json:
    return {"NetworkInterfaceId": eni, "Message": why}


def items(documents: Documents, words: Mapping[str, HostStatus], names: Iterable[str] = ()) -> list[HostItem]:
    """Return what is known of all hosts, or of those that are named."""
    at, stored = enis_at(documents), hosts_in(documents)
    found = sorted(names or {*at, *stored})
    return [HostItem(name, stored.get(name), words.get(name), tuple(at.get(name, ()))) for name in found]
