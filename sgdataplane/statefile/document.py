"""Texts -> documents, and the lines of what is wrong in them.

Owns the choice of JSON or YAML, and the second pass over a text that finds lines, which is made only when something is
wrong. Must not know what documents mean.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import NamedTuple, cast

from sgdataplane.errors import Problem, Where
from sgdataplane.statefile.jsontext import parse_json, walk_json
from sgdataplane.statefile.problems import Problems, SyntaxFaultError
from sgdataplane.statefile.source import SourceText

# More is not read. The cloud's answers for 65,536 ENIs and 200,000 rules have some 7 million.
MAX_VALUES = 8_000_000
LOOK_UP = 1024  # every so many steps, a walk checks whether it can still find something


@dataclass(frozen=True, slots=True)
class Document:
    """One parsed file; its value is a mapping."""

    source: SourceText
    mapping: dict[str, object]

    @property
    def file(self) -> str:
        """The name that errors give the file."""
        return self.source.file


def is_json(source: SourceText) -> bool:
    """Return whether a text is JSON: by its file's name or, if that doesn't tell, by how it begins."""
    if source.name.suffix in (".yaml", ".yml"):
        return False
    return source.name.suffix == ".json" or source.text.lstrip().startswith("{")


class Syntax(NamedTuple):
    """How a text is read."""

    parse: Callable[[str], object]
    """Returns the text's value, or raises SyntaxFaultError."""
    walk: Callable[[str], Iterable[tuple[str, int]]]
    """Returns the pointer and 1-based line of every value, in the text's order."""


def syntax_of(source: SourceText) -> Syntax:
    """Return how a text is read: as JSON, or as YAML."""
    if is_json(source):
        return Syntax(parse_json, walk_json)
    from sgdataplane.statefile.yamltext import parse_yaml, walk_yaml  # noqa: PLC0415  # the API starts without YAML

    return Syntax(parse_yaml, walk_yaml)


def values_in(source: SourceText) -> int:
    """Count the values that a text has at most, by the characters that separate them.

    A few such characters in strings are counted, too.
    """
    marks = (",", "[", "{") if is_json(source) else (",", "[", "{", "\n", "- ")
    return sum(map(source.text.count, marks))


def are_too_many(sources: tuple[SourceText, ...], problems: Problems) -> bool:
    """Return whether the texts have more values than a state can have, before any value takes memory.

    If so, a problem is noted.
    """
    found = 0
    for source in sources:
        found += values_in(source)
        if found > MAX_VALUES:
            where, expected = Where(source.file), f"at most {MAX_VALUES} values, in all files together"
            problems.add(
                where, "InvalidSource.TooLarge", "the files hold too many values", value=found, expected=expected
            )
            return True
    return False


def parse(source: SourceText, problems: Problems) -> Document | None:
    """Return the document of a text; None and a problem if it can't be read."""
    try:
        root = syntax_of(source).parse(source.text)
    except SyntaxFaultError as fault:
        problems.keep(replace(fault.problem, where=replace(fault.problem.where, file=source.file)))
        return None
    if isinstance(root, list) and root and all(isinstance(each, dict) for each in root):
        root = {str(index): each for index, each in enumerate(root)}  # rows, as OpenStack's client prints them
    if not isinstance(root, dict):
        where, expected = Where(source.file, 1), "a mapping of native sections, or an answer of the cloud"
        problems.add(where, "InvalidDocument.WrongType", "the document is not a mapping", value=root, expected=expected)
        return None
    return Document(source, cast(dict[str, object], root))


def with_lines(problems: Problems, sources: tuple[SourceText, ...]) -> None:
    """Find the line of every kept problem that has only a pointer, and sort the problems by place."""
    for source in sources:
        unplaced = [p for p in problems.kept if p.where.file == source.file and p.where.pointer and not p.where.line]
        pointers = [problem.where.pointer for problem in unplaced]
        wanted = {ancestor for pointer in pointers for ancestor in accumulate(pointer.split("/"), "{}/{}".format)}
        if wanted:
            lines = lines_of(syntax_of(source).walk(source.text), wanted)
            problems.kept = [add_line(problem, source.file, lines) for problem in problems.kept]
    order = {source.file: position for position, source in enumerate(sources)}
    problems.kept.sort(key=lambda problem: (order.get(problem.where.file, -1), problem.where.line))


def line_of(source: SourceText, pointer: str) -> int:
    """Return the line of one place in a text; 0 if it isn't there."""
    return lines_of(syntax_of(source).walk(source.text), {pointer}).get(pointer, 0) if pointer else 0


def lines_of(walked: Iterable[tuple[str, int]], wanted: set[str]) -> dict[str, int]:
    """Return the line of each wanted place that a walk meets.

    The objects around each place are wanted, too: once the walk has left the nearest one that exists, the place can't
    come any more.
    """
    found: dict[str, int] = {}
    for number, (pointer, line) in enumerate(walked, 1):
        if pointer in wanted:
            found[pointer] = line
        if number % LOOK_UP == 0 and not any(may_come(place, pointer, found) for place in wanted - found.keys()):
            break
    return found


def may_come(place: str, pointer: str, found: Container[str]) -> bool:
    """Return whether the walk, which is at `pointer`, can still come to a place that it hasn't met so far."""
    while place and place not in found:
        place = place.rpartition("/")[0]
    return f"{pointer}/".startswith(f"{place}/")


def add_line(problem: Problem, file: str, lines: dict[str, int]) -> Problem:
    """Return the problem with its line.

    A missing field gets the line of the nearest object around it that is there.
    """
    where = problem.where
    if where.file != file or where.line:
        return problem
    pointer = where.pointer
    while pointer and pointer not in lines:
        pointer = pointer.rpartition("/")[0]
    return replace(problem, where=replace(where, line=lines.get(pointer, 0)))
