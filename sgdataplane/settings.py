"""A configuration file in TOML: the kinds of values that keys may have, and every refusal with its place.

Owns how such a file is read, and how refusals are worded. Is given a path and the keys. Must not know any key.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Protocol

from sgdataplane.errors import ConfigError, Where
from sgdataplane.net.values import Address
from sgdataplane.statefile.problems import Problems

MAX_BYTES = 1 << 20
LINE = re.compile(r"\(at line (\d+), column \d+\)|\(at end of document\)")
_ENDPOINT = re.compile(r"(?:(?P<v4>[0-9.]+)|\[(?P<v6>[0-9A-Fa-f:]+)\]):(?P<port>[1-9][0-9]{0,4})")


class ReadsValue(Protocol):
    """What a key's values may be."""

    @property
    def expected(self) -> str:
        """What is right, as error messages say it."""

    def read(self, plain: object, /) -> object | None:
        """Return what a value means; None if it isn't allowed."""


@dataclass(frozen=True, slots=True)
class ValueKind:
    """A kind of values that this module knows."""

    expected: str
    """What is right, as error messages say it."""
    read: Callable[[object], object | None]
    """Returns what a value means; None if it isn't allowed."""


def choice(*words: str) -> ValueKind:
    """Return the kind of a choice among words."""
    return ValueKind(f"one of {', '.join(words)}", lambda value: value if value in words else None)


def seconds(least: float, most: float) -> ValueKind:
    """Return the kind of a number of seconds within these bounds."""

    def read(value: object) -> object | None:
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
        return float(value) if is_number and least <= value <= most else None  # type: ignore[operator, arg-type]

    return ValueKind(f"a number of seconds from {least:g} to {most:g}", read)


def texts(of: re.Pattern[str], what: str) -> ValueKind:
    """Return the kind of a list of texts that the pattern matches; `what` names them."""

    def read(value: object) -> object | None:
        is_list = isinstance(value, list) and all(isinstance(entry, str) and of.fullmatch(entry) for entry in value)
        return tuple(value) if is_list else None  # type: ignore[arg-type]

    return ValueKind(f"a list of {what}", read)


def path_of(value: object) -> Path | None:
    """Return an absolute path; None if the value is none."""
    return Path(value) if isinstance(value, str) and value.startswith("/") and "\0" not in value else None


def endpoint_of(value: object) -> str | None:
    """Return an address and a port, as text; None if the value is none."""
    found = _ENDPOINT.fullmatch(value) if isinstance(value, str) else None
    if found is None or int(found["port"]) > 0xFFFF:
        return None
    try:
        Address.parse(found["v4"] or found["v6"])
    except ValueError:
        return None
    return found[0]


def or_nothing(kind: ValueKind) -> ValueKind:
    """Return the kind that also allows "", whose values are text."""

    def read(value: object) -> object | None:
        meant = "" if value == "" else kind.read(value)
        return None if meant is None else str(meant)

    return ValueKind(f"{kind.expected}, or nothing", read)


PATH = ValueKind("an absolute path", path_of)
SWITCH = ValueKind("true or false", lambda value: value if isinstance(value, bool) else None)
ENDPOINT = ValueKind("an address and a port, as 127.0.0.1:9469 or [::1]:9469", endpoint_of)


class SettingsFile:
    """One file that is being read; `finish` refuses all that is wrong with it together.

    If it `must_exist`, a missing file is wrong; else it counts as an empty one.
    """

    def __init__(self, path: Path, *, must_exist: bool) -> None:
        self._path, self._problems = path, Problems()
        self._text = self._read_text(must_exist=must_exist)
        self._values = self._parse()

    def read(self, kinds: Mapping[str, ReadsValue]) -> dict[str, object]:
        """Return what all valid values mean, by key; `kinds` has the kind of each known key."""
        read: dict[str, object] = {}
        for key, value in self._values.items():
            kind = kinds.get(key)
            if kind is None:
                near = get_close_matches(key, kinds, 1)
                expected = f"{near[0]}, which is the nearest known key" if near else f"one of {', '.join(kinds)}"
                self._add(key, "UnknownKey", "an unknown key", value=key, expected=expected)
            elif (meant := kind.read(value)) is None:
                self._add(key, "Value", "not a value of this key", value=value, expected=kind.expected)
            else:
                read[key] = meant
        return read

    def contradicts(self, key: str, message: str, expected: str) -> None:
        """Note that this key's value contradicts others."""
        self._add(key, "Contradiction", message, value=self._values[key], expected=expected)

    def finish(self) -> None:
        """End the reading.

        Raises:
            ConfigError: has everything that is wrong.
        """
        if self._problems.count:
            raise ConfigError(self._problems.as_error().problems)

    def _add(self, key: str, code: str, message: str, *, value: object, expected: str) -> None:
        where = Where(str(self._path), _line(self._text, key), f"/{key}")
        self._problems.add(where, f"InvalidConfig.{code}", message, value=value, expected=expected)

    def _read_text(self, *, must_exist: bool) -> str:
        where, problems = Where(str(self._path)), self._problems
        try:
            with open(self._path, "rb") as file:
                data = file.read(MAX_BYTES + 1)
            if len(data) <= MAX_BYTES:
                return data.decode("utf-8")
            problems.add(where, "InvalidConfig.TooLarge", "too large", expected=f"at most {MAX_BYTES} bytes")
        except FileNotFoundError:
            if must_exist:
                problems.add(where, "InvalidConfig.NotFound", "there is no such file", expected="a readable file")
        except (OSError, UnicodeDecodeError) as error:
            problems.add(where, "InvalidConfig.NotReadable", str(error), expected="a readable file of UTF-8 text")
        return ""

    def _parse(self) -> dict[str, object]:
        try:
            return tomllib.loads(self._text)
        except tomllib.TOMLDecodeError as error:
            found = LINE.search(str(error))
            where = Where(str(self._path), int(found[1] or 0) if found else 0)
            message = LINE.sub("", str(error)).strip()
            self._problems.add(where, "InvalidConfig.Malformed", message, expected="TOML 1.0")
            return {}


def _line(text: str, key: str) -> int:
    """Return the line of a key; 0 if it isn't written in the plain way."""
    found = re.search(rf"^\s*\[?\s*[\"']?{re.escape(key)}\b", text, re.MULTILINE)
    return text.count("\n", 0, found.end()) + 1 if found else 0
