"""`sgdp trial`: it counts what a change would do to the traffic of today, by start, show, list and stop.

Owns the arguments, and where a trial runs: in a lab, or in this host's agent. Must not count anything, or know how a
report is shown (trialtext.py).
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from sgdataplane.cli import trialtext
from sgdataplane.cli.difflive import live_sessions
from sgdataplane.cli.scopes import Scopes, scopes
from sgdataplane.cli.times import read_span
from sgdataplane.daemon import control
from sgdataplane.daemon.control import Request
from sgdataplane.daemon.statefolder import TRIALS
from sgdataplane.daemon.trials import BEGINNING
from sgdataplane.errors import TrialError
from sgdataplane.history.span import SPAN_WORDS
from sgdataplane.host.files import Survives
from sgdataplane.model.state import CloudState
from sgdataplane.terminal.arguments import CONFIG_HELP, ENI_HELP, Summary, Verbs, load_state, require_root
from sgdataplane.terminal.files import require_writable, write
from sgdataplane.terminal.output import Exit, iso_time, print_json, render_table, say, say_block, whole_seconds
from sgdataplane.trial.live import find_ending
from sgdataplane.trial.record import EXPECTED, MAX_S, NAME, TrialFolder, TrialRecord
from sgdataplane.trial.report import TrialReport

LONGEST = f"{MAX_S // 86400}d"
PLANNING_S, POLL_S = 120.0, 0.1  # how long the agent may compare two states, and how often it is asked
DAY_S = 86400
ACTIONS = {
    "start": Summary("count what a state would change, from now on", "sudo sgdp trial start new.yaml --for 24h"),
    "show": Summary("show what was counted, and which live sessions would end", "sudo sgdp trial show --fail-on close"),
    "list": Summary("list the trials that run", "sudo sgdp trial list"),
    "stop": Summary("show a trial for the last time, and remove it", "sudo sgdp trial stop"),
}


def register(verbs: Verbs) -> None:
    """Add `trial` and its verbs."""
    more = (
        "A trial compares the policy in force with another state and changes no verdict. The kernel counts each packet "
        "that opens a session, and each that is refused, where the two differ. Needs root."
    )
    trial = verbs.add("trial", None, more)
    actions = Verbs.below(trial, ACTIONS)
    _register_start(actions)
    for name, run in (("show", run_show), ("stop", run_stop)):
        parser = actions.add(name, run)
        parser.add_argument("trial", type=_name, nargs="?", metavar="N", help="the trial's name, if there are several")
        _add_where(parser)
        form = parser.add_mutually_exclusive_group()
        parser.add_json("sgdataplane/schemas/trial.schema.json", form)
        form.add_argument("--markdown", action="store_true", help="print Markdown, for a comment on a pull request")
        form.add_argument("--html", type=Path, metavar="FILE", help="write one HTML page")
        about = "exit code 1 only if something was seen that would close, or open (default: either)"
        parser.add_argument("--fail-on", choices=("close", "open"), help=about)
    parser = actions.add("list", run_list)
    _add_where(parser)
    parser.add_json("a list of name, state, enis, since, until")


def _register_start(actions: Verbs) -> None:
    more = "It refuses a state that `sgdp check` refuses. The trial survives restarts of the agent and of the machine."
    parser = actions.add("start", run_start, more)
    parser.add_state("after", "the state on trial", metavar="AFTER")
    parser.add_argument("--name", dest="trial", type=_name, metavar="N", help="the trial's name (default: trial1, ...)")
    about = f"count at this ENI only; can be repeated: {ENI_HELP}"
    parser.add_argument("--eni", action="append", default=[], metavar="ENI", help=about)
    about = f"when it ends: {SPAN_WORDS} (default: 24h; at most {LONGEST})"
    parser.add_argument("--for", dest="seconds", type=read_span(LONGEST), default=DAY_S, metavar="TIME", help=about)
    _add_where(parser)


def _add_where(parser: argparse.ArgumentParser) -> None:
    """Add `--lab` and `--config`; `--name` is a trial's.

    Verbs that look into labs call a lab's name `name`.
    """
    where = parser.add_mutually_exclusive_group()
    about = (
        "in the lab of this name (default: that in SGDP_LAB, or this host; if nothing is attached, the lab named lab)"
    )
    where.add_argument("--lab", dest="name", metavar="LAB", help=about)
    where.add_argument("--config", type=Path, metavar="FILE", help=CONFIG_HELP)


def _name(text: str) -> str:
    """Return a trial's name as an option takes it. ArgumentTypeError if it can't be one."""
    if not NAME.fullmatch(text):
        raise argparse.ArgumentTypeError(f"{text!r} can't be a trial's name; expected {EXPECTED}")
    return text


# where trials run


class TrialHost(Protocol):
    """A place where trials run. All methods raise TrialError if there is no such trial."""

    def start(self, record: TrialRecord, state: CloudState) -> TrialReport:
        """Begin a trial, and return its first report.

        TrialError if there is one of that name, or there are too many.
        """
        ...

    def read(self, name: str) -> TrialReport:
        """Return what a trial has seen until now."""
        ...

    def stop(self, name: str) -> TrialReport:
        """End a trial, and return what it has seen."""
        ...

    def records(self) -> tuple[TrialRecord, ...]:
        """Return the trials that run."""
        ...


class LabTrials:
    """The trials of a lab, which doesn't change meanwhile."""

    def __init__(self, there: Scopes) -> None:
        from sgdataplane.lab import trials

        assert there.lab is not None
        self._lab, self._trials = there.lab, trials

    def start(self, record: TrialRecord, state: CloudState) -> TrialReport:
        """Begin a trial in the lab."""
        return self._trials.start(self._lab, record, state)

    def read(self, name: str) -> TrialReport:
        """Return what a trial of the lab has seen until now."""
        return self._trials.read(self._lab, name)

    def stop(self, name: str) -> TrialReport:
        """End a trial of the lab, and return what it has seen."""
        return self._trials.stop(self._lab, name)

    def records(self) -> tuple[TrialRecord, ...]:
        """Return the trials that run in the lab."""
        return self._trials.records(self._lab)


class AgentTrials:
    """The trials of this host's agent.

    The state on trial is written to its folder, because it may be large.
    """

    def __init__(self, there: Scopes) -> None:
        assert there.config is not None
        self._socket = there.config.socket
        self._folder = TrialFolder(there.config.state_directory / TRIALS, Survives.THE_MACHINE)

    def start(self, record: TrialRecord, state: CloudState) -> TrialReport:
        """Have the agent begin a trial; wait PLANNING_S at most until it counts."""
        self._ask(Request.TRIALS)
        with self._folder.lock():
            self._folder.add(record, state)
        found = self._report(Request.TRIAL_START, record.name)
        until = time.monotonic() + PLANNING_S
        while found.paused in BEGINNING and time.monotonic() < until:
            time.sleep(POLL_S)
            found = self.read(record.name)
        return found

    def read(self, name: str) -> TrialReport:
        """Return what a trial of the agent has seen until now."""
        return self._report(Request.TRIAL, name)

    def stop(self, name: str) -> TrialReport:
        """Have the agent end a trial, and return what it has seen."""
        return self._report(Request.TRIAL_STOP, name)

    def records(self) -> tuple[TrialRecord, ...]:
        """Return the trials that the agent runs."""
        found: Any = self._ask(Request.TRIALS)["trials"]
        return tuple(TrialRecord(**{**record, "enis": tuple(record["enis"])}) for record in found)

    def _report(self, request: Request, name: str) -> TrialReport:
        """Ask the agent about a trial. TrialError if there is no such trial."""
        found: Any = self._ask(request, name)["trial"]
        if found is None:
            others = ", ".join(record.name for record in self.records()) or "none"
            raise TrialError(name, f"no such trial; running: {others}", is_missing=True)
        return TrialReport.of(found)

    def _ask(self, request: Request, name: str = "") -> dict[str, object]:
        return control.ask(self._socket, request, trial=name)


@contextmanager
def _host(arguments: argparse.Namespace) -> Iterator[tuple[Scopes, TrialHost]]:
    """Give the scopes that are meant, and what runs trials there."""
    require_root("trials")
    with scopes(arguments) as there:
        yield there, (AgentTrials(there) if there.lab is None else LabTrials(there))


def _find_trial(arguments: argparse.Namespace, host: TrialHost) -> str:
    """Return the trial that is named, or the only one there is. TrialError if that is none or several."""
    if arguments.trial is not None:
        return str(arguments.trial)
    names = [record.name for record in host.records()]
    if len(names) == 1:
        return names[0]
    detail = f"several trials run; name one of these: {', '.join(names)}" if names else "no trial runs here"
    raise TrialError("", detail, is_missing=not names)


# the verbs


def run_start(arguments: argparse.Namespace) -> int:
    """Begin a trial, and say how many lines it has."""
    require_root("trials")
    state = load_state(arguments.after, "seed").state
    with _host(arguments) as (there, host):
        enis = tuple(sorted({there.eni(name) for name in arguments.eni}))
        name = arguments.trial or _free_name(host)
        now = time.time()
        report = host.start(TrialRecord(name, str(arguments.after), enis, now, now + arguments.seconds), state)
    trialtext.say_started(report)
    return Exit.DONE


def _free_name(host: TrialHost) -> str:
    """Return a name that no trial has."""
    taken = {record.name for record in host.records()}
    return next(name for number in range(1, len(taken) + 2) if (name := f"trial{number}") not in taken)


def run_show(arguments: argparse.Namespace) -> int:
    """Show a trial. Exit 1 if something was seen that would change."""
    return _show(arguments, is_last=False)


def run_stop(arguments: argparse.Namespace) -> int:
    """Show a trial a last time, and remove it."""
    return _show(arguments, is_last=True)


def _show(arguments: argparse.Namespace, *, is_last: bool) -> int:
    """Show a trial, and remove it if it `is_last`; return the exit code."""
    if arguments.html is not None:
        require_writable(arguments.html)
    with _host(arguments) as (there, host):
        name = _find_trial(arguments, host)
        report = host.read(name)
        sessions = tuple(find_ending(live_sessions(there), (seen.line for seen in report.lines)))
        if is_last:
            report = host.stop(name)
    shown = trialtext.ShownTrial(report, sessions, trialtext.owners_of(there.state), time.time())
    if arguments.json:
        print_json(trialtext.as_json(shown))
    elif arguments.markdown:
        say_block(trialtext.as_markdown(shown))
    elif arguments.html is not None:
        write(trialtext.as_html(shown), arguments.html)
        say(f"wrote {arguments.html}")
    else:
        trialtext.print_text(shown)
    return Exit.NO if shown.is_seen(arguments.fail_on) and not is_last else Exit.DONE


def run_list(arguments: argparse.Namespace) -> int:
    """List the trials."""
    with _host(arguments) as (_, host):
        found = host.records()
    if arguments.json:
        print_json([trialtext.record_as_json(record) for record in found])
    elif not found:
        say("no trial runs here")
    else:
        rows = [(r.name, r.source, ", ".join(r.enis) or "all", *map(_time, (r.since, r.until))) for r in found]
        say_block(render_table(("TRIAL", "STATE", "ENIS", "SINCE", "UNTIL"), rows))
    return Exit.DONE


def _time(seconds: float) -> str:
    return whole_seconds(iso_time(seconds))
