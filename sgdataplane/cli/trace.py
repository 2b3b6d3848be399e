"""`sgdp trace`: real packets of an ENI, and what each met on its way through our chains.

Owns the arguments, the wording and the document of `--json`. Must not know how packets are traced.

    {"source": "attached" | "lab", "name": of the lab or null, "packets": [...],
     "probe": null, or as of `sgdp lab probe --json`}

    packets     {at, protocol, source, source_port, destination, port, icmp_type, verdict, gates}; verdict: "drop" where
                a gate dropped it, "accept" where one accepted it, else "continue"
    gates       {kind: "policy" | "fence" | "other", name, eni, direction, verdict, reason, security_group_id,
                security_group_rule_id, priority, cause, steps}; reason as in explain, or "session": the policy in force
                has accepted its session, so no rule is asked; "interface": no ENI's; "unknown"
    steps       {station, chain, verdict, target, words}
"""

from __future__ import annotations

import argparse
import asyncio
import shlex
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sgdataplane.cli.arguments import (
    ENI_HELP,
    NODE_HELP,
    add_flow,
    flow_of,
    read_for,
    read_limit,
    read_prefix,
    read_seconds,
    settle_ports,
)
from sgdataplane.cli.command import Exit, Subparsers, require_root
from sgdataplane.cli.output import paint, print_json, say, say_block

if TYPE_CHECKING:
    from sgdataplane.cli.places import Place
    from sgdataplane.lab.expect import ProbeResult
    from sgdataplane.lab.manage import Lab
    from sgdataplane.lab.probe import Probe, ProbeEnd, Service
    from sgdataplane.net.values import Direction
    from sgdataplane.observe.headers import Headers
    from sgdataplane.observe.trace import PacketPath, Tracer, Wanted
    from sgdataplane.observe.tracepath import Gate

MAX_SECONDS = 3600
Document = dict[str, Any]
COLOURS = {"accept": "green", "drop": "red"}


def register(verbs: Subparsers) -> None:
    """Add the verb."""
    words = "what real packets of an ENI meet on their way through our chains"
    parser = verbs.add_parser("trace", help=words, description=words)
    parser.add_argument("--name", metavar="N", help="of this lab (default: of what is attached here, else of lab)")
    parser.add_argument("--config", type=Path, metavar="FILE", help="the configuration that the agent runs with")
    parser.add_argument("--eni", metavar="ENI", help=f"whose packets are followed: {ENI_HELP}")
    parser.add_argument("--direction", choices=("ingress", "egress"), help="only packets towards or from the ENI")
    parser.add_argument("--remote", type=read_prefix, metavar="CIDR", help="only packets whose other end is in it")
    add_flow(parser, port="only packets to it: 53, domain or udp/53", source_port="only packets from this port")
    parser.add_argument("--count", type=read_limit, default=10, metavar="N", help="end after N packets (default: 10)")
    parser.add_argument(
        "--seconds", type=read_seconds(MAX_SECONDS), default=30.0, metavar="S", help="end after S seconds (default: 30)"
    )
    parser.add_argument("--from", dest="sender", metavar="NODE", help=f"in a lab, send one packet from: {NODE_HELP}")
    parser.add_argument("--to", dest="receiver", metavar="NODE|IP", help="and to: the same")
    parser.add_argument("--json", action="store_true", help="for programs; the keys: pydoc sgdataplane.cli.trace")
    parser.set_defaults(run=run, parser=parser)


def run(arguments: argparse.Namespace) -> int:
    """Exit 0 if a packet was traced, 1 if none came."""
    service = _service(arguments)
    require_root("tracing packets in other namespaces", "sudo " + shlex.join(["sgdp", *sys.argv[1:]]))
    return _follow(arguments) if service is None else _run_probe(arguments, service)


def _service(arguments: argparse.Namespace) -> Service | None:
    """What it is to send itself, None if it is to follow what comes; a usage error if the arguments say both, or
    neither."""
    error = arguments.parser.error
    if arguments.sender is None and arguments.receiver is None:
        if arguments.eni is None:
            error("--eni says whose packets to follow; or --from and --to what to send in a lab")
        _settle_wanted(arguments)
        return None
    if arguments.sender is None or arguments.receiver is None:
        error("--from and --to are needed together")
    if arguments.eni or arguments.direction or arguments.remote:
        error("--eni, --direction and --remote don't go with --from and --to, which say all of that")
    from sgdataplane.lab.probe import services_of

    flow = flow_of(arguments.parser, arguments)
    return read_for(arguments.parser, lambda: services_of(flow))[0]


def _settle_wanted(arguments: argparse.Namespace) -> None:
    """The protocol and ports of what is followed, each of which may be any."""
    if arguments.protocol is not None and arguments.protocol.is_all:
        arguments.parser.error("--protocol all: leave it out")
    settle_ports(arguments.parser, arguments)
    if arguments.protocol is None and (arguments.port, arguments.source_port) != (None, None):
        arguments.parser.error("--port and --source-port need --protocol tcp or udp, or the form tcp/22")


# packets that come


def _follow(arguments: argparse.Namespace) -> int:
    from sgdataplane.cli.places import place_of
    from sgdataplane.net.values import Direction
    from sgdataplane.observe.trace import Wanted, tracing

    packets = []
    with place_of(arguments, arguments.eni) as place:
        wanted = Wanted(
            place.ifname(place.eni_id),
            None if arguments.direction is None else Direction(arguments.direction),
            None if arguments.protocol is None else arguments.protocol.number,
            arguments.remote,
            arguments.port,
            arguments.source_port,
        )
        with tracing(place.namespace, (wanted,), place.site) as tracer:
            for path in tracer.read(arguments.seconds):
                packets.append(packet_of(place, tracer, path))
                if not arguments.json:
                    _say(packets[-1])
                if len(packets) == arguments.count:
                    break
        source = "lab" if place.is_lab else "attached"
    if arguments.json:
        name = (arguments.name or "lab") if source == "lab" else None
        print_json({"source": source, "name": name, "packets": packets, "probe": None})
    elif not packets:
        say(f"no such packet came in {arguments.seconds:g} s")
    return Exit.DONE if packets else Exit.NO


# one packet of our own


def _run_probe(arguments: argparse.Namespace, service: Service) -> int:
    from sgdataplane.lab import manage, report, status
    from sgdataplane.lab.ends import Asked, find_probes
    from sgdataplane.lab.expect import result_as_json

    name = arguments.name or "lab"
    with manage.watch(name) as lab:
        asked = Asked(arguments.sender, arguments.receiver, service, arguments.source_port or 0)
        probe = find_probes(lab, asked)[0]
        packets, cell = _traced_probe(lab, probe)
    if arguments.json:
        print_json({"source": "lab", "name": name, "packets": packets, "probe": result_as_json(cell)})
    else:
        for packet in packets:
            _say(packet)
        say_block(report.probe_as_text(cell, status.notes(lab)))
    return Exit.DONE if packets else Exit.NO


def _traced_probe(lab: Lab, probe: Probe) -> tuple[list[Document], ProbeResult]:
    """What the probe's first packet met, at each namespace that enforces policy on its way."""
    from sgdataplane.lab.matrix import run_probes
    from sgdataplane.observe.trace import QUIET_S, tracing

    with ExitStack() as stack:
        tracers = [
            (place, stack.enter_context(tracing(place.namespace, wanted, place.site)))
            for place, wanted in _places(lab, probe)
        ]
        (cell,) = asyncio.run(run_probes(lab, [probe]))
        firsts = [(place, tracer, next(tracer.read(2 * QUIET_S), None)) for place, tracer in tracers]
    return [packet_of(place, tracer, path) for place, tracer, path in firsts if path is not None], cell


def _places(lab: Lab, probe: Probe) -> Iterator[tuple[Place, tuple[Wanted, ...]]]:
    from sgdataplane.cli.places import in_lab
    from sgdataplane.net.values import Direction

    found: dict[str, tuple[Place, list[Wanted]]] = {}
    for direction, end, other in (
        (Direction.EGRESS, probe.source, probe.target),
        (Direction.INGRESS, probe.target, probe.source),
    ):
        if end.eni_id:
            place = in_lab(lab, end.eni_id)
            found.setdefault(place.namespace, (place, []))[1].append(_wanted(place, direction, end, other, probe))
    return ((place, tuple(wanted)) for place, wanted in found.values())


def _wanted(place: Place, direction: Direction, end: ProbeEnd, other: ProbeEnd, probe: Probe) -> Wanted:
    from sgdataplane.net.values import Prefix
    from sgdataplane.observe.trace import Wanted

    remote, service = Prefix.of(other.address), probe.service
    port, source_port = service.port or None, probe.source_port or None
    return Wanted(place.ifname(end.eni_id), direction, service.protocol, remote, port, source_port)


# what is told of one


def packet_of(place: Place, tracer: Tracer, path: PacketPath) -> Document:
    """A packet, as `--json` has it."""
    from sgdataplane.observe.tracepath import Scene, gates, headers_of

    scene = Scene(place.site, place.enis, tracer.ifnames, tracer.counter_of, place.decisions)
    found = gates(scene, path.events)
    verdicts = {gate.verdict for gate in found}
    at = datetime.fromtimestamp(path.at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return {
        "at": at,
        **_header(headers_of(path.events[0])),
        "verdict": next((v for v in ("drop", "accept") if v in verdicts), "continue"),
        "gates": [_gate(gate) for gate in found],
    }


def _header(header: Headers) -> Document:
    from sgdataplane.net.values import Protocol

    return {
        "protocol": None if header.protocol is None else str(Protocol(header.protocol)),
        "source": header.source and str(header.source),
        "source_port": header.source_port,
        "destination": header.destination and str(header.destination),
        "port": header.port,
        "icmp_type": header.icmp_type,
    }


def _gate(gate: Gate) -> Document:
    decision = gate.decision
    return {
        "kind": gate.kind,
        "name": gate.name,
        "eni": gate.eni_id or None,
        "direction": gate.direction and gate.direction.value,
        "verdict": gate.verdict,
        "reason": gate.reason,
        "security_group_id": (decision and decision.security_group_id) or None,
        "security_group_rule_id": (decision and decision.security_group_rule_id) or None,
        "priority": (decision and decision.priority) or None,
        "cause": (decision and decision.clause) or None,
        "steps": [step._asdict() for step in gate.steps],
    }


def _say(packet: Document) -> None:
    protocol = packet["protocol"] or "packet"
    ends = [_end(packet, "source", "source_port"), _end(packet, "destination", "port")]
    say(f"{packet['at']} {protocol} {ends[0]} -> {ends[1]}: {_painted(packet['verdict'])}")
    for gate in packet["gates"]:
        if gate["kind"] == "other":
            if gate["verdict"] == "drop":
                say(f"  {gate['name']}, which is not ours: {_painted(gate['verdict'])}")
            continue
        subject = f"{gate['eni'] or 'no ENI'} {gate['direction']}"
        say(f"  {subject}{', fence' if gate['kind'] == 'fence' else ''}: {_painted(gate['verdict'])}")
        for step in gate["steps"]:
            if step["words"]:
                say(f"    {step['station']:<10}  {step['words']}")
    sys.stdout.flush()


def _end(packet: Document, address: str, port: str) -> str:
    if packet[port] is None:
        return str(packet[address])
    return f"[{packet[address]}]:{packet[port]}" if ":" in packet[address] else f"{packet[address]}:{packet[port]}"


def _painted(verdict: str) -> str:
    return paint(verdict, COLOURS[verdict]) if verdict in COLOURS else verdict
