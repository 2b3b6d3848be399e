"""The client of verbs that ask the API, and the fate of a change in words.

Owns where the client finds the API and its key, and the wording. Must not know what is asked for.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from sgdataplane.model import words
from sgdataplane.terminal.arguments import read_for

if TYPE_CHECKING:
    from sgdataplane.control.http.client import ApiClient

DONE = "done"
SHOWN = 5  # hosts in one line
Answer = Mapping[str, Any]


def client_of(arguments: argparse.Namespace, version: str = "") -> ApiClient:
    """Return a client of the API; a usage error unless the environment names the API and a key.

    `version` is the product's; if it is empty, that of ECS is used.
    """
    from sgdataplane.control.http.client import ApiClient

    client = read_for(arguments, ApiClient.of_environment)
    return replace(client, version=version) if version else client


def find_unenforced(waited: Answer) -> list[str]:
    """Return the hosts where a change isn't in force, by the answer of SgdpWait."""
    return [str(host) for host in (*waited["Lagging"], *waited["Failed"], *waited["Unknown"])]


def outcome(made: object, done: str, waited: Answer) -> str:
    """Say what became of a change.

    Args:
        made: The id of what it made, if it made something.
        done: What to say if it made nothing.
        waited: The answer of SgdpWait; empty if nobody waited.
    """
    what = str(made or done)
    if not waited:
        return what
    if find_unenforced(waited):
        text = f"Stored, but not enforced on: {words.first_of(find_unenforced(waited), SHOWN)}."
        return text if what == DONE else f"{what}: {text}"
    where = words.first_of(waited["Enforced"], SHOWN)
    return f"{what}: in force at {where}" if where else f"{what}: stored; nothing enforces it"
