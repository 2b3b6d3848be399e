"""Which of the cloud's actions the API does, and which fields of each it looks at.

Owns how that is found: a field is looked at if its name stands in the functions that do the action, or in the tables
that they read. Must not know what a field means.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields as fields_of
from functools import partial
from importlib import resources
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any

from sgdataplane.control.actions import ACTIONS
from sgdataplane.control.calls.catalogue import catalogue
from sgdataplane.control.calls.products import PRODUCTS
from sgdataplane.control.hosts import waits
from sgdataplane.control.service import analysis, events, trials
from sgdataplane.statefile import ecs_names
from tools.clients import PAGE as CLIENTS_PAGE
from tools.clients import VERSION as TERRAFORM
from tools.commands import table

OURS: Mapping[str, object] = {
    "SgdpDiff": analysis.diff,
    "SgdpExplain": analysis.explain,
    "SgdpDescribeEvents": events.describe_events,
    "SgdpDescribeHosts": waits.describe,
    "SgdpTrialShow": trials.show,
    "SgdpTrialStart": trials.start,
    "SgdpTrialStop": trials.stop,
}
DATA = Path(__file__).resolve().parent.parent / "tests" / "data"
TRIED, CALLS = DATA / "tried-clients.json", DATA / "terraform-calls.txt"
PASSED, FORCED = "passed", "passed, by `--force`"
CLIENTS = ("Terraform", "Python V1", "Python V3", "Node", "Go", "CLI", "Ansible")
ANSWERING = ("shape", "permission")  # functions that make answers, and so name fields of these; and any "..._item"
ALWAYS = {"RegionId", "ClientToken", "DryRun"}  # what the engine and HTTP look at
PAGING = {"MaxResults", "NextToken", "PageNumber", "PageSize", "Tag", "Key", "Value"}  # what a scope does
WAITS = {"Epoch", "Revision", "Timeout", "VpcId"}


def parts() -> Iterator[str]:
    """The page's parts."""
    found = tables()
    done = [name for name in found if name in ACTIONS or name.startswith("Sgdp")]
    rows = [(f"`{name}`", *_fields(name, found[name])) for name in done]
    yield (
        "The cloud's actions, as its SDK of 2014-05-26 has them; those of other products, as far as clients need "
        "them, after their service's name; and those of ours. A field that is ignored may be "
        "given: it means nothing here. Fields that are in neither list are ignored, too. What is ignored is of disks, "
        "images, prices and hardware, which instances here don't have; of other accounts, as there is one; or asks for "
        "a part of what is answered anyway, such as IsQueryEcsCount and Attribute. Filters by what "
        "nothing here has, such as public addresses, find nothing. What of an instance means nothing here, such as its "
        "charge type, is told again as it was asked for."
    )
    yield (
        "A request's version says which product it asks: "
        + ", ".join(f"{product.service} {product.version}" for product in PRODUCTS)
        + ". Regions, zones, types and images are those of [the catalogue](api-catalogue.md)."
    )
    yield table(("action", "fields that count", "fields that are ignored"), rows)
    yield "## Tried with"
    yield from _tried([name for name in done if not name.startswith("Sgdp")])
    yield "## Refused"
    others = ", ".join(f"`{name}`" for name in found if name not in done)
    yield f"`InvalidAction.NotFound` is the answer to {others}, and to all that isn't on this page."


def catalogue_parts() -> Iterator[str]:
    """The parts of the page about the catalogue."""
    yield (
        "Clients look these up before they ask for anything. Nothing here means anything to a policy, or comes from "
        "the cloud: it is a short list with names as the cloud has them. An instance may have a type and an image that "
        "aren't on it. Each region has everything that the API's store holds."
    )
    for section in fields_of(catalogue()):
        rows = [
            [str(getattr(one, field.name)) for field in fields_of(one)]
            for one in getattr(catalogue(), section.name).values()
        ]
        first = next(iter(getattr(catalogue(), section.name).values()))
        heads = [field.name.replace("_", " ") for field in fields_of(first)]
        yield f"## {section.name.replace('_', ' ').capitalize()}"
        yield table(heads, [[f"`{row[0]}`", *row[1:]] for row in rows])


def _tried(actions: Iterable[str]) -> Iterator[str]:
    found = {**{client: tried["actions"] for client, tried in tried_clients().items()}, "Terraform": _of_terraform()}
    versions = {client: tried["version"] for client, tried in tried_clients().items()} | {"Terraform": TERRAFORM}
    untried = [client for client in CLIENTS if client not in found]
    yield (
        "This table says which of the cloud's own clients have called an action, with which version, and what became "
        "of it. If nothing is recorded, a cell is empty. The SDKs are those of ECS: a test calls each action once "
        "through the SDK's own request, with the parameters that it needs, and the cell is "
        f"`{PASSED}` if the SDK has read the answer. The command line calls each action once, too. If its own list of "
        "parameters doesn't have one, it calls the action with `--force`, which skips that list. Ansible's modules "
        "call an action while a playbook makes, changes and removes what they are for. "
        f"Terraform's cell is `{PASSED}` if an acceptance test of its "
        "provider calls the action, and [that test passes](clients.md). Its calls were recorded when fewer of these "
        "tests went to their end, so tests that pass now may call actions whose cell is empty."
        + (f" Not tried: {', '.join(untried)}." if untried else "")
    )
    heads = [f"{client} {versions.get(client, '')}".strip() for client in CLIENTS]
    rows = [(f"`{name}`", *(found.get(client, {}).get(name, "") for client in CLIENTS)) for name in actions]
    yield table(("action", *heads), rows)


def tried_clients() -> dict[str, Any]:
    """Of each client that a test runs: its version, and what became of each action."""
    found: dict[str, Any] = json.loads(TRIED.read_text("utf-8"))
    return found


def record_client(client: str, found: Mapping[str, Any]) -> None:
    """Write down what a client's version is, and what became of each action."""
    TRIED.write_text(json.dumps({**tried_clients(), client: found}, indent=1) + "\n", "utf-8")


def _of_terraform() -> dict[str, str]:
    """What became of the actions that acceptance tests call."""
    passing = set(re.findall(r"`(\w+)`", CLIENTS_PAGE.read_text("utf-8").partition("## Those that pass")[2]))
    found: dict[str, str] = {}
    for part in CALLS.read_text("utf-8").split("\n= ")[1:]:
        test, *calls = part.splitlines()
        for action in {line.partition(" ")[0] for line in calls if line}:
            if test in passing or action not in found:
                found[action] = PASSED if test in passing else "in tests that fail"
    return found


def tables() -> dict[str, Mapping[str, Any]]:
    folder = resources.files("sgdataplane.control.calls") / "tables"
    read = [json.loads((folder / f"{name}.json").read_text("utf-8")) for name in ("requests", "products", "extensions")]
    return {name: fields for part in read for name, fields in sorted(part.items())}


def _fields(action: str, fields: Mapping[str, Any]) -> tuple[str, str]:
    known = words_of(action)
    used = [_shown(name, field, known) for name, field in fields.items() if name in known]
    ignored = [name for name in fields if name not in known]
    return ", ".join(used) or "-", ", ".join(ignored) or "-"


def _shown(name: str, field: Mapping[str, Any], known: set[str]) -> str:
    """A field; of one that has parts, those that count."""
    inner = [part for part in field.get("fields", {}) if part in known]
    return f"{name}{{{', '.join(inner)}}}" if inner else name


def words_of(action: str) -> set[str]:
    """All texts in the code that does an action."""
    if action == "SgdpWait":
        return ALWAYS | WAITS
    words, seen = set(ALWAYS | PAGING), set[object]()
    _collect(ACTIONS[action].run if action in ACTIONS else OURS[action], words, seen)
    return words


def _collect(value: object, words: set[str], seen: set[object]) -> None:
    if isinstance(value, str):
        words.add(value)
    elif isinstance(value, FunctionType):
        if value.__module__.startswith(("sgdataplane.control", "sgdataplane.store")) and value not in seen:
            seen.add(value)
            _collect_code(value.__code__, value.__globals__, words, seen)
    else:
        for part in _parts(value):
            _collect(part, words, seen)


def _parts(value: object) -> Iterable[object]:
    """What a value is made of, if it is one of those that functions read."""
    match value:
        case partial():
            return (value.func, *value.args)
        case dict() if value is not ACTIONS:
            return (*value.keys(), *value.values())
        case tuple() | frozenset():
            return value
        case _ if type(value).__module__.startswith("sgdataplane.control.actions"):
            return tuple(getattr(value, name) for name in getattr(type(value), "__slots__", ()))
    return ()


def _collect_code(code: CodeType, names: Mapping[str, Any], words: set[str], seen: set[object]) -> None:
    if code.co_name in ANSWERING or code.co_name.endswith("_item"):
        return
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            _collect_code(constant, names, words, seen)
        else:
            _collect(constant, words, seen)
    for name in code.co_names:
        _collect(names.get(name), words, seen)
        if ecs_names in (names.get(other) for other in code.co_names):
            _collect(getattr(ecs_names, name, None), words, seen)
