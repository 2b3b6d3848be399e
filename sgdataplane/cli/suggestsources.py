"""The sources of evidence for `sgdp suggest`: captures, live sessions, and the agent's history.

Owns the options that name sources, and what each source can't know. Must not know what is made of the evidence.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from sgdataplane.cli.times import read_time
from sgdataplane.history.span import TIME_WORDS
from sgdataplane.model.naming import eni_of
from sgdataplane.model.options import Options
from sgdataplane.model.state import CloudState, Eni
from sgdataplane.model.words import pluralize
from sgdataplane.net.values import PORT_PROTOCOLS, Address, Direction, Prefix
from sgdataplane.suggest.evidence import Passage, SeenFlow
from sgdataplane.suggest.judge import Judge, SourcePorts
from sgdataplane.suggest.rows import HistoryEvidence
from sgdataplane.terminal.arguments import Parser, read_address, require_root

if TYPE_CHECKING:
    from sgdataplane.observe.sessions import Session

REASONS = 10  # of packets that are no evidence; the others are counted together
UNANSWERED = ("SYN_SENT", "SYN_SENT2", "UNREPLIED")
ALL_SESSIONS = ("node", "eni", "rule", "direction", "remote", "protocol", "port", "state")


@dataclass
class Sources:
    """A reader of all sources that the arguments name."""

    arguments: argparse.Namespace
    state: CloudState
    options: Options
    notes: list[str] = field(default_factory=list)
    """What the sources can't know, once they are read."""

    def read(self) -> Iterator[SeenFlow]:
        """Yield the flows of each source. Errors are those of captures and of reading sessions."""
        if self.arguments.captures:
            yield from self._read_captures()
        if self.arguments.live:
            yield from self._read_live()
        if self.arguments.history:
            yield from self._read_history()

    def _read_captures(self) -> Iterator[SeenFlow]:
        """Yield the flows of captures; note what was left out."""
        from sgdataplane.lab.replay.capture import Capture
        from sgdataplane.lab.replay.seen import CaptureEvidence

        judge = Judge(self.state, self.options)
        is_asked = self.arguments.allow_audited

        def passes(flow: SeenFlow) -> bool:
            return any(one.is_accepted for one in judge.each(flow)) or (is_asked and flow.passage is Passage.PASSED)

        evidence = CaptureEvidence(self.state, map_addresses(self.arguments, self.state), passes)
        for path in self.arguments.captures:
            with Capture(path) as capture:
                yield from evidence.read(capture)
        self.notes += evidence.cut
        left_out = sorted(evidence.left_out.items(), key=lambda one: (-one[1], one[0]))
        self.notes += [f"left out: {pluralize(packets, 'packet')} ({reason})" for reason, packets in left_out[:REASONS]]
        if len(left_out) > REASONS:
            more = sum(packets for _, packets in left_out[REASONS:])
            self.notes.append(f"left out: {pluralize(more, 'packet')}, for other reasons")
        if evidence.guessed:
            sessions = pluralize(evidence.guessed, "session")
            self.notes.append(
                f"{sessions} began before the capture: the end with the lower port is taken for the server"
            )

    def _read_live(self) -> Iterator[SeenFlow]:
        """Yield the sessions that are open now."""
        from sgdataplane.cli.scopes import scopes
        from sgdataplane.cli.sessions import read

        everything = argparse.Namespace(**dict.fromkeys(ALL_SESSIONS), all=False)
        with scopes(self.arguments) as there:
            found = read(there, everything)
        now, sources, known = time.time(), SourcePorts(self.state), self.state.eni
        ours = (one for one in found if one.direction is not None and one.eni_id in known)
        yield from (live_flow(session, sources, now) for session in ours)
        self.notes.append("live sessions are those that are open now: what ended, or is yet to come, isn't in it")

    def _read_history(self) -> Iterator[SeenFlow]:
        """Yield the flows of the agent's history; note its gaps."""
        from sgdataplane.cli.history import coverage_of, history_path
        from sgdataplane.history.read import HistoryQuery, open_history

        evidence, query = HistoryEvidence(self.state), HistoryQuery(since=self.arguments.since or 0)
        with open_history(history_path(self.arguments)) as history:
            yield from evidence.read(history.flows(query))
            coverage = coverage_of(history, query)
        if coverage.absent_s:
            self.notes.append(f"history has gaps: nothing was recorded for {coverage.absent_s:,} s of the time")
        if coverage.sessions:
            self.notes.append(f"{pluralize(coverage.sessions, 'session')} came too fast to be recorded one by one")
        if evidence.unplaced:
            sessions = pluralize(evidence.unplaced, "session")
            self.notes.append(f"{sessions} had an ENI at the other end that STATE doesn't have, and are left out")


def live_flow(session: Session, sources: SourcePorts, now: float) -> SeenFlow:
    """Return a live session as evidence."""
    assert session.direction is not None
    is_answered = session.state not in UNANSWERED
    port = session.port if session.protocol in PORT_PROTOCOLS else None
    source = session.remote_port if session.direction is Direction.INGRESS else session.local_port
    return SeenFlow(
        session.eni_id, session.direction, (Prefix.of(session.remote),), session.protocol, port, session.local,
        sources.get_if_relevant(session.eni_id, source, port),
        passage=Passage.PASSED if is_answered else Passage.UNKNOWN, answered=int(is_answered), first=now, last=now,
    )  # fmt: skip


def add_sources(parser: Parser) -> None:
    """Add the options that name sources, and those that say how to read them."""
    group = parser.add_argument_group("evidence", "at least one source; can be combined")
    words = "a pcap or pcapng file, gzipped or not; a pipe, or - for standard input; can be repeated"
    group.add_argument("--capture", dest="captures", action="append", default=[], type=Path, metavar="FILE", help=words)
    group.add_argument("--live", action="store_true", help="the sessions that are open now (root)")
    group.add_argument("--history", action="store_true", help="what this host's agent has recorded (root)")
    words = f"with --history: from then on: {TIME_WORDS} (default: all that is kept)"
    group.add_argument("--since", type=read_time, metavar="TIME", help=words)
    words = "let this address of a capture stand for an ENI, for example because of NAT; can be repeated"
    group.add_argument("--map", dest="maps", action="append", default=[], type=read_map, metavar="IP=ENI", help=words)
    parser.add_where()


def read_map(text: str) -> tuple[Address, str]:
    """Parse `IP=ENI`. ArgumentTypeError if it is malformed."""
    left, equals, name = text.partition("=")
    if not equals or not name:
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form IP=ENI")
    return read_address(left), name


def map_addresses(arguments: argparse.Namespace, state: CloudState) -> dict[Address, Eni]:
    """Return the ENIs that addresses of captures stand for.

    StateFileError for a name that isn't one ENI's.
    """
    return {address: state.eni[eni_of(state, name)] for address, name in arguments.maps}


def check_sources(arguments: argparse.Namespace) -> None:
    """Refuse with a usage error if no source is named, or an option has none to be about.

    Raises:
        PrivilegeError: A source needs root.
    """
    parser: Parser = arguments.parser
    is_here = arguments.live or arguments.history
    if not arguments.captures and not is_here:
        parser.error("name the evidence: --capture FILE, --live, --history")
    if arguments.since is not None and not arguments.history:
        parser.error("--since needs --history")
    if arguments.maps and not arguments.captures:
        parser.error("--map needs --capture")
    if not is_here and (arguments.name is not None or arguments.config is not None):
        parser.error("--name and --config say where to look, with --live or --history")
    if is_here:
        require_root("reading the sessions of other namespaces, and the agent's history")
