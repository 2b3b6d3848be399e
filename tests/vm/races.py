"""The race between a commit and a look-up, forced: in a virtual machine with two processors, by a debugger.

    processor A       deletes elements ... takes them away       | adds them again
    processor B     asks for one: reads the generation, is held  |  finds neither, before Linux 6.12.48 and 6.16.8

Owns where each processor is held, and what of it is a failure. Is told by the machine's console where its functions
are (tests/vm/racing.py). Must not know what the look-up is for.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import NamedTuple

from tests.vm.gdb import RAX, RDX, RSP, Debugger, LostError

SYMBOLS = ("nft_rhash_deactivate", "nft_rhash_lookup", "nft_rhash_activate")
BEGIN, END = "racing: begin ", "racing: end "
ANSWER_S = 30.0
ACTIVATE_S = 5.0  # a commit that adds nothing never comes there, and then waits for the processor that is held
MAX_LOOKUPS = 500  # of others, until the one that is wanted comes
# How many instructions a look-up goes on until it is held: it must have read the generation, and not yet the hash.
STEPS = range(6, 78, 6)
WAYS = ("in-place", "as-it-is")  # how keys get other values: in place, which is the control, and as the product does it
ENOUGH = 20  # races of each way


class Places(NamedTuple):
    """Where the kernel's functions begin, and the key that the flood's packets look up."""

    deactivate: int
    lookup: int
    activate: int
    key: bytes

    @classmethod
    def of(cls, words: dict[str, str]) -> Places:
        deactivate, lookup, activate = (int(words[name], 16) for name in SYMBOLS)
        return cls(deactivate, lookup, activate, bytes.fromhex(words["key"]))


@dataclass
class Tally:
    """`found`, `missed`: what the look-ups came to that were held. `failed`: races that could not be forced. `steps`:
    those that made one miss; 0: none has. `end`: what the machine says at the end."""

    found: int = 0
    missed: int = 0
    failed: int = 0
    steps: int = 0
    end: dict[str, str] | None = None

    @property
    def forced(self) -> int:
        return self.found + self.missed


class Console:
    """What a machine says, as long as it is there."""

    def __init__(self, path: Path, over: Event) -> None:
        self._path, self._over = path, over

    def has(self, words: str, number: int) -> dict[str, str] | None:
        """The name=value pairs behind these words, where they come for that time; None if they haven't yet."""
        text = self._path.read_text("utf-8", "replace") if self._path.exists() else ""
        found = re.findall(re.escape(words) + r"([^\r\n]*)[\r\n]", text)
        if len(found) < number:
            return None
        return dict(word.split("=", 1) for word in found[number - 1].split() if "=" in word)

    def wait(self, words: str, number: int) -> dict[str, str]:
        """LostError if the machine ends before."""
        while (found := self.has(words, number)) is None:
            if self._over.wait(0.5):
                raise LostError(f"the machine never said {words!r}")
        return found


def force_all(stub: Path, console: Console, count: int) -> list[Tally]:
    """So many times, from `racing: begin` to `racing: end`; fewer if the machine ends before."""
    found: list[Tally] = []
    try:
        found.extend(_force(stub, console, number) for number in range(1, count + 1))
    except (LostError, OSError) as error:
        print(f"races: {error}", flush=True)
    return found


def _force(stub: Path, console: Console, number: int) -> Tally:
    """Force a race at each commit that deletes elements."""
    places, tally = Places.of(console.wait(BEGIN, number)), Tally()
    with Debugger(stub, ANSWER_S) as debugger:
        while console.has(END, number) is None:
            try:
                _race(debugger, places, tally)
            except LostError:
                tally.failed += 1
    tally.end = console.wait(END, number)
    return tally


def _race(debugger: Debugger, places: Places, tally: Tally) -> None:
    """One commit. LostError if the two processors don't come to where they should."""
    with debugger.stopping_at(places.deactivate):
        changing = debugger.go()
    asking = 3 - changing
    back = _come_to_lookup(debugger, places, asking)
    steps = tally.steps or STEPS[tally.forced % len(STEPS)]
    debugger.step(asking, steps)
    with debugger.stopping_at(places.activate):
        if debugger.go(changing, ACTIVATE_S) != changing:
            raise LostError("another processor commits")
    with debugger.stopping_at(back):
        if debugger.go(asking) != asking:
            raise LostError("another processor looks up")
    if debugger.register(asking, RAX) & 0xFF:
        tally.found += 1
    else:
        tally.missed, tally.steps = tally.missed + 1, steps


def _come_to_lookup(debugger: Debugger, places: Places, cpu: int) -> int:
    """Let that processor go on until it looks the key up; where the look-up returns to."""
    for _ in range(MAX_LOOKUPS):
        with debugger.stopping_at(places.lookup):
            if debugger.go(cpu) != cpu:
                raise LostError("the other processor goes on")
        if debugger.memory(cpu, debugger.register(cpu, RDX), len(places.key)) == places.key:
            return int.from_bytes(debugger.memory(cpu, debugger.register(cpu, RSP), 8), "little")
        debugger.step(cpu)
    raise LostError("the key isn't looked up")


# what is a failure


def verdicts(tallies: Sequence[Tally]) -> Iterator[tuple[str, str]]:
    """Each case and what is wrong with it, or "". The first tally is of changes in place, the second of those that the
    product makes on that kernel."""
    for index, name in enumerate(WAYS):
        tally = tallies[index] if index < len(tallies) else Tally()
        enough = "" if tally.forced >= ENOUGH and tally.end else f"only {tally.forced} races were forced"
        yield f"{name}-is-forced-{ENOUGH}-times", enough
        yield f"{name}-is-judged-right", enough or _judged(name, tally)


def _judged(name: str, tally: Tally) -> str:
    """Where look-ups may miss, changes in place must harm: that is the control."""
    end = tally.end or {}
    harm = int(end["lost"]) + int(end["leaked"])
    words = f"lost {end['lost']}, leaked {end['leaked']}, {tally.missed} of {tally.forced} look-ups missed"
    is_control = name == WAYS[0] and end["may_miss"] == "True"
    return "" if (harm > 0) is is_control else words


def write(tallies: Sequence[Tally], path: Path, seconds: float) -> None:
    """As a suite of tests."""
    suite = ET.Element("testsuite", {"name": "races", "time": f"{seconds:.1f}"})
    for name, wrong in verdicts(tallies):
        case = ET.SubElement(suite, "testcase", {"classname": "tests.vm.races", "name": name})
        if wrong:
            ET.SubElement(case, "failure", {"message": wrong})
    for tally in tallies:
        print(f"races: {tally}", flush=True)
    ET.ElementTree(suite).write(path)
