"""The part of the store that a host has got from its relay, and how a change alters it.

Owns how messages of a change become one step, the order of versions, and the bounds. Its input is messages. Must not
know sockets or folders.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import cast

from sgdataplane.relay.wire import (
    MAX_CHARACTERS,
    MAX_OBJECTS,
    BadMessageError,
    Hello,
    HostChange,
    canonical,
    digest_in,
    digest_of,
    digest_of_all,
)
from sgdataplane.store.documents import IDS, SECTIONS, Fields, ResourceKind, kind_of, path_of
from sgdataplane.store.history import Version
from sgdataplane.store.interface import Path

MEMBER_ONLY: Fields = {"member_only": True}


class OlderError(Exception):
    """A relay has sent an older version than the host has. The text is for people."""


@dataclass(frozen=True, slots=True)
class HostPart:
    """All that a host gets, at one version. It never changes."""

    version: Version | None = None
    objects: dict[Path, Fields] = field(default_factory=dict)  # path -> native object
    characters: dict[Path, int] = field(default_factory=dict)  # path -> characters of the object's text

    @staticmethod
    def of(version: Version | None, document: dict[str, object]) -> HostPart:
        """Return the part that a native document holds, such as one that is read from a generation.

        Raises:
            BadMessageError: It is no document that a relay's host has written.
        """
        kinds = {section: kind for kind, section in SECTIONS.items()}
        objects: dict[Path, Fields] = {}
        for section, found in document.items():
            if section != "version":
                objects |= _by_path(kinds.get(section), found)
        return HostPart(version, objects, {path: len(canonical(fields)) for path, fields in objects.items()})

    def hello(self, program: str, *, is_short: bool = False) -> Hello:
        """Return the first message to a relay: what this host already has.

        A short one has one digest of everything, and so is for relays that know `SHORT_HELLO`.
        """
        if is_short and self.objects:
            digests = (digest_in(canonical(fields)) for fields in self.objects.values())
            return Hello(program, self.version, digest=digest_of_all(digests))
        return Hello(program, self.version, {path: digest_of(fields) for path, fields in self.objects.items()})

    def document(self) -> dict[str, object]:
        """Return the native document that the agent reads. The id comes first in each object.

        An ENI that is bound to another host comes without a MAC. It is marked as a member only, so the agent enforces
        no policy for it.
        """
        sections: dict[str, object] = {"version": 1}
        for path in sorted(self.objects):
            kind, fields = kind_of(path), self.objects[path]
            named = {IDS[kind]: fields[IDS[kind]], **fields, **(MEMBER_ONLY if is_far(path, fields) else {})}
            cast("list[object]", sections.setdefault(SECTIONS[kind], [])).append(named)
        return sections

    def after(self, changes: Iterable[HostChange]) -> HostPart:
        """Return the part after all these messages of one change.

        Raises:
            BadMessageError: The host would get too much.
        """
        objects, characters, version = dict(self.objects), dict(self.characters), self.version
        for change in changes:
            for path in change.deletes:
                objects.pop(path, None)
                characters.pop(path, None)
            objects |= change.puts
            characters |= {path: len(canonical(fields)) for path, fields in change.puts.items()}
            version = change.version
        if len(objects) > MAX_OBJECTS or sum(characters.values()) > MAX_CHARACTERS:
            raise BadMessageError(f"more than {MAX_OBJECTS} objects or {MAX_CHARACTERS} characters for one host")
        return HostPart(version, objects, characters)


def is_far(path: Path, fields: Fields) -> bool:
    """Whether an object is an ENI of another host. These have no MAC, while each ENI of a store has one."""
    return kind_of(path) is ResourceKind.ENI and "mac_address" not in fields


def _by_path(kind: ResourceKind | None, found: object) -> dict[Path, Fields]:
    """Return the objects of one section of a document, by path.

    Raises:
        BadMessageError: The section isn't as a relay's host writes it.
    """
    if kind is None or not isinstance(found, list):
        raise BadMessageError("not a document that a relay's host has written")
    objects = {}
    for fields in found:
        if not isinstance(fields, dict) or not isinstance(name := fields.get(IDS[kind]), str):
            raise BadMessageError(f"a {kind} has no {IDS[kind]}")
        objects[path_of(kind, name)] = {key: value for key, value in fields.items() if key not in MEMBER_ONLY}
    return objects


class Receiving:
    """Receives the changes of one stream. `part` is what the host has.

    With `may_go_back`, an operator has allowed that the first change may be older than what is here.
    """

    def __init__(self, part: HostPart, *, may_go_back: bool = False) -> None:
        self.part, self._may_go_back = part, may_go_back
        self._waiting: list[HostChange] = []
        self._characters = 0

    def take(self, change: HostChange, characters: int) -> bool:
        """Take a message of a change. Return whether the change is complete, and `part` is its result.

        `characters` is the length of the message.

        Raises:
            OlderError: The change is older than what the host has.
            BadMessageError: The messages of one change don't fit together, or are too large.
        """
        self._require_newer(change.version)
        if self._waiting and self._waiting[0].version != change.version:
            raise BadMessageError("the parts of one change are of several versions")
        self._characters += characters
        if self._characters > 2 * MAX_CHARACTERS:
            raise BadMessageError(f"one change has more than {2 * MAX_CHARACTERS} characters")
        self._waiting.append(change)
        if change.has_more:
            return False
        self.part = self.part.after(self._waiting)
        self._waiting, self._characters, self._may_go_back = [], 0, False
        return True

    def _require_newer(self, version: Version) -> None:
        have = self.part.version
        if have is None or version >= have or self._may_go_back:
            return
        what = f"the relay has {version}, which is older than {have} here"
        do = "if the store was restored from a backup, run `sgdp api restored` there or `sgdp sync --accept-epoch` here"
        raise OlderError(f"{what}: {do}")
