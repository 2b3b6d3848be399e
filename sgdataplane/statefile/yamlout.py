"""Plain values -> YAML text in one fixed layout.

Owns quoting and layout. Is given text, numbers, booleans, lists and mappings. Must not know what they mean.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TypeAlias

from sgdataplane.visible import visible

Plain: TypeAlias = "str | int | bool | Sequence[Plain] | Mapping[str, Plain] | None"

# Text that no YAML reader takes for anything else, of version 1.1 either: words, IPv4 addresses and blocks, ports.
SAFE = re.compile(r"[A-Za-z][A-Za-z0-9_./ -]*(?<! )|[0-9]{1,3}(\.[0-9]{1,3}){3}(/[0-9]+)?|-?[0-9]+/-?[0-9]+")
AMBIGUOUS = {"true", "false", "yes", "no", "on", "off", "y", "n", "null"}
INDENT = "  "


def scalar(value: str | int | bool | None) -> str:
    """A number or boolean as it is; text plain where that is safe, else in double quotes."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if not isinstance(value, str):
        return str(value)
    if SAFE.fullmatch(value) and value.lower() not in AMBIGUOUS:
        return value
    return quoted(value)


def quoted(text: str) -> str:
    """What isn't plain is spelt alike for people and in YAML."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{visible(escaped)}"'


def flow(value: Plain) -> str:
    """The value on one line."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{scalar(key)}: {flow(item)}" for key, item in value.items()) + "}"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return "[" + ", ".join(flow(item) for item in value) + "]"
    return scalar(value)


def block_lines(fields: Mapping[str, Plain], indent: str) -> list[str]:
    """A mapping as a list item of one field a line; a list of mappings in it, one mapping a line."""
    lines: list[str] = []
    for name, value in fields.items():
        lead = indent + (INDENT if lines else "- ")
        if isinstance(value, list) and value and isinstance(value[0], Mapping):
            lines.append(f"{lead}{name}:")
            lines += [f"{indent}{INDENT * 2}- {flow(item)}" for item in value]
        else:
            lines.append(f"{lead}{name}: {flow(value)}")
    return lines
