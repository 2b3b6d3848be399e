"""`sgdp compile`: what would be programmed; touches nothing.

Owns the arguments and the wording. Is given a state. Must not decide anything itself.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from sgdataplane.cli.arguments import (
    ENI_HELP,
    add_choices,
    add_state,
    add_uplinks,
    choices_of,
    eni_of,
    load_state,
    uplinks_of,
)
from sgdataplane.cli.command import Exit, Subparsers
from sgdataplane.cli.output import say, say_aside, say_block
from sgdataplane.model.choices import JUDGING, ON_HOSTS
from sgdataplane.model.options import Placement

if TYPE_CHECKING:
    from sgdataplane.enforce import Desired, Proven
    from sgdataplane.model.state import CloudState, Eni
    from sgdataplane.nft.ir import Table


def register(verbs: Subparsers) -> None:
    """Add the verb."""
    words = "print what would be programmed"
    compile_ = verbs.add_parser("compile", help=words, description=words)
    add_state(compile_)
    compile_.add_argument(
        "--eni", metavar="ENI", help=f"only the namespace that holds it (default: every one): {ENI_HELP}"
    )
    compile_.add_argument("--stage", choices=STAGES, default="text", help="how far to compile (default: text)")
    compile_.add_argument("--prove", action="store_true", help="refuse it unless it does what the state says, always")
    add_uplinks(compile_)
    add_choices(compile_, ("placement", *JUDGING))
    compile_.set_defaults(run=run_compile, parser=compile_)


def run_compile(arguments: argparse.Namespace) -> int:
    """Print each namespace's ruleset at the stage asked for; with --prove, only if it is proven right, which is said on
    stderr: what is printed stays the same for the same state, and loads as it is."""
    from sgdataplane.enforce import Desired, Settings, build

    choices, uplinks = choices_of(arguments), uplinks_of(arguments.parser, arguments)
    state = load_state(arguments.state, choices.profile).state
    unlike = ", ".join(choices.unlike(replace(ON_HOSTS, placement=choices.placement)))
    for title, interfaces in namespaces(state, arguments.eni, choices.placement):
        desired = Desired(state, interfaces, choices.options, choices.placement, uplinks)
        text = permissions(desired) if arguments.stage == "policy" else ""
        if arguments.prove or not text:
            proven = build(desired, Settings(prove=arguments.prove))
            if proven.proof is not None:
                say_aside(f"{title}: {proven.proof}")
            text = text or TABLES[arguments.stage](tables(proven))
        say(f"# {title}" + (f"; chosen: {unlike}" if unlike else ""))
        say_block(text, end="")
    return Exit.DONE


def tables(proven: Proven) -> tuple[Table, Table]:
    """Policy and fence. The secret mark, which is random where a policy is put in force, is a fixed one here, so that
    the same state gives the same bytes."""
    from sgdataplane.compiler.compile import with_epoch
    from sgdataplane.compiler.fence import PLACEHOLDER
    from sgdataplane.contract.marks import FIRST_EPOCH
    from sgdataplane.enforce.fence import fence_of

    desired = proven.desired
    secret = PLACEHOLDER if desired.placement is Placement.INSTANCE else 0  # a router's fence needs none
    named = [uplink for uplink in desired.uplinks if not uplink.endswith("*")]  # what others are there is not known
    fence = fence_of(desired, tuple(desired.interfaces.values()), secret, named)
    return with_epoch(proven.table, FIRST_EPOCH, secret), fence


def namespaces(state: CloudState, eni: str | None, placement: Placement) -> Iterator[tuple[str, Mapping[str, str]]]:
    """Per namespace a title and which interface carries which ENI; only that of `eni` if given. In host placement
    they are routers, of a host that has all of the state's ENIs."""
    owners = state.network_interfaces if eni is None else (state.eni[eni_of(state, eni)],)
    around = _around_instance if placement is Placement.INSTANCE else _around_router
    done: set[str] = set()
    for owner in owners:
        if owner.network_interface_id not in done:
            title, interfaces = around(state, owner)
            done.update(interfaces)
            links = ", ".join(f"{ifname} = {eni}" for eni, ifname in interfaces.items())
            yield f"{title}: {links}", interfaces


def _around_instance(state: CloudState, eni: Eni) -> tuple[str, Mapping[str, str]]:
    from sgdataplane.policy.resolve import interfaces_of

    return f"instance {eni.instance_id or '(none)'}", interfaces_of(state, eni)


def _around_router(state: CloudState, eni: Eni) -> tuple[str, Mapping[str, str]]:
    from sgdataplane.host.routing import router_ifname

    ids = [other.network_interface_id for other in state.network_interfaces if other.vpc_id == eni.vpc_id]
    return f"router of {eni.vpc_id}", {eni_id: router_ifname(eni_id) for eni_id in ids}


def permissions(desired: Desired) -> str:
    """The permissions of each ENI in the order that decides, with how many addresses each remote has."""
    from sgdataplane.cli.output import render_table
    from sgdataplane.cli.permissions import permission_rows
    from sgdataplane.policy.resolve import resolve

    rows = list(permission_rows(resolve(desired.state, desired.interfaces, desired.options)))
    return render_table(("ENI", "DIRECTION", "PRIORITY", "VERDICT", "PROTOCOL", "PORTS", "REMOTE", "RULE"), rows) + "\n"


def as_values(tables: Iterable[Table]) -> str:
    """As the compiler's."""
    from pprint import pformat

    return "".join(pformat(table, width=120) + "\n" for table in tables)


def as_text(tables: Iterable[Table]) -> str:
    """What `nft -f` takes."""
    from sgdataplane.nft.text import render_table

    return "".join(render_table(table) for table in tables)


TABLES = {"ir": as_values, "text": as_text}
STAGES = ("policy", *TABLES)
