"""What a user may choose: the name of each choice, the values that it may have, and what it means.

Owns Choices and their table. The options of verbs, the keys of agent.toml and what a lab remembers are made from that
table. So a new choice is an entry here (and a field of Options, if it is about judging). Must not know command lines or
files.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields, replace
from typing import Literal

from sgdataplane.model.options import CLOUD_METADATA, DEFAULTS, Options, Placement
from sgdataplane.net.values import Address, Prefix

OF_OPTIONS = tuple(entry.name for entry in fields(Options))


@dataclass(frozen=True, slots=True)
class Choices:
    """What a user has chosen for judging and enforcing policies."""

    profile: str = "seed"
    """The set of quotas that applies."""
    placement: Placement = Placement.INSTANCE
    """Where the policy is enforced."""
    on_change: Literal["revoke", "keep"] = "revoke"
    """When the policy changes, `revoke` judges running sessions again, and `keep` leaves them alone."""
    options: Options = DEFAULTS
    """How the policy is read."""

    def over(self, chosen: Mapping[str, object]) -> Choices:
        """Return these choices with some of them replaced, given as values by name."""
        options = {name: value for name, value in chosen.items() if name in OF_OPTIONS}
        others = {name: value for name, value in chosen.items() if name not in OF_OPTIONS}
        return replace(self, options=replace(self.options, **options), **others)  # type: ignore[arg-type]

    def value(self, name: str) -> object:
        """Return the value of one choice, whether it is a field of these or of their options."""
        return getattr(self.options if name in OF_OPTIONS else self, name)

    def plain(self) -> dict[str, object]:
        """Return all choices as TOML and JSON have them; `read_choices` reads them again."""
        return {name: choice.plain(self.value(name)) for name, choice in CHOICES.items()}

    def of_judging(self) -> dict[str, object]:
        """Return the choices that an answer about a state depends on, as JSON has them."""
        return {name: CHOICES[name].plain(self.value(name)) for name in JUDGING}

    def unlike(self, others: Choices) -> Iterator[str]:
        """Yield in words each choice that differs from `others`, such as "strict_syn = on"."""
        for name, choice in CHOICES.items():
            if self.value(name) != others.value(name):
                yield f"{name} = {choice.text(self.value(name))}"


IN_LAB = Choices()
ON_HOSTS = Choices(options=replace(DEFAULTS, metadata=(CLOUD_METADATA,)))  # also for verbs that read only a state


@dataclass(frozen=True, slots=True)
class OneOf:
    """A choice among words."""

    meaning: str
    """What users choose by it, in words for help texts."""
    words: tuple[str, ...]
    make: Callable[[str], object] = str
    """Makes the value that a word stands for."""

    @property
    def expected(self) -> str:
        """What is right, as error messages say it."""
        return f"one of {', '.join(self.words)}"

    def read(self, plain: object) -> object | None:
        """Return the value of a word; None if it isn't one of the words."""
        return self.make(plain) if isinstance(plain, str) and plain in self.words else None

    def plain(self, value: object) -> object:
        """Return the word for a value."""
        return next(word for word in self.words if self.make(word) == value)

    def text(self, value: object) -> str:
        """Return the value in words."""
        return str(self.plain(value))


@dataclass(frozen=True, slots=True)
class Switch:
    """A choice between yes and no."""

    meaning: str
    """What users choose by it, in words for help texts."""
    expected: str = "true or false"

    def read(self, plain: object) -> object | None:
        """Return the value as it is; None if it isn't a boolean."""
        return plain if isinstance(plain, bool) else None

    def plain(self, value: object) -> object:
        """Return the value, which TOML and JSON have as it is."""
        return value

    def text(self, value: object) -> str:
        """Return the value in words."""
        return "on" if value else "off"


@dataclass(frozen=True, slots=True)
class Several:
    """A choice of any number of values."""

    meaning: str
    """What users choose by it, in words for help texts."""
    what: str
    """What the values are, in the plural."""
    parse: Callable[[str], object]
    """Makes one value of a text; raises ValueError if it can't."""

    @property
    def expected(self) -> str:
        """What is right, as error messages say it."""
        return f"a list of {self.what}"

    def read(self, plain: object) -> object | None:
        """Return the values of a list of texts, each once; None if one can't be read."""
        if not isinstance(plain, list) or not all(isinstance(entry, str) for entry in plain):
            return None
        try:
            return tuple(dict.fromkeys(self.parse(entry) for entry in plain))
        except ValueError:
            return None

    def plain(self, value: object) -> object:
        """Return the values as a list of texts."""
        return [str(entry) for entry in value]  # type: ignore[attr-defined]  # what `read` has made

    def text(self, value: object) -> str:
        """Return the values in words."""
        return ",".join(map(str, value)) or "none"  # type: ignore[call-overload]  # likewise


@dataclass(frozen=True, slots=True)
class Number:
    """A choice of a number from 0 to `most`."""

    meaning: str
    """What users choose by it, in words for help texts."""
    most: int

    @property
    def expected(self) -> str:
        """What is right, as error messages say it."""
        return f"a number from 0 to {self.most}"

    def read(self, plain: object) -> object | None:
        """Return the number as it is; None if it isn't one in this range."""
        is_number = isinstance(plain, int) and not isinstance(plain, bool)
        return plain if is_number and 0 <= plain <= self.most else None  # type: ignore[operator]  # it is a number

    def plain(self, value: object) -> object:
        """Return the number, which TOML and JSON have as it is."""
        return value

    def text(self, value: object) -> str:
        """Return the number in words."""
        return str(value)


Choice = OneOf | Switch | Several | Number
CHOICES: Mapping[str, Choice] = {
    "profile": OneOf("which set of the cloud's quotas applies", ("seed", "2026", "unlimited")),
    "placement": OneOf(
        "enforce policies in the instances' own namespaces, or in their VPC's router, whose rules they can't change",
        tuple(placement.value for placement in Placement),
        Placement,
    ),
    "inner_accept_egress": OneOf(
        "at egress, apply a group's inner access policy before its rules, or after them", ("first", "custom_first")
    ),
    "midstream_egress": OneOf(
        "at egress, drop TCP packets of no known session that aren't a bare SYN, or judge them by the rules",
        ("drop", "judge"),
    ),
    "strict_syn": Switch("at ingress, too, drop such TCP packets instead of judging them"),
    "metadata": Several("destinations that every ENI can always reach", "addresses or CIDR blocks", Prefix.parse),
    "gateways": Several("the ENIs' gateways, with which DHCP always passes", "addresses", Address.parse),
    "sessions_per_eni": Number(
        "with host placement: how many sessions that an ENI has opened, and how many that were opened to it from "
        "outside, may be open at once; 0 means any number",
        1 << 24,
    ),
    "on_change": OneOf(
        "when the policy changes, judge running sessions again, or let them go on until they expire", ("revoke", "keep")
    ),
}
# The choices that an answer about a state depends on. No verdict depends on how many sessions there are.
JUDGING = ("profile", *(name for name in OF_OPTIONS if name != "sessions_per_eni"))


def read_choices(plain: Mapping[str, object]) -> dict[str, object]:
    """Return the values of choices as `Choices.plain` wrote them.

    Raises:
        ValueError: a value isn't what its choice expects.
    """
    read = {name: CHOICES[name].read(value) for name, value in plain.items()}
    for name, value in read.items():
        if value is None:
            raise ValueError(f"{name}: {plain[name]!r} is not {CHOICES[name].expected}")
    return read
