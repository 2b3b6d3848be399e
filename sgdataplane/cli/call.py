"""`sgdp call`: any action of the API, signed, for people without an SDK.

It asks the API that SGDP_API names.

Owns the arguments; what is printed is the API's own answer. Must not know what a call does.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator, Sequence

from sgdataplane.cli.apiclient import client_of, find_unenforced
from sgdataplane.terminal.arguments import Verbs, read_for
from sgdataplane.terminal.output import Exit, print_json
from sgdataplane.visible import visible

ACTION = re.compile(r"[A-Za-z][A-Za-z0-9]{0,127}")
PARAMETER = re.compile(r"--([A-Za-z][A-Za-z0-9._-]{0,255})(?:=(.*))?", re.DOTALL)
EXAMPLE = "--SecurityGroupId sg-1, or --Permissions.1.Policy=drop"


def register(verbs: Verbs) -> None:
    """Add the verb."""
    more = (
        "SGDP_API is the API's address, and ALIBABA_CLOUD_ACCESS_KEY_ID and ALIBABA_CLOUD_ACCESS_KEY_SECRET are the "
        "key. Parameters have the API's own names: lists are numbered from 1. Options of sgdp come before ACTION."
    )
    parser = verbs.add("call", run, more)
    about = "the product that the action is of: ecs (the default), vpc, sts, resourcemanager, location or bssopenapi"
    parser.add_argument("--product", default="ecs", metavar="P", help=about)
    about = "after a change, wait until it is enforced; exit code 1 if it isn't"
    parser.add_argument("--wait", action="store_true", help=about)
    parser.add_argument("called", metavar="ACTION", help="the action, such as DescribeSecurityGroups")
    parser.add_argument("parameters", nargs=argparse.REMAINDER, metavar="--NAME VALUE", help=f"such as {EXAMPLE}")


def run(arguments: argparse.Namespace) -> int:
    """Print the API's answer as JSON.

    Exit 5 if the API refuses, 1 if a change isn't in force that was waited for.
    """
    from sgdataplane.control.calls.products import PRODUCTS

    versions = {product.service: product.version for product in PRODUCTS}
    if arguments.product not in versions:
        arguments.parser.error(f"--product: {arguments.product!r} is none of {', '.join(versions)}")
    if not ACTION.fullmatch(arguments.called):
        arguments.parser.error(f"{visible(arguments.called)} is not the name of an action")
    asked = read_for(arguments, lambda: dict(_parameters(arguments.parameters)))
    client = client_of(arguments, versions[arguments.product])
    answer = client.ask(arguments.called, **asked)
    revision = answer.get("revision")
    if not revision or not arguments.wait:
        print_json(answer)
        return Exit.DONE
    waited = client_of(arguments).ask("SgdpWait", Revision=revision)
    print_json({**answer, "wait": waited})
    return Exit.NO if find_unenforced(waited) else Exit.DONE


def _parameters(said: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield the names and values of parameters. ValueError if something is neither, or is named twice."""
    rest, seen = list(said), set[str]()
    while rest:
        found = PARAMETER.fullmatch(word := rest.pop(0))
        if found is None:
            raise ValueError(f"{visible(word)} is not a parameter: expected {EXAMPLE}")
        name, value = found.groups()
        if value is None:
            if not rest:
                raise ValueError(f"--{name} has no value: expected {EXAMPLE}")
            value = rest.pop(0)
        if name in seen:
            raise ValueError(f"--{name} is given twice; elements of a list are numbered: --{name}.1, --{name}.2")
        seen.add(name)
        yield name, value
