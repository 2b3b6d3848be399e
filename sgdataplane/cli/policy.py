"""`sgdp compile`: what would be programmed; touches nothing.

Owns the arguments and the wording. Is given a state file. Must not decide anything itself.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from sgdataplane.cli.command import Exit, Subparsers
from sgdataplane.cli.output import say, say_aside, say_block

if TYPE_CHECKING:
    from sgdataplane.model.state import CloudState
    from sgdataplane.nft.ir import Table
    from sgdataplane.proof.prove import Proof


def register(verbs: Subparsers) -> None:
    """Add the verb."""
    compile_ = verbs.add_parser("compile", help="print what would be programmed")
    compile_.add_argument("state", type=Path, metavar="STATE", help="a state file or folder")
    compile_.add_argument("--eni", metavar="ENI", help="only the namespace that holds this ENI (default: every one)")
    compile_.add_argument("--placement", choices=("instance",), default="instance", help="where the ruleset stands")
    compile_.add_argument("--stage", choices=tuple(STAGES), default="text", help="how far to compile (default: text)")
    compile_.add_argument("--prove", action="store_true", help="refuse it unless it does what the state says, always")
    compile_.set_defaults(run=run_compile)


def run_compile(arguments: argparse.Namespace) -> int:
    """Print each namespace's ruleset at the stage asked for; with --prove, only if it is proven right, which is said on
    stderr: what is printed stays the same for the same state, and loads as it is."""
    from sgdataplane.statefile import load

    state = load(arguments.state).state
    render = STAGES[arguments.stage]
    for title, interfaces in namespaces(state, arguments.eni):
        if arguments.prove:
            say_aside(f"{title}: {proven(state, interfaces)}")
        say(f"# {title}")
        say_block(render(state, interfaces), end="")
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
