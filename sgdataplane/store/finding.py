"""Indexes of what calls look for: from a name, a tag or an address to the documents that have it.

Owns what of a document can be found. Must not know which call asks for what. It isn't checked that a document is as it
should be: what isn't text can't be found here, so those who look also have to look at documents themselves.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator, Mapping
from typing import NamedTuple, TypeAlias

from sgdataplane.store.interface import Body, Json
from sgdataplane.store.layered import Layered
from sgdataplane.store.sortedids import SortedIds


class Trait(enum.StrEnum):
    """What documents are found by."""

    NAME = "name"
    TAG_KEY = "tag_key"
    TAG = "tag"
    ADDRESS = "address"
    RESOURCE_GROUP = "resource_group"


class Clue(NamedTuple):
    """One thing that documents of a kind may have."""

    kind: str
    trait: Trait
    value: str


Findings: TypeAlias = Layered[Clue, SortedIds]
NAMES = ("security_group_name", "instance_name", "prefix_list_name", "port_list_name")
ADDRESSES = ("private_ip_addresses", "ipv6_addresses")


def tag_text(key: str, value: str) -> str:
    """Return a tag as one text: the length says where the key ends."""
    return f"{len(key)} {key}{value}"


def clues(kind: str, body: Body) -> Iterator[Clue]:
    """Yield all that a document is found by."""
    state, about = _fields(body, "state"), _fields(body, "about")
    names = {str(name) for name in (about.get("name"), *map(state.get, NAMES)) if name not in (None, "")}
    yield from (Clue(kind, Trait.NAME, name) for name in names)
    for key, value in _fields(state if "tags" in state else about, "tags").items():
        yield Clue(kind, Trait.TAG_KEY, key)
        if isinstance(value, str):
            yield Clue(kind, Trait.TAG, tag_text(key, value))
    for each in ADDRESSES:
        texts = state.get(each)
        for text in texts if isinstance(texts, list) else ():
            yield Clue(kind, Trait.ADDRESS, str(text))
    if group := about.get("resource_group_id"):
        yield Clue(kind, Trait.RESOURCE_GROUP, str(group))


def _fields(fields: Mapping[str, Json], name: str) -> Mapping[str, Json]:
    found = fields.get(name)
    return found if isinstance(found, Mapping) else {}
