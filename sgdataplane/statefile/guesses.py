"""What a text that can't be read was probably meant to be, to be told beside what would be right.

Owns these guesses. Must not know fields, nor what is refused: nothing is ever read as guessed.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TypeAlias

from sgdataplane.net.values import Family, PortRange, Prefix

Guess: TypeAlias = Callable[[str], str]  # what a text was probably meant to be; "" if nobody can say

PORTS = re.compile(r"\s*([0-9]{1,5})(?:\s*[-:,/]\s*([0-9]{1,5}))?\s*")


def no_guess(_: str) -> str:
    return ""


def ports_meant(text: str) -> str:
    """443, 80-443, 443/80: a range as a state has it."""
    found = PORTS.fullmatch(text)
    if not found:
        return ""
    first, last = sorted((int(found[1]), int(found[2] or found[1])))
    try:
        return f'"{PortRange.parse(f"{first}/{last}")}"'
    except ValueError:
        return ""


def block_meant(family: Family, other_field: str = "") -> Guess:
    """A block with host bits: the one that it is in. One of the other family, if a field takes that: this field."""

    def guess(text: str) -> str:
        try:
            prefix = Prefix.parse(text)
        except ValueError:
            return ""
        if prefix.family is family:
            return str(prefix)
        return f"{other_field}: {prefix}" if other_field else ""

    return guess
