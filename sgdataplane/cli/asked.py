"""Who is asked by a verb that can ask both: the running agent or a lab.

Owns that choice. Is given arguments with `name` (a lab's, or None) and `config`. Must not know what is asked.

With --name it is that lab. Else it is the agent, if one runs; else the lab of the usual name.
"""

from __future__ import annotations

import argparse

from sgdataplane.daemon.protocol import Request
from sgdataplane.errors import HostError


def ask_agent(arguments: argparse.Namespace, request: Request, *, eni: str | None = None) -> dict[str, object] | None:
    """The agent's answer; None if it is a lab that is asked. `eni`: of the ENI of that name alone. HostError if there
    is neither, StateFileError if the name isn't one ENI's."""
    from sgdataplane.cli.named import eni_here
    from sgdataplane.daemon import client, config

    if arguments.name is not None:
        return None
    known = config.load_config(arguments.config or config.CONFIG_FILE, must_exist=arguments.config is not None)
    if not known.socket.exists() and arguments.config is None:
        if _has_lab():
            return None
        hint = "no agent is running there, and there is no lab of the name lab; --name says which one"
        raise HostError(str(known.socket), hint)
    return client.ask(known.socket, request, eni="" if eni is None else eni_here(known, eni))


def _has_lab() -> bool:
    from sgdataplane.lab.record import LabFolder

    return LabFolder("lab").load() is not None
