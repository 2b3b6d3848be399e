"""`sgdp policies`, `rollback`, `resume`: earlier policies, and the way back to one of them.

Owns the arguments and the wording; the keys of --json: sgdataplane/schemas/policies.schema.json. Must not know how
policies are kept, or put in force.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sgdataplane.analyse.diff import StateDiff
from sgdataplane.analyse.difference import Difference, compare
from sgdataplane.attach.registry import APPLIED
from sgdataplane.cli.diff import print_text
from sgdataplane.cli.scopes import agent_config
from sgdataplane.cli.times import read_span
from sgdataplane.daemon.lookup import look_up_here
from sgdataplane.daemon.pastpolicies import PastPolicies, PastPolicy
from sgdataplane.daemon.statefolder import POLICIES
from sgdataplane.errors import HostError
from sgdataplane.history.span import SPAN_WORDS
from sgdataplane.statefile import dump_native
from sgdataplane.terminal.arguments import ENI_HELP, Parser, Verbs, read_limit, require_root
from sgdataplane.terminal.files import require_writable, write
from sgdataplane.terminal.output import (
    Exit,
    complain,
    iso_time,
    localize_times,
    print_json,
    render_table,
    say,
    say_aside,
    say_block,
    warn,
    whole_seconds,
)
from sgdataplane.terminal.progress import Progress

if TYPE_CHECKING:
    from sgdataplane.daemon.config import Config

HEADERS = ("POLICY", "IN FORCE SINCE", "REVISION", "CHANGE")
N_HELP = "its number, as `sgdp policies` lists it"
DONE_S, POLL_S = 120.0, 0.05  # how long a cycle may take, and between two looks whether it is done


def register(verbs: Verbs) -> None:
    """Add the three verbs."""
    more = (
        "The agent keeps the last 50. With N: what N changed, in traffic. REVISION is the generation of the source, "
        "such as `sgdp sync` writes it. Needs root."
    )
    policies = verbs.add("policies", run_policies, more)
    policies.add_argument("number", nargs="?", type=read_limit, metavar="N", help=N_HELP)
    policies.add_argument("-o", "--output", type=Path, metavar="FILE", help="write policy N to this file, as a state")
    policies.add_argument("--eni", metavar="ENI", help=f"only those that changed what this ENI accepts: {ENI_HELP}")
    policies.add_json("sgdataplane/schemas/policies.schema.json")
    policies.add_config()
    more = (
        "The state on disk is ignored until it changes, or until `sgdp resume`. Sessions that policy N refuses end at "
        "their next packet. Needs root and the agent."
    )
    rollback = verbs.add("rollback", run_rollback, more)
    rollback.add_argument("number", type=read_limit, metavar="N", help=N_HELP)
    about = f"return to the state on disk after this time: {SPAN_WORDS} (at most 30d)"
    rollback.add_argument("--for", dest="seconds", type=read_span("30d"), default=0, metavar="TIME", help=about)
    _add_dry_run(rollback)
    rollback.add_config()
    verbs.add("resume", run_resume, "Needs root and the agent.").add_config()


def _add_dry_run(parser: Parser) -> None:
    parser.add_argument("--dry-run", action="store_true", help="only say which traffic changes its verdict")


def run_policies(arguments: argparse.Namespace) -> int:
    """List the policies that are kept; or show, or write, one of them."""
    require_root("policies")
    if arguments.output is not None and arguments.number is None:
        arguments.parser.error("-o needs N, the policy to write")
    config = agent_config(arguments)
    past = _past(config)
    if arguments.number is None:
        return _list(arguments, past, config)
    entry = past.find(arguments.number)
    if arguments.output is not None:
        require_writable(arguments.output)
        write(dump_native(past.state(entry.digest)), arguments.output)
        say_aside(f"wrote {arguments.output}")
        return Exit.DONE
    if arguments.json:
        print_json({"policies": [_as_json(entry)]})
        return Exit.DONE
    earlier = [each for each in past.entries if each.number < entry.number]
    if not earlier:
        raise HostError(f"policy {entry.number}", "it is the oldest that is kept, so what it changed isn't known")
    say(f"policy {entry.number}, in force since {_time(entry.at)}, from {entry.source}")
    print_text(_difference(past, earlier[-1], entry, config))
    return Exit.DONE


def run_rollback(arguments: argparse.Namespace) -> int:
    """Put an earlier policy in force, and return when it is.

    Exit 3 if it isn't in force at an attached ENI.
    """
    require_root("rollback")
    config = agent_config(arguments)
    if arguments.dry_run:
        past = _past(config)
        print_text(_difference(past, past.entries[-1], past.find(arguments.number), config))
        return Exit.DONE
    from sgdataplane.daemon import control
    from sgdataplane.daemon.control import Request

    if not config.socket.exists():
        way = f"`sgdp policies {arguments.number} -o FILE`, then `sgdp apply FILE`"
        raise HostError("rollback", f"no agent is running; without one, run {way}")
    answer: Any = control.ask(config.socket, Request.ROLLBACK, policy=arguments.number, for_s=float(arguments.seconds))
    until = "" if answer["until"] is None else f" until {_time(answer['until'])}"
    return _await_cycle(config, answer["cycle"], "held", f"policy {arguments.number} is in force{until}")


def run_resume(arguments: argparse.Namespace) -> int:
    """Put the state on disk in force again, and return when it is.

    Exit 3 if it isn't in force at an attached ENI.
    """
    require_root("resume")
    from sgdataplane.daemon import control
    from sgdataplane.daemon.control import Request

    config = agent_config(arguments)
    answer: Any = control.ask(config.socket, Request.RESUME)
    if not answer["held"]:
        say("no earlier policy was held")
        return Exit.DONE
    return _await_cycle(config, answer["cycle"], "state", f"{config.state} is in force")


def _await_cycle(config: Config, cycle: int, origin: str, words: str) -> int:
    """Wait for the agent's cycle, say how it ended, and return the exit code."""
    from sgdataplane.daemon import control
    from sgdataplane.daemon.control import Request

    deadline = time.monotonic() + DONE_S
    status: Any = control.ask(config.socket, Request.STATUS)["status"]
    while status["cycle"]["number"] < cycle:
        if time.monotonic() > deadline:
            raise HostError(str(config.socket), f"the agent hasn't done it in {DONE_S:g} s; `sgdp status` says more")
        time.sleep(POLL_S)
        status = control.ask(config.socket, Request.STATUS)["status"]
    for line in (eni["error"] for eni in status["enis"] if eni["error"]):
        complain(localize_times(line))
    if status["state"]["origin"] != origin:
        why = status["state"]["error"] or status["cycle"]["error"] or "the state has changed"
        complain(f"not in force: {localize_times(why)}")
        return Exit.KERNEL
    say(words)
    return Exit.KERNEL if any(eni["error"] for eni in status["enis"]) else Exit.DONE


def _past(config: Config) -> PastPolicies:
    """Return the policies that the agent has kept, or else `sgdp apply`. HostError if there are none."""
    past = PastPolicies(config.state_directory / POLICIES)
    past = past if past.entries or past.error else PastPolicies(config.bindings / APPLIED)  # by `sgdp apply`
    if not past.entries:
        raise HostError(
            str(past.folder),
            past.error or "no policy is kept yet; the agent and `sgdp apply` keep those that they enforce",
        )
    if past.error:
        warn(past.error)
    return past


def _list(arguments: argparse.Namespace, past: PastPolicies, config: Config) -> int:
    """Print the policies, the newest first."""
    found: Sequence[PastPolicy] = past.entries
    if arguments.eni is not None:
        eni_id = look_up_here(config, arguments.eni).the_eni("no such ENI here", "an ENI that is known here")
        found = tuple(_about(eni_id, past, config))
    if arguments.json:
        print_json({"policies": [_as_json(entry) for entry in found]})
        return Exit.DONE
    if not found:
        say("no policy that is kept changed what this ENI accepts")
        return Exit.DONE
    rows = [(str(e.number), _time(e.at), e.revision or "-", e.change) for e in reversed(found)]
    say_block(render_table(HEADERS, rows))
    return Exit.DONE


def _about(eni_id: str, past: PastPolicies, config: Config) -> Iterator[PastPolicy]:
    """Yield the policies that changed a verdict at this ENI.

    The first one that is kept is always among them, because what it changed isn't known.
    """
    first, *others = past.entries
    before = past.state(first.digest)
    yield first
    with Progress("comparing", len(others)) as progress:
        for entry in others:
            state = past.state(entry.digest)
            diff = StateDiff(before, state, config.choices.options)
            if eni_id in diff.list_concerned() and diff.at(eni_id).changes:
                yield entry
            before = state
            progress.advance()


def _difference(past: PastPolicies, before: PastPolicy, after: PastPolicy, config: Config) -> Difference:
    """Return what changes from one policy to another, in traffic."""
    states = past.state(before.digest), past.state(after.digest)
    with Progress("comparing", 0) as progress:
        return compare(StateDiff(*states, config.choices.options), (), progress)


def _as_json(entry: PastPolicy) -> dict[str, object]:
    return {
        "policy": entry.number,
        "since": iso_time(entry.at),
        "source": entry.source,
        "revision": entry.revision or None,
        "digest": entry.digest,
        "change": entry.change,
    }


def _time(seconds: float) -> str:
    return whole_seconds(iso_time(seconds))
