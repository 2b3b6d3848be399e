"""`sgdp lab`: up, apply, status, exec, probe, matrix, down.

Owns the arguments of these verbs and what they print. Must not hold logic beyond asking the lab.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from sgdataplane.cli import labhosts
from sgdataplane.cli.oneprobe import add_probe, parse_probe
from sgdataplane.host import netns
from sgdataplane.host.timeouts import describe_unknown_timeouts
from sgdataplane.lab import ends, manage, matrix, report, status
from sgdataplane.lab.expect import ProbeResult, result_as_json
from sgdataplane.lab.manage import Enforcer, EnforceRequest, Lab, enforce_policy
from sgdataplane.lab.probe import Service, default_services, parse_services
from sgdataplane.lab.record import LabRecord, lab_names
from sgdataplane.lab.status import Health, read_health, read_unknown_timeouts
from sgdataplane.lab.topology import MAX_HOSTS
from sgdataplane.model.choices import CHOICES, IN_LAB
from sgdataplane.model.options import Placement
from sgdataplane.model.words import pluralize
from sgdataplane.observe.capacity import UseLog, read_warnings
from sgdataplane.terminal.arguments import (
    Parser,
    Run,
    Summary,
    Verbs,
    choices_of,
    load_state,
    read_factor,
    read_for,
    read_limit,
    require_root,
    usual_lab,
)
from sgdataplane.terminal.files import require_writable, write
from sgdataplane.terminal.output import Exit, complain, log_shown, print_json, render_table, say, say_block, warn
from sgdataplane.terminal.progress import Progress

NAME_HELP = "the lab's name (default: that in SGDP_LAB, or lab)"
NOT_FOUND, NOT_EXECUTABLE = 127, 126  # as shells say it
ACTIONS = {
    "up": Summary(
        "build a lab from a state, and enforce its policy",
        "sudo sgdp lab up state.yaml --external 198.51.100.7 192.0.2.10",
    ),
    "apply": Summary(
        "enforce another state in a running lab, without rebuilding what stays", "sudo sgdp lab apply new.yaml"
    ),
    "down": Summary("remove a lab, also one that was left half-built", "sudo sgdp lab down demo"),
    "list": Summary("list the labs of this machine"),
    "status": Summary("list the lab's nodes, interfaces and addresses"),
    "exec": Summary("run a command in a node's namespace", "sudo sgdp lab exec web ping -c 1 10.0.0.2"),
    "probe": Summary(
        "send one packet between two nodes; compare what happens to it with what the policy says",
        "sudo sgdp lab probe web db tcp/5432",
    ),
    "matrix": Summary(
        "send packets between every pair of nodes; compare what happens to them with what the policy says",
        "sudo sgdp lab matrix --ports tcp/22,tcp/443,icmp --html matrix.html",
    ),
}


def register(verbs: Verbs) -> None:
    """Add `lab` and its verbs."""
    more = (
        "Each instance is a namespace, each VPC a router; hosts outside stand for the internet. No packet leaves these "
        "namespaces. Needs root."
    )
    lab = verbs.add("lab", None, more)
    actions = Verbs.below(lab, ACTIONS)
    _register_changes(actions)
    _register_questions(actions)


def _register_changes(actions: Verbs) -> None:
    up = _add(actions, "up", run_up)
    up.add_state(nargs="?")
    up.add_choices(CHOICES, IN_LAB)
    hosts = "spread the instances of each VPC over N hosts (default: 1, at most 32: each two share a link)"
    up.add_argument("--hosts", type=_hosts, default=1, metavar="N", help=hosts)
    external = "hosts outside every VPC; IP,IP is one host with two addresses (default: 198.51.100.7,2001:db8:ffff::7)"
    up.add_argument("--external", nargs="+", action="extend", metavar="IP", help=external)
    scale = "multiply all session timeouts by X (default: 1)"
    up.add_argument("--time-scale", type=read_factor, default=1.0, metavar="X", help=scale)
    labhosts.add_arguments(up)
    more = "Returns when it is in force. Policy options that aren't given keep the values that the lab has."
    apply = _add(actions, "apply", run_apply, more)
    apply.add_state()
    apply.add_choices((name for name in CHOICES if name != "placement"), None)
    _add_named(actions, "down", run_down)


def _register_questions(actions: Verbs) -> None:
    listing = actions.add("list", run_list)
    status = _add_named(actions, "status", run_status)
    exec_ = _add(actions, "exec", run_exec)
    exec_.add_argument("node", metavar="NODE", help="an instance's id or name, or an external host")
    command = "the command with its options; options of sgdp come before NODE"
    exec_.add_argument("argv", nargs=argparse.REMAINDER, metavar="CMD", help=command)
    probe = _add(actions, "probe", run_probe, "The exit code is 1 if they differ.")
    add_probe(probe)
    probe.add_flow(source_port="source port of TCP or UDP (default: any free one)")
    matrix = _add(actions, "matrix", run_matrix, "The exit code is 1 if they differ anywhere.")
    ports = "services to try: tcp/22,tcp/8000-8010,udp/53,icmp,proto/132 (default: those that the rules name)"
    matrix.add_argument("--ports", metavar="LIST", help=ports)
    matrix.add_argument("--html", type=Path, metavar="FILE", help="also write an HTML page, a single file")
    matrix.add_argument("--svg", type=Path, metavar="FILE", help="also write the picture of who reached whom")
    for verb in (listing, status, probe, matrix):
        name = verb.prog.removeprefix("sgdp ").replace(" ", "-")
        verb.add_json(f"sgdataplane/schemas/{name}.schema.json")


def _add(actions: Verbs, verb: str, run: Run, *more: str) -> Parser:
    """Add a verb that takes the lab's name as `--name`."""
    parser = actions.add(verb, run, *more)
    parser.add_argument("--name", default=_usual_name(), metavar="N", help=NAME_HELP)
    return parser


def _add_named(actions: Verbs, verb: str, run: Run) -> Parser:
    """Add a verb that takes the lab's name also as its only argument."""
    parser = actions.add(verb, run)
    parser.add_argument("lab", nargs="?", metavar="NAME", help=NAME_HELP)
    parser.add_argument("--name", metavar="N", help="the same as NAME")
    return parser


def _usual_name() -> str:
    return usual_lab() or "lab"


def _lab_of(arguments: argparse.Namespace) -> str:
    """Return the lab that NAME or `--name` names; a usage error if they name two."""
    given: set[str] = {arguments.lab, arguments.name} - {None}
    if len(given) > 1:
        arguments.parser.error(f"--name {arguments.name}: NAME says {arguments.lab}; leave one out")
    return given.pop() if given else _usual_name()


def _hosts(text: str) -> int:
    return read_limit(text, MAX_HOSTS)


def run_up(arguments: argparse.Namespace) -> int:
    """Build the lab and list its nodes."""
    labhosts.refuse_unfit(arguments)
    require_root(arguments.verb)
    if arguments.api:
        return labhosts.run(arguments)
    record = replace(
        manage.default_record(arguments.name),
        choices=choices_of(arguments, IN_LAB),
        time_scale=arguments.time_scale,
        hosts=arguments.hosts,
    )
    if arguments.external:
        record = replace(record, externals=tuple(tuple(host.split(",")) for host in arguments.external))
    state = load_state(arguments.state, record.choices.profile).state
    building = Progress("building", len(state.instances))
    with manage.terminate_like_interrupt(), building as progress, log_shown():
        lab = manage.up(record, state, _show_progress(enforce_policy, progress))
    _warn_of_trackers(lab)
    _warn_of_neighbours()
    say_block(status.status_as_text(lab))
    return Exit.DONE


def run_apply(arguments: argparse.Namespace) -> int:
    """Change the lab's policy."""
    require_root(arguments.verb)
    choices = choices_of(arguments, manage.record_of(arguments.name).choices)
    state = load_state(arguments.state, choices.profile).state
    changing = Progress("changing", len(state.instances))
    with manage.terminate_like_interrupt(), changing as progress, log_shown():
        lab = manage.apply(arguments.name, state, _show_progress(enforce_policy, progress), choices)
    _warn_of_trackers(lab)
    enis = pluralize(len(lab.state.network_interfaces), "ENI")
    say(f"lab {arguments.name}: the policy is in force for {enis}{status.notes(lab)}")
    return Exit.DONE


def _show_progress(enforce: Enforcer, progress: Progress) -> Enforcer:
    """Return the same enforcer; `progress` shows how many namespaces are done."""

    def enforce_and_count(request: EnforceRequest) -> None:
        progress.expect(request.total)
        enforce(request)
        progress.advance()

    return enforce_and_count


def run_down(arguments: argparse.Namespace) -> int:
    """Remove the lab; it is no error if there is none."""
    name = _lab_of(arguments)
    require_root(arguments.verb)
    with manage.terminate_like_interrupt():
        removed = manage.down(name)
    if removed:
        say(f"lab {name}: removed {pluralize(len(removed), 'namespace')} and all links")
    else:
        say(f"lab {name}: there was nothing to remove")
    return Exit.DONE


def run_status(arguments: argparse.Namespace) -> int:
    """List the nodes; say on stderr what keeps the policy from being enforced."""
    name = _lab_of(arguments)
    require_root(arguments.verb)
    lab = manage.look(name)
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
    """Warn of conntrack timeouts that the kernel has and sgdataplane doesn't know, and return their names."""
    names = read_unknown_timeouts(lab)
    if names:
        warn(describe_unknown_timeouts(names, lab.record.time_scale))
    return names


def _warn_of_neighbours() -> None:
    """Warn if the machine's neighbour tables are nearly full: others may fill them, too."""
    for line in read_warnings():
        warn(line)


def _complain(health: Mapping[str, Health], placement: Placement) -> None:
    """Warn of full conntrack tables, and of foreign objects, in each namespace."""
    log = UseLog()
    with log_shown():
        for name, found in health.items():
            log.note(name, found.use)
            for line in found.warnings(placement):
                warn(f"{name}: {line}")


def run_list(arguments: argparse.Namespace) -> int:
    """List the labs, by name."""
    require_root(arguments.verb)
    found = [manage.record_of(name) for name in lab_names()]
    if arguments.json:
        print_json({"labs": [_as_listed(record) for record in found]})
    elif found:
        rows = [(each.name, each.choices.placement.value, str(len(each.namespaces)), each.phase) for each in found]
        say_block(render_table(("LAB", "PLACEMENT", "NAMESPACES", "PHASE"), rows))
    else:
        say("there is no lab")
    return Exit.DONE


def _as_listed(record: LabRecord) -> dict[str, object]:
    return {
        "name": record.name,
        "placement": record.choices.placement.value,
        "namespaces": list(record.namespaces),
        "up": record.is_up,
    }


def run_exec(arguments: argparse.Namespace) -> int:
    """Become the command, in the node's namespace; return only if that can't be started."""
    require_root(arguments.verb)
    command = _command(arguments)
    node = manage.look(arguments.name).find_node(arguments.node)
    netns.enter_with_sysfs(node.netns)
    sys.stdout.flush()
    try:
        os.execvp(command[0], command)
    except FileNotFoundError:
        complain(f"{command[0]}: no such command")
        return NOT_FOUND
    except OSError as error:
        complain(f"{command[0]}: {error.strerror}")
        return NOT_EXECUTABLE


def _command(arguments: argparse.Namespace) -> list[str]:
    """Return the command to run. Options of sgdp may also stand between NODE and `--`."""
    argv: list[str] = arguments.argv
    if argv[:1] != ["--"] and "--" in argv and argv[0].startswith("-"):
        end = argv.index("--")
        arguments.parser.parse_args([*argv[:end], arguments.node, *argv[end:]], arguments)
        argv = arguments.argv
    command = argv[1:] if argv[:1] == ["--"] else argv
    if not command or command[0].startswith("-"):
        arguments.parser.error("name a command, such as: sgdp lab exec web ip address")
    return command


def run_probe(arguments: argparse.Namespace) -> int:
    """Send one probe. Exit 1 if what was observed isn't what the policy says."""
    require_root(arguments.verb)
    asked = parse_probe(arguments)
    with manage.watch(arguments.name) as lab:
        (cell,) = matrix.probe_all(lab, ends.find_probes(lab, asked)[:1])
    if arguments.json:
        print_json({**result_as_json(cell), "time_scale": lab.record.time_scale})
    else:
        say_block(report.probe_as_text(cell, status.notes(lab)))
    return Exit.DONE if cell.agrees else Exit.NO


def run_matrix(arguments: argparse.Namespace) -> int:
    """Send all probes. Exit 1 on any disagreement."""
    require_root(arguments.verb)
    asked: tuple[Service, ...] = ()
    if arguments.ports is not None:
        asked = read_for(arguments, lambda: parse_services(arguments.ports))
    for path in filter(None, (arguments.html, arguments.svg)):
        require_writable(path)
    began = time.monotonic()
    with manage.watch(arguments.name) as lab:
        probes = matrix.matrix_probes(lab.topology.nodes, asked or default_services(lab.state))
        with Progress("probing", len(probes)) as progress:
            cells = matrix.probe_all(lab, probes, lambda _: progress.advance())
    _write_pages(arguments, lab, cells)
    if arguments.json:
        print_json(report.matrix_as_json(cells, time.monotonic() - began, lab.record.time_scale))
    else:
        say_block(report.matrix_as_text(cells, status.notes(lab)))
    return Exit.DONE if all(cell.agrees for cell in cells) else Exit.NO


def _write_pages(arguments: argparse.Namespace, lab: Lab, cells: Sequence[ProbeResult]) -> None:
    """Write the page and the picture that were asked for."""
    from sgdataplane.report.render import render_page, render_picture

    if arguments.html is not None:
        write(render_page(report.matrix_page(lab, cells)), arguments.html)
    if arguments.svg is not None:
        write(render_picture(report.matrix_picture(lab, cells)), arguments.svg)
