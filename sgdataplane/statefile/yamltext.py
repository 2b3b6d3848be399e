"""YAML text -> plain values, and the lines of places in it.

Owns strictness: no aliases, anchors or tags, one document, no duplicate keys, bounded depth, and only the plain scalars
that JSON has. Is given text. Must not know what the values mean.

Values are built here, from libyaml's events: PyYAML's own loader takes ten times as long, and guesses types as YAML 1.1
does (22:22 is a number, no is a boolean).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from yaml import MarkedYAMLError, YAMLError
from yaml._yaml import CParser  # the C parser by itself; `yaml.CSafeLoader` adds the slow part
from yaml.events import (
    AliasEvent,
    DocumentStartEvent,
    Event,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
    StreamEndEvent,
)
from yaml.reader import ReaderError

from sgdataplane.statefile.fields import escape
from sgdataplane.statefile.jsontext import find_duplicates
from sgdataplane.statefile.problems import (
    MAX_DEPTH,
    DuplicateKeyError,
    SyntaxFaultError,
    malformed,
    too_deep,
    unsupported,
)

NUMBER = re.compile(r"-?(?:0|[1-9][0-9]{0,17})(\.[0-9]{1,17})?([eE][+-]?[0-9]{1,3})?")
WORDS = {"true": True, "True": True, "false": False, "False": False, "null": None, "Null": None, "~": None, "": None}


Collection = dict[str, object] | list[object]


def parse_yaml(text: str) -> object:
    """The document's value; SyntaxFaultError if it isn't YAML, or uses more of YAML than a state needs."""
    try:
        return _Builder().build(text)
    except YAMLError as error:
        raise _as_fault(error, text) from error
    except DuplicateKeyError as error:
        raise next(find_duplicates(walk_yaml(text)), too_deep()) from error


def walk_yaml(text: str) -> Iterator[tuple[str, int]]:
    """(pointer, 1-based line) of every value of a text that is YAML, in its order; in a mapping, that of the key."""
    path: list[_Open] = []
    current = ""
    for event in _events(text):
        if isinstance(event, (MappingEndEvent, SequenceEndEvent)):
            path.pop()
        elif isinstance(event, (ScalarEvent, MappingStartEvent, SequenceStartEvent)):
            around = path[-1] if path else None
            if around is None:
                yield "", _line(event)
            elif around.index >= 0 or around.is_key:
                current = around.step(event)
                yield current, _line(event)
            else:
                around.is_key = True
            if not isinstance(event, ScalarEvent):
                path.append(_Open(current, 0 if isinstance(event, SequenceStartEvent) else -1))


@dataclass(slots=True)
class _Open:
    """A collection that the walk is in. `index`: of the next element of a list; -1 in a mapping."""

    pointer: str
    index: int
    is_key: bool = True

    def step(self, event: Event) -> str:
        """The pointer of the next element, or of the key that this event is."""
        if self.index >= 0:
            self.index += 1
            return f"{self.pointer}/{self.index - 1}"
        self.is_key = False
        return f"{self.pointer}/{escape(str(getattr(event, 'value', '')))}"


def _events(text: str) -> Iterator[Event]:
    return iter(CParser(text).get_event, None)


class _Builder:
    """Builds values from the events of one document. `into`: the collection that is being filled; `open`: those around
    it."""

    def __init__(self) -> None:
        self.root: list[object] = []
        self.open: list[Collection] = []
        self.into: Collection = self.root
        self.key: str | None = None

    def build(self, text: str) -> object:
        for event in _events(text):
            if isinstance(event, ScalarEvent):
                self.scalar(event)
            elif isinstance(event, MappingStartEvent):
                self.begin(event, {})
            elif isinstance(event, SequenceStartEvent):
                self.begin(event, [])
            elif isinstance(event, (MappingEndEvent, SequenceEndEvent)):
                self.into = self.open.pop()
            elif isinstance(event, AliasEvent):
                raise unsupported(f"*{event.anchor}", _line(event))
            elif isinstance(event, DocumentStartEvent) and self.root:
                raise malformed("the file has a second document", _line(event), "one document a file")
            elif isinstance(event, StreamEndEvent):
                break
        return self.root[0] if self.root else None

    def scalar(self, event: ScalarEvent) -> None:
        _refuse_extras(event)
        if self.key is None and isinstance(self.into, dict):
            if event.value in self.into:
                raise DuplicateKeyError
            self.key = event.value
            return
        self.put(resolve(event.value) if event.implicit[0] else event.value)

    def put(self, value: object) -> None:
        if isinstance(self.into, list):
            self.into.append(value)
        elif self.key is not None:
            self.into[self.key] = value
            self.key = None

    def begin(self, event: MappingStartEvent | SequenceStartEvent, collection: Collection) -> None:
        _refuse_extras(event)
        if self.key is None and isinstance(self.into, dict):
            raise malformed("a key is not text", _line(event), "a name as key")
        if len(self.open) == MAX_DEPTH:
            raise too_deep(_line(event))
        self.put(collection)
        self.open.append(self.into)
        self.into = collection


def resolve(text: str) -> object:
    """A plain scalar's value: a number, true, false or null as JSON has them, else text. So 22/22 and no are text."""
    if text[:1] in "-0123456789" and text:
        match = NUMBER.fullmatch(text)
        if match:
            return float(text) if match[1] or match[2] else int(text)
        return text
    return WORDS.get(text, text)


def _line(event: Event) -> int:
    return event.start_mark.line + 1 if event.start_mark else 0


def _refuse_extras(event: ScalarEvent | MappingStartEvent | SequenceStartEvent) -> None:
    if event.anchor is not None:
        raise unsupported(f"&{event.anchor}", _line(event))
    if event.tag is not None:
        raise unsupported(str(event.tag), _line(event))


def _as_fault(error: YAMLError, text: str) -> SyntaxFaultError:
    """What libyaml says, and the line where it gave up: it gives a mark, or an offset in the encoded text."""
    if isinstance(error, MarkedYAMLError):
        line = error.problem_mark.line + 1 if error.problem_mark else 0
        return malformed(f"this is not YAML: {error.problem}", line)
    if isinstance(error, ReaderError):
        return malformed(f"this is not YAML: {error.reason}", text.encode().count(b"\n", 0, error.position) + 1)
    return malformed(f"this is not YAML: {error}")
