"""`sgdp explain`: why a packet passes or not, at both ends.

Owns the arguments and the JSON keys (sgdataplane/schemas/explain.schema.json). Is given a state file. Must not decide
anything itself; how it reads for people is for `explanation.py`.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sgdataplane.cli.arguments import (
    ENI_HELP,
    add_choices,
    add_flow,
    add_state,
    choices_of,
    eni_of,
    flow_of,
    load_state,
    read_address,
    say_choices,
)
from sgdataplane.cli.command import Exit, Parser, Subparsers, require_root
from sgdataplane.model.choices import JUDGING, ON_HOSTS, Choices

if TYPE_CHECKING:
    from sgdataplane.analyse.explain import Explanation, Flow
    from sgdataplane.cli.explainlive import Live
    from sgdataplane.model.state import CloudState
    from sgdataplane.net.packet import Packet
    from sgdataplane.net.values import Address, Protocol

EPHEMERAL_PORT = 49152  # the first of IANA's dynamic ports (RFC 6335): what a client would send from


def register(verbs: Subparsers) -> None:
    """Add the verb."""
    words = "say why a packet passes or not"
    parser = verbs.add_parser("explain", help=words, description=words)
    add_state(parser)
    parser.add_argument(
        "--eni", metavar="ENI", required=True, help=f"where the packet comes to or leaves from: {ENI_HELP}"
    )
    parser.add_argument("--direction", choices=("ingress", "egress"), required=True, help="towards or from the ENI")
    parser.add_argument("--remote", required=True, type=read_address, metavar="IP", help="the other end's address")
    add_flow(parser, source_port=f"default: {EPHEMERAL_PORT}")
    parser.add_argument(
        "--local", type=read_address, metavar="IP", help="the ENI's own side (default: its first address)"
    )
    help_text = (
        "send nothing, but read the table that is in force, and say what it does with the packet; exit 1 if that, "
    )
    help_text += "or anything of the table, isn't what the state says"
    parser.add_argument("--live", action="store_true", help=help_text)
    parser.add_argument("--name", metavar="N", help="of which lab (default: what is attached on this host)")
    parser.add_argument(
        "--config", type=Path, metavar="FILE", help="of the agent (default: /etc/sgdataplane/agent.toml)"
    )
    parser.add_argument("--json", action="store_true", help="for programs")
    add_choices(parser, JUDGING)
    parser.set_defaults(run=run, parser=parser)


def run(arguments: argparse.Namespace) -> int:
    """Print the decision at each end, and whether the flow passes. Exit 1 if something else is in force (--live)."""
    from sgdataplane.analyse.explain import explain_flow
    from sgdataplane.cli.explanation import say_flow
    from sgdataplane.cli.output import print_json

    check_options(arguments)
    choices = choices_of(arguments, _in_force(arguments) if arguments.live else ON_HOSTS)
    state = load_state(arguments.state, choices.profile).state
    flow = explain_flow(state, as_packet(state, arguments), choices.options, choices.placement)
    if arguments.live:
        return run_live(arguments, state, flow, choices)
    if arguments.json:
        print_json(flow_as_json(flow, [None] * len(flow.ends), choices))
    else:
        say_choices(choices)
        say_flow(flow)
    return Exit.DONE


def _in_force(arguments: argparse.Namespace) -> Choices:
    from sgdataplane.cli.explainlive import choices_there

    return choices_there(arguments)


def run_live(arguments: argparse.Namespace, state: CloudState, flow: Flow, choices: Choices) -> int:
    """The same, and what is in force beside it."""
    from sgdataplane.cli.explainlive import look, say_live
    from sgdataplane.cli.explanation import say_flow
    from sgdataplane.cli.output import print_json

    lives = look(arguments, state, flow, choices.options)
    if arguments.json:
        print_json(flow_as_json(flow, lives, choices))
    else:
        say_choices(choices)
        say_flow(flow)
        say_live(lives, flow)
    return Exit.DONE if all(live is None or live.is_right for live in lives) else Exit.NO


def check_options(arguments: argparse.Namespace) -> None:
    """A usage error for options that make no sense together; PrivilegeError unless we may look."""
    parser: Parser = arguments.parser
    if not arguments.live and (arguments.name is not None or arguments.config is not None):
        parser.error("--name and --config say where to look, with --live")
    if arguments.name is not None and arguments.config is not None:
        parser.error("--config: a lab has no agent")
    if arguments.live:
        require_root("reading the rules of other namespaces", "sudo " + shlex.join(["sgdp", *sys.argv[1:]]))


def as_packet(state: CloudState, arguments: argparse.Namespace) -> Packet:
    """The packet that was asked about; a usage error if the arguments can't describe one."""
    from sgdataplane.net.packet import Packet
    from sgdataplane.net.values import ECHO_REQUEST, ICMP, ICMPV6, Direction

    parser: Parser = arguments.parser
    remote: Address = arguments.remote
    protocol = packet_protocol(parser, arguments, remote)
    eni_id = eni_of(state, arguments.eni)
    source_port = EPHEMERAL_PORT if arguments.source_port is None else arguments.source_port
    return Packet(
        eni_id,
        Direction(arguments.direction),
        remote,
        local_address(state, eni_id, remote, arguments),
        protocol.number,
        arguments.port,
        source_port if protocol.has_ports else None,
        ECHO_REQUEST[remote.family] if protocol.number in (ICMP, ICMPV6) else None,
    )


def packet_protocol(parser: Parser, arguments: argparse.Namespace, remote: Address) -> Protocol:
    """`--protocol`; a usage error if a packet of the remote's family can't have it, or ports don't fit it."""
    protocol = flow_of(parser, arguments).protocol
    if not protocol.exists_in(remote.family):
        parser.error(f"--protocol {protocol}: a packet to or from {remote} can't have it")
    return protocol


def local_address(state: CloudState, eni_id: str, remote: Address, arguments: argparse.Namespace) -> Address:
    """`--local`, or the ENI's first address of the remote's family; a usage error if there is none."""
    parser: Parser = arguments.parser
    own = [address for address in state.eni[eni_id].addresses if address.family is remote.family]
    if arguments.local is None and not own:
        parser.error(f"--local: {eni_id} has no {remote.family.value} address of its own; give one")
    local: Address = own[0] if arguments.local is None else arguments.local
    if local.family is not remote.family:
        parser.error(f"--local: {local} is not of the family of {remote}")
    return local


def flow_as_json(flow: Flow, lives: Sequence[Live | None], choices: Choices) -> dict[str, object]:
    """The end that was asked about under the keys of cli.md, then the other end, the answer for both, and how it was
    judged."""
    asked, *other = (end_as_json(*entry) for entry in zip(flow.ends, lives, strict=True))
    return {**asked, "other_end": other[0] if other else None, "passes": flow.passes, "choices": choices.of_judging()}


def end_as_json(end: Explanation, live: Live | None) -> dict[str, object]:
    """One end."""
    from sgdataplane.net.values import Protocol

    packet = end.packet
    return {
        "eni": packet.eni_id,
        "direction": packet.direction.value,
        "protocol": str(Protocol(packet.protocol)),
        "port": packet.port,
        "source_port": packet.source_port,
        "remote": str(packet.remote),
        "local": str(packet.local),
        **end.decision.as_json(),
        "cause": end.decision.clause or None,
        "later": [{**later.decision.as_json(), "outranked_by": later.outranked_by} for later in end.later],
        "near_misses": [
            {
                **miss.decision.as_json(),
                "field": miss.field,
                "asks_for": miss.asked,
                "packet_has": miss.found,
                "would_decide": miss.would_decide,
            }
            for miss in end.near_misses
        ],
        "live": None if live is None else live.as_json(),
    }
