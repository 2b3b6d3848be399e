"""`sgdp compile` and `sgdp explain`: what would be programmed, and why a packet passes or not; touches nothing.

Owns the arguments and the wording. Is given a state file. Must not decide anything itself.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from sgdataplane.cli.command import Exit, Parser, Subparsers

if TYPE_CHECKING:
    from sgdataplane.model.semantics import Decision
    from sgdataplane.model.state import CloudState
    from sgdataplane.net.packet import Packet
    from sgdataplane.net.values import Address
    from sgdataplane.nft.ir import Table
    from sgdataplane.proof.prove import Proof

EPHEMERAL_PORT = 49152  # the first of IANA's dynamic ports (RFC 6335): what a client would send from


def register(verbs: Subparsers) -> None:
    """Add both verbs."""
    compile_ = verbs.add_parser("compile", help="print what would be programmed")
    compile_.add_argument("state", type=Path, metavar="STATE", help="a state file or folder")
    compile_.add_argument("--eni", metavar="ENI", help="only the namespace that holds this ENI (default: every one)")
    compile_.add_argument("--placement", choices=("instance",), default="instance", help="where the ruleset stands")
    compile_.add_argument("--stage", choices=tuple(STAGES), default="text", help="how far to compile (default: text)")
    compile_.add_argument("--prove", action="store_true", help="refuse it unless it does what the state says, always")
    compile_.set_defaults(run=run_compile)
    explain = verbs.add_parser("explain", help="say why a packet passes or not")
    explain.add_argument("state", type=Path, metavar="STATE", help="a state file or folder")
    explain.add_argument("--eni", metavar="ENI", required=True, help="the ENI that the packet comes to or leaves from")
    explain.add_argument("--direction", choices=("ingress", "egress"), required=True, help="towards or from the ENI")
    explain.add_argument("--protocol", required=True, metavar="P", help="tcp, udp, icmp, icmpv6, gre or a number")
    explain.add_argument("--remote", required=True, metavar="IP", help="the other end's address")
    explain.add_argument("--port", type=port, metavar="N", help="destination port (TCP and UDP)")
    explain.add_argument("--source-port", type=port, metavar="N", default=EPHEMERAL_PORT, help="default: %(default)s")
    explain.add_argument("--local", metavar="IP", help="the ENI's own side (default: its first address)")
    explain.add_argument("--json", action="store_true", help="for programs")
    explain.set_defaults(run=run_explain, parser=explain)


def port(text: str) -> int:
    """A port number 0..65535 of a packet (rules have 1..65535)."""
    if not text.isascii() or not text.isdigit() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port 0..65535")
    return int(text)


def run_compile(arguments: argparse.Namespace) -> int:
    """Print each namespace's ruleset at the stage asked for; with --prove, only if it is proven right, which is said on
    stderr: what is printed stays the same for the same state, and loads as it is."""
    from sgdataplane.statefile import load

    state = load(arguments.state).state
    render = STAGES[arguments.stage]
    for title, interfaces in namespaces(state, arguments.eni):
        if arguments.prove:
            print(f"{title}: {proven(state, interfaces)}", file=sys.stderr)
        print(f"# {title}")
        print(render(state, interfaces), end="")
    return Exit.DONE


def proven(state: CloudState, interfaces: Mapping[str, str]) -> Proof:
    """The proof of a namespace's table, under the default options; ProofError if there is none."""
    from sgdataplane.model.options import DEFAULTS
    from sgdataplane.proof.prove import require_proof
    from sgdataplane.proof.specification import Specification

    table, _ = compiled(state, interfaces)
    return require_proof(Specification(state, interfaces, DEFAULTS), table)


def namespaces(state: CloudState, eni_id: str | None) -> Iterator[tuple[str, Mapping[str, str]]]:
    """Per namespace a title and which interface carries which ENI; only that of `eni_id` if given."""
    from sgdataplane.policy.resolve import interfaces_of

    if eni_id is None:
        owners = [state.eni[eni.network_interface_id] for eni in state.network_interfaces]
    else:
        owners = [state.eni[known_eni(state, eni_id)]]
    done: set[str] = set()
    for owner in owners:
        interfaces = interfaces_of(state, owner)
        if not done.intersection(interfaces):
            done.update(interfaces)
            links = ", ".join(f"{ifname} = {eni}" for eni, ifname in interfaces.items())
            yield f"instance {owner.instance_id or '(none)'}: {links}", interfaces


def known_eni(state: CloudState, eni_id: str) -> str:
    """The id itself; StateFileError with the nearest known one if the state has no such ENI."""
    from difflib import get_close_matches

    from sgdataplane.errors import Problem, StateFileError, Where

    if eni_id in state.eni:
        return eni_id
    near = get_close_matches(eni_id, state.eni, n=1) or sorted(state.eni)[:3]
    expected = f"an ENI of the state, such as {', '.join(near)}" if near else "a state with ENIs"
    raise StateFileError((Problem(Where(), "InvalidEniId.NotFound", "no such ENI in the state", eni_id, expected),))


def policy_stage(state: CloudState, interfaces: Mapping[str, str]) -> str:
    """The permissions of each ENI in the order that decides, with how many addresses each remote has."""
    from sgdataplane.cli.output import render_table
    from sgdataplane.cli.permissions import permission_rows
    from sgdataplane.model.options import DEFAULTS
    from sgdataplane.policy.resolve import resolve

    policy = resolve(state, interfaces, DEFAULTS)
    rows = list(permission_rows(policy))
    return render_table(("ENI", "DIRECTION", "PRIORITY", "VERDICT", "PROTOCOL", "PORTS", "REMOTE", "RULE"), rows) + "\n"


def ir_stage(state: CloudState, interfaces: Mapping[str, str]) -> str:
    """The tables as the compiler's values."""
    from pprint import pformat

    return "".join(pformat(table, width=120) + "\n" for table in compiled(state, interfaces))


def text_stage(state: CloudState, interfaces: Mapping[str, str]) -> str:
    """What `nft -f` takes."""
    from sgdataplane.nft.text import render_table

    return "".join(render_table(table) for table in compiled(state, interfaces))


STAGES = {"policy": policy_stage, "ir": ir_stage, "text": text_stage}


def compiled(state: CloudState, interfaces: Mapping[str, str]) -> tuple[Table, Table]:
    """The tables of one namespace, policy and fence, under the default options. The secret mark, which is random where
    a policy is put in force, is a fixed one here, so that the same state gives the same bytes."""
    from sgdataplane.compiler.compile import FIRST_EPOCH, compile_policy
    from sgdataplane.compiler.fence import PLACEHOLDER, compile_fence
    from sgdataplane.model.options import DEFAULTS
    from sgdataplane.policy.resolve import resolve

    policy = compile_policy(resolve(state, interfaces, DEFAULTS), DEFAULTS, FIRST_EPOCH, PLACEHOLDER)
    enis = {ifname: state.eni[eni_id] for eni_id, ifname in interfaces.items()}
    return policy, compile_fence(enis, DEFAULTS, PLACEHOLDER)


def run_explain(arguments: argparse.Namespace) -> int:
    """Print the decision, and everything that would have decided after it."""
    from sgdataplane.model.semantics import decide, later_candidates
    from sgdataplane.statefile import load

    state = load(arguments.state).state
    packet = as_packet(state, arguments)
    decision = decide(state, packet)
    later = later_candidates(state, packet, decision)
    if arguments.json:
        print_explanation(decision, later)
    else:
        say_explanation(packet, decision, later)
    return Exit.DONE


def as_packet(state: CloudState, arguments: argparse.Namespace) -> Packet:
    """The packet that was asked about; a usage error if the arguments can't describe one."""
    from sgdataplane.net.packet import Packet
    from sgdataplane.net.values import Direction, Protocol

    parser: Parser = arguments.parser
    remote = parse_address(parser, "--remote", arguments.remote)
    try:
        protocol = Protocol.parse(arguments.protocol)
    except ValueError as error:
        parser.error(f"--protocol: {error}")
    if protocol.is_all or not protocol.exists_in(remote.family):
        parser.error(f"--protocol {protocol}: a packet to or from {remote} can't have it")
    if protocol.has_ports != (arguments.port is not None):
        parser.error(f"--port: {'is needed with' if protocol.has_ports else 'makes no sense with'} {protocol}")
    eni_id = known_eni(state, arguments.eni)
    return Packet(
        eni_id,
        Direction(arguments.direction),
        remote,
        local_address(state, eni_id, remote, arguments),
        protocol.number,
        arguments.port,
        arguments.source_port if protocol.has_ports else None,
    )


def local_address(state: CloudState, eni_id: str, remote: Address, arguments: argparse.Namespace) -> Address:
    """`--local`, or the ENI's first address of the remote's family; a usage error if there is none."""
    parser: Parser = arguments.parser
    own = [address for address in state.eni[eni_id].addresses if address.family is remote.family]
    if arguments.local is None and not own:
        parser.error(f"--local: {eni_id} has no {remote.family.value} address of its own; give one")
    local = own[0] if arguments.local is None else parse_address(parser, "--local", arguments.local)
    if local.family is not remote.family:
        parser.error(f"--local: {local} is not of the family of {remote}")
    return local


def parse_address(parser: Parser, name: str, text: str) -> Address:
    from sgdataplane.net.values import Address

    try:
        return Address.parse(text)
    except ValueError as error:
        parser.error(f"{name}: {error}")


def print_explanation(decision: Decision, later: list[Decision]) -> None:
    from sgdataplane.cli.output import print_json

    print_json({**decision.as_json(), "later": [other.as_json() for other in later]})


def say_explanation(packet: Packet, decision: Decision, later: list[Decision]) -> None:
    from sgdataplane.cli.output import paint, render_table
    from sgdataplane.net.values import Protocol

    way = "from" if packet.direction.value == "ingress" else "to"
    ports = "" if packet.port is None else f" port {packet.port}"
    subject = f"{packet.eni_id} {packet.direction.value} {Protocol(packet.protocol)}{ports} {way} {packet.remote}"
    colour = "green" if decision.verdict.value == "accept" else "red"
    print(f"{subject}: {paint(decision.verdict.value, colour, sys.stdout)}")
    rows = [("decides", *in_words(decision)), *(("then", *in_words(other)) for other in later)]
    print(render_table(("", "VERDICT", "PRIORITY", "BECAUSE OF"), rows))


def in_words(decision: Decision) -> tuple[str, str, str]:
    """Verdict, priority and cause, for a row of a table."""
    causes = {
        "rule": f"rule {decision.security_group_rule_id} of {decision.security_group_id}",
        "inner_accept": f"both are members of {decision.security_group_id}, whose inner policy is Accept",
        "default": "the default, as no rule matches",
        "always": "it always passes (neighbour discovery, DHCP with the gateway, metadata)",
        "never": "it never passes (the source isn't the ENI's own, or TCP of no known session)",
    }
    priority = "" if decision.priority is None else str(decision.priority)
    return decision.verdict.value, priority, causes[decision.reason]
