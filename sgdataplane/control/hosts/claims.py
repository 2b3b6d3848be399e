"""Claims of hosts: an ENI that is attached at a host, and that nothing binds yet, is bound to it.

Owns which claims count, and the thread that commits them. Must not know how a host finds out what is attached there.

A host that was never added, or is revoked, claims nothing. If two hosts claim one ENI, the later one loses: its relay
sees whose the ENI is, and tells it.
"""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections.abc import Collection, Mapping

from sgdataplane.control.actions.engine import Engine
from sgdataplane.control.actions.scope import Scope
from sgdataplane.control.background import Background
from sgdataplane.control.calls.answers import UNAVAILABLE, ApiError
from sgdataplane.control.hosts.status import HostBoard, HostStatus
from sgdataplane.store.call import Call
from sgdataplane.store.documents import Documents, ResourceKind, about, path_of, state_in
from sgdataplane.store.hosts import find_named_host, hosts_in
from sgdataplane.store.interface import Body

ACTION = "Claim"  # in the audit
EVERY_S = 1.0
AT_ONCE = 200  # ENIs in one commit

LOGGER = logging.getLogger("sgdataplane.api.claims")


def claims(documents: Documents, words: Mapping[str, HostStatus], now: float) -> dict[str, list[str]]:
    """Return the ENIs that are to be bound to each host.

    If two hosts claim one ENI at once, the first by name gets it.
    """
    found: dict[str, list[str]] = {}
    taken: set[str] = set()
    for name, host in hosts_in(documents).items():
        word = words.get(name)
        if word is None or host.is_revoked or not word.is_known(now):
            continue
        new = [eni for eni in dict.fromkeys(word.claims) if eni not in taken and _is_free(documents, eni)]
        taken.update(new)
        if new:
            found[name] = new
    return found


def _is_free(documents: Documents, eni: str) -> bool:
    body = documents.of_kind[ResourceKind.ENI].get(eni)
    if body is None:
        return False
    instance = documents.of_kind[ResourceKind.INSTANCE].get(str(state_in(body).get("instance_id", "")))
    return not find_named_host(body, instance)


def bind(scope: Scope, host: str, enis: Collection[str]) -> Body:
    """Bind the ENIs that are still there and still free, if the host is still added and not revoked."""
    known = scope.workspace.get(ResourceKind.HOST, host)
    if known is None or about(known).get("revoked") is True:
        return {}
    for eni in enis:
        if _is_free(scope.workspace.documents, eni):
            scope.enis.change(eni, about={"host": host})
    return {}


class ClaimKeeper(Background):
    """A thread that binds the ENIs that hosts claim. Use it as a context manager; leaving it ends the thread."""

    def __init__(self, engine: Engine, board: HostBoard) -> None:
        super().__init__("claims of hosts", self._keep)
        self._engine, self._board = engine, board
        self._is_stuck = False  # the store takes nothing, and the log says so

    def turn(self) -> None:
        """Look at all claims once, and commit those that count."""
        found = claims(self._engine.documents, self._board.look(), self._board.now)
        for host, enis in found.items():
            for start in range(0, len(enis), AT_ONCE):
                self._commit(host, enis[start : start + AT_ONCE])

    def _commit(self, host: str, enis: list[str]) -> None:
        key = path_of(ResourceKind.HOST, host)
        call = Call(ACTION, {}, str(uuid.uuid4()).upper(), key, source="", now=time.time())
        try:
            self._engine.change(lambda scope: bind(scope, host, enis), call)
        except ApiError as error:  # at the next turn, it is tried again
            if error.status == UNAVAILABLE:
                self._note_stuck(error)
            else:
                LOGGER.warning("%s isn't bound to the host %s: %s", ", ".join(enis[:3]), host, error)
        else:
            if self._is_stuck:
                LOGGER.warning("ENIs are bound to hosts that claim them again")
            self._is_stuck = False

    def _note_stuck(self, error: ApiError) -> None:
        """Log once that the store takes nothing, however many hosts claim something, each second."""
        if not self._is_stuck:
            LOGGER.warning("ENIs aren't bound to the hosts that claim them: %s", error)
        self._is_stuck = True

    def _keep(self, ending: threading.Event) -> None:
        while not ending.wait(EVERY_S):
            self.turn()
