"""The parameters of an action: "Permissions.1.Priority=1" becomes {"Permissions": [{"Priority": "1"}]}.

Owns how text of a query or form is read, its limits, and the types of the request tables: tables/requests.json, made
from the official SDK by tools/ecs_tables.py; tables/products.json for other products than ECS, as far as we look at
their fields; tables/extensions.json for actions of ours. Must not know HTTP, signatures, or what a parameter means.

A table's field decides what its parameters may be called, so depth is bounded by the table. Unknown parameters are left
out, as the cloud does it: clients send some that no table has.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from importlib import resources
from typing import TypeAlias, cast
from urllib.parse import unquote_to_bytes

from sgdataplane.control.calls.answers import NOT_FOUND, ApiError
from sgdataplane.store.interface import Json
from sgdataplane.visible import visible

MAX_PARAMETERS = 4_000  # a request: 100 permissions with 16 fields, or 200 entries of a list, fit well
MAX_NAME, MAX_VALUE = 128, 64 * 1024  # characters; user data has up to 32 KB in base64
MAX_INDEX = 1_000  # the N of .N
EXTENSION = "Sgdp"
SHOWN = 100  # characters of a value in a message
# Required in the SDK's words, but not by us: there is one region, and instances have no image, type or price.
NOT_REQUIRED = frozenset({"RegionId", "ZoneId", "ImageId", "InstanceType", "Period", "AutoRenewPeriod", "HpcClusterId"})

Pairs: TypeAlias = Mapping[str, str]
Table: TypeAlias = "Mapping[str, ParameterField]"
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*(\.[A-Za-z0-9_]+)*")
_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")
_INDEX = re.compile(r"[1-9][0-9]{0,5}")
_INTEGER = re.compile(r"[+-]?[0-9]{1,18}")
_NUMBER = re.compile(r"[+-]?[0-9]{1,18}(\.[0-9]{1,18})?")


@dataclass(frozen=True, slots=True)
class ParameterField:
    """One field of a table."""

    kind: str  # string, integer, boolean, number; "" if it is made of `fields`
    is_list: bool
    is_required: bool
    fields: Table


@dataclass(frozen=True, slots=True)
class Parameters:
    """The parameters of one action."""

    named: Mapping[str, Json]
    extensions: Mapping[str, str] = field(default_factory=dict)  # parameters named Sgdp*, as text


# text -> pairs


def read_pairs(text: bytes) -> dict[str, str]:
    """Return all names and values of a query or a form.

    A name that comes twice is refused. Which one counts would be a guess, and the part that checks the signature could
    guess differently from the part that obeys.

    Raises:
        ApiError: A name comes twice, or a name or value isn't as it has to be.
    """
    pairs: dict[str, str] = {}
    for part in _parts(text):
        name, _, value = part.partition(b"=")
        _add(pairs, _decode(name), _decode(value))
    return pairs


def together(query: Pairs, form: Pairs) -> Pairs:
    """Return the pairs of query and form together.

    Raises:
        ApiError: A name is in both.
    """
    for name in query.keys() & form.keys():
        raise invalid(name, form[name], "it comes more than once")
    return {**query, **form}


def _parts(text: bytes) -> list[bytes]:
    if text.count(b"&") > MAX_PARAMETERS:
        raise ApiError("InvalidParameter", f"The request has more than {MAX_PARAMETERS} parameters.")
    return [part for part in text.split(b"&") if part]


def _add(pairs: dict[str, str], name: str, value: str) -> None:
    if not _NAME.fullmatch(name) or len(name) > MAX_NAME:
        raise invalid(name, value, f"a name has letters, digits, underscores and dots, and up to {MAX_NAME} of them")
    if name in pairs:
        raise invalid(name, value, "it comes more than once")
    if len(value) > MAX_VALUE:
        raise invalid(name, value, f"it has {len(value)} characters, and may have {MAX_VALUE}")
    pairs[name] = value


def _decode(text: bytes) -> str:
    plain = text.decode("latin-1")
    if plain.isascii() and "%" not in plain and "+" not in plain:
        return plain
    try:
        if _PERCENT.search(plain):
            raise ValueError
        return unquote_to_bytes(text.replace(b"+", b" ")).decode("utf-8")
    except ValueError:
        raise ApiError("InvalidParameter", f'"{_quote(plain)}" is not percent-encoded UTF-8.') from None


# pairs -> what the action takes


def nest_and_type(action: str, pairs: Pairs) -> Parameters:
    """Return the parameters that `action` knows, nested and typed.

    Raises:
        ApiError: There is no such action, or a parameter is wrong or missing.
    """
    table = tables().get(action)
    if table is None:
        raise unknown_action(action)
    named = _fields(table, _Tree(pairs), "")
    for name, described in table.items():
        if described.is_required and name not in NOT_REQUIRED and named.get(name) in (None, "", []):
            raise ApiError(f"Missing{name}", f"{name} is mandatory for this action.")
    is_ours = (name for name in pairs if name.startswith(EXTENSION) and name not in table)
    return Parameters(named, {name: pairs[name] for name in is_ours})


def unknown_action(action: str, version: str = "") -> ApiError:
    """Return the cloud's error for an action that isn't there."""
    words = "Specified api is not found, please check your url and method."
    of = f" of version {_quote(version)}" if version else ""
    return ApiError("InvalidAction.NotFound", f"{words} Action: {_quote(action)}{of}", NOT_FOUND)


class _Tree:
    """Pairs as a tree, by the parts of their names.

    Attributes:
        value: The value at the root itself; None if there is none.
        branches: The trees below, by the next part of the name.
    """

    __slots__ = ("branches", "value")

    def __init__(self, pairs: Pairs) -> None:
        self.value: str | None = None
        self.branches: dict[str, _Tree] = {}
        for name, value in pairs.items():
            self._put(name.split("."), value)

    def _put(self, path: list[str], value: str) -> None:
        here = self
        for step in path:
            here = here.branches.setdefault(step, _Tree({}))
        here.value = value


def _fields(table: Table, tree: _Tree, path: str) -> dict[str, Json]:
    read = ((name, _field(table[name], branch, path + name)) for name, branch in tree.branches.items() if name in table)
    return {name: value for name, value in read if value is not None}


def _field(described: ParameterField, tree: _Tree, path: str) -> Json:
    if not described.is_list:
        return _one(described, tree, path)
    if tree.value:
        raise invalid(path, tree.value, f"it is a list: {path}.1 is its first")
    indexes = sorted(tree.branches, key=lambda step: _index(step, path, tree))
    values = (_one(described, tree.branches[step], f"{path}.{step}") for step in indexes)
    return [value for value in values if value is not None]


def _index(step: str, path: str, tree: _Tree) -> int:
    if not _INDEX.fullmatch(step) or int(step) > MAX_INDEX:
        raise invalid(f"{path}.{step}", tree.branches[step].value or "", f"a list's parts are 1 to {MAX_INDEX}")
    return int(step)


def _one(described: ParameterField, tree: _Tree, path: str) -> Json:
    if described.fields:
        if tree.value:
            raise invalid(path, tree.value, f"it has parts, such as {path}.{next(iter(described.fields))}")
        return _fields(described.fields, tree, f"{path}.")
    if tree.branches:
        raise invalid(f"{path}.{next(iter(tree.branches))}", "", f"{path} has no parts")
    return None if tree.value is None else _VALUES[described.kind](tree.value, path)


def _string(value: str, _: str) -> str:
    return value


def _integer(value: str, path: str) -> int | None:
    if value and not _INTEGER.fullmatch(value):
        raise invalid(path, value, "it is an integer")
    return int(value) if value else None


def _number(value: str, path: str) -> float | None:
    if value and not _NUMBER.fullmatch(value):
        raise invalid(path, value, "it is a number")
    return float(value) if value else None


def _boolean(value: str, path: str) -> bool | None:
    if value and value.lower() not in ("true", "false"):
        raise invalid(path, value, "it is true or false")
    return value.lower() == "true" if value else None


_VALUES: Mapping[str, Callable[[str, str], Json]] = {
    "string": _string,
    "integer": _integer,
    "number": _number,
    "boolean": _boolean,
}


def invalid(name: str, value: str, why: str) -> ApiError:
    """Return the cloud's InvalidParameter, with what is wrong."""
    words = f'The specified parameter "{_quote(name)}" is not valid: {why}.'
    return ApiError("InvalidParameter", f'{words} Value: "{_quote(value)}".')


def _quote(text: str) -> str:
    return visible(text if len(text) <= SHOWN else f"{text[:SHOWN]}...")


# tables


@lru_cache(maxsize=1)
def tables() -> Mapping[str, Table]:
    """Return the fields of every action that is known."""
    folder = resources.files("sgdataplane.control.calls") / "tables"
    read = [json.loads((folder / f"{name}.json").read_text("utf-8")) for name in ("requests", "products", "extensions")]
    return {action: _table(fields) for part in read for action, fields in part.items()}


def _table(fields: Mapping[str, Mapping[str, object]]) -> Table:
    return {name: _parameter_field(value) for name, value in fields.items()}


def _parameter_field(value: Mapping[str, object]) -> ParameterField:
    fields = cast("Mapping[str, Mapping[str, object]]", value.get("fields", {}))
    kind, is_list, is_required = str(value.get("type", "")), bool(value.get("list")), bool(value.get("required"))
    return ParameterField(kind, is_list, is_required, _table(fields))
