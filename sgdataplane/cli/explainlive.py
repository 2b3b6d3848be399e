"""`sgdp explain --live`: the kernel's verdict on the packet, beside the state's.

Owns the way from an ENI to the namespace where its policy is enforced, and the wording. Must not know how a table is
read.
"""

from __future__ import annotations

import argparse
import enum
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace

from sgdataplane.analyse.explain import Explanation, FlowExplanation
from sgdataplane.attach.registry import Registry, current, refuse
from sgdataplane.cli.scopes import agent_config, find_named_lab, of_bindings, of_lab
from sgdataplane.enforce import Desired, Settings, build
from sgdataplane.errors import LabError
from sgdataplane.model import words
from sgdataplane.model.choices import Choices
from sgdataplane.model.options import Options
from sgdataplane.model.state import CloudState
from sgdataplane.net.values import Verdict
from sgdataplane.observe.live import OTHER_POLICY, LiveAnswer, ask, counters_of
from sgdataplane.terminal.output import paint, render_table, say, say_block, warn

SHOWN = 3  # differences of a table


@dataclass(frozen=True, slots=True)
class HeldScope:
    """A namespace that is held, so that it can't end meanwhile."""

    name: str
    """The name that people read."""
    path: str
    """A path that leads there."""
    desired: Desired
    """What it must enforce if the given state is in force."""
    time_scale: float = 1.0
    """The factor of its timeouts."""


@dataclass(frozen=True, slots=True)
class Live:
    """The kernel's answer at one end, beside the state's."""

    end: Explanation
    scope: HeldScope
    answer: LiveAnswer
    expected: tuple[str, ...]
    """The counters that the state's decision has in the kernel."""

    @property
    def ifname(self) -> str:
        """The ENI's interface in that namespace."""
        return self.scope.desired.interfaces[self.end.packet.eni_id]

    @property
    def agrees(self) -> bool:
        """Whether the kernel has the same verdict for the same reason."""
        return self.answer.verdict == self.end.decision.verdict.value and self.answer.counters == self.expected

    @property
    def is_right(self) -> bool:
        """Whether the rest of the table is as the state says, too."""
        return self.agrees and not self.answer.differences

    def as_json(self) -> dict[str, object]:
        """Return the keys of `live` in the document."""
        return {
            "namespace": self.scope.name,
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
    """Return the choices of the lab, or of this host's agent.

    Raises:
        LabError: There is no such lab.
        ConfigError: The agent's configuration is wrong.
    """
    lab = find_named_lab(arguments)
    if lab is None:
        return agent_config(arguments).choices
    from sgdataplane.lab import manage

    return manage.record_of(lab).choices


def look(
    arguments: argparse.Namespace, state: CloudState, flow: FlowExplanation, options: Options
) -> list[Live | None]:
    """Return the kernel's answer at each end of the flow; None for the other end if it isn't enforced here.

    Raises:
        LabError: The lab doesn't have the end that was asked about.
        BindingError: The end that was asked about isn't attached here.
    """
    enis = [end.packet.eni_id for end in flow.ends]
    lab = find_named_lab(arguments)
    with _in_lab(lab, state, enis) if lab else _on_this_host(arguments, state, enis) as found:
        return [
            _live(end, found[eni], options) if eni in found else None for eni, end in zip(enis, flow.ends, strict=True)
        ]


def _live(end: Explanation, scope: HeldScope, options: Options) -> Live:
    """Ask the table at one end."""
    packet, desired = end.packet, replace(scope.desired, options=options)
    ifname = desired.interfaces[packet.eni_id]
    missing = sorted(desired.interfaces.keys() - desired.state.eni.keys())
    wanted = None if missing else build(desired, Settings(time_scale=scope.time_scale, prove=False)).table
    answer = ask(scope.path, ifname, desired.site, packet, wanted)
    if missing:
        line = f"another state is in force there: this one doesn't have {', '.join(missing)}"
        answer = replace(answer, differences=(line, *answer.differences))
    return Live(end, scope, answer, counters_of(end.decision, ifname))


@contextmanager
def _in_lab(name: str, state: CloudState, enis: Sequence[str]) -> Iterator[Mapping[str, HeldScope]]:
    """Yield ENI -> where the lab enforces its policy; the lab can't change meanwhile.

    Raises:
        LabError: The lab doesn't have the first of `enis`.
    """
    from sgdataplane.lab import manage

    with manage.watch(name) as lab:
        found: dict[str, HeldScope] = {}
        for scope in of_lab(lab).all:
            assert scope.desired is not None
            desired = replace(scope.desired, state=state)
            held = HeldScope(scope.namespace, scope.namespace, desired, lab.record.time_scale)
            found |= dict.fromkeys(scope.interfaces, held)
        if enis[0] not in found:
            raise LabError(f"lab {name}", f"none of its nodes has {enis[0]}; its ENIs: {', '.join(sorted(found))}")
        yield found


@contextmanager
def _on_this_host(
    arguments: argparse.Namespace, state: CloudState, enis: Sequence[str]
) -> Iterator[Mapping[str, HeldScope]]:
    """Yield ENI -> where its policy is enforced, for those of `enis` that are attached.

    Nobody can attach or apply meanwhile.

    Raises:
        BindingError: The first of `enis` isn't attached.
    """
    config = agent_config(arguments)
    registry = Registry(config.bindings)
    with ExitStack() as stack:
        if registry.path.exists():  # taking the lock would make the folder
            stack.enter_context(registry.lock())
        found: dict[str, HeldScope] = {}
        there = of_bindings(current(registry.load()), state, config.choices.options, config.uplinks)
        for scope in there.all:
            asked = [eni for eni in enis if eni in scope.interfaces]
            path = stack.enter_context(scope.held()) if asked else None
            if path is not None and scope.desired is not None:
                found |= dict.fromkeys(asked, HeldScope(there.workloads.place(scope.name), path, scope.desired))
        if enis[0] not in found:
            expected = "an ENI that is attached, or --name with the name of a lab"
            refuse("--eni", "InvalidEniId.NotFound", "the ENI is not attached on this host", enis[0], expected)
        yield found


def say_live(lives: Sequence[Live | None], flow: FlowExplanation) -> None:
    """Print the kernel's answer beside the state's, at each end."""
    say()
    say("In force, as the kernel's tables are now:")
    rows = [_row(live) for live in lives if live is not None]
    say_block(render_table(("END", "ENFORCED AT", "STATE SAYS", "KERNEL SAYS", "COUNTED AS", "SO FAR"), rows))
    for end, live in zip(flow.ends, lives, strict=True):
        if live is None:
            say(f"{end.packet.eni_id} is enforced elsewhere, so what is in force for it isn't known")


def _row(live: Live) -> tuple[str, ...]:
    packet, answer = live.end.packet, live.answer
    return (
        f"{packet.eni_id} {packet.direction.value}",
        f"{live.ifname} of {live.scope.name}",
        live.end.decision.verdict.value,
        paint(answer.verdict or "?", "green" if live.agrees else "red"),
        next(iter(answer.counters), "-"),
        "-" if answer.packets is None else str(answer.packets),
    )


class Weight(enum.IntEnum):
    """The weight of a warning: the first explains all others, then comes what lets pass the most."""

    OTHER_POLICY = 0
    NOT_JUDGED = 1
    LET_THROUGH = 2
    REFUSED = 3
    OTHER_REASON = 4
    OTHER_TABLE = 5


def say_warnings(lives: Iterable[Live | None]) -> None:
    """Warn of what isn't as the state says, the weightiest first, and only once of what is so at both ends."""
    found = [warning for live in lives if live is not None for warning in _warnings(live)]
    for _, text in sorted(dict.fromkeys(found), key=lambda warning: warning[0]):  # ends of one weight keep their order
        warn(text)


def _warnings(live: Live) -> Iterator[tuple[Weight, str]]:
    """Yield the warnings about one end, each with its weight."""
    eni, answer, where = live.end.packet.eni_id, live.answer, live.scope.name
    if answer.problem:
        yield Weight.NOT_JUDGED, f"{eni}: {answer.problem}"
    elif not live.agrees:
        yield _weight(live), f"{eni}: {_disagreement(live)}"
    if OTHER_POLICY in answer.differences:
        more = "(--json lists how its table differs)"
        yield Weight.OTHER_POLICY, f"this isn't the state that is in force in {where} {more}"
    elif answer.differences:
        shown = "; ".join(answer.differences[:SHOWN])
        rest = len(answer.differences) - SHOWN
        more = f"; and {rest} more (--json has them all)" if rest > 0 else ""
        yield Weight.OTHER_TABLE, f"the table in {where} isn't what the state says: {shown}{more}"


def _weight(live: Live) -> Weight:
    if live.answer.verdict == live.end.decision.verdict.value:
        return Weight.OTHER_REASON
    return Weight.LET_THROUGH if live.answer.verdict == Verdict.ACCEPT.value else Weight.REFUSED


def _disagreement(live: Live) -> str:
    """Say how the kernel's answer differs from the state's."""
    decision, counters = live.end.decision, live.answer.counters
    counted = f" (counted as {counters[0]})" if counters else ""
    said = f"{decision.verdict.value} ({words.name(decision)})"
    return f"the kernel says {live.answer.verdict}{counted}; the state says {said}"
