"""What Python programs use of sgdataplane: `from sgdataplane import load, decide, explain, diff, compile, expect, Lab`.

Owns these names, which stay as they are (docs/python.md). Takes names as people write them. Must not decide or build
anything itself.

    state = load("policy.yaml")
    decide(state, "web", "db", "tcp/5432").verdict                 Verdict.ACCEPT
    expect(state, "web -> db tcp/5432 accept")                     AssertionError with the reason if it doesn't hold
    with Lab(state) as lab:                                        needs root
        lab.probe("web", "db", "tcp/5432").observed.verdict        "accept"
"""

from __future__ import annotations

import asyncio
import itertools
import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Literal, ParamSpec, Self, TypeVar

from sgdataplane.analyse.diff import StateDiff
from sgdataplane.analyse.difference import Difference, compare
from sgdataplane.analyse.explain import FlowExplanation, explain_flow
from sgdataplane.enforce import Desired, Settings, build
from sgdataplane.enforce.preview import as_text, namespaces, tables
from sgdataplane.lab import manage, matrix
from sgdataplane.lab.expect import Expectation, ProbeResult
from sgdataplane.lab.expect import expect as expectation_of
from sgdataplane.lab.expectations import (
    Judged,
    Row,
    get_opening_packet,
    judge_by_packets,
    judge_by_policy,
    one_probe,
    parse_row,
    plan_lab,
    plan_probe,
    with_hosts_of,
)
from sgdataplane.lab.manage import Lab as KnownLab
from sgdataplane.lab.manage import enforce_policy
from sgdataplane.lab.probe import Probe, default_services, parse_services
from sgdataplane.lab.record import LabRecord
from sgdataplane.lab.temporary import temporary_lab
from sgdataplane.model.choices import IN_LAB, Choices
from sgdataplane.model.decision import Decision
from sgdataplane.model.options import Options, Placement
from sgdataplane.model.state import CloudState
from sgdataplane.net.ports import EPHEMERAL
from sgdataplane.policy.findings import not_judged
from sgdataplane.statefile import Loaded
from sgdataplane.statefile import load as load_file

P = ParamSpec("P")
T = TypeVar("T")
StateLike = CloudState | str | os.PathLike[str]
_numbers = itertools.count()


def load(
    path: str | os.PathLike[str],
    *,
    profile: Literal["seed", "2026", "unlimited"] = "seed",
    inexact: Literal["refuse", "widen", "narrow"] = "refuse",
) -> CloudState:
    """Return the state in a file or folder of any format.

    `inexact` says what becomes of rules of AWS or OpenStack that can't be expressed exactly.

    Raises:
        StateFileError: the state is refused; it has all problems.
    """
    return load_file(Path(path), profile=profile, inexact=inexact, waits=True).state


def decide(state: StateLike, sender: str, receiver: str, what: str, *, options: Options | None = None) -> Decision:
    """Return the decision about a flow: of the end that drops it or, if both accept it, of the receiver's.

    An end is an instance's name or id, an ENI, or an address; `what` is `tcp/5432`, `icmp`, `proto/132`. If both ends
    have IPv4 and IPv6, the IPv4 flow is meant.

    Raises:
        LabError: nothing can be sent from one end to the other.
    """
    return _expect(*_find_probe(state, sender, receiver, what, options)).decision


def explain(
    state: StateLike, sender: str, receiver: str, what: str, *, options: Options | None = None
) -> FlowExplanation:
    """Return why that flow passes or not, at both ends, with what would decide next and rules that nearly match."""
    lab, probe = _find_probe(state, sender, receiver, what, options)
    return explain_flow(lab.state, get_opening_packet(probe), lab.options, lab.placement)


def diff(old: StateLike, new: StateLike, *, options: Options | None = None) -> Difference:
    """Return what changes, as exact regions, and what would open at ENIs that aren't there.

    That is all that `sgdp diff` reports. It is false if and only if no packet's verdict changes, would change, or can't
    be judged.
    """
    before, after = _load(old), _load(new)
    found = StateDiff(before.state, after.state, options, after.pending)
    return compare(found, not_judged(before.findings, after.findings))


def compile(  # noqa: A001  # the verb's name
    state: StateLike,
    eni: str,
    *,
    placement: Literal["instance", "host"] = "instance",
    options: Options | None = None,
) -> str:
    """Return the ruleset of the namespace where that ENI is enforced, as text for `nft -f`.

    It is proven equal to the specification.
    """
    found = _state(state)
    where = Placement(placement)
    (there,) = namespaces(found, eni, where)
    return as_text(tables(build(Desired(found, there.interfaces, options or IN_LAB.options, where), Settings())))


def expect(state: StateLike, *rows: str, options: Options | None = None) -> None:
    """Check expectations (`web -> db tcp/5432 accept`) against a state.

    Raises:
        AssertionError: one fails; it has the reason of each that does.
        ValueError: an expectation can't be read.
        LabError: an expectation can't be checked.
    """
    found, asked = _state(state), _rows(rows)
    record = with_hosts_of(_record("plan", options, Placement.INSTANCE), found, asked)
    _refuse_mistakes(judge_by_policy(plan_lab(record, found), asked))


class Lab:
    """A lab of network namespaces with real packets, for a `with` block. It needs root.

    `name` is for `sgdp lab` commands; by default it is one that no other process takes. `externals` are addresses of
    hosts outside. Whatever ends this process, the lab is removed.
    """

    def __init__(
        self,
        state: StateLike,
        *,
        name: str = "",
        placement: Literal["instance", "host"] = "instance",
        externals: Iterable[str] = (),
        options: Options | None = None,
    ) -> None:
        self._state = _state(state)
        self._stack = ExitStack()
        record = _record(name or f"py{os.getpid()}-{next(_numbers)}", options, Placement(placement))
        hosts = tuple((address,) for address in externals)
        self._record = replace(record, externals=hosts or record.externals)

    def __enter__(self) -> Self:
        _aside(self._stack.enter_context, temporary_lab(self._record, self._state, enforce_policy))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _aside(self._stack.close)

    @property
    def name(self) -> str:
        """The lab's name, which `sgdp lab` commands take."""
        return self._record.name

    @property
    def state(self) -> CloudState:
        """The state that is in force."""
        return self._state

    def namespace(self, node: str) -> str:
        """Return the name of a node's namespace, as `ip netns exec` takes it.

        A node is an instance's name or id, or a host outside.
        """
        return manage.look(self.name).find_node(node).netns

    def apply(self, state: StateLike) -> None:
        """Change the lab to another state; return when that is in force. Sessions that it drops stop."""
        wanted = _state(state)
        _aside(manage.apply, self.name, wanted, enforce_policy)
        self._state = wanted

    def probe(self, sender: str, receiver: str, what: str) -> ProbeResult:
        """Send one exchange: `observed` is what packets showed, `expected` what the policy says."""
        with manage.watch(self.name) as lab:
            return _aside(matrix.probe_all, lab, [one_probe(lab, sender, receiver, what)])[0]

    def matrix(self, what: str = "") -> list[ProbeResult]:
        """Send packets between each pair of nodes.

        `what` is such as `tcp/22,udp/53,icmp`; by default it is what the rules name.
        """
        with manage.watch(self.name) as lab:
            services = parse_services(what) if what else default_services(lab.state)
            return _aside(matrix.probe_all, lab, matrix.matrix_probes(lab.topology.nodes, services))

    def expect(self, *rows: str) -> None:
        """Check expectations against packets and policy.

        Raises:
            AssertionError: one fails; it has the reason of each that does.
        """
        with manage.watch(self.name) as lab:
            _refuse_mistakes(_aside(list, judge_by_packets(lab, _rows(rows))))


def _aside(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call the function, in a thread of its own if an event loop runs here, as in a notebook.

    The libraries that it uses start an event loop themselves.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return function(*args, **kwargs)
    with ThreadPoolExecutor(max_workers=1) as aside:
        return aside.submit(function, *args, **kwargs).result()


def _state(state: StateLike) -> CloudState:
    return _load(state).state


def _load(state: StateLike) -> Loaded:
    return Loaded(state, ()) if isinstance(state, CloudState) else load_file(Path(state), waits=True)


def _record(name: str, options: Options | None, placement: Placement) -> LabRecord:
    choices = Choices(placement=placement, options=options or IN_LAB.options)
    return replace(manage.default_record(name), choices=choices)


def _find_probe(
    state: StateLike, sender: str, receiver: str, what: str, options: Options | None
) -> tuple[KnownLab, Probe]:
    return plan_probe(_record("plan", options, Placement.INSTANCE), _state(state), sender, receiver, what)


def _expect(lab: KnownLab, probe: Probe) -> Expectation:
    return expectation_of(lab.state, probe, EPHEMERAL, lab.options)


def _rows(rows: Sequence[str]) -> tuple[Row, ...]:
    return tuple(parse_row(text) for row in rows for text in row.splitlines() if text.strip())


def _refuse_mistakes(judged: Iterable[Judged]) -> None:
    wrong = [f"{each.row.text}\n  {each.probe}: {each.mistake}" for each in judged if each.mistake]
    if wrong:
        raise AssertionError("\n".join(wrong))
