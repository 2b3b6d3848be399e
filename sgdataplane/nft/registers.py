"""Track what the registers of one rule hold, as its expressions are read one after the other.

Owns which registers share bytes: the kernel has two numbers for some places. It must not know expressions.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from sgdataplane.contract.fields import Field, KeyType
from sgdataplane.nft.layout import LONGEST, Order, UnreadableError, order_of

FIRST_WORD, REGISTER_WORDS = 8, 4  # NFT_REG32_00, and how many of these words one of the older registers has


@dataclass(frozen=True, slots=True)
class Register:
    """What a register holds: neighbouring fields of the packet, after `mask` and `xor`; or a value."""

    fields: tuple[Field, ...] = ()
    """The fields, side by side."""
    lengths: tuple[int, ...] = ()
    """How many bytes each of them has."""
    part: int = 0
    """How many bytes of its only field it has, if it hasn't all of them; else 0."""
    mask: int | None = None
    """What the value was masked with; None if it wasn't."""
    xor: int = 0
    """What it was flipped with after that."""
    value: bytes = b""
    """The value, if it was written by the rule itself."""
    is_swapped: bool = False
    """Whether a value of the machine's byte order has been put into the other one."""
    below: int = 0
    """If it has a random number, the bound that this is below; else 0."""

    @property
    def size(self) -> int:
        """How many bytes it has. A value that isn't known may be as long as any."""
        return sum(LONGEST[asked.key_type] for asked in self.fields) or len(self.value) or LONGEST[KeyType.BITS128]

    @property
    def order(self) -> Order:
        """The byte order of its only field."""
        return "big" if self.is_swapped else order_of(self.fields[0])


@dataclass
class Registers:
    """The registers of one rule, by number."""

    _held: dict[int, Register] = field(default_factory=dict)

    def put(self, number: int, held: Register) -> None:
        """Fill a register. Registers that share bytes with this one hold nothing known any more."""
        filled = _words(number, held)
        self._held = {n: other for n, other in self._held.items() if filled.isdisjoint(_words(n, other))}
        self._held[number] = held

    def get(self, number: int) -> Register:
        """Return what a register holds.

        Raises:
            UnreadableError: Nothing was loaded into it.
        """
        if number not in self._held:
            raise UnreadableError(f"register {number}, which nothing was loaded into")
        return self._held[number]

    def behind(self, number: int, size: int) -> Register:
        """Return the register that is `size` bytes behind; one that holds nothing if nothing was loaded there."""
        word = _start(number) + size // 4
        is_older = word % REGISTER_WORDS == 0  # the kernel reports the older number then
        return self._held.get(word // REGISTER_WORDS + 1 if is_older else word + FIRST_WORD, Register())


def _start(number: int) -> int:
    """Return the word at which a register begins."""
    return number - FIRST_WORD if number >= FIRST_WORD else (number - 1) * REGISTER_WORDS


def _words(number: int, held: Register) -> frozenset[int]:
    """Return the words that it fills."""
    first = _start(number)
    return frozenset(range(first, first + (held.size + 3) // 4))
