"""What a person's name for a thing stands for: an id, or a name that one thing alone has.

Owns how that is looked up, and how it is refused. Is given a state, or things with their names. Must not know who asks.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from heapq import nsmallest
from typing import NoReturn

from sgdataplane.errors import Problem, StateFileError, Where
from sgdataplane.model.state import CloudState, Instance

MOST_GUESSED = 2_000  # among more names a guess costs too much: 30 us each
MOST_LISTED, MOST_NEAR = 10, 3


@dataclass(frozen=True, slots=True)
class Named:
    """`ids`: all that a name could stand for. `near`: names that may have been meant, if it stands for nothing."""

    name: str
    ids: tuple[str, ...]
    near: tuple[str, ...] = ()

    def the_eni(self, unknown: str, expected: str) -> str:
        """The one ENI's id. StateFileError as `refuse`."""
        if len(self.ids) != 1:
            self.refuse(unknown, expected)
        return self.ids[0]

    def refuse(self, unknown: str, expected: str) -> NoReturn:
        """StateFileError: with those ENIs that it could be; else that it is `unknown`, and what is `expected`."""
        message = "several ENIs could be meant" if self.ids else unknown
        right = f"one of {listed(self.ids)}" if self.ids else f"{expected}{self._such_as}"
        raise StateFileError((Problem(Where(), "InvalidEniId.NotFound", message, self.name, right),))

    @property
    def _such_as(self) -> str:
        return f", such as {', '.join(self.near)}" if self.near else "; there is none"


def look_up(name: str, things: Mapping[str, Iterable[str]]) -> Named:
    """`things`: the other names of each, by id. What is somebody's id is no other's name."""
    if name in things:
        return Named(name, (name,))
    ids = tuple(thing for thing, names in things.items() if name and name in names)
    return Named(name, ids, () if ids else near_misses(name, things))


def near_misses(name: str, things: Mapping[str, Iterable[str]]) -> tuple[str, ...]:
    """Those ids and names that are spelt most like it; if none is, the first ids."""
    known = {one for thing, names in things.items() for one in (thing, *names) if one}
    close = get_close_matches(name, sorted(known), n=MOST_NEAR) if len(known) <= MOST_GUESSED else []
    return tuple(close or nsmallest(MOST_NEAR, things))


def listed(ids: tuple[str, ...]) -> str:
    """Some of them in full, of many the first."""
    more = len(ids) - MOST_LISTED
    return ", ".join(ids[:MOST_LISTED]) + (f" and {more} more" if more > 0 else "")


def names_of_enis(state: CloudState) -> dict[str, tuple[str, ...]]:
    """By the id of each ENI what else it is called: as its instance, by id and by name."""
    owner = state.instance
    return {eni.network_interface_id: _names(owner.get(eni.instance_id)) for eni in state.network_interfaces}


def _names(instance: Instance | None) -> tuple[str, ...]:
    return () if instance is None else (instance.instance_id, instance.instance_name)
