"""`sgdp agent` and `sgdp status`: the daemon, and how it is.

Owns the arguments and the wording. Must not know how the agent works. The keys of `status --json`:
pydoc sgdataplane.daemon.status.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path
from typing import Any

from sgdataplane.cli.arguments import add_choices, chosen, say_choices
from sgdataplane.cli.command import Exit, Parser, Run, Subparsers, require_root
from sgdataplane.cli.output import complain, paint, print_json, render_table, say, say_block, warn
from sgdataplane.model.choices import CHOICES, ON_HOSTS, read_choices

HEADERS = ("ENI", "INTERFACE", "ENFORCED AT", "OUTCOME", "EPOCH", "SINCE")
COLOURS = {"in force": "green", "refused": "red"}


def register(verbs: Subparsers) -> None:
    """Add the two verbs."""
    agent = _add(verbs, "agent", run_agent, "the daemon: keep all attached ENIs enforced, whatever happens")
    help_text = "the configuration (default: /etc/sgdataplane/agent.toml, which as installed says what each key means)"
    agent.add_argument("--config", type=Path, metavar="FILE", help=help_text)
    help_text = "end after one cycle; exit code 3 if some of what is attached does not obey, 5 if the state is refused"
    agent.add_argument("--once", action="store_true", help=help_text)
    add_choices(agent, CHOICES, None)
    status = _add(verbs, "status", run_status, "what the running agent enforces; exit code 1 if not all is well")
    status.add_argument("--json", action="store_true", help="for programs; the keys: pydoc sgdataplane.daemon.status")
    status.add_argument("--config", type=Path, metavar="FILE", help="the configuration that the agent runs with")


def _add(verbs: Subparsers, verb: str, run: Run, words: str) -> Parser:
    parser = verbs.add_parser(verb, help=words, description=words)
    parser.set_defaults(run=run, verb=verb)
    return parser


def run_agent(arguments: argparse.Namespace) -> int:
    """Until SIGTERM, or once."""
    require_root(arguments.verb, "sudo " + shlex.join(["sgdp", *sys.argv[1:]]))
    from sgdataplane.daemon import agent, config

    file = arguments.config or config.CONFIG_FILE
    choices = chosen(arguments)
    known = config.load_config(file, must_exist=arguments.config is not None, chosen=choices)
    status = agent.run_agent(known, file, choices, once=arguments.once)
    if not arguments.once:
        return Exit.DONE
    return Exit.KERNEL if not status.is_whole else Exit.INPUT if status.is_state_refused else Exit.DONE


def run_status(arguments: argparse.Namespace) -> int:
    """Exit 0 if the agent is healthy, 1 if not, 3 if there is none."""
    require_root(arguments.verb, "sudo " + shlex.join(["sgdp", *sys.argv[1:]]))
    from sgdataplane.daemon import client, config
    from sgdataplane.daemon.protocol import Request

    file = arguments.config or config.CONFIG_FILE
    known = config.load_config(file, must_exist=arguments.config is not None)
    status: Any = client.ask(known.socket, Request.STATUS)["status"]
    if arguments.json:
        print_json(status)
    else:
        _say_status(status)
    return Exit.DONE if status["healthy"] else Exit.NO


def _say_status(status: dict[str, Any]) -> None:
    from sgdataplane.host.timeouts import complaint

    health = paint("healthy", "green") if status["healthy"] else paint("not healthy", "red")
    say(f"agent {status['version']}, pid {status['pid']}, since {status['started']}: {health}")
    state, cycle, drift = status["state"], status["cycle"], status["drift"]
    say(f"policy: {state['path']}" if state["origin"] == "state" else f"policy: {state['origin']}")
    say_choices(ON_HOSTS.over(read_choices(status["config"].get("choices", {}))))
    if cycle["at"]:
        say(f"last cycle: {cycle['number']}, at {cycle['at']}, for {', '.join(cycle['causes'])}")
    for part in ("state", "cycle", "last_good", "config", "bind"):
        if status[part]["error"]:
            complain(status[part]["error"])
    for entry in status["bind"]["refused"]:
        words = f"{entry['eni']} is not bound: {entry['reason']}: {', '.join(entry['interfaces'])}"
        complain(words)
    if status["config"]["restart"]:
        warn(f"changed in the configuration, but taken at start only: {', '.join(status['config']['restart'])}")
    if status["unknown_timeouts"]:
        warn(complaint(status["unknown_timeouts"]))
    if drift["last"]:
        last = drift["last"]
        say(f"changed by others, and repaired: {drift['count']} times; last {last['at']} in {last['namespace']}")
        say(f"  by {last['by']}: {last['changes']}")
    for line in status["warnings"]:
        warn(line)
    _print_enis(status["enis"])


def _print_enis(enis: list[dict[str, Any]]) -> None:
    for eni in enis:
        for line in eni["warnings"]:
            warn(f"{eni['interface']} of {eni['namespace']}: {line}")
        if eni["error"]:
            complain(f"{eni['eni']}: {eni['error']}")
    if not enis:
        say("no ENI is attached: `sgdp attach` binds an interface to one")
        return
    rows = [
        (
            eni["eni"],
            f"{eni['interface']} of {eni['namespace']}",
            eni["enforced_at"],
            paint(eni["outcome"], COLOURS.get(eni["outcome"], "yellow")),
            "-" if eni["epoch"] is None else str(eni["epoch"]),
            eni["since"],
        )
        for eni in enis
    ]
    say_block(render_table(HEADERS, rows))
