"""The agent of this host as a place where the API's state is enforced.

Owns how to tell what is in force there: by the agent's own status. Must not know the API.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

from sgdataplane.daemon.control import Request, ask, ask_async
from sgdataplane.errors import HostError, SilentError
from sgdataplane.handover.publishing import Publisher, name_of_generation
from sgdataplane.model.state import CloudState
from sgdataplane.statefile.dump_native import sections
from sgdataplane.store.history import Version
from sgdataplane.store.interface import Json

TIMEOUT_S = 60.0
ANSWER_S = 15.0  # the agent answers after 5 s at most, even if it has nothing new to say
FINE = ("in force", "auditing", "absent", "closed", "stopped", "misaddressed")  # outcomes that no policy can change
Status = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Enforcement:
    """The agent's answer about one version."""

    is_enforced: bool = False
    """Whether the version is in force at all ENIs of this host."""
    failed: tuple[tuple[str, str], ...] = ()
    """ENI -> why the version isn't in force there, if the agent has it."""
    attached: tuple[str, ...] = ()
    """The ENIs that are attached on this host, whatever is in force."""
    trials: tuple[dict[str, Json], ...] = ()
    """What the trials that the state declares have seen (DeclaredTrial, as JSON)."""
    error: str = ""
    """Why the agent doesn't take the version; empty if it has it, or hasn't come to it yet."""


class AgentPlace:
    """A place of the API: a folder that this host's agent follows.

    Args:
        publisher: Writes the folder.
        socket: The agent's.
        timeout: How many seconds the agent may take to say that a policy is in force.

    Attributes:
        name: How people know the place.
    """

    name = "this host"

    def __init__(self, publisher: Publisher, socket: Path, timeout: float = TIMEOUT_S) -> None:
        self._publisher, self._socket, self._timeout = publisher, socket, timeout

    def put(self, version: Version, state: CloudState) -> None:
        """Publish a state, and wait until the agent says that it is in force at all ENIs of this host.

        Raises:
            SilentError: There is no agent, or it doesn't say so in time.
            HostError: The agent refuses the state, or it isn't in force at an ENI.
        """
        self._publisher.publish(version, {"version": 1, **sections(state)})
        deadline, cycle = time.monotonic() + self._timeout, 0
        while True:
            status = self._ask(cycle)
            if _require_no_error(self.judge(status, version)).is_enforced:
                return
            if time.monotonic() > deadline:
                what = f"the agent doesn't say that {version} is in force; `sgdp status` says what it does"
                raise SilentError(str(self._socket), what)
            cycle = number_of_cycle(status)

    def _ask(self, cycle: int) -> Status:
        """Return the agent's status, as soon as its last cycle is another one than this.

        Raises:
            SilentError: There is no agent.
        """
        try:
            return cast(Status, ask(self._socket, Request.STATUS, ANSWER_S, after=cycle)["status"])
        except HostError as error:
            raise SilentError(str(self._socket), error.detail) from None

    async def hear(self, cycle: int) -> Status:
        """Return the agent's status, as soon as its last cycle is another one than this; after 5 s, whatever it is.

        Raises:
            SilentError: There is no agent.
        """
        try:
            async with asyncio.timeout(ANSWER_S):
                return cast(Status, (await ask_async(self._socket, Request.STATUS, after=cycle))["status"])
        except HostError as error:
            raise SilentError(str(self._socket), error.detail) from None
        except TimeoutError:
            raise SilentError(str(self._socket), f"the agent gave no answer in {ANSWER_S:g} s") from None

    def judge(self, status: Status, version: Version) -> Enforcement:
        """Return what the agent's status says of a version.

        Raises:
            HostError: The agent reads another folder.
        """
        read = cast(Status, status["state"])
        if read["path"] != str(self._publisher.current):
            what = f'the agent reads {read["path"]}; set state = "{self._publisher.current}" in its configuration'
            raise HostError("the agent", what)
        enis = cast("list[Status]", status.get("enis", []))
        attached = tuple(str(eni["eni"]) for eni in enis if eni["outcome"] not in ("gone", "stopped"))
        told = Enforcement(attached=attached, trials=tuple(cast("list[dict[str, Json]]", status.get("trials", []))))
        if read["generation"] != name_of_generation(version):
            is_refused = read["error"] and read["refused"] == name_of_generation(version)
            return replace(told, error=str(read["error"]) if is_refused else "")
        cycle = cast(Status, status["cycle"])
        if cycle["error"]:  # then what is said of ENIs may be about the policy before
            return replace(told, error=str(cycle["error"]))
        wrong = [eni for eni in enis if eni["outcome"] not in FINE]
        failed = tuple((str(eni["eni"]), f"{eni['outcome']}: {eni['error'] or ''}") for eni in wrong)
        return replace(told, is_enforced=not failed, failed=failed)


def _require_no_error(found: Enforcement) -> Enforcement:
    """Return what the agent said of a version.

    Raises:
        HostError: It refuses the version, or can't enforce it at an ENI.
    """
    if found.error:
        raise HostError("the agent", found.error)
    for eni, why in found.failed:
        raise HostError(eni, why)
    return found


def number_of_cycle(status: Status) -> int:
    """Return the number of the agent's last cycle; 0: there was none yet."""
    return cast(int, cast(Status, status["cycle"])["number"])
