"""The agent of this host as a place where the API's state is enforced.

Owns how it's told what is in force there: by the agent's own status. Must not know the API.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import cast

from sgdataplane.control.following import SilentError
from sgdataplane.control.history import Version
from sgdataplane.control.publishing import Publisher, name_of_generation
from sgdataplane.daemon.control import Request, ask
from sgdataplane.errors import HostError
from sgdataplane.model.state import CloudState
from sgdataplane.statefile.dump_native import sections

PATIENCE_S, PAUSE_S, ANSWER_S = 60.0, 0.02, 5.0
Status = Mapping[str, object]


class AgentPlace:
    """`socket`: the agent's. `patience`: how many seconds it may take to say that a policy is in force."""

    name = "this host"

    def __init__(self, publisher: Publisher, socket: Path, patience: float = PATIENCE_S) -> None:
        self._publisher, self._socket, self._patience = publisher, socket, patience

    def put(self, version: Version, state: CloudState) -> None:
        """Publish it, and wait until the agent says that it's in force at all ENIs of this host."""
        self._publisher.publish(version, {"version": 1, **sections(state)})
        deadline = time.monotonic() + self._patience
        while not self._is_enforced(version):
            if time.monotonic() > deadline:
                what = f"the agent doesn't say that {version} is in force; `sgdp status` says what it does"
                raise SilentError(str(self._socket), what)
            time.sleep(PAUSE_S)

    def _is_enforced(self, version: Version) -> bool:
        """HostError if the agent refuses it; SilentError if there is no agent."""
        try:
            status = cast(Status, ask(self._socket, Request.STATUS, ANSWER_S)["status"])
        except HostError as error:
            raise SilentError(str(self._socket), error.detail) from None
        read = cast(Status, status["state"])
        if read["path"] != str(self._publisher.current):
            what = f'the agent reads {read["path"]}; set state = "{self._publisher.current}" in its configuration'
            raise HostError("the agent", what)
        if read["generation"] != name_of_generation(version):
            if read["error"] and read["refused"] == name_of_generation(version):
                raise HostError("the agent", str(read["error"]))
            return False
        cycle = cast(Status, status["cycle"])
        if cycle["error"]:  # then what is said of ENIs may be about the policy before
            raise HostError("the agent", str(cycle["error"]))
        enis = cast("list[Status]", status["enis"])
        wrong = [eni for eni in enis if eni["outcome"] not in ("in force", "absent", "closed")]
        if wrong:
            raise HostError(str(wrong[0]["eni"]), f"{wrong[0]['outcome']}: {wrong[0]['error'] or ''}")
        return True
