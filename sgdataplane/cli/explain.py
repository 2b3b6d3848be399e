"""`sgdp explain`: why a packet passes or not, at both ends.

Owns the arguments and the JSON keys (sgdataplane/schemas/explain.schema.json). Must not decide anything itself.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from sgdataplane.analyse.document import end_as_json
from sgdataplane.analyse.explain import Explanation, FlowExplanation, explain_flow, explain_range
from sgdataplane.cli.explaintext import say_ends, say_parts, summary, write_ports
from sgdataplane.cli.inexact import add_inexact, load_as_asked
from sgdataplane.cli.inforce import state_in_force
from sgdataplane.cli.times import add_since
from sgdataplane.model.choices import JUDGING, Choices
from sgdataplane.model.naming import eni_of
from sgdataplane.model.state import CloudState
from sgdataplane.net.packet import Packet
from sgdataplane.net.ports import EPHEMERAL, FORMS, Traffic, parse_traffic
from sgdataplane.net.values import ECHO_REQUEST, ICMP, ICMPV6, Address, Direction, PortRange, Protocol
from sgdataplane.terminal.arguments import (
    CONFIG_HELP,
    ENI_HELP,
    NODE_HELP,
    Parser,
    Verbs,
    choices_of,
    flow_of,
    read_address,
    read_for,
    require_root,
    say_choices,
    usual_state,
)
from sgdataplane.terminal.output import Exit, print_json, say

if TYPE_CHECKING:
    from pathlib import Path

    from sgdataplane.cli.explainhistory import Past
    from sgdataplane.cli.explainlive import Live


def register(verbs: Verbs) -> None:
    """Add the verb."""
    more = (
        "Checks both ends, if the state has both. Without STATE, it is the one that SGDP_STATE names, or else "
        "the one that the agent of this host enforces. Sends nothing."
    )
    parser = verbs.add("explain", run, more)
    parser.add_state()
    parser.add_argument("sender", nargs="?", metavar="FROM", help=f"the sender: {NODE_HELP}")
    parser.add_argument("receiver", nargs="?", metavar="TO", help="the receiver, likewise")
    parser.add_argument("what", nargs="?", metavar="WHAT", help=f"the service: {FORMS}")
    long_form = "in place of FROM, TO and WHAT: "
    parser.add_argument("--eni", metavar="ENI", help=f"{long_form}the ENI that gets or sends the packet: {ENI_HELP}")
    parser.add_argument("--direction", choices=("ingress", "egress"), help="towards or from the ENI")
    parser.add_argument("--remote", type=read_address, metavar="IP", help="the address of the other end")
    parser.add_flow(source_port=f"source port of TCP or UDP (default: {EPHEMERAL})")
    parser.add_argument("--local", type=read_address, metavar="IP", help="the ENI's address (default: its first one)")
    live = (
        "compare with what the kernel enforces now (root); sends nothing; exit code 1 if the kernel's verdict differs, "
        "or anything else in its table"
    )
    verbose = "also show which rules nearly match, and why the rules that could decide come in this order"
    parser.add_argument("-v", "--verbose", action="store_true", help=verbose)
    parser.add_argument("--exit-code", action="store_true", help="exit code 1 if the flow does not pass")
    parser.add_argument("--live", action="store_true", help=live)
    history = "also say when the flow was seen last here, how often, and what decided, from the agent's history (root)"
    parser.add_argument("--history", action="store_true", help=history)
    add_since(parser, "30d", "with --history: from then on")
    there = "with --live: the lab that is compared (default: that in SGDP_LAB, or what is attached on this host)"
    parser.add_argument("--name", metavar="N", help=there)
    parser.add_config(f"with --live or --history, or without STATE: {CONFIG_HELP}")
    parser.add_json("sgdataplane/schemas/explain.schema.json")
    add_inexact(parser)
    parser.add_choices(JUDGING)
    parser.set_defaults(of_agent=False)


def run(arguments: argparse.Namespace) -> int:
    """Print the decision at each end, and whether the flow passes."""
    check_options(arguments)
    if arguments.live:
        return run_live(arguments)
    choices = choices_of(arguments)
    ports = parse_port_range(arguments)
    if ports is not None:
        return run_range(arguments, choices, ports)
    state, flow = explain_flow_of(arguments, choices)
    past = _past(arguments, state, flow) if arguments.history else None
    if arguments.json:
        print_json(flow_as_json(flow, [None] * len(flow.ends), choices, past))
        return answer(arguments, flow)
    say(summary(flow))
    say_explanation(arguments, flow, choices)
    if past is not None:
        _say_past(past, flow)
    return answer(arguments, flow)


def _past(arguments: argparse.Namespace, state: CloudState, flow: FlowExplanation) -> Past:
    from sgdataplane.cli.explainhistory import read_past

    return read_past(arguments, state, flow)


def _say_past(past: Past, flow: FlowExplanation) -> None:
    from sgdataplane.cli.explainhistory import say_past

    say_past(past, flow.ends)


def parse_port_range(arguments: argparse.Namespace) -> Traffic | None:
    """Return WHAT, if it is a range of ports; else None.

    A usage error with --live, --json or --history, which are about one packet.
    """
    if arguments.what is None or "," in arguments.what:
        return None
    asked = read_for(arguments, lambda: parse_traffic(arguments.what))
    if asked.ports is None or asked.ports.first == asked.ports.last:
        return None
    for option, is_given in (("--live", arguments.live), ("--json", arguments.json), ("--history", arguments.history)):
        if is_given:
            arguments.parser.error(f"{option} is about one packet: name one port of {asked}")
    return asked


def run_range(arguments: argparse.Namespace, choices: Choices, asked: Traffic) -> int:
    """Print the flow if all ports have the same result, else what decides for which of them."""
    assert asked.ports is not None
    arguments.what = str(Traffic(asked.protocol, PortRange(asked.ports.first, asked.ports.first)))
    state = load_as_asked(arguments, arguments.state).state
    packet = packet_between(state, arguments, choices)
    parts = explain_range(state, packet, asked.ports, choices.options, choices.placement)
    if len(parts) == 1:
        say(summary(parts[0][1]))
        say_ends(parts[0][1], ports=write_ports(asked.ports), verbose=arguments.verbose)
    else:
        say_parts(parts)
    say_choices(choices)
    return Exit.DONE if all(flow.passes for _, flow in parts) or not arguments.exit_code else Exit.NO


def answer(arguments: argparse.Namespace, flow: FlowExplanation) -> int:
    """Return the exit code: 1 if `--exit-code` is given and the flow doesn't pass, else 0."""
    return Exit.NO if arguments.exit_code and not flow.passes else Exit.DONE


def run_live(arguments: argparse.Namespace) -> int:
    """Print the explanation, and the kernel's answer beside it.

    Exit 1 if the kernel's table says anything else.
    """
    parse_port_range(arguments)
    from sgdataplane.cli import explainlive

    choices = choices_of(arguments, explainlive.choices_there(arguments))
    state, flow = explain_flow_of(arguments, choices)
    lives = explainlive.look(arguments, state, flow, choices.options)
    if arguments.json:
        print_json(flow_as_json(flow, lives, choices))
    else:
        say(summary(flow, "By the state, the flow"))
        explainlive.say_warnings(lives)
        say_explanation(arguments, flow, choices)
        explainlive.say_live(lives, flow)
    return answer(arguments, flow) if all(live is None or live.is_right for live in lives) else Exit.NO


def explain_flow_of(arguments: argparse.Namespace, choices: Choices) -> tuple[CloudState, FlowExplanation]:
    """Return the state, and the flow that the arguments ask about, explained."""
    state = load_as_asked(arguments, arguments.state).state
    packet = packet_of(state, arguments) if arguments.sender is None else packet_between(state, arguments, choices)
    return state, explain_flow(state, packet, choices.options, choices.placement)


def say_explanation(arguments: argparse.Namespace, flow: FlowExplanation, choices: Choices) -> None:
    """Print what decides at each end, and the choices by which that was judged if they aren't the default."""
    say_ends(flow, verbose=arguments.verbose)
    say_choices(choices)


def check_options(arguments: argparse.Namespace) -> None:
    """Refuse options that contradict each other with a usage error.

    Raises:
        PrivilegeError: One of them needs root.
    """
    parser: Parser = arguments.parser
    check_form(arguments)
    if arguments.live and arguments.history:
        parser.error("give --live or --history, not both")
    asks_agent = arguments.history or arguments.of_agent
    if not arguments.live and (arguments.name is not None or (arguments.config is not None and not asks_agent)):
        parser.error(
            "--name and --config say where to look, with --live; --config also with --history, or without STATE"
        )
    if arguments.name is not None and arguments.config is not None:
        parser.error("--config: a lab has no agent")
    if arguments.live:
        require_root("reading the rules of other namespaces")
    if arguments.history:
        require_root("reading the agent's history")


LONG_FORM = ("eni", "direction", "remote", "protocol", "port", "source_port", "local")


def settle_state(arguments: argparse.Namespace) -> None:
    """Decide whether three arguments are FROM, TO and WHAT, and set the state if so.

    They are if the environment names the state, or an agent of this host enforces one. With --live it is that of the
    lab, if one is named.
    """
    if arguments.receiver is None or arguments.what is not None:
        return
    usual = usual_state() or (find_enforced_state(arguments) if arguments.live else None)
    if usual is None and not arguments.state.exists():
        usual = state_in_force(arguments)
        arguments.of_agent = usual is not None
    if usual is not None:
        ends = (str(arguments.state), arguments.sender, arguments.receiver)
        arguments.sender, arguments.receiver, arguments.what = ends
        arguments.state = usual


def find_enforced_state(arguments: argparse.Namespace) -> Path:
    """Return the file of the state that the lab or the agent enforces.

    Raises:
        LabError: There is no such lab.
        ConfigError: The agent's configuration is wrong.
    """
    from sgdataplane.cli.scopes import agent_config, find_named_lab
    from sgdataplane.daemon.lookup import get_enforced_file
    from sgdataplane.lab.manage import state_file_of

    lab = find_named_lab(arguments)
    return get_enforced_file(agent_config(arguments)) if lab is None else state_file_of(lab)


def check_form(arguments: argparse.Namespace) -> None:
    """Refuse with a usage error what doesn't ask for the flow in exactly one of both forms."""
    parser: Parser = arguments.parser
    settle_state(arguments)
    given = [f"--{name.replace('_', '-')}" for name in LONG_FORM if getattr(arguments, name) is not None]
    if arguments.sender is not None:
        if arguments.what is None:
            parser.error("give STATE FROM TO WHAT, such as: state.yaml web db tcp/5432 (SGDP_STATE may name STATE)")
        if given:
            parser.error(f"{given[0]}: FROM, TO and WHAT say it already")
        return
    missing = [f"--{name}" for name in LONG_FORM[:3] if getattr(arguments, name) is None]
    if missing:
        parser.error(f"say which flow: FROM TO WHAT, such as web db tcp/5432, or {', '.join(missing)}")


def packet_between(state: CloudState, arguments: argparse.Namespace, choices: Choices) -> Packet:
    """Return the opening packet of the flow that FROM, TO and WHAT ask about.

    Raises:
        LabError: There is no such flow.
    """
    from sgdataplane.lab.expectations import get_opening_packet, plan_probe
    from sgdataplane.lab.manage import default_record

    record = replace(default_record("plan"), choices=choices)
    _, probe = plan_probe(record, state, arguments.sender, arguments.receiver, arguments.what)
    return get_opening_packet(probe)


def packet_of(state: CloudState, arguments: argparse.Namespace) -> Packet:
    """Return the packet that the arguments describe; a usage error if there can't be such a packet."""
    parser: Parser = arguments.parser
    remote: Address = arguments.remote
    protocol = packet_protocol(parser, arguments, remote)
    eni_id = eni_of(state, arguments.eni)
    source_port = EPHEMERAL if arguments.source_port is None else arguments.source_port
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
    """Return the packet's protocol.

    A usage error if the remote's address family doesn't have it, or if ports don't fit it.
    """
    protocol = flow_of(arguments).protocol
    if not protocol.exists_in(remote.family):
        parser.error(f"--protocol {protocol}: {remote.family.value} doesn't have it")
    return protocol


def local_address(state: CloudState, eni_id: str, remote: Address, arguments: argparse.Namespace) -> Address:
    """Return `--local`, or the ENI's first address of the remote's family; a usage error if there is none."""
    parser: Parser = arguments.parser
    own = [address for address in state.eni[eni_id].addresses if address.family is remote.family]
    if arguments.local is None and not own:
        parser.error(f"--local: {eni_id} has no {remote.family.value} address of its own; give one")
    local: Address = own[0] if arguments.local is None else arguments.local
    if local.family is not remote.family:
        parser.error(f"--local: {local} and {remote} are not of one address family")
    return local


# for programs


def flow_as_json(
    flow: FlowExplanation, lives: Sequence[Live | None], choices: Choices, past: Past | None = None
) -> dict[str, object]:
    """Return the end that was asked about, then the other end, the answer for both, and how they were judged.

    `past` is what history has of both ends, if that was asked for.
    """
    asked, *other = (
        {**_end(*entry), **({} if past is None else {"history": past.as_json(number)})}
        for number, entry in enumerate(zip(flow.ends, lives, strict=True))
    )
    return {**asked, "other_end": other[0] if other else None, "passes": flow.passes, "choices": choices.of_judging()}


def _end(end: Explanation, live: Live | None) -> dict[str, object]:
    return {**end_as_json(end), "live": None if live is None else live.as_json()}
