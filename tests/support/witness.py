"""Counters of chosen packets in a namespace, just before and just behind our hooks or at another host's wire.

Owns a table `witness` there. It is loaded once, before the first apply: to read it is no commit, so our own table's
generation stays what it was.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from tests.support.wirelab import listed, load

Places = Mapping[str, tuple[str, int]]
PROTECTED: Places = {  # name -> hook, priority
    "in_before": ("prerouting", -151),
    "in_after": ("prerouting", -149),
    "out_before": ("postrouting", 149),
    "out_after": ("postrouting", 151),
}
OUTSIDE: Places = {"in": ("prerouting", -300), "out": ("postrouting", 300)}


@dataclass(frozen=True, slots=True)
class Watch:
    """Packets that meet one of the expressions (nft's words), counted under this name."""

    name: str
    expressions: tuple[str, ...]


Counts = Mapping[tuple[str, str], int]


@dataclass(frozen=True)
class Witness:
    """The counters in one namespace."""

    netns: str
    places: Places
    watches: tuple[Watch, ...]

    def load(self) -> None:
        names = [f"{place}-{watch.name}" for place in self.places for watch in self.watches]
        counters = "".join(f"counter {name} {{ }}\n" for name in names)
        load(self.netns, f"table inet witness {{\n{counters}{''.join(self._chains())}}}\n")

    def _chains(self) -> Iterable[str]:
        for place, (hook, priority) in self.places.items():
            rules = "".join(
                f'{expression} counter name "{place}-{watch.name}"\n'
                for watch in self.watches
                for expression in watch.expressions
            )
            away = 'iifname "lo" return' if hook == "prerouting" else 'oifname "lo" return'
            yield f"chain {place} {{ type filter hook {hook} priority {priority};\n{away}\n{rules}}}\n"

    def counts(self) -> Counts:
        """(place, watch) -> packets so far."""
        packets = {
            entry["counter"]["name"]: int(entry["counter"]["packets"])
            for entry in listed(self.netns, "counters table inet witness")
            if "counter" in entry
        }
        return {(p, watch.name): packets[f"{p}-{watch.name}"] for p in self.places for watch in self.watches}


def grown(before: Counts, after: Counts) -> Counts:
    """What came in between."""
    return {key: after[key] - before[key] for key in after}
