"""`sgdp trace`: real packets of an ENI, and what each one met on its way through sgdataplane's chains.

Owns the arguments, the wording and the document of `--json`. Must not know how packets are traced.

    {"source": "attached" | "lab", "name": of the lab or null, "packets": [...],
     "probe": null, or as `sgdp lab probe --json` has it}

    packets     {at, protocol, source, source_port, destination, port, icmp_type, verdict, gates}; verdict: "drop" if a
                gate dropped the packet, "accept" if one accepted it, else "continue"
    gates       {kind: "policy" | "fence" | "other", name, eni, workload, direction, verdict, reason,
                security_group_id, security_group_rule_id, priority, cause, steps}; workload: the name of the ENI's
                container or pod, or null; reason as in explain, or "session": the policy in force
                accepted the packet's session, so no rule is asked; "interface": of no ENI; "unknown"
    steps       {station, chain, verdict, target, words}
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

from sgdataplane.attach.names import WorkloadNames, describe_eni
from sgdataplane.cli.oneprobe import add_probe, is_probe, parse_probe
from sgdataplane.cli.scopes import (
    USUAL,
    PolicyScope,
    Scopes,
    find_named_lab,
    is_about_this_host,
    of_lab,
    scopes,
)
from sgdataplane.contract.counters import counter_name
from sgdataplane.contract.sites import SITES, Site
from sgdataplane.daemon import control
from sgdataplane.daemon.control import Request
from sgdataplane.daemon.lookup import look_up_here
from sgdataplane.errors import HostError, LabError
from sgdataplane.model.decision import Decision
from sgdataplane.net.values import Address, Direction, Prefix, Protocol
from sgdataplane.observe.headers import Headers
from sgdataplane.observe.hits import decision_of, decisions
from sgdataplane.observe.trace import QUIET_S, PacketPath, Tracer, Wanted, trace_packets
from sgdataplane.observe.tracepath import Gate, Scene, gates, headers_of
from sgdataplane.terminal.arguments import (
    ENI_HELP,
    Verbs,
    read_limit,
    read_prefix,
    read_seconds,
    require_root,
    settle_ports,
)
from sgdataplane.terminal.output import Exit, endpoint, iso_time, local_time, paint_verdict, print_json, say, say_block

if TYPE_CHECKING:
    from sgdataplane.lab.ends import Asked
    from sgdataplane.lab.expect import ProbeResult
    from sgdataplane.lab.manage import Lab
    from sgdataplane.lab.probe import Probe, ProbeEnd

MAX_SECONDS = 3600
NO_END = ("no ENI has this id or name", "an ENI, an instance or an IP address")
Document = dict[str, Any]


def register(verbs: Verbs) -> None:
    """Add the verb."""
    more = (
        "Give --eni to wait for packets of an ENI. FROM, TO and WHAT send one packet in a lab; on a host with attached "
        "ENIs they send nothing, but wait for such a packet at those of both ends that are attached here. Needs root."
    )
    parser = verbs.add("trace", run, more)
    add_probe(parser, "the sender of the packet")
    parser.add_where()
    parser.add_argument("--eni", metavar="ENI", help=f"follow packets of this ENI: {ENI_HELP}")
    parser.add_argument("--direction", choices=("ingress", "egress"), help="only packets towards or from the ENI")
    parser.add_argument(
        "--remote", type=read_prefix, metavar="CIDR", help="only packets with another end in this block"
    )
    parser.add_flow(port="only packets to this port: 53, domain or udp/53", source_port="only packets from this port")
    parser.add_argument("--count", type=read_limit, default=10, metavar="N", help="end after N packets (default: 10)")
    seconds = read_seconds(MAX_SECONDS)
    parser.add_argument("--seconds", type=seconds, default=30.0, metavar="S", help="end after S seconds (default: 30)")
    parser.add_json("sgdataplane/schemas/trace.schema.json")


def run(arguments: argparse.Namespace) -> int:
    """Trace packets. Exit 0 if a packet was traced, 1 if none came."""
    asked = _parse_probe(arguments)
    require_root("tracing packets in other namespaces")
    if asked is None:
        return _follow(arguments)
    return _await(arguments, asked) if is_about_this_host(arguments) else _send(arguments, asked)


def _parse_probe(arguments: argparse.Namespace) -> Asked | None:
    """Return what to send in a lab; None to follow packets that come.

    A usage error if both or neither is asked for.
    """
    error = arguments.parser.error
    if not is_probe(arguments):
        if arguments.eni is None:
            error("say whose packets to follow with --eni, or which packet: FROM, TO and WHAT, such as web db tcp/5432")
        _settle_wanted(arguments)
        return None
    if arguments.eni or arguments.direction or arguments.remote:
        error("--eni, --direction and --remote don't go with FROM and TO, which say all of that")
    return parse_probe(arguments)


def _settle_wanted(arguments: argparse.Namespace) -> None:
    """Check the protocol and ports of the packets to follow; each may be left out."""
    if arguments.protocol is not None and arguments.protocol.is_all:
        arguments.parser.error("--protocol all: leave it out")
    settle_ports(arguments)
    if arguments.protocol is None and (arguments.port, arguments.source_port) != (None, None):
        arguments.parser.error("--port and --source-port need --protocol tcp or udp, or the form tcp/22")


# where packets are followed


@dataclass(frozen=True)
class TracePoint:
    """A namespace where policy is enforced, and the ENI there that is followed."""

    namespace: str
    """Its name or path."""
    site: Site
    enis: Mapping[str, str]
    """Interface name -> ENI id."""
    decisions: Mapping[str, Decision]
    """Counter -> what it counts."""
    eni_id: str
    workloads: WorkloadNames

    @property
    def ifname(self) -> str:
        """The interface of the ENI that is followed."""
        return next(ifname for ifname, eni_id in self.enis.items() if eni_id == self.eni_id)


@contextmanager
def _point_of(there: Scopes, eni: str) -> Iterator[TracePoint]:
    """Hold the namespace of the ENI that `eni` names.

    Raises:
        StateFileError: It names none or several.
        LabError: Its policy isn't enforced there.
        HostError: Its namespace has ended.
    """
    eni_id = there.eni(eni)
    scope = there.having(eni_id)
    with scope.held() as path:
        if path is None:
            raise HostError(there.workloads.place(scope.name), "its namespace has ended")
        enis = {ifname: eni for eni, ifname in scope.interfaces.items()}
        yield TracePoint(path, SITES[scope.placement], enis, _decisions(there, scope, eni_id), eni_id, there.workloads)


def _decisions(there: Scopes, scope: PolicyScope, eni_id: str) -> Mapping[str, Decision]:
    """Return what the counters there count.

    On a host the agent is asked; if none runs, only their names are known.
    """
    if there.lab is not None:
        return _by_leaf(decisions(there.lab.state, scope.interfaces))
    assert there.config is not None
    try:
        answer: Any = control.ask(there.config.socket, Request.COUNTERS, eni=eni_id)
    except HostError:
        return {}
    rows = (row for entry in answer["counters"]["scopes"] for row in entry["counters"])
    return _by_leaf({row["counter"]: decision for row in rows if (decision := decision_of(row)) is not None})


def _by_leaf(known: Mapping[str, Decision]) -> dict[str, Decision]:
    """Return what counters count; what is counted by ENI is named once, where the verdict chain counts it."""
    return {counter_name(decision) if decision.would else name: decision for name, decision in known.items()}


# packets that come


def _follow(arguments: argparse.Namespace) -> int:
    """Print packets of an ENI as they come; return the exit code."""
    packets = []
    with scopes(arguments) as there, _point_of(there, arguments.eni) as point:
        there.say_if_unread()
        wanted = Wanted(
            point.ifname,
            None if arguments.direction is None else Direction(arguments.direction),
            None if arguments.protocol is None else arguments.protocol.number,
            arguments.remote,
            arguments.port,
            arguments.source_port,
        )
        with trace_packets(point.namespace, (wanted,), point.site) as tracer:
            for path in tracer.read(arguments.seconds):
                packets.append(packet_of(point, tracer, path))
                if not arguments.json:
                    _say(packets[-1])
                if len(packets) == arguments.count:
                    break
        source, name = ("attached", None) if there.lab is None else ("lab", find_named_lab(arguments) or USUAL)
    if arguments.json:
        print_json({"source": source, "name": name, "packets": packets, "probe": None})
    elif not packets:
        say(f"no such packet came in {arguments.seconds:g} s")
    return Exit.DONE if packets else Exit.NO


# packets between two ends, on this host


@dataclass(frozen=True)
class _TraceEnd:
    """FROM or TO, on this host."""

    eni_id: str | None
    """None unless it is an ENI that is attached here."""
    addresses: tuple[Address, ...]
    """Its addresses, as far as they are known."""


def _await(arguments: argparse.Namespace, asked: Asked) -> int:
    """Follow packets that come from one end to the other: where they leave, and where they arrive."""
    packets: list[Document] = []
    with scopes(arguments) as there, ExitStack() as stack:
        there.say_if_unread()
        found = _points_here(there, asked, stack)
        first, *others = [
            (point, stack.enter_context(trace_packets(point.namespace, tuple(wanted), point.site)))
            for point, wanted in found
        ]
        for path in islice(first[1].read(arguments.seconds), arguments.count):
            paths = [(*first, path), *((*other, next(other[1].read(2 * QUIET_S), None)) for other in others)]
            some = [packet_of(point, tracer, path) for point, tracer, path in paths if path is not None]
            for packet in () if arguments.json else some:
                _say(packet)
            packets += some
    if arguments.json:
        print_json({"source": "attached", "name": None, "packets": packets, "probe": None})
    elif not packets:
        say(f"no such packet came in {arguments.seconds:g} s; on a host, nothing is sent")
    return Exit.DONE if packets else Exit.NO


def _points_here(there: Scopes, asked: Asked, stack: ExitStack) -> list[tuple[TracePoint, list[Wanted]]]:
    """Return the same as `_points`, for ENIs that are attached here. LabError if neither end is."""
    sender, receiver = _end_here(there, asked.sender), _end_here(there, asked.receiver)
    found: dict[str, tuple[TracePoint, list[Wanted]]] = {}
    for direction, end, other in ((Direction.EGRESS, sender, receiver), (Direction.INGRESS, receiver, sender)):
        if end.eni_id is not None:
            point = stack.enter_context(_point_of(there, end.eni_id))
            some = found.setdefault(point.namespace, (point, []))[1]
            port, source_port = asked.service.port or None, asked.source_port or None
            some += [
                Wanted(point.ifname, direction, asked.service.protocol, remote, port, source_port)
                for remote in (map(Prefix.of, other.addresses) if other.addresses else (None,))
            ]
    if not found:
        here = ", ".join(sorted(eni for scope in there.all for eni in scope.interfaces))
        raise LabError(f"{asked.sender} and {asked.receiver}", f"neither is attached here; these ENIs are: {here}")
    return list(found.values())


def _end_here(there: Scopes, name: str) -> _TraceEnd:
    """Return the end that has that name. StateFileError if nothing, or more than one ENI, has it."""
    assert there.config is not None
    attached = {eni for scope in there.all for eni in scope.interfaces}
    enis = {} if there.state is None else there.state.eni
    try:
        address = Address.parse(name)
    except ValueError:
        eni_id = look_up_here(there.config, name, attached).the_eni(*NO_END)
        addresses = enis[eni_id].addresses if eni_id in enis else ()
        return _TraceEnd(eni_id if eni_id in attached else None, addresses)
    owners = (eni_id for eni_id in sorted(attached) if eni_id in enis and enis[eni_id].has_private(address))
    return _TraceEnd(next(owners, None), (address,))


# one packet of our own


def _send(arguments: argparse.Namespace, asked: Asked) -> int:
    """Send one packet in a lab, and print what it met; return the exit code."""
    from sgdataplane.lab import manage, report, status
    from sgdataplane.lab.ends import find_probes
    from sgdataplane.lab.expect import result_as_json

    name = find_named_lab(arguments) or USUAL
    with manage.watch(name) as lab:
        probe = find_probes(lab, asked)[0]
        packets, cell = _send_probe(lab, probe)
    if arguments.json:
        print_json({"source": "lab", "name": name, "packets": packets, "probe": result_as_json(cell)})
    else:
        for packet in packets:
            _say(packet)
        say_block(report.probe_as_text(cell, status.notes(lab)))
    return Exit.DONE if packets else Exit.NO


def _send_probe(lab: Lab, probe: Probe) -> tuple[list[Document], ProbeResult]:
    """Send a probe in a lab.

    Returns:
        What its first packet met in each namespace on its way that enforces policy, and the probe's result.
    """
    from sgdataplane.lab.matrix import probe_all

    with ExitStack() as stack:
        tracers = [
            (point, stack.enter_context(trace_packets(point.namespace, tuple(wanted), point.site)))
            for point, wanted in _points(lab, probe, stack)
        ]
        (cell,) = probe_all(lab, [probe])
        firsts = [(point, tracer, next(tracer.read(2 * QUIET_S), None)) for point, tracer in tracers]
    return [packet_of(point, tracer, path) for point, tracer, path in firsts if path is not None], cell


def _points(lab: Lab, probe: Probe, stack: ExitStack) -> list[tuple[TracePoint, list[Wanted]]]:
    """Return where the sender's egress and the receiver's ingress are enforced, with the packets to look for there."""
    found: dict[str, tuple[TracePoint, list[Wanted]]] = {}
    for direction, end, other in (
        (Direction.EGRESS, probe.source, probe.target),
        (Direction.INGRESS, probe.target, probe.source),
    ):
        if end.eni_id:
            point = stack.enter_context(_point_of(of_lab(lab), end.eni_id))
            found.setdefault(point.namespace, (point, []))[1].append(_make_wanted(point, direction, other, probe))
    return list(found.values())


def _make_wanted(point: TracePoint, direction: Direction, other: ProbeEnd, probe: Probe) -> Wanted:
    remote, service = Prefix.of(other.address), probe.service
    port, source_port = service.port or None, probe.source_port or None
    return Wanted(point.ifname, direction, service.protocol, remote, port, source_port)


# what is said of a packet


def packet_of(point: TracePoint, tracer: Tracer, path: PacketPath) -> Document:
    """Return a packet as in the document of `--json`."""
    scene = Scene(point.site, point.enis, tracer.ifnames, tracer.counter_of, point.decisions)
    found = gates(scene, path.events)
    verdicts = {gate.verdict for gate in found}
    return {
        "at": iso_time(path.at),
        **_header(headers_of(path.events[0])),
        "verdict": next((v for v in ("drop", "accept") if v in verdicts), "continue"),
        "gates": [point.workloads.add_to(_gate(gate)) for gate in found],
    }


def _header(header: Headers) -> Document:
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
    """Print a packet, and below it each base chain that it met, with what that did."""
    protocol = packet["protocol"] or "packet"
    ends = [endpoint(packet["source"], packet["source_port"]), endpoint(packet["destination"], packet["port"])]
    say(f"{local_time(packet['at'])} {protocol} {ends[0]} -> {ends[1]}: {paint_verdict(packet['verdict'])}")
    for gate in packet["gates"]:
        if gate["kind"] == "other":
            if gate["verdict"] == "drop":
                say(f"  {gate['name']}, which isn't sgdataplane's: {paint_verdict(gate['verdict'])}")
            continue
        subject = f"{describe_eni(gate['eni'], gate['workload']) if gate['eni'] else 'no ENI'} {gate['direction']}"
        say(f"  {subject}{', fence' if gate['kind'] == 'fence' else ''}: {paint_verdict(gate['verdict'])}")
        for step in gate["steps"]:
            if step["words"]:
                say(f"    {step['words']}")
    sys.stdout.flush()
