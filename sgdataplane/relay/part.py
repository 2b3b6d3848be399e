"""What a host has got from its relay, and what a change makes of it.

Owns how parts of a change become one step, the order of versions, and the bounds. Is given messages. Must not know
sockets or folders.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import cast

from sgdataplane.relay.wire import MOST_LETTERS, MOST_OBJECTS, BadMessageError, Hello, HostChange, canonical, digest_of
from sgdataplane.store.documents import IDS, SECTIONS, Fields, ResourceKind, kind_of, path_of
from sgdataplane.store.history import Version
from sgdataplane.store.interface import Path

MEMBER_ONLY: Fields = {"member_only": True}


class OlderError(Exception):
    """A relay has sent an older version than the host has. The text is for people."""


@dataclass(frozen=True, slots=True)
class HostPart:
    """All that a host gets, at a version. It never changes. `letters`: of each object's text."""

    version: Version | None = None
    objects: dict[Path, Fields] = field(default_factory=dict)
    letters: dict[Path, int] = field(default_factory=dict)

    @staticmethod
    def of(version: Version | None, document: dict[str, object]) -> HostPart:
        """From a native document, such as a generation has. BadMessageError if it is none of ours."""
        kinds = {section: kind for kind, section in SECTIONS.items()}
        objects: dict[Path, Fields] = {}
        for section, found in document.items():
            if section != "version":
                objects |= _by_path(kinds.get(section), found)
        return HostPart(version, objects, {path: len(canonical(fields)) for path, fields in objects.items()})

    def hello(self, program: str) -> Hello:
        return Hello(program, self.version, {path: digest_of(fields) for path, fields in self.objects.items()})

    def document(self) -> dict[str, object]:
        """As the agent reads it. The id comes first in each object. An ENI that is bound to another host comes without
        a MAC, and is said to be a member only: the agent enforces no policy for it."""
        sections: dict[str, object] = {"version": 1}
        for path in sorted(self.objects):
            kind, fields = kind_of(path), self.objects[path]
            named = {IDS[kind]: fields[IDS[kind]], **fields, **(MEMBER_ONLY if is_far(path, fields) else {})}
            cast("list[object]", sections.setdefault(SECTIONS[kind], [])).append(named)
        return sections

    def after(self, changes: Iterable[HostChange]) -> HostPart:
        """The same after these parts of one change. BadMessageError if it gets too large."""
        objects, letters, version = dict(self.objects), dict(self.letters), self.version
        for change in changes:
            for path in change.deletes:
                objects.pop(path, None)
                letters.pop(path, None)
            objects |= change.puts
            letters |= {path: len(canonical(fields)) for path, fields in change.puts.items()}
            version = change.version
        if len(objects) > MOST_OBJECTS or sum(letters.values()) > MOST_LETTERS:
            raise BadMessageError(f"more than {MOST_OBJECTS} objects or {MOST_LETTERS} letters for one host")
        return HostPart(version, objects, letters)


def is_far(path: Path, fields: Fields) -> bool:
    """Whether that is an ENI of another host: those have no MAC. (Each ENI of a store has one.)"""
    return kind_of(path) is ResourceKind.ENI and "mac_address" not in fields


def _by_path(kind: ResourceKind | None, found: object) -> dict[Path, Fields]:
    """The objects of one section."""
    if kind is None or not isinstance(found, list):
        raise BadMessageError("not a document that a relay's host has written")
    objects = {}
    for fields in found:
        if not isinstance(fields, dict) or not isinstance(name := fields.get(IDS[kind]), str):
            raise BadMessageError(f"a {kind} has no {IDS[kind]}")
        objects[path_of(kind, name)] = {key: value for key, value in fields.items() if key not in MEMBER_ONLY}
    return objects


class Receiving:
    """The changes of one stream. `part`: what the host has; `may_go_back`: an operator has said that the first one may
    be older."""

    def __init__(self, part: HostPart, *, may_go_back: bool = False) -> None:
        self.part, self._may_go_back = part, may_go_back
        self._waiting: list[HostChange] = []
        self._letters = 0

    def take(self, change: HostChange, letters: int) -> bool:
        """Whether a change is complete now, and `part` is what it makes. `letters`: of the message. OlderError;
        BadMessageError if the parts of one change don't fit together, or are too large."""
        self._require_newer(change.version)
        if self._waiting and self._waiting[0].version != change.version:
            raise BadMessageError("the parts of one change are of several versions")
        self._letters += letters
        if self._letters > 2 * MOST_LETTERS:
            raise BadMessageError(f"one change has more than {2 * MOST_LETTERS} letters")
        self._waiting.append(change)
        if change.has_more:
            return False
        self.part = self.part.after(self._waiting)
        self._waiting, self._letters, self._may_go_back = [], 0, False
        return True

    def _require_newer(self, version: Version) -> None:
        have = self.part.version
        if have is None or version >= have or self._may_go_back:
            return
        what = f"the relay has {version}, which is older than {have} here"
        do = "if the store was put back from a copy, say `sgdp api restored` there, or here `sgdp sync --accept-epoch`"
        raise OlderError(f"{what}: {do}")
