"""`sgdp report`: a state on one page, with the kernel's counts and sessions where the state is in force.

Owns the arguments, which namespaces are read, and what the page says about how far their numbers can be trusted. Must
not know what stands on the page.
"""

from __future__ import annotations

import argparse
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from sgdataplane.attach.compare import find_known_eni
from sgdataplane.attach.registry import ATTACHED_DIR, Binding, Registry, current
from sgdataplane.cli import scopes
from sgdataplane.cli.inexact import add_inexact, load_as_asked
from sgdataplane.cli.sessions import describe_decision, next_packet
from sgdataplane.cli.state import findings_of
from sgdataplane.contract.counters import counter_name
from sgdataplane.contract.sites import SITES
from sgdataplane.errors import HostError
from sgdataplane.model.choices import JUDGING, ON_HOSTS, Choices
from sgdataplane.model.options import Options
from sgdataplane.model.semantics import of_rule
from sgdataplane.model.state import CloudState
from sgdataplane.model.words import pluralize
from sgdataplane.net.values import Protocol
from sgdataplane.observe.decisions import Decider
from sgdataplane.observe.drops import read_counters
from sgdataplane.observe.sessions import Session, read_sessions
from sgdataplane.report.content import Observed, ReportPage, SessionRow, Unobserved
from sgdataplane.report.page import Subject, report_page
from sgdataplane.report.render import render_page
from sgdataplane.terminal.arguments import Verbs, choices_of, require_root, say_choices
from sgdataplane.terminal.files import write
from sgdataplane.terminal.output import Exit, endpoint, say

MAX_SESSIONS = 200


def register(verbs: Verbs) -> None:
    """Add the verb."""
    more = "Hits and sessions need root; without root, the page has everything else."
    parser = verbs.add("report", run, more)
    parser.add_state()
    parser.add_argument("--html", type=Path, metavar="FILE", required=True, help="the page, a single file")
    lab = "take hits and sessions from the lab of this name (default: from what is attached on this host)"
    parser.add_argument("--name", metavar="N", help=lab)
    parser.add_bindings()
    add_inexact(parser)
    parser.add_choices(JUDGING)


def run(arguments: argparse.Namespace) -> int:
    """Write the page."""
    choices = choices_of(arguments, _base(arguments))
    loaded = load_as_asked(arguments, arguments.state)
    observed = _observe(loaded.state, arguments, choices.options)
    page = report_page(Subject(str(arguments.state), loaded.state, findings_of(loaded, choices), observed, choices))
    write(render_page(page), arguments.html)
    say(f"{arguments.html}: {_in_short(loaded.state)}; {_read_input(page)}")
    say_choices(choices)
    say(observed.told)
    return Exit.DONE


def _in_short(state: CloudState) -> str:
    """Say how much of everything the state has."""
    rules = sum(len(group.rules) for group in state.security_groups)
    counts = (
        (len(state.vpcs), "VPC"),
        (len(state.security_groups), "security group"),
        (rules, "rule"),
        (len(state.instances), "instance"),
        (len(state.network_interfaces), "ENI"),
    )
    return ", ".join(pluralize(*count) for count in counts)


def _read_input(page: ReportPage) -> str:
    return f"findings: {dict(page.facts)['Findings']}"


def _base(arguments: argparse.Namespace) -> Choices:
    """Return the choices that hold unless others are given: with --name, that lab's.

    Raises:
        LabError: There is no such lab.
    """
    if arguments.name is None:
        return ON_HOSTS
    require_root("reading the counters and sessions of a lab")
    from sgdataplane.lab import manage

    return manage.record_of(arguments.name).choices


def _observe(state: CloudState, arguments: argparse.Namespace, options: Options) -> Observed | Unobserved:
    """Return what is counted where the state is in force, or why nothing is."""
    if arguments.name is not None:
        return _of_lab(state, arguments.name)
    if getattr(os, "geteuid", lambda: -1)() != 0:
        return Unobserved("no lab was named with --name, and only root can read what is attached on this host.")
    return _of_host(state, current(Registry(arguments.bindings or ATTACHED_DIR).load()), options)


class _Observer:
    """A reader that adds up what several namespaces say.

    Args:
        in_force: The state that is in force there.
        options: How it is evaluated.
    """

    def __init__(self, in_force: CloudState, options: Options) -> None:
        self._state, self._decider = in_force, Decider(in_force, options)
        self._packets: Counter[str] = Counter()
        self._sessions: list[Session] = []

    def read(self, path: str, scope: scopes.PolicyScope) -> None:
        """Read the namespace at `path`. HostError if it is gone or can't be read."""
        try:
            self._packets.update(read_counters(path))
        except OSError as error:
            raise HostError(path, error.strerror or str(error)) from error
        found = read_sessions(path, self._state, scope.interfaces, self._decider, SITES[scope.placement])
        self._sessions += [session for session in found if session.eni_id]

    def summarize(self, state: CloudState, where: str) -> Observed:
        """Return what was read, for a page about `state`. `where` says where that was."""
        hits = {
            (group.security_group_id, rule.security_group_rule_id): self._packets[
                counter_name(of_rule(group.security_group_id, rule))
            ]
            for group in state.security_groups
            for rule in group.rules
        }
        ordered = sorted(self._sessions, key=_order)
        return Observed(where, hits, tuple(map(_row, ordered[:MAX_SESSIONS])), len(ordered))


def _of_lab(state: CloudState, name: str) -> Observed:
    """Read a lab, which can't change meanwhile. LabError if there is no such lab."""
    from sgdataplane.lab import manage

    with manage.watch(name) as lab:
        observer = _Observer(lab.state, lab.options)
        for scope in scopes.of_lab(lab).all:
            observer.read(scope.namespace, scope)
    differs = "" if lab.state == state else ", where another state is in force"
    return observer.summarize(state, f"from lab {name}, as it is now{differs}")


def _of_host(state: CloudState, attached: Sequence[Binding], options: Options) -> Observed | Unobserved:
    """Read the ENIs of the state that are attached on this host; return why not, if there are none."""
    bindings = [binding for binding in attached if find_known_eni(state, binding.eni_id)]
    if not bindings:
        how = "none of the state's ENIs is attached on this host" if attached else "no ENI is attached on this host"
        return Unobserved(f"no lab was named with --name, and {how}.")
    observer, ended = _Observer(state, options), 0
    for scope in scopes.of_bindings(bindings, state, options).all:
        with scope.held() as path:
            if path is None:
                ended += len(scope.interfaces)
            else:
                observer.read(path, scope)
    missing = f"; {pluralize(ended, 'more ENI')} ended" if ended else ""
    where = f"at {pluralize(len(bindings) - ended, 'ENI')} of this state that this host has{missing}"
    return observer.summarize(state, where)


def _order(session: Session) -> tuple[object, ...]:
    local_port, remote_port = session.local_port or 0, session.remote_port or 0
    return session.eni_id, session.protocol, session.local, local_port, session.remote, remote_port


def _row(session: Session) -> SessionRow:
    return SessionRow(
        session.eni_id,
        session.direction.value if session.direction else "",
        str(Protocol(session.protocol)),
        endpoint(session.remote, session.remote_port),
        endpoint(session.local, session.local_port),
        session.state,
        next_packet(session),
        describe_decision(session),
    )
