"""`sgdp sessions`: the live sessions of ENIs, how they stand, and the rule that lets each one in.

Owns the arguments, the columns and the JSON keys. Must not know how sessions are read or decided.

`--json` is a list with one object a line, one for each session of each ENI (so two where a router enforces both ends'
policies), with these keys (null where there is nothing to say):

    node, namespace, eni, interface     whose it is, and where it is enforced; eni and interface are null for one of no
                                        ENI's (--all), whose node is the instance or router that has it
    family, protocol                    "ipv4" | "ipv6"; tcp, udp, icmp, icmpv6, gre or a number, as text
    direction                           of its opening packet: "ingress" (towards the ENI) | "egress"
    remote, remote_port                 the other end, as on the wire: what NAT inside the instance does isn't shown
    local, local_port                   the ENI's end; ports are null unless TCP or UDP
    icmp_type                           of its opening packet
    state                               TCP: SYN_SENT, SYN_RECV, ESTABLISHED, FIN_WAIT, CLOSE_WAIT, LAST_ACK,
                                        TIME_WAIT, CLOSE, SYN_SENT2; other protocols: UNREPLIED, REPLIED, ASSURED
    seconds_left                        until it ends, if no packet comes
    time_scale                          what the timeouts are multiplied by: in a lab, or 1
    ingress_packets, ingress_bytes      towards the ENI, and from it; null unless the kernel counts
    egress_packets, egress_bytes            (sysctl net.netfilter.nf_conntrack_acct)
    judged                              true: the policy in force has accepted it, its packets pass;
                                        false: its next packet will be judged by that policy
    verdict, reason, security_group_id, security_group_rule_id, priority
                                        what that policy says of its opening packet, as in `explain --json`
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from sgdataplane.cli.arguments import (
    ENI_HELP,
    add_flow,
    read_limit,
    read_prefix,
    settle_ports,
)
from sgdataplane.cli.command import Exit, Subparsers, require_root
from sgdataplane.cli.output import say, say_block
from sgdataplane.cli.scopes import scopes
from sgdataplane.visible import json_text

if TYPE_CHECKING:
    from sgdataplane.cli.scopes import Scope, Scopes
    from sgdataplane.host.conntrack import Traffic
    from sgdataplane.model.decision import Decision
    from sgdataplane.model.state import CloudState
    from sgdataplane.net.values import Address
    from sgdataplane.observe.capacity import UseLog
    from sgdataplane.observe.decisions import Decider
    from sgdataplane.observe.sessions import Selection, Session

HEADERS = ("NODE", "ENI", "DIRECTION", "PROTOCOL", "REMOTE", "LOCAL", "STATE", "LEFT", "NEXT PACKET", "DECIDED BY")


def register(verbs: Subparsers) -> None:
    """Add the verb."""
    words = "live sessions, and the rule that lets each one in"
    parser = verbs.add_parser("sessions", help=words, description=words)
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--name", metavar="N", help="of that lab (default: what is attached here, else the lab lab)")
    where.add_argument("--config", type=Path, metavar="FILE", help="the agent's (default: /etc/sgdataplane/agent.toml)")
    parser.add_argument("--eni", metavar="ENI", help=f"only this ENI's: {ENI_HELP}")
    parser.add_argument("--node", "--instance", metavar="NODE", help="only this instance's, by its id or name")
    parser.add_argument("--direction", choices=("ingress", "egress"), help="only those opened towards or from the ENI")
    parser.add_argument("--remote", type=read_prefix, metavar="CIDR", help="only those whose other end is in it")
    add_flow(parser, port="only those opened to it: 22, ssh, tcp/22")
    parser.add_argument("--state", type=_state, metavar="STATE", help="e.g. ESTABLISHED, TIME_WAIT, UNREPLIED")
    parser.add_argument("--rule", metavar="ID", help="only those that this rule decides about now")
    parser.add_argument("--all", action="store_true", help="also those of no ENI's: by lo, between its own interfaces")
    parser.add_argument("--sort", type=_order, default="eni", metavar="KEY", help="eni, remote, port, state, ...")
    parser.add_argument("--reverse", action="store_true", help="the last first")
    parser.add_argument("--limit", type=read_limit, metavar="N", help="no more than N")
    parser.add_argument("--json", action="store_true", help="for programs; the keys: pydoc sgdataplane.cli.sessions")
    parser.set_defaults(run=run, parser=parser)


def _state(text: str) -> str:
    from sgdataplane.host.conntrack import OTHER_STATES, TCP_STATES

    return _one_of(text.upper(), (*TCP_STATES, *OTHER_STATES))


def _order(text: str) -> str:
    from sgdataplane.observe.sessions import ORDERS

    return _one_of(text, tuple(ORDERS))


def _one_of(text: str, choices: Sequence[str]) -> str:
    if text not in choices:
        raise argparse.ArgumentTypeError(f"{text!r} is none of {', '.join(choices)}")
    return text


def run(arguments: argparse.Namespace) -> int:
    """Print the sessions asked for."""
    settle_ports(arguments.parser, arguments)
    require_root("reading the sessions of other namespaces", "sudo " + shlex.join(["sgdp", *sys.argv[1:]]))
    from sgdataplane.observe.sessions import in_order

    with scopes(arguments) as there:
        found = read(there, arguments)
    ordered = in_order(found, arguments.sort, descending=arguments.reverse)
    shown = ordered[: arguments.limit]
    node_of = names_of_places(there)
    if arguments.json:
        print_objects(as_json(session, node_of[place_of(session)], there.time_scale) for session in shown)
    else:
        print_table(shown, node_of, there.time_scale)
        say(_total(len(shown), len(ordered)))
    return Exit.DONE


def names_of_places(there: Scopes) -> dict[tuple[str, str], str]:
    """Namespace and ENI of a session -> the node of that ENI, or for none's ("") the instance or router."""
    return {
        (scope.namespace, eni_id): there.nodes[eni_id] if eni_id else scope.name
        for scope in there.all
        for eni_id in ("", *scope.interfaces)
    }


def place_of(session: Session) -> tuple[str, str]:
    return session.namespace, session.eni_id


def read(there: Scopes, arguments: argparse.Namespace) -> list[Session]:
    """The sessions that were asked for; a warning where there is no room for more. HostError if nobody knows what is in
    force."""
    from sgdataplane.cli.output import Progress, log_shown
    from sgdataplane.errors import HostError
    from sgdataplane.observe.capacity import UseLog
    from sgdataplane.observe.decisions import Decider

    if there.state is None:
        raise HostError("the sessions' rules", "the state that the agent enforces can't be read: see `sgdp status`")
    wanted, log, found = selection(there, there.state, arguments), UseLog(), []
    asked, deciders = asked_scopes(there, arguments), dict[int, Decider]()
    with Progress("reading", len(asked)) as progress, log_shown():
        for scope, enis in asked:
            assert scope.desired is not None
            state = scope.desired.state  # most have the same one
            decider = deciders.setdefault(id(state), Decider(state, there.options))
            found += [one for one in _sessions_of(scope, decider, log) if one.eni_id in enis and wanted.holds(one)]
            progress.advance()
    return found


def _sessions_of(scope: Scope, decider: Decider, log: UseLog) -> list[Session]:
    """None, if the namespace has ended."""
    from sgdataplane.host import netns
    from sgdataplane.observe.capacity import read_table_use
    from sgdataplane.observe.sessions import read_sessions

    desired = scope.desired
    with scope.held() as path:
        if path is None or desired is None:
            return []
        with netns.inside(path):
            log.note(scope.name, read_table_use())
        found = read_sessions(path, desired.state, desired.interfaces, decider, desired.site)
        return [replace(one, namespace=scope.namespace) for one in found]


def asked_scopes(there: Scopes, arguments: argparse.Namespace) -> list[tuple[Scope, frozenset[str]]]:
    """The namespaces to look into, and whose sessions there are asked for: ENIs, and "" for none's. Errors as of
    Scopes.node and Scopes.eni."""
    if arguments.node is None and arguments.eni is None:
        return [(scope, frozenset({"", *scope.interfaces})) for scope in there.all]
    node = None if arguments.node is None else there.node(arguments.node)
    eni = None if arguments.eni is None else there.eni(arguments.eni)
    enis = {e for e, n in there.nodes.items() if node in (None, n) and (eni is None or e == eni)}
    found = []
    for scope in there.all:
        here = enis & scope.interfaces.keys()
        owner = {there.nodes[entry] for entry in here} == {scope.name}  # then all that it has is that node's
        if here:
            found.append((scope, frozenset({"", *here} if owner else here)))
    return found


def selection(there: Scopes, state: CloudState, arguments: argparse.Namespace) -> Selection:
    """The conditions. StateFileError or LabError for an ENI or rule that the state in force doesn't have."""
    from sgdataplane.errors import LabError
    from sgdataplane.model.naming import look_up
    from sgdataplane.net.values import Direction
    from sgdataplane.observe.sessions import Selection

    rules = {rule.security_group_rule_id for group in state.security_groups for rule in group.rules}
    if arguments.rule is not None and arguments.rule not in rules:
        near = look_up(arguments.rule, dict.fromkeys(rules, ())).near
        hint = f"; near: {', '.join(near)}" if near else "; there is none"
        raise LabError(f"rule {arguments.rule}", f"no rule in force has that id{hint}")
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
    """A JSON list, an object a line. (json writes 100,000 of them with indents in 7 s, so in 1 s.)"""
    separator = "["
    for item in objects:
        say_block(f"{separator}\n{json_text(item)}", end="")
        separator = ","
    say_block("[]" if separator == "[" else "\n]")


def as_json(session: Session, node: str, time_scale: float) -> dict[str, object]:
    """One session under the keys that this module's docstring lists."""
    from sgdataplane.net.values import Protocol

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


def _traffic(way: str, traffic: Traffic | None) -> dict[str, int | None]:
    return {
        f"{way}_packets": None if traffic is None else traffic.packets,
        f"{way}_bytes": None if traffic is None else traffic.bytes,
    }


def _decision(decision: Decision | None) -> dict[str, str | int | None]:
    if decision is not None:
        return decision.as_json()
    return dict.fromkeys(("verdict", "reason", "security_group_id", "security_group_rule_id", "priority"))


def print_table(sessions: Sequence[Session], node_of: Mapping[tuple[str, str], str], time_scale: float) -> None:
    """A line a session; what it carried, where the kernel counts that."""
    from sgdataplane.cli.output import render_table

    if time_scale != 1.0:
        say(f"timeouts times {time_scale:g}")
    is_counted = any(session.ingress for session in sessions)
    headers = (*HEADERS, "BYTES IN", "BYTES OUT") if is_counted else HEADERS
    say_block(render_table(headers, (_row(session, node_of, is_counted=is_counted) for session in sessions)))


def _row(session: Session, node_of: Mapping[tuple[str, str], str], *, is_counted: bool) -> tuple[str, ...]:
    from sgdataplane.net.values import Protocol

    counted = [str(way.bytes) if way else "" for way in (session.ingress, session.egress)] if is_counted else []
    return (
        node_of[place_of(session)],
        session.eni_id or "-",
        session.direction.value if session.direction else "-",
        str(Protocol(session.protocol)),
        end_text(session.remote, session.remote_port),
        end_text(session.local, session.local_port),
        session.state,
        str(session.seconds_left),
        _painted(next_packet(session)),
        decided_by(session),
        *counted,
    )


def end_text(address: Address, port: int | None) -> str:
    if port is None:
        return str(address)
    return f"{address}:{port}" if address.family_bits == 32 else f"[{address}]:{port}"


def next_packet(session: Session) -> str:
    """What becomes of the next packet, in either direction."""
    if session.decision is None:
        return "-"
    is_accepted = session.decision.verdict.value == "accept"
    if session.is_judged:
        return "passes" if is_accepted else "passes (kept)"
    return "to be judged: passes" if is_accepted else "to be judged: refused"


def _painted(text: str) -> str:
    from sgdataplane.cli.output import paint

    colour = {"passes (kept)": "yellow", "to be judged: refused": "red"}.get(text)
    return text if colour is None else paint(text, colour)


def decided_by(session: Session) -> str:
    """What decides about the opening packet now, in few words."""
    from sgdataplane.model import words

    return "-" if session.decision is None else words.ranked(session.decision)


def _total(shown: int, found: int) -> str:
    sessions = "1 session" if found == 1 else f"{found} sessions"
    return sessions if shown == found else f"{shown} of {sessions}"
