"""What a name that a user gives stands for: an id, or a name that only one thing has.

Owns how a name is looked up, and how it is refused. Is given a state, or things with their names. Must not know who
asks.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from heapq import nsmallest
from typing import NoReturn

from sgdataplane.errors import Problem, StateFileError, Where
from sgdataplane.model.state import CloudState, Instance

MAX_GUESSED = 2_000  # guessing among more names would cost too much: 30 us each
MAX_LISTED, MAX_NEAR = 10, 3


@dataclass(frozen=True, slots=True)
class Named:
    """What a name that a user gave could stand for."""

    name: str
    ids: tuple[str, ...]
    """Everything that the name could stand for."""
    near: tuple[str, ...] = ()
    """If it stands for nothing, names that may have been meant."""

    def the_eni(self, unknown: str, expected: str) -> str:
        """Return the id of the only ENI that is meant.

        Raises:
            StateFileError: there isn't exactly one (see `refuse`).
        """
        if len(self.ids) != 1:
            self.refuse(unknown, expected)
        return self.ids[0]

    def refuse(self, unknown: str, expected: str) -> NoReturn:
        """Raise a StateFileError that lists the ENIs that the name could mean.

        If there is none, the error says `unknown`, and that `expected` would be right.
        """
        message = "several ENIs could be meant" if self.ids else unknown
        right = f"one of {list_ids(self.ids)}" if self.ids else f"{expected}{self._such_as}"
        raise StateFileError((Problem(Where(), "InvalidEniId.NotFound", message, self.name, right),))

    @property
    def _such_as(self) -> str:
        return f", such as {', '.join(self.near)}" if self.near else "; there is none"


def look_up(name: str, things: Mapping[str, Iterable[str]]) -> Named:
    """Return what a name stands for, given the other names of each thing by its id.

    The id of one thing is never the name of another.
    """
    if name in things:
        return Named(name, (name,))
    ids = tuple(thing for thing, names in things.items() if name and name in names)
    return Named(name, ids, () if ids else near_misses(name, things))


def near_misses(name: str, things: Mapping[str, Iterable[str]]) -> tuple[str, ...]:
    """Return the ids and names with the most similar spelling; if there are none, the first ids."""
    return find_spelled_alike(name, things) or tuple(nsmallest(MAX_NEAR, things))


def find_spelled_alike(name: str, things: Mapping[str, Iterable[str]]) -> tuple[str, ...]:
    """Return the ids and names with the most similar spelling; () if there are too many names to guess among."""
    known = {one for thing, names in things.items() for one in (thing, *names) if one}
    return tuple(get_close_matches(name, sorted(known), n=MAX_NEAR)) if len(known) <= MAX_GUESSED else ()


def list_ids(ids: tuple[str, ...]) -> str:
    """Return all of a few ids as text; if there are many, the first ones and how many more there are."""
    more = len(ids) - MAX_LISTED
    return ", ".join(ids[:MAX_LISTED]) + (f" and {more} more" if more > 0 else "")


def names_of_enis(state: CloudState) -> dict[str, tuple[str, ...]]:
    """Return the other names of each ENI with a policy, by its id: the id and the name of its instance."""
    owner = state.instance
    return {eni.network_interface_id: _names(owner.get(eni.instance_id)) for eni in state.judged_enis}


def eni_of(state: CloudState, name: str) -> str:
    """Return the id of the ENI that `name` stands for in `state`.

    Raises:
        StateFileError: that is no ENI or several; it says which names may have been meant.
    """
    return look_up(name, names_of_enis(state)).the_eni("no such ENI in the state", "an ENI of the state")


def _names(instance: Instance | None) -> tuple[str, ...]:
    return () if instance is None else (instance.instance_id, instance.instance_name)
