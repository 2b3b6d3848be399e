"""`sgdp lab`: up, apply, status, exec, probe, matrix, down.

Owns the arguments of these verbs and what they print. Must not hold logic beyond asking the lab.
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from sgdataplane.cli.arguments import (
    NODE_HELP,
    add_choices,
    add_flow,
    add_state,
    choices_of,
    flow_of,
    load_state,
    read_factor,
    read_for,
    read_limit,
)
from sgdataplane.cli.command import Exit, Parser, Run, Subparsers, require_root
from sgdataplane.cli.output import Progress, complain, log_shown, print_json, say, say_block, warn
from sgdataplane.model.choices import CHOICES, IN_LAB

if TYPE_CHECKING:
    from sgdataplane.lab.expect import ProbeResult
    from sgdataplane.lab.manage import Enforcer, EnforceRequest, Lab
    from sgdataplane.lab.probe import Service
    from sgdataplane.lab.status import Health
    from sgdataplane.model.options import Placement

T = TypeVar("T")
NOT_FOUND, NOT_EXECUTABLE = 127, 126  # as shells say it


def register(verbs: Subparsers) -> None:
    """Add `lab` and its verbs."""
    lab = verbs.add_parser("lab", help="instances as network namespaces, and real packets between them")
    actions = lab.add_subparsers(metavar="ACTION", required=True)
    _register_changes(actions)
    _register_questions(actions)


def _register_changes(actions: Subparsers) -> None:
    up = _add(actions, "up", run_up, "build a lab from a state, with its policy in force")
    add_state(up)
    add_choices(up, CHOICES, IN_LAB)
    up.add_argument("--hosts", type=_hosts, default=1, metavar="N", help="spread each VPC over N hosts (default: 1)")
    up.add_argument(
        "--external",
        nargs="+",
        action="extend",
        metavar="IP",
        help="hosts outside every VPC; IP,IP is one host with both (default: 198.51.100.7,2001:db8:ffff::7)",
    )
    up.add_argument(
        "--time-scale", type=read_factor, default=1.0, metavar="X", help="multiply all session timeouts by X"
    )
    words = "change a running lab to another state; returns when that is in force"
    more = "It goes on judging as it does, as chosen at `lab up` or since, but for what is chosen here."
    apply = _add(actions, "apply", run_apply, words, more)
    add_state(apply)
    add_choices(apply, (name for name in CHOICES if name != "placement"), None)
    _add(actions, "down", run_down, "remove a lab, however it was left")


def _register_questions(actions: Subparsers) -> None:
    status = _add(actions, "status", run_status, "say where things are")
    exec_ = _add(actions, "exec", run_exec, "run a command in a node")
    exec_.add_argument("node", metavar="NODE", help="by its id or its instance's name")
    exec_.add_argument("argv", nargs="+", metavar="CMD", help="after --, so that its options are its own")
    probe = _add(actions, "probe", run_probe, "one real exchange, observed beside expected")
    probe.add_argument("--from", dest="sender", required=True, metavar="NODE", help=NODE_HELP)
    probe.add_argument("--to", dest="receiver", required=True, metavar="NODE|IP", help=NODE_HELP)
    add_flow(probe, source_port="default: any free one")
    matrix = _add(actions, "matrix", run_matrix, "every pair, real packets, observed beside expected")
    matrix.add_argument(
        "--ports", metavar="LIST", help="e.g. tcp/22,tcp/8000-8010,udp/53,icmp,proto/132 (default: what the rules name)"
    )
    matrix.add_argument("--html", type=Path, metavar="FILE", help="a page for people, which needs no other file")
    matrix.add_argument("--svg", type=Path, metavar="FILE", help="the picture of who reached whom alone")
    for verb in (status, probe, matrix):
        verb.add_argument("--json", action="store_true", help="for programs")


def _add(actions: Subparsers, verb: str, run: Run, words: str, more: str = "") -> Parser:
    parser = actions.add_parser(verb, help=words, description=f"{words}. {more}" if more else words)
    parser.add_argument("--name", default="lab", metavar="N", help="which lab (default: lab)")
    parser.set_defaults(run=run, parser=parser, lab_verb=verb)
    return parser


def _hosts(text: str) -> int:
    from sgdataplane.lab.topology import MAX_HOSTS

    return read_limit(text, MAX_HOSTS)


def _require_root(arguments: argparse.Namespace) -> None:
    require_root(f"lab {arguments.lab_verb}", "sudo " + shlex.join(["sgdp", *sys.argv[1:]]))


def run_up(arguments: argparse.Namespace) -> int:
    """Build the lab and say who is where."""
    _require_root(arguments)
    from dataclasses import replace

    from sgdataplane.lab import manage, status
    from sgdataplane.lab.manage import enforce_policy

    record = replace(
        manage.default_record(arguments.name),
        choices=choices_of(arguments, IN_LAB),
        time_scale=arguments.time_scale,
        hosts=arguments.hosts,
    )
    if arguments.external:
        record = replace(record, externals=tuple(tuple(host.split(",")) for host in arguments.external))
    state = load_state(arguments.state, record.choices.profile).state
    with Progress("building", len(state.instances)) as progress, log_shown():
        lab = manage.up(record, state, _counted(enforce_policy, progress))
    _warn_of_trackers(lab)
    _warn_of_neighbours()
    say_block(status.status_as_text(lab))
    return Exit.DONE


def run_apply(arguments: argparse.Namespace) -> int:
    """Change the lab."""
    _require_root(arguments)
    from sgdataplane.lab import manage, status
    from sgdataplane.lab.manage import enforce_policy

    choices = choices_of(arguments, manage.record_of(arguments.name).choices)
    state = load_state(arguments.state, choices.profile).state
    with Progress("changing", len(state.instances)) as progress, log_shown():
        lab = manage.apply(arguments.name, state, _counted(enforce_policy, progress), choices)
    _warn_of_trackers(lab)
    say(f"lab {arguments.name}: in force for {len(lab.state.network_interfaces)} ENIs{status.notes(lab)}")
    return Exit.DONE


def _counted(enforce: Enforcer, progress: Progress) -> Enforcer:
    """The same enforcer, which shows how many namespaces are done."""

    def enforce_and_count(request: EnforceRequest) -> None:
        progress.expect(request.total)
        enforce(request)
        progress.advance()

    return enforce_and_count


def run_down(arguments: argparse.Namespace) -> int:
    """Remove the lab; that there is none is no error."""
    _require_root(arguments)
    from sgdataplane.lab import manage

    removed = manage.down(arguments.name)
    if removed:
        say(f"lab {arguments.name}: removed {len(removed)} namespaces and their links")
    else:
        say(f"lab {arguments.name}: there was nothing to remove")
    return Exit.DONE


def run_status(arguments: argparse.Namespace) -> int:
    """Say who is where; on stderr, what keeps the policy from being done."""
    _require_root(arguments)
    from sgdataplane.lab import manage, status
    from sgdataplane.lab.status import read_health

    lab = manage.look(arguments.name)
    health = read_health(lab)
    _complain(health, lab.placement)
    _warn_of_neighbours()
    unknown_timeouts = _warn_of_trackers(lab)
    if arguments.json:
        print_json(status.status_as_json(lab, health, unknown_timeouts))
    else:
        say_block(status.status_as_text(lab))
    return Exit.DONE


def _warn_of_trackers(lab: Lab) -> tuple[str, ...]:
    """The timeouts that the kernel has and we don't know."""
    from sgdataplane.host.timeouts import complaint
    from sgdataplane.lab.status import read_unknown_timeouts

    names = read_unknown_timeouts(lab)
    if names:
        warn(complaint(names, lab.record.time_scale))
    return names


def _warn_of_neighbours() -> None:
    """Of the machine, on which others may fill them."""
    from sgdataplane.observe.capacity import read_complaints

    for complaint in read_complaints():
        warn(complaint)


def _complain(health: Mapping[str, Health], placement: Placement) -> None:
    from sgdataplane.observe.capacity import UseLog

    log = UseLog()
    with log_shown():
        for name, found in health.items():
            log.note(name, found.use)
            for complaint in found.complaints(placement):
                warn(f"{name}: {complaint}")


def run_exec(arguments: argparse.Namespace) -> int:
    """Become the command, in the node's namespace; returns only if it can't be started."""
    _require_root(arguments)
    from sgdataplane.host import netns
    from sgdataplane.lab import manage

    node = manage.look(arguments.name).find_node(arguments.node)
    netns.enter_with_sysfs(node.netns)
    sys.stdout.flush()
    try:
        os.execvp(arguments.argv[0], arguments.argv)
    except FileNotFoundError:
        complain(f"{arguments.argv[0]}: no such command")
        return NOT_FOUND
    except OSError as error:
        complain(f"{arguments.argv[0]}: {error.strerror}")
        return NOT_EXECUTABLE


def run_probe(arguments: argparse.Namespace) -> int:
    """One probe; exit 1 if what was observed isn't what the policy says."""
    _require_root(arguments)
    import asyncio

    from sgdataplane.lab import ends, manage, matrix, report, status
    from sgdataplane.lab.expect import result_as_json
    from sgdataplane.lab.probe import services_of

    flow = flow_of(arguments.parser, arguments)
    (service,) = read_for(arguments.parser, lambda: services_of(flow))
    asked = ends.Asked(arguments.sender, arguments.receiver, service, arguments.source_port or 0)
    with manage.watch(arguments.name) as lab:
        (cell,) = asyncio.run(matrix.run_probes(lab, ends.find_probes(lab, asked)[:1]))
    if arguments.json:
        print_json({**result_as_json(cell), "time_scale": lab.record.time_scale})
    else:
        say_block(report.probe_as_text(cell, status.notes(lab)))
    return Exit.DONE if cell.agrees else Exit.NO


def run_matrix(arguments: argparse.Namespace) -> int:
    """All probes; exit 1 on any disagreement. Pages are written besides, not instead."""
    _require_root(arguments)
    import asyncio

    from sgdataplane.cli.report import require_writable
    from sgdataplane.lab import manage, matrix, report, status
    from sgdataplane.lab.probe import default_services, parse_services

    asked: tuple[Service, ...] = ()
    if arguments.ports is not None:
        asked = read_for(arguments.parser, lambda: parse_services(arguments.ports))
    for path in filter(None, (arguments.html, arguments.svg)):
        require_writable(path)
    began = time.monotonic()
    with manage.watch(arguments.name) as lab:
        probes = matrix.matrix_probes(lab.topology.nodes, asked or default_services(lab.state))
        with Progress("probing", len(probes)) as progress:
            cells = asyncio.run(matrix.run_probes(lab, probes, lambda _: progress.advance()))
    _write_pages(arguments, lab, cells)
    if arguments.json:
        print_json(report.matrix_as_json(cells, time.monotonic() - began, lab.record.time_scale))
    else:
        say_block(report.matrix_as_text(cells, status.notes(lab)))
    return Exit.DONE if all(cell.agrees for cell in cells) else Exit.NO


def _write_pages(arguments: argparse.Namespace, lab: Lab, cells: Sequence[ProbeResult]) -> None:
    from sgdataplane.cli.report import write
    from sgdataplane.lab import report
    from sgdataplane.report.render import render_matrix, render_picture

    if arguments.html is not None:
        write(render_matrix(report.matrix_page(lab, cells)), arguments.html)
    if arguments.svg is not None:
        write(render_picture(report.matrix_picture(lab, cells)), arguments.svg)
