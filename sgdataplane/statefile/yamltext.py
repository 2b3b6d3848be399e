"""YAML text -> plain values, and the lines of places in it.

Owns strictness: no tags, one document, no duplicate keys, bounded depth, and only the plain scalars that JSON has. Owns
also what aliases and merge keys (`<<`) stand for, within a bound on what they add. Is given text. Must not know what
the values mean.

Values are built here, from libyaml's events: PyYAML's own loader takes ten times as long, and guesses types as YAML 1.1
does (22:22 is a number, no is a boolean).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from yaml import CSafeLoader, MarkedYAMLError, YAMLError
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
    make_depth_fault,
    make_malformed_fault,
    make_size_fault,
    make_tag_fault,
)
from sgdataplane.statefile.yamlcures import cure_of, excerpt_of, yaml_lines

# All aliases of a document may stand for this many values. Without a bound, a few lines could stand for millions.
MAX_ALIASED = 4_000_000
MERGE = "<<"  # https://yaml.org/type/merge.html

NUMBER = re.compile(r"-?(?:0|[1-9][0-9]{0,17})(\.[0-9]{1,17})?([eE][+-]?[0-9]{1,3})?")
WORDS = {"true": True, "True": True, "false": False, "False": False, "null": None, "Null": None, "~": None, "": None}


Collection = dict[str, object] | list[object]


def parse_yaml(text: str) -> object:
    """Return the document's value.

    Raises:
        SyntaxFaultError: the text isn't YAML, or uses more of YAML than a state needs.
    """
    try:
        return _Builder().build(text)
    except YAMLError as error:
        raise _as_fault(error, text) from error
    except DuplicateKeyError as error:
        raise next(find_duplicates(walk_yaml(text)), make_depth_fault()) from error


def walk_yaml(text: str) -> Iterator[tuple[str, int]]:
    """Yield the pointer and 1-based line of every value of a YAML text, in its order.

    In a mapping, the line is that of the key.
    """
    path: list[_Open] = []
    current = ""
    for event in _events(text):
        if isinstance(event, (MappingEndEvent, SequenceEndEvent)):
            path.pop()
        elif isinstance(event, (ScalarEvent, AliasEvent, MappingStartEvent, SequenceStartEvent)):
            around = path[-1] if path else None
            if around is None:
                yield "", _line(event)
            elif around.index >= 0 or around.is_key:
                current = around.step(event)
                yield current, _line(event)
            else:
                around.is_key = True
            if isinstance(event, (MappingStartEvent, SequenceStartEvent)):
                path.append(_Open(current, 0 if isinstance(event, SequenceStartEvent) else -1))


@dataclass(slots=True)
class _Open:
    """A collection that the walk is in."""

    pointer: str
    index: int
    """The index of a list's next element; -1 in a mapping."""
    is_key: bool = True

    def step(self, event: Event) -> str:
        """Return the pointer of the next element, or of the key that this event is."""
        if self.index >= 0:
            self.index += 1
            return f"{self.pointer}/{self.index - 1}"
        self.is_key = False
        return f"{self.pointer}/{escape(str(getattr(event, 'value', '')))}"


def _events(text: str) -> Iterator[Event]:
    return iter(CSafeLoader(text).get_event, None)


@dataclass(frozen=True, slots=True)
class _Anchored:
    """What an anchor names."""

    value: object
    size: int  # how many values it has in all
    depth: int  # how deeply they are nested


class _Builder:
    """Builds values from the events of one document.

    An alias stands for the very object that its anchor names, so it takes no memory.

    Attributes:
        into: the collection that is being filled.
        open: the collections around it.
        naming: the anchors of collections that aren't complete yet, by how many collections are around each.
        measured: the size and depth of what anchors name, by identity, so that each is measured once.
        aliased: how many values all aliases stand for.
    """

    def __init__(self) -> None:
        self.root: list[object] = []
        self.open: list[Collection] = []
        self.into: Collection = self.root
        self.key: str | None = None
        self.naming: dict[int, str] = {}
        self.anchored: dict[str, _Anchored] = {}
        self.measured: dict[int, tuple[int, int]] = {}  # by identity
        self.aliased = 0

    def build(self, text: str) -> object:
        """Return the value of the document."""
        for event in _events(text):
            if isinstance(event, ScalarEvent):
                self.scalar(event)
            elif isinstance(event, MappingStartEvent):
                self.begin(event, {})
            elif isinstance(event, SequenceStartEvent):
                self.begin(event, [])
            elif isinstance(event, (MappingEndEvent, SequenceEndEvent)):
                self.end(event)
            elif isinstance(event, AliasEvent):
                self.alias(event)
            elif isinstance(event, DocumentStartEvent) and self.root:
                raise make_malformed_fault("the file has a second document", _line(event), "one document a file")
            elif isinstance(event, StreamEndEvent):
                break
        return self.root[0] if self.root else None

    def scalar(self, event: ScalarEvent) -> None:
        """Put a scalar where the document has it."""
        _refuse_tag(event)
        is_key = self.key is None and isinstance(self.into, dict)
        value = resolve(event.value) if event.implicit[0] and not is_key else event.value
        if event.anchor is not None:
            self.anchored[event.anchor] = _Anchored(value, 1, 0)
        self.put(value, event)

    def put(self, value: object, event: Event) -> None:
        """Put the next element into the collection that is being filled, or its next key."""
        if isinstance(self.into, list):
            self.into.append(value)
        elif self.key is not None:
            self.into[self.key] = value
            self.key = None
        elif not isinstance(value, str):
            raise make_malformed_fault("a key is not text", _line(event), "a name as key")
        elif value in self.into:
            raise DuplicateKeyError
        else:
            self.key = value

    def begin(self, event: MappingStartEvent | SequenceStartEvent, collection: Collection) -> None:
        """Begin to fill a collection."""
        _refuse_tag(event)
        if len(self.open) == MAX_DEPTH:
            raise make_depth_fault(_line(event))
        if event.anchor is not None:
            self.naming[len(self.open)] = event.anchor
        self.put(collection, event)
        self.open.append(self.into)
        self.into = collection

    def end(self, event: Event) -> None:
        """Complete the collection that is being filled: merge what it names, and measure it if an anchor names it."""
        done, self.into = self.into, self.open.pop()
        if isinstance(done, dict) and MERGE in done:
            _merge(done, _line(event))
        anchor = self.naming.pop(len(self.open), None)
        if anchor is not None:
            size, depth = self.measured[id(done)] = self.measure(done)
            self.anchored[anchor] = _Anchored(done, size, depth)

    def measure(self, value: object) -> tuple[int, int]:
        """Return how many values a value has, itself included, and how deeply they are nested."""
        if not isinstance(value, (dict, list)):
            return 1, 0
        if id(value) in self.measured:
            return self.measured[id(value)]
        sizes = [self.measure(inner) for inner in (value.values() if isinstance(value, dict) else value)]
        return 1 + sum(size for size, _ in sizes), 1 + max((depth for _, depth in sizes), default=0)

    def alias(self, event: AliasEvent) -> None:
        """Put the value that an alias stands for."""
        found = self.anchored.get(str(event.anchor))
        if found is None:
            expected = f"&{event.anchor} at a complete value before it"
            raise make_malformed_fault(f"the alias *{event.anchor} stands for nothing", _line(event), expected)
        self.aliased += found.size
        if self.aliased > MAX_ALIASED:
            raise make_size_fault(
                "the aliases stand for too many values", _line(event), f"at most {MAX_ALIASED} values"
            )
        if len(self.open) + found.depth > MAX_DEPTH:
            raise make_depth_fault(_line(event))
        self.put(found.value, event)


def _merge(mapping: dict[str, object], line: int) -> None:
    """Add the keys of the mappings that the merge key names.

    A key's first value stays, and the mapping's own come first.
    """
    named = mapping.pop(MERGE)
    for other in named if isinstance(named, list) else [named]:
        if not isinstance(other, dict):
            raise make_malformed_fault(
                f"{MERGE} names something else than mappings", line, "a mapping, or a list of mappings"
            )
        for key, value in other.items():
            mapping.setdefault(key, value)


def resolve(text: str) -> object:
    """Return a plain scalar's value: a number, true, false or null as JSON has them, else text.

    So 22/22 and no are text.
    """
    if text[:1] in "-0123456789" and text:
        match = NUMBER.fullmatch(text)
        if match:
            return float(text) if match[1] or match[2] else int(text)
        return text
    return WORDS.get(text, text)


def _line(event: Event) -> int:
    return event.start_mark.line + 1 if event.start_mark else 0


def _refuse_tag(event: ScalarEvent | MappingStartEvent | SequenceStartEvent) -> None:
    if event.tag is not None:
        raise make_tag_fault(str(event.tag), _line(event))


def _as_fault(error: YAMLError, text: str) -> SyntaxFaultError:
    """Return libyaml's message with the line where it gave up.

    It gives a mark, or an offset in the encoded text.
    """
    if isinstance(error, MarkedYAMLError):
        problem, mark = f"this is not YAML: {error.problem}", error.problem_mark
        if mark is None:
            return make_malformed_fault(problem)
        lines, line, column = yaml_lines(text), mark.line, mark.column
        cure, excerpt = cure_of(problem, lines, line, column), excerpt_of(lines, line, column)
        return make_malformed_fault(problem, line + 1, cure, excerpt)
    if isinstance(error, ReaderError):
        return make_malformed_fault(
            f"this is not YAML: {error.reason}", text.encode().count(b"\n", 0, error.position) + 1
        )
    return make_malformed_fault(f"this is not YAML: {error}")
