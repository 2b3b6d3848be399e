"""One object of an input, whatever its format, and typed reading of its fields.

Owns Fields (values with their places) and Reader (values with their types). Is given what a format module found, under
native names (state-format.md, section A). Must not know formats, records or what fields mean.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from sgdataplane.errors import Where
from sgdataplane.model.ids import ID_EXPECTED, is_id
from sgdataplane.statefile.guesses import Guess, no_guess
from sgdataplane.statefile.problems import Problems

E = TypeVar("E", bound=enum.Enum)
T = TypeVar("T")

Place = str | tuple[str, ...] | Where


@dataclass(frozen=True, slots=True)
class Fields:
    """One object of an input, with the places of its fields."""

    file: str
    pointer: str
    """Where the object stands in the file, as a JSON pointer."""
    values: Mapping[str, object]
    """The fields under native names. A list of objects is a tuple of Fields."""
    names: Mapping[str, Place] = field(default_factory=dict)
    """Where a field really stands, if it isn't under its native name.

    This is a path from `pointer`, a path for each element of a list, or another place.
    """

    def where(self, name: str = "", index: int | None = None) -> Where:
        """Return the place of the object, of one of its fields, or of one element of a list, without its line."""
        if not name:
            return Where(self.file, 0, self.pointer)
        place = self.names.get(name, name)
        if isinstance(place, Where):
            return place
        if isinstance(place, tuple):
            tail = place[index or 0] if place else name
        else:
            tail = place if index is None else f"{place}/{index}"
        return Where(self.file, 0, f"{self.pointer}/{tail}")

    def find_element(self, name: str, value: str) -> Where:
        """Return the place of the list element that is written `value`; that of the list if there is none."""
        found = self.values.get(name)
        if isinstance(found, (list, tuple)) and value in found:
            return self.where(name, found.index(value))
        return self.where(name)

    def text_of(self, name: str) -> str:
        """Return the field's text; "" if it is absent or isn't text (a Reader says what is wrong)."""
        value = self.values.get(name)
        return value if isinstance(value, str) else ""

    def children(self, name: str) -> tuple[Fields, ...]:
        """Return the objects of a list; () if it is absent."""
        found = self.values.get(name, ())
        return found if isinstance(found, tuple) else ()


def escape(key: str) -> str:
    """Return a key as a token of a JSON pointer (RFC 6901)."""
    return key.replace("~", "~0").replace("/", "~1")


class Reader:
    """Reads fields by type.

    It notes a problem for each wrong field and returns a harmless stand-in, so one pass finds every problem.
    """

    def __init__(self, fields: Fields, problems: Problems) -> None:
        self.fields = fields
        self.problems = problems
        self._before = problems.count

    @property
    def is_clean(self) -> bool:
        """Whether a record may be made of what was read: no problem was noted since the reader was made."""
        return self.problems.count == self._before

    def refuse(self, name: str, code: str, message: str, expected: str = "", index: int | None = None) -> None:
        """Note a problem with a field, or with one element of a list field."""
        value = self.fields.values.get(name, "")
        if index is not None and isinstance(value, (list, tuple)):
            value = value[index]
        self.problems.add(self.fields.where(name, index), code, message, value=value, expected=expected)

    def refuse_at(self, name: str, code: str, message: str, value: object, expected: str) -> None:
        """Note a problem at a field ("" for the object), with a value that isn't the field's own."""
        self.problems.add(self.fields.where(name), code, message, value=value, expected=expected)

    def has(self, name: str) -> bool:
        """Return whether the field is there, whatever its value."""
        return name in self.fields.values

    def require(self, name: str, expected: str) -> bool:
        """Return whether the field is there; note a problem if it isn't."""
        if self.has(name):
            return True
        self.refuse_at("", f"MissingParameter.{camel(name)}", f"{name} is missing", "", expected)
        return False

    def refuse_type(self, name: str, expected: str, index: int | None = None) -> None:
        """Note that a field or one element of a list field has the wrong type."""
        self.refuse(name, "InvalidDocument.WrongType", f"{name} has the wrong type", expected, index)

    def text(self, name: str, default: str = "", guess: Guess = no_guess) -> str:
        """Return free text.

        A number isn't text, because YAML would have to guess how it was written.
        """
        value = self.fields.values.get(name, default)
        if not isinstance(value, str):
            self.refuse_type(name, _with_guess("text; put a number in quotes", guess(str(value))))
            return default
        if not is_text(value):
            self.refuse(name, "InvalidDocument.NotUtf8", f"{name} holds half of a surrogate pair", "Unicode text")
        return value

    def identifier(self, name: str, *, required: bool = False) -> str:
        """Return an id; "" if it is absent or wrong."""
        if not self.has(name):
            if required:
                self.require(name, "an id")
            return ""
        before = self.problems.count
        value = self.text(name)
        if is_id(value) or self.problems.count > before:
            return value
        self.refuse(name, f"Invalid{camel(name)}.Malformed", f"{name} is not an id", ID_EXPECTED)
        return ""

    def integer(self, name: str, default: int) -> int:
        """Return a whole number; the default if it is absent or wrong."""
        value = self.fields.values.get(name, default)
        if isinstance(value, bool) or not isinstance(value, int):
            self.refuse_type(name, "a whole number")
            return default
        return value

    def flag(self, name: str, default: bool = False) -> bool:
        """Return a boolean; the default if it is absent or wrong."""
        value = self.fields.values.get(name, default)
        if not isinstance(value, bool):
            self.refuse_type(name, "true or false")
            return default
        return value

    def choice(self, name: str, default: E, code: str) -> E:
        """Return the member of `default`'s enum that a text names, in any case; `default` if it is absent or wrong."""
        if not self.has(name):
            return default
        value = self.fields.values[name]
        members = {str(member.value).lower(): member for member in type(default)}
        found = members.get(value.lower()) if isinstance(value, str) else None
        if found is None:
            self.refuse(name, code, f"{name} is not a known value", " or ".join(members))
            return default
        return found

    def parse_text(
        self, name: str, parse: Callable[[str], T], code: str, expected: str, guess: Guess = no_guess
    ) -> T | None:
        """Return what `parse` makes of the text; None if the field is absent or wrong."""
        if not self.has(name):
            return None
        before = self.problems.count
        value = self.text(name, guess=guess)
        if self.problems.count > before:
            return None
        try:
            return parse(value)
        except ValueError:
            self.refuse(name, code, f"{name} is malformed", _with_guess(expected, guess(value)))
            return None

    def parse_list(
        self, name: str, parse: Callable[[str], T], code: str, expected: str, guess: Guess = no_guess
    ) -> tuple[T, ...]:
        """Return what `parse` makes of each text of a list; wrong elements are left out."""
        values = self.fields.values.get(name, ())
        if not isinstance(values, (list, tuple)):
            self.refuse_type(name, "a list")
            return ()
        found: list[T] = []
        for index, value in enumerate(values):
            try:
                if not isinstance(value, str):
                    raise ValueError
                found.append(parse(value))
            except ValueError:
                meant = _with_guess(expected, guess(str(value)))
                self.refuse(name, code, f"an element of {name} is malformed", meant, index)
        return tuple(found)


def _with_guess(expected: str, guess: str) -> str:
    return f"{expected}; perhaps {guess}" if guess else expected


def is_text(value: str) -> bool:
    """Return whether a text can be written as UTF-8: JSON's escapes can make half of a surrogate pair."""
    return value.isascii() or not any("\ud800" <= char <= "\udfff" for char in value)


def camel(name: str) -> str:
    """Return a native field name in the cloud's spelling: `vpc_id` is `VpcId`."""
    return "".join(part.capitalize() for part in name.split("_"))
