"""`sgdp compile`: what would be programmed; touches nothing.

Owns the arguments and the wording. Is given a state. Must not decide anything itself.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
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
from sgdataplane.model.options import Options
from sgdataplane.model.placement import Placement

if TYPE_CHECKING:
    from sgdataplane.model.state import CloudState, Eni
    from sgdataplane.nft.ir import Table
    from sgdataplane.policy.resolve import HostPolicy
    from sgdataplane.proof.prove import Proof


def register(verbs: Subparsers) -> None:
    """Add the verb."""
    words = "print what would be programmed"
    compile_ = verbs.add_parser("compile", help=words, description=words)
    add_state(compile_)
    compile_.add_argument(
        "--eni", metavar="ENI", help=f"only the namespace that holds it (default: every one): {ENI_HELP}"
    )
    compile_.add_argument("--stage", choices=tuple(STAGES), default="text", help="how far to compile (default: text)")
    compile_.add_argument("--prove", action="store_true", help="refuse it unless it does what the state says, always")
    add_uplinks(compile_)
    add_choices(compile_, ("placement", *JUDGING))
    compile_.set_defaults(run=run_compile, parser=compile_)


def run_compile(arguments: argparse.Namespace) -> int:
    """Print each namespace's ruleset at the stage asked for; with --prove, only if it is proven right, which is said on
    stderr: what is printed stays the same for the same state, and loads as it is."""
    choices, uplinks = choices_of(arguments), uplinks_of(arguments.parser, arguments)
    state = load_state(arguments.state, choices.profile).state
    render = STAGES[arguments.stage]
    unlike = ", ".join(choices.unlike(replace(ON_HOSTS, placement=choices.placement)))
    for title, interfaces in namespaces(state, arguments.eni, choices.placement):
        site = Site(title, state, interfaces, choices.options, choices.placement, uplinks)
        if arguments.prove:
            say_aside(f"{title}: {proven(site)}")
        say(f"# {title}" + (f"; chosen: {unlike}" if unlike else ""))
        say_block(render(site), end="")
    return Exit.DONE


@dataclass(frozen=True, slots=True)
class Site:
    """A namespace to compile for; `interfaces`: ENI id -> the name of the interface there that carries it."""

    title: str
    state: CloudState
    interfaces: Mapping[str, str]
    options: Options
    placement: Placement
    uplinks: tuple[str, ...]

    @property
    def policy(self) -> HostPolicy:
        """What is enforced there."""
        from sgdataplane.policy.resolve import resolve

        policy = resolve(self.state, self.interfaces, self.options)
        return replace(policy, placement=self.placement, uplinks=self.uplinks)

    @property
    def tables(self) -> tuple[Table, Table]:
        """Policy and fence. The secret mark, which is random where a policy is put in force, is a fixed one here, so
        that the same state gives the same bytes."""
        from sgdataplane.compiler.compile import FIRST_EPOCH, compile_policy
        from sgdataplane.compiler.fence import PLACEHOLDER, compile_fence

        secret = PLACEHOLDER if self.placement is Placement.INSTANCE else 0  # a router's fence needs none
        enis = {ifname: self.state.eni[eni_id] for eni_id, ifname in self.interfaces.items()}
        policy = compile_policy(self.policy, self.options, FIRST_EPOCH, secret)
        named = [uplink for uplink in self.uplinks if not uplink.endswith("*")]  # what others are there is not known
        return policy, compile_fence(enis, self.options, secret, self.placement, named)


def proven(site: Site) -> Proof:
    """The proof of a namespace's table; ProofError if there is none."""
    from sgdataplane.proof.prove import require_proof
    from sgdataplane.proof.specification import Specification

    wanted = Specification(site.state, site.interfaces, site.options, placement=site.placement, uplinks=site.uplinks)
    return require_proof(wanted, site.tables[0])


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


def policy_stage(site: Site) -> str:
    """The permissions of each ENI in the order that decides, with how many addresses each remote has."""
    from sgdataplane.cli.output import render_table
    from sgdataplane.cli.permissions import permission_rows

    rows = list(permission_rows(site.policy))
    return render_table(("ENI", "DIRECTION", "PRIORITY", "VERDICT", "PROTOCOL", "PORTS", "REMOTE", "RULE"), rows) + "\n"


def ir_stage(site: Site) -> str:
    """The tables as the compiler's values."""
    from pprint import pformat

    return "".join(pformat(table, width=120) + "\n" for table in site.tables)


def text_stage(site: Site) -> str:
    """What `nft -f` takes."""
    from sgdataplane.nft.text import render_table

    return "".join(render_table(table) for table in site.tables)


STAGES = {"policy": policy_stage, "ir": ir_stage, "text": text_stage}
