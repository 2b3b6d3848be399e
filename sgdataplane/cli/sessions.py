"""`sgdp sessions`: the live sessions of ENIs, their state, and the rule that let each one in.

Owns the arguments, the columns and the JSON keys. Must not know how sessions are read or decided.

`--json` prints a list with one object a line, for each session of each ENI (so a session has two where a router
enforces the policies of both ends). Its keys; null where nothing is known:

    node, namespace, eni, interface     whose session it is, and where it is enforced; with --all, eni and interface are
                                        null for a session of no ENI; its node is the instance or router that has it
    workload                            the name of the container or pod at the ENI
    family, protocol                    "ipv4" | "ipv6"; tcp, udp, icmp, icmpv6, gre or a number, as text
    direction                           of its opening packet: "ingress" (towards the ENI) | "egress"
    remote, remote_port                 the other end, as on the wire (before or after the instance's own NAT)
    local, local_port                   the ENI's end; ports are null unless TCP or UDP
    icmp_type                           of its opening packet
    state                               TCP: SYN_SENT, SYN_RECV, ESTABLISHED, FIN_WAIT, CLOSE_WAIT, LAST_ACK,
                                        TIME_WAIT, CLOSE, SYN_SENT2; other protocols: UNREPLIED, REPLIED, ASSURED
    seconds_left                        until it expires, if no packet comes
    time_scale                          the factor of all timeouts: of the lab, else 1
    ingress_packets, ingress_bytes      towards the ENI and from it; null unless the kernel counts
    egress_packets, egress_bytes            (sysctl net.netfilter.nf_conntrack_acct)
    judged                              true: the policy in force accepted it, so its packets pass;
                                        false: that policy will judge its next packet
    verdict, reason, security_group_id, security_group_rule_id, priority
                                        what that policy decides about its opening packet, as in `explain --json`
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from sgdataplane.cli.scopes import PolicyScope, Scopes, scopes
from sgdataplane.errors import HostError, LabError
from sgdataplane.host import netns
from sgdataplane.host.conntrack import OTHER_STATES, TCP_STATES, Accounting
from sgdataplane.model import words
from sgdataplane.model.decision import Decision
from sgdataplane.model.naming import look_up
from sgdataplane.model.state import CloudState
from sgdataplane.net.values import Direction, Protocol
from sgdataplane.observe.capacity import UseLog, read_table_use
from sgdataplane.observe.decisions import Decider
from sgdataplane.observe.sessions import ORDERS, Selection, Session, in_order, read_sessions
from sgdataplane.terminal.arguments import ENI_HELP, Verbs, read_limit, read_prefix, require_root, settle_ports
from sgdataplane.terminal.output import Exit, endpoint, log_shown, paint, render_table, say, say_block
from sgdataplane.terminal.progress import Progress
from sgdataplane.visible import json_text

SHOWN = 50  # sessions, unless more are asked for
HEADERS = ("ENI", "DIRECTION", "SESSION", "STATE", "LEFT (s)", "DECIDED BY")
USUAL_NEXT = ("passes", "-")  # what becomes of the next packet, so that nothing is said of it


def register(verbs: Verbs) -> None:
    """Add the verb."""
    more = "Options narrow the list; a session must meet all of them. Needs root."
    parser = verbs.add("sessions", run, more)
    parser.add_where()
    parser.add_argument("--eni", metavar="ENI", help=f"only sessions of this ENI: {ENI_HELP}")
    about = "only sessions of this instance, by its id or name"
    parser.add_argument("--node", "--instance", metavar="NODE", help=about)
    about = "only sessions opened towards or from the ENI"
    parser.add_argument("--direction", choices=("ingress", "egress"), help=about)
    parser.add_argument(
        "--remote", type=read_prefix, metavar="CIDR", help="only sessions with another end in this block"
    )
    parser.add_flow(port="only sessions opened to this port: 22, ssh or tcp/22")
    about = "only sessions in this state, such as ESTABLISHED, TIME_WAIT or UNREPLIED"
    parser.add_argument("--state", type=_state, metavar="STATE", help=about)
    parser.add_argument("--rule", metavar="ID", help="only sessions that this rule decides about now")
    about = "also sessions of no ENI: over lo, or between a node's own interfaces"
    parser.add_argument("--all", action="store_true", help=about)
    about = f"sort by {', '.join(ORDERS)} (default: eni)"
    parser.add_argument("--sort", type=_order, default="eni", metavar="KEY", help=about)
    parser.add_argument("--reverse", action="store_true", help="sort in descending order")
    about = f"list at most N sessions (default: {SHOWN}; with --json all)"
    parser.add_argument("--limit", type=read_limit, metavar="N", help=about)
    parser.add_json("sgdataplane/schemas/sessions.schema.json")


def _state(text: str) -> str:
    return _one_of(text.upper(), (*TCP_STATES, *OTHER_STATES))


def _order(text: str) -> str:
    return _one_of(text, tuple(ORDERS))


def _one_of(text: str, choices: Sequence[str]) -> str:
    """Return the text, if it is one of the choices. ArgumentTypeError if not."""
    if text not in choices:
        raise argparse.ArgumentTypeError(f"{text!r} is none of {', '.join(choices)}")
    return text


def run(arguments: argparse.Namespace) -> int:
    """Print the sessions asked for."""
    settle_ports(arguments)
    require_root("reading the sessions of other namespaces")
    with scopes(arguments) as there:
        found = read(there, arguments)
    ordered = in_order(found, arguments.sort, descending=arguments.reverse)
    shown = ordered[: arguments.limit or (None if arguments.json else SHOWN)]
    if arguments.json:
        node_of = names_of_places(there)
        objects = (as_json(session, node_of[place_of(session)], there.time_scale) for session in shown)
        print_objects(map(there.workloads.add_to, objects))
    else:
        if shown:
            print_table(shown, _labels(there), there.time_scale)
        found_in_all = words.pluralize(len(ordered), "session")
        more = "" if arguments.limit else "; --limit N lists more"
        say(found_in_all if len(shown) == len(ordered) else f"{len(shown):,} of {found_in_all}{more}")
    return Exit.DONE


def names_of_places(there: Scopes) -> dict[tuple[str, str], str]:
    """Return (namespace, ENI id) of a session -> the node of that ENI; the instance or router for no ENI ("")."""
    return {
        (scope.namespace, eni_id): there.nodes[eni_id] if eni_id else scope.name
        for scope in there.all
        for eni_id in ("", *scope.interfaces)
    }


def _labels(there: Scopes) -> dict[tuple[str, str], str]:
    """Return (namespace, ENI id) of a session -> that ENI as people see it, or for no ENI the namespace."""
    label, place = there.workloads.label, there.workloads.place
    return {
        (scope.namespace, eni_id): label(eni_id) if eni_id else place(scope.name)
        for scope in there.all
        for eni_id in ("", *scope.interfaces)
    }


def place_of(session: Session) -> tuple[str, str]:
    """Return the key of a session in names_of_places()."""
    return session.namespace, session.eni_id


def read(there: Scopes, arguments: argparse.Namespace) -> list[Session]:
    """Return the sessions asked for; warn where a conntrack table is nearly full.

    Raises:
        HostError: The state in force can't be read.
    """
    if there.state is None:
        assert there.config is not None
        why = "it can't be read, so sessions can't be matched to rules; --config FILE names another configuration"
        raise HostError(str(there.config.state), why)
    wanted, log, found = selection(there, there.state, arguments), UseLog(), []
    asked, deciders = find_scopes(there, arguments), dict[int, Decider]()
    with Progress("reading", len(asked)) as progress, log_shown():
        for scope, enis in asked:
            assert scope.desired is not None
            state = scope.desired.state  # most scopes share one
            decider = deciders.setdefault(id(state), Decider(state, there.options))
            found += [one for one in _sessions_of(scope, decider, log) if one.eni_id in enis and wanted.holds(one)]
            progress.advance()
    return found


def _sessions_of(scope: PolicyScope, decider: Decider, log: UseLog) -> list[Session]:
    """Return all sessions of the namespace; none if it has ended."""
    desired = scope.desired
    with scope.held() as path:
        if path is None or desired is None:
            return []
        with netns.inside(path):
            log.note(scope.name, read_table_use())
        found = read_sessions(path, desired.state, desired.interfaces, decider, desired.site)
        return [replace(one, namespace=scope.namespace) for one in found]


def find_scopes(there: Scopes, arguments: argparse.Namespace) -> list[tuple[PolicyScope, frozenset[str]]]:
    """Return the namespaces to look into, and the ENIs there whose sessions are asked for; "" stands for no ENI.

    Errors are those of Scopes.node and Scopes.eni.
    """
    if arguments.node is None and arguments.eni is None:
        return [(scope, frozenset({"", *scope.interfaces})) for scope in there.all]
    node = None if arguments.node is None else there.node(arguments.node)
    eni = None if arguments.eni is None else there.eni(arguments.eni)
    enis = {one for one, its_node in there.nodes.items() if node in (None, its_node) and eni in (None, one)}
    found = []
    for scope in there.all:
        here = enis & scope.interfaces.keys()
        is_of_node = {there.nodes[eni_id] for eni_id in here} == {scope.name}  # and so are its sessions of no ENI
        if here:
            found.append((scope, frozenset({"", *here} if is_of_node else here)))
    return found


def selection(there: Scopes, state: CloudState, arguments: argparse.Namespace) -> Selection:
    """Return the conditions.

    StateFileError or LabError for an ENI or rule that isn't in the state in force.
    """
    rules = {rule.security_group_rule_id for group in state.security_groups for rule in group.rules}
    if arguments.rule is not None and arguments.rule not in rules:
        near = look_up(arguments.rule, dict.fromkeys(rules, ())).near
        why = f"no rule in force has that id; near: {', '.join(near)}" if near else "no rule is in force"
        raise LabError(f"rule {arguments.rule}", why)
    return Selection(
        eni_id=None if arguments.eni is None else there.eni(arguments.eni),
        direction=None if arguments.direction is None else Direction(arguments.direction),
        remote=arguments.remote,
        protocol=arguments.protocol,
        port=arguments.port,
        state=arguments.state,
        rule_id=arguments.rule,
        internal=arguments.all,
    )


def print_objects(objects: Iterator[dict[str, object]]) -> None:
    """Print a JSON list with an object a line: with indents, 100,000 of them would take seven times as long."""
    separator = "["
    for item in objects:
        say_block(f"{separator}\n{json_text(item)}", end="")
        separator = ","
    say_block("[]" if separator == "[" else "\n]")


def as_json(session: Session, node: str, time_scale: float) -> dict[str, object]:
    """Return one session, with the keys that this module's docstring lists."""
    return {
        "node": node,
        "namespace": session.namespace,
        "eni": session.eni_id or None,
        "interface": session.ifname or None,
        "family": session.family.value,
        "protocol": str(Protocol(session.protocol)),
        "direction": session.direction.value if session.direction else None,
        "remote": str(session.remote),
        "remote_port": session.remote_port,
        "local": str(session.local),
        "local_port": session.local_port,
        "icmp_type": session.icmp_type,
        "state": session.state,
        "seconds_left": session.seconds_left,
        "time_scale": time_scale,
        **_traffic("ingress", session.ingress),
        **_traffic("egress", session.egress),
        "judged": session.is_judged if session.decision else None,
        **_decision(session.decision),
    }


def _traffic(way: str, traffic: Accounting | None) -> dict[str, int | None]:
    return {
        f"{way}_packets": None if traffic is None else traffic.packets,
        f"{way}_bytes": None if traffic is None else traffic.bytes,
    }


def _decision(decision: Decision | None) -> dict[str, object]:
    if decision is not None:
        return decision.as_json()
    return dict.fromkeys(("verdict", "reason", "security_group_id", "security_group_rule_id", "priority"))


def print_table(sessions: Sequence[Session], labels: Mapping[tuple[str, str], str], time_scale: float) -> None:
    """Print a row for each session.

    It has the session's bytes where the kernel counts them, and what becomes of its next packet where that isn't usual.
    """
    if time_scale != 1.0:
        say(f"timeouts times {time_scale:g}")
    headers, columns = list(HEADERS), [_row(session, labels) for session in sessions]
    if any(next_packet(session) not in USUAL_NEXT for session in sessions):
        headers.append("NEXT PACKET")
        columns = [[*row, _paint(next_packet(each))] for row, each in zip(columns, sessions, strict=True)]
    if any(session.ingress for session in sessions):
        headers += ["BYTES IN", "BYTES OUT"]
        columns = [[*row, *_bytes(each)] for row, each in zip(columns, sessions, strict=True)]
    say_block(render_table(headers, columns))


def _row(session: Session, labels: Mapping[tuple[str, str], str]) -> list[str]:
    return [
        labels[place_of(session)],
        session.direction.value if session.direction else "-",
        _flow(session),
        session.state,
        str(session.seconds_left),
        describe_decision(session),
    ]


def _flow(session: Session) -> str:
    """Return the protocol and both ends, in the direction in which the session was opened."""
    ends = [endpoint(session.local, session.local_port), endpoint(session.remote, session.remote_port)]
    if session.direction is Direction.INGRESS:
        ends.reverse()
    return f"{Protocol(session.protocol)} {' -> '.join(ends)}"


def _bytes(session: Session) -> list[str]:
    return [str(way.bytes) if way else "" for way in (session.ingress, session.egress)]


def next_packet(session: Session) -> str:
    """Say what becomes of the next packet, in either direction."""
    if session.decision is None:
        return "-"
    is_accepted = session.decision.verdict.value == "accept"
    if session.is_judged:
        return "passes" if is_accepted else "passes (kept)"
    return "to be judged: passes" if is_accepted else "to be judged: refused"


def _paint(text: str) -> str:
    colour = {"passes (kept)": "yellow", "to be judged: refused": "red"}.get(text)
    return text if colour is None else paint(text, colour)


def describe_decision(session: Session) -> str:
    """Say in few words what decides about the opening packet now."""
    return "-" if session.decision is None else words.cite_decision(session.decision)
