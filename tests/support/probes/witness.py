"""Counters of chosen packets in a namespace, just before and just behind our hooks or at another host's wire.

Owns a table `witness` there. It is loaded once, before the first apply: to read it is no commit, so our own table's
generation stays what it was.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from tests.support.probes.wirelab import listed, load

Places = Mapping[str, tuple[str, int]]
_FIRST = {"before": ("prerouting", -151), "after": ("prerouting", -149)}
_LAST = {"before": ("postrouting", 149), "after": ("postrouting", 151)}
PROTECTED: Mapping[str, Places] = {  # placement -> name -> hook, priority
    placement: {f"{way}_{side}": at for way, hook in hooks.items() for side, at in hook.items()}
    for placement, hooks in (("instance", {"in": _FIRST, "out": _LAST}), ("host", {"in": _LAST, "out": _FIRST}))
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
    """The counters in one namespace. `ifname`: only what comes or goes by that interface; "": by all but lo."""

    netns: str
    places: Places
    watches: tuple[Watch, ...]
    ifname: str = ""

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
            field = "iifname" if hook == "prerouting" else "oifname"
            away = f'{field} != "{self.ifname}" return' if self.ifname else f'{field} "lo" return'
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
