"""The dispatch of HTTP's calls: to the engine for the cloud's actions, and to what stands behind those of ours.

Owns which of them answers what. Must not know HTTP.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from threading import Event
from typing import cast

from sgdataplane.control.access.hiding import hide_unseen
from sgdataplane.control.actions.engine import Engine
from sgdataplane.control.actions.repository import UNKNOWN
from sgdataplane.control.actions.scope import Scope
from sgdataplane.control.background import Background
from sgdataplane.control.calls.answers import NOT_FOUND, Answer, ApiError
from sgdataplane.control.hosts import waits
from sgdataplane.control.hosts.following import Following
from sgdataplane.control.hosts.status import HostBoard
from sgdataplane.control.hosts.waits import HostWait
from sgdataplane.control.service import events, trials
from sgdataplane.control.service.heavy import Computer
from sgdataplane.control.service.parts import part_for
from sgdataplane.store.call import Call
from sgdataplane.store.documents import INSTANCES, LISTS, ResourceKind, path_of
from sgdataplane.store.history import Version
from sgdataplane.store.interface import Body, Json, Store, UnavailableError

WAIT_S, MAX_WAIT_S = 60, 3_600
STEP_S = 0.25  # a wait looks so often whether the service stops


class ApiService:
    """Answers calls in any of several threads (http.CallHandler).

    Args:
        engine: Answers the cloud's actions.
        store: Where the audit is, and whose health counts.
        following: What enforces in this process.
        board: The reports of hosts that relays serve.
        threads: Those without which the service isn't healthy.
        heavy: Computes heavy answers.
    """

    def __init__(  # noqa: PLR0913  # all that it hands calls to
        self,
        engine: Engine,
        store: Store,
        following: Following,
        board: HostBoard | None = None,
        threads: Sequence[Background] = (),
        *,
        heavy: Computer,
    ) -> None:
        self._engine, self._store, self._following = engine, store, following
        self._threads = tuple(threads)
        self._board = board or HostBoard(store)
        self._heavy = heavy
        self._ours: dict[str, Callable[[Scope], Body]] = {
            "SgdpDescribeEvents": partial(events.describe_events, store=store, rights=engine.rights),
            "SgdpDescribeHosts": partial(waits.describe, board=self._board),
            "SgdpTrialShow": self._show_trial,
        }
        self._our_writes: dict[str, Callable[[Scope], Body]] = {
            "SgdpTrialStart": partial(trials.start, profile=engine.profile),
            "SgdpTrialStop": trials.stop,
        }

    def call(self, call: Call) -> Answer:
        """Answer an ordinary call.

        Raises:
            ApiError: The call is refused.
        """
        if call.action in self._our_writes:
            return self._engine.change(self._our_writes[call.action], call)
        if call.action in self._ours:
            return Answer(self._engine.read(self._ours[call.action], call))
        return self._engine.call(call)

    def _show_trial(self, scope: Scope) -> Body:
        """Answer SgdpTrialShow. Its lines name the groups whose rules decide, so the key may not see all of it."""
        answer = trials.show(scope, self._board)
        return hide_unseen(answer, scope.workspace.documents, scope.call, self._engine.rights)

    def compute(self, call: Call, is_ended: Event) -> Answer:
        """Answer SgdpDiff or SgdpExplain. They name more than a call asks about, so the key may not see all of it."""
        documents = self._engine.documents
        body = self._heavy.compute(part_for(documents, call), call, is_ended)
        return Answer(hide_unseen(body, documents, call, self._engine.rights))

    def wait(self, call: Call, is_stopping: Event) -> Answer:
        """Answer SgdpWait: wait until a revision is in force everywhere, nobody knows more soon, or the time is up."""
        if call.action != "SgdpWait":
            raise ApiError("InvalidAction.NotFound", f"The action {call.action} doesn't wait.", NOT_FOUND)
        version = self._version(call)
        timeout = _number(call, "Timeout", WAIT_S)
        if not 0 <= timeout <= MAX_WAIT_S:
            raise ApiError("InvalidParameter", f"Timeout is 0 to {MAX_WAIT_S} seconds")
        deadline = time.monotonic() + timeout
        vpc_id = str(call.parameters.get("VpcId", ""))
        hosts = HostWait(self._board, waits.list_awaited(self._engine.documents, vpc_id), version)
        while True:
            left = max(0.0, deadline - time.monotonic())
            answer, may_come = self._following.wait(version, min(STEP_S, left)), hosts.look()
            if not (answer["Lagging"] or may_come) or left == 0 or is_stopping.is_set():
                return Answer(_join(answer, hosts.answer()))
            if not answer["Lagging"]:  # then nothing but this waits
                self._board.await_news(left, is_stopping)

    def _version(self, call: Call) -> Version:
        """Return the version that a call waits for; by default the store's last one, even if it isn't here yet.

        Raises:
            ApiError: There never was such a revision, as after a restore; or there is no such VPC.
        """
        if "Revision" not in call.parameters:
            self._engine.catch_up()
        known = self._engine.version
        asked = Version(_number(call, "Epoch", known.epoch), _number(call, "Revision", known.revision))
        if asked > self._engine.version:
            self._engine.catch_up()
        known = self._engine.version
        if asked.epoch != known.epoch or asked > known:
            words = f"There is no {asked}: the last one is {known}. Perhaps the store was restored from a backup."
            raise ApiError("InvalidRevision.NotFound", words, NOT_FOUND)
        return self._last_about(str(call.parameters.get("VpcId", "")), asked)

    def _last_about(self, vpc_id: str, asked: Version) -> Version:
        """Return the last revision up to `asked` that is about a VPC, or about what all VPCs share.

        VPCs share lists and instances. If a later revision has changed any of these since, it is `asked` itself.
        """
        if not vpc_id:
            return asked
        documents = self._engine.documents
        if documents.get(path_of(ResourceKind.VPC, vpc_id)) is None:
            raise ApiError(UNKNOWN[ResourceKind.VPC], f"The specified vpc {vpc_id} doesn't exist.", NOT_FOUND)
        moved = max(documents.guards.get(name, 0) for name in (vpc_id, LISTS, INSTANCES))
        return Version(asked.epoch, min(asked.revision, moved))

    def why_unhealthy(self) -> str:
        """Return why the service isn't healthy; an empty text if it is. A policy that can't be enforced is a reason."""
        try:
            self._store.find_answer("")
        except UnavailableError as error:
            return f"the store can't be reached: {error}"
        failed = [f"{one.place.name}: {one.why.splitlines()[0]}" for one in self._following.reached if one.why]
        return "; ".join([*failed, *filter(None, (thread.trouble for thread in self._threads))])


def _join(places: dict[str, Json], hosts: dict[str, list[Json]]) -> Body:
    """Return the standings of places in this process and of hosts elsewhere as one answer."""
    return {**places, **{name: [*cast("list[Json]", places[name]), *found] for name, found in hosts.items()}}


def _number(call: Call, name: str, default: int) -> int:
    value = call.parameters.get(name)
    return default if value is None else int(str(value))
