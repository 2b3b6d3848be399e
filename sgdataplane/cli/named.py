"""Which ENI a name stands for on this host.

Owns who is asked: the agent, which knows what is in force; where none runs, the state's file. Is given the agent's
configuration, and the ENIs that are attached. Must not know which verb asks.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sgdataplane.daemon.config import Config
    from sgdataplane.model.naming import Named
    from sgdataplane.model.state import CloudState

UNKNOWN = ("the ENI is not attached here", "an ENI that is attached here")


def eni_here(known: Config, name: str, attached: Collection[str] = ()) -> str:
    """Its id. StateFileError if the name is no ENI's, or could be several ones'."""
    return named_here(known, name, attached).the_eni("no such ENI here", "an ENI that is known here")


def attached_eni(known: Config, name: str, attached: Collection[str]) -> str:
    """The same, of an attached ENI."""
    return attached_named(known, name, attached).the_eni(*UNKNOWN)


def attached_named(known: Config, name: str, attached: Collection[str]) -> Named:
    """As `named_here`; but what is none of the attached ENIs' is nobody's name."""
    from sgdataplane.model.naming import Named, near_misses

    found = named_here(known, name, attached) if attached else None
    if found is not None and not set(attached).isdisjoint(found.ids):
        return found
    return Named(name, (), near_misses(name, dict.fromkeys(attached, ())))


def named_here(known: Config, name: str, attached: Collection[str] = ()) -> Named:
    """What the name could stand for. An attached ENI's id stands for that, whatever else is called so."""
    from sgdataplane.errors import HostError
    from sgdataplane.model.naming import Named, look_up, names_of_enis

    if name in attached:
        return Named(name, (name,))
    try:
        return _asked(known, name)
    except HostError:
        state = _state(known)
        return look_up(name, {**dict.fromkeys(attached, ()), **(names_of_enis(state) if state else {})})


def _asked(known: Config, name: str) -> Named:
    """HostError if no agent answers."""
    from sgdataplane.daemon import client
    from sgdataplane.daemon.protocol import Request
    from sgdataplane.model.naming import Named

    answer: Any = client.ask(known.socket, Request.FIND, eni=name)
    return Named(name, tuple(answer["ids"]), tuple(answer["near"]))


def _state(known: Config) -> CloudState | None:
    """None if it can't be read: then ids of what is attached have to do."""
    from sgdataplane.errors import StateFileError
    from sgdataplane.statefile import load

    try:
        return load(known.state, profile="unlimited").state  # its quotas are for others to judge
    except StateFileError:
        return None
