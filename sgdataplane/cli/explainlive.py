"""`sgdp explain --live`: where an ENI is enforced, in a lab or on this host, and what the table there says.

Owns the way from an ENI to its namespace, and the wording. Must not know how a table is read.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from sgdataplane.cli.output import paint, render_table, say, say_block, warn
from sgdataplane.cli.scopes import of_bindings, of_lab
from sgdataplane.enforce import Desired, Settings, build
from sgdataplane.errors import LabError
from sgdataplane.model.choices import Choices
from sgdataplane.model.options import Options
from sgdataplane.model.state import CloudState
from sgdataplane.observe.live import LiveAnswer, ask, counters_of

if TYPE_CHECKING:
    from sgdataplane.analyse.explain import Explanation, Flow

SHOWN = 3  # differences of a table


@dataclass(frozen=True, slots=True)
class Place:
    """A namespace where policy is enforced. `named`: for people. `path`: it, while somebody holds it. `desired`: what
    it should obey, if the state was applied that was given."""

    named: str
    path: str
    desired: Desired
    time_scale: float = 1.0


@dataclass(frozen=True, slots=True)
class Live:
    """What is in force at one end, beside what the state says. `expected`: the counters that stand for that."""

    end: Explanation
    place: Place
    answer: LiveAnswer
    expected: tuple[str, ...]

    @property
    def ifname(self) -> str:
        return self.place.desired.interfaces[self.end.packet.eni_id]

    @property
    def agrees(self) -> bool:
        """Whether the packet meets the same fate for the same reason."""
        return self.answer.verdict == self.end.decision.verdict.value and self.answer.counters == self.expected

    @property
    def is_right(self) -> bool:
        """Whether all of the table is as the state says, too."""
        return self.agrees and not self.answer.differences

    def as_json(self) -> dict[str, object]:
        return {
            "namespace": self.place.named,
            "interface": self.ifname,
            "verdict": self.answer.verdict or None,
            "counters": list(self.answer.counters),
            "expected_counters": list(self.expected),
            "packets": self.answer.packets,
            "agrees": self.agrees,
            "problem": self.answer.problem or None,
            "differences": list(self.answer.differences),
        }


def choices_there(arguments: argparse.Namespace) -> Choices:
    """How a lab judges, or this host's agent. LabError or ConfigError if that can't be told."""
    from sgdataplane.daemon import config
    from sgdataplane.lab import manage

    if arguments.name is not None:
        return manage.record_of(arguments.name).choices
    return config.load_config(arguments.config or config.CONFIG_FILE, must_exist=arguments.config is not None).choices


def look(arguments: argparse.Namespace, state: CloudState, flow: Flow, options: Options) -> list[Live | None]:
    """Of each end of the flow; None for the other one if it isn't enforced here. LabError or BindingError if the one
    that was asked about isn't."""
    enis = [end.packet.eni_id for end in flow.ends]
    is_lab = arguments.name is not None
    there = in_lab(arguments.name, state, enis) if is_lab else on_this_host(arguments, state, enis)
    with there as found:
        by_eni = {eni: replace(place, desired=replace(place.desired, options=options)) for eni, place in found.items()}
        return [_live(end, by_eni[eni]) if eni in by_eni else None for eni, end in zip(enis, flow.ends, strict=True)]


def _live(end: Explanation, place: Place) -> Live:
    desired, packet = place.desired, end.packet
    ifname = desired.interfaces[packet.eni_id]
    missing = sorted(desired.interfaces.keys() - desired.state.eni.keys())
    wanted = None if missing else build(desired, Settings(time_scale=place.time_scale, prove=False)).table
    answer = ask(place.path, ifname, desired.site, packet, wanted)
    if missing:
        line = f"it is of another state: this one hasn't {', '.join(missing)}"
        answer = replace(answer, differences=(line, *answer.differences))
    expected = counters_of(end.decision, ifname)
    return Live(end, place, answer, expected)


@contextmanager
def in_lab(name: str, state: CloudState, enis: Sequence[str]) -> Iterator[Mapping[str, Place]]:
    """ENI -> where a lab enforces it; it stays as it is meanwhile. LabError unless the first of `enis` is there."""
    from sgdataplane.lab import manage

    with manage.watch(name) as lab:
        places = [
            Place(scope.namespace, scope.namespace, replace(scope.desired, state=state), lab.record.time_scale)
            for scope in of_lab(lab).all
            if scope.desired is not None
        ]
        by_eni = {eni: place for place in places for eni in place.desired.interfaces}
        if enis[0] not in by_eni:
            raise LabError(f"lab {name}", f"no node of it has {enis[0]}; it has {', '.join(sorted(by_eni)) or 'none'}")
        yield by_eni


@contextmanager
def on_this_host(
    arguments: argparse.Namespace, state: CloudState, enis: Sequence[str]
) -> Iterator[Mapping[str, Place]]:
    """ENI -> where it is enforced, of those of `enis` that are attached; nobody attaches or applies meanwhile.
    BindingError unless the first is."""
    from sgdataplane.attach.registry import Registry, current, refuse
    from sgdataplane.daemon import config

    known = config.load_config(arguments.config or config.CONFIG_FILE, must_exist=arguments.config is not None)
    registry = Registry(known.bindings)
    with ExitStack() as stack:
        if registry.path.exists():  # taking the lock would make the folder
            stack.enter_context(registry.locked())
        here = of_bindings(current(registry.load()), state, known.choices.options, known.uplinks)
        by_eni: dict[str, Place] = {}
        for scope in here.all:
            asked = [eni for eni in enis if eni in scope.interfaces]
            path = stack.enter_context(scope.held()) if asked else None
            if path is not None and scope.desired is not None:
                by_eni |= dict.fromkeys(asked, Place(scope.name, path, scope.desired))
        if enis[0] not in by_eni:
            expected = "an ENI that was attached, or --name, which says the lab"
            refuse("--eni", "InvalidEniId.NotFound", "the ENI is not attached on this host", enis[0], expected)
        yield by_eni


def say_live(lives: Sequence[Live | None], flow: Flow) -> None:
    """The kernel's answer beside the state's, at each end; then warnings."""
    say()
    say("In force, as the kernel's tables are now:")
    rows = [_row(live) for live in lives if live is not None]
    say_block(render_table(("END", "ENFORCED AT", "STATE SAYS", "KERNEL SAYS", "COUNTED AS", "SO FAR"), rows))
    for end, live in zip(flow.ends, lives, strict=True):
        if live is None:
            say(f"{end.packet.eni_id} is enforced elsewhere, so nothing is known of it")
        else:
            _warn(live)


def _row(live: Live) -> tuple[str, ...]:
    packet, answer = live.end.packet, live.answer
    return (
        f"{packet.eni_id} {packet.direction.value}",
        f"{live.ifname} of {live.place.named}",
        live.end.decision.verdict.value,
        paint(answer.verdict or "?", "green" if live.agrees else "red"),
        next(iter(answer.counters), "-"),
        "-" if answer.packets is None else str(answer.packets),
    )


def _warn(live: Live) -> None:
    eni, answer = live.end.packet.eni_id, live.answer
    if answer.problem:
        warn(f"{eni}: {answer.problem}")
    elif not live.agrees:
        warn(f"{eni}: the kernel doesn't do what the state says, which is {live.expected[0]}")
    if answer.differences:
        shown = "; ".join(answer.differences[:SHOWN])
        rest = len(answer.differences) - SHOWN
        more = f"; and {rest} more (--json has them all)" if rest > 0 else ""
        warn(f"{eni}: the table in {live.place.named} isn't what the state says: {shown}{more}")
