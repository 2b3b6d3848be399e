"""What a text that can't be read was probably meant to be, which errors say beside what would be right.

Owns these guesses. Must not know fields, nor what is refused: nothing is ever read as guessed.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TypeAlias

from sgdataplane.net.values import Family, PortRange, Prefix

Guess: TypeAlias = Callable[[str], str]  # returns what a text was probably meant to be; "" if nobody can say

PORTS = re.compile(r"\s*([0-9]{1,5})(?:\s*[-:,/]\s*([0-9]{1,5}))?\s*")


def no_guess(_: str) -> str:
    """Return "": nobody can say what the text was meant to be."""
    return ""


def ports_meant(text: str) -> str:
    """Return the range that 443, 80-443 or 443/80 probably means, as a state has it; "" if it is none of these."""
    found = PORTS.fullmatch(text)
    if not found:
        return ""
    first, last = sorted((int(found[1]), int(found[2] or found[1])))
    try:
        return f'"{PortRange.parse(f"{first}/{last}")}"'
    except ValueError:
        return ""


def block_meant(family: Family, other_field: str = "") -> Guess:
    """Return a guess for text that should be a block of this family.

    For a block with host bits, it is the block around them. For a block of the other family, it is that block under
    `other_field`, if a field takes it.
    """

    def guess(text: str) -> str:
        try:
            prefix = Prefix.parse(text)
        except ValueError:
            return ""
        if prefix.family is family:
            return str(prefix)
        return f"{other_field}: {prefix}" if other_field else ""

    return guess
