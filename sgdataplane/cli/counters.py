"""`sgdp counters`: how often each rule decided about a packet, and which never did.

Owns the arguments, the wording and the document of `--json`. Must not know how counters are read or kept.

    {"source": "agent" | "lab", "name": of the lab or null, "at": ..., "error": why counts aren't kept or null,
     "scopes": [{"namespace", "placement", "enis", "at", "counters": [a row each]}], "unused": [...]}

    scopes      what the kernel counts together, and when it was read; rows: pydoc sgdataplane.observe.hits
    unused      rules in force that decided about nothing at all in these scopes: {security_group_id,
                security_group_rule_id, direction, verdict, priority, enis, since}
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sgdataplane.cli.arguments import ENI_HELP
from sgdataplane.cli.command import Exit, Subparsers, require_root
from sgdataplane.cli.output import print_json, render_table, say, say_block, warn
from sgdataplane.cli.scopes import USUAL, of_lab

HEADERS = ("DIRECTION", "VERDICT", "PRIORITY", "DECIDED BY", "PACKETS", "BYTES", "LAST HIT")
UNUSED_HEADERS = ("RULE", "DIRECTION", "VERDICT", "PRIORITY", "NEVER HIT SINCE", "COUNTED FOR")
SHOWN_ENIS = 3
Document = dict[str, Any]


def register(verbs: Subparsers) -> None:
    """Add the verb."""
    words = "how often each rule decided about a packet, and which never did"
    parser = verbs.add_parser("counters", help=words, description=words)
    parser.add_argument("--name", metavar="N", help="of this lab (default: of the agent, if one runs, else of lab)")
    parser.add_argument("--config", type=Path, metavar="FILE", help="the configuration that the agent runs with")
    parser.add_argument("--eni", metavar="ENI", help=f"only where it is counted: {ENI_HELP}")
    parser.add_argument("--unused", action="store_true", help="the rules that never decided about any packet")
    parser.add_argument("--all", action="store_true", help="also what is in force no longer")
    parser.add_argument("--json", action="store_true", help="for programs; the keys: pydoc sgdataplane.cli.counters")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Print what was counted."""
    require_root("reading the counters of other namespaces", "sudo " + shlex.join(["sgdp", *sys.argv[1:]]))
    document = read(arguments)
    if arguments.json:
        print_json(document)
        return Exit.DONE
    if document["error"]:
        warn(f"counts are not kept: {document['error']}")
    if arguments.unused:
        _print_unused(document)
    else:
        _print_scopes(document["scopes"], is_all=arguments.all)
    return Exit.DONE


def read(arguments: argparse.Namespace) -> Document:
    """The document of --json. HostError if there is neither an agent nor a lab."""
    from sgdataplane.cli.asked import ask_agent
    from sgdataplane.daemon.protocol import Request

    answer: Document | None = ask_agent(arguments, Request.COUNTERS, eni=arguments.eni)
    found = _of_lab(arguments) if answer is None else {"source": "agent", "name": None, **answer["counters"]}
    if arguments.eni is not None and not found["scopes"]:
        _refuse_eni(arguments.eni)
    return {**found, "unused": list(unused(found["scopes"]))}


def _refuse_eni(eni_id: str) -> None:
    from sgdataplane.errors import Problem, StateFileError, Where

    expected = "an ENI that is attached here, or was: `sgdp status` lists them"
    raise StateFileError((Problem(Where(), "InvalidEniId.NotFound", "nothing is counted for it", eni_id, expected),))


def _of_lab(arguments: argparse.Namespace) -> Document:
    """What the kernel has counted; nobody has kept times of hits."""
    from sgdataplane.lab import manage
    from sgdataplane.lab.record import up_since
    from sgdataplane.observe.hits import decisions, read_hits, rows
    from sgdataplane.observe.ledger import Sum

    name = arguments.name or USUAL
    with manage.watch(name) as lab:
        there = of_lab(lab)
        eni = "" if arguments.eni is None else there.eni(arguments.eni)
        at, since, scopes = _time(datetime.now(UTC).timestamp()), _time(up_since(name)), []
        for scope in there.all:
            enis = scope.interfaces
            if not eni or eni in enis:
                counted = read_hits(scope.namespace)
                sums = {counter: Sum(c.packets, c.bytes, since) for counter, c in counted.items()}
                found = list(rows(decisions(lab.state, enis), sums))
                placement = scope.placement.value
                named = {"namespace": scope.namespace, "placement": placement, "enis": sorted(enis), "at": at}
                scopes.append({**named, "counters": found})
    return {"source": "lab", "name": name, "at": at, "error": None, "scopes": scopes}


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def unused(scopes: Iterable[Document]) -> Iterator[Document]:
    """Rules in force that never decided about a packet in any of these; since the first of them counts."""
    of_rule: dict[str, list[tuple[Document, Document]]] = {}
    for scope in scopes:
        for row in scope["counters"]:
            if row["kind"] == "rule" and row["in_force"]:
                of_rule.setdefault(row["counter"], []).append((scope, row))
    for entries in of_rule.values():
        if not any(row["packets"] for _, row in entries):
            row = entries[0][1]
            keys = ("security_group_id", "security_group_rule_id", "direction", "verdict", "priority")
            yield {
                **{key: row[key] for key in keys},
                "enis": sorted({eni for scope, _ in entries for eni in scope["enis"]}),
                "since": min((row["since"] for _, row in entries if row["since"]), default=None),
            }


def _print_scopes(scopes: list[Document], *, is_all: bool) -> None:
    shown = [scope for scope in scopes if is_all or any(row["in_force"] for row in scope["counters"])]
    if not shown:
        say("nothing is counted: no ENI is enforced")
    for number, scope in enumerate(shown):
        if number:
            say()
        say(_title(scope))
        rows = [row for row in scope["counters"] if is_all or row["in_force"]]
        is_timed = any(row["last_hit"] for row in rows)
        table = [cells if is_timed else cells[:-1] for cells in map(_cells, rows)]
        say_block(render_table(HEADERS if is_timed else HEADERS[:-1], table))


def _title(scope: Document) -> str:
    where = f"in {scope['namespace']}" if scope["namespace"] else "in a namespace that has ended"
    return f"{_enis(scope['enis'])} {where}" if scope["enis"] else where


def _enis(enis: list[str]) -> str:
    more = len(enis) - SHOWN_ENIS
    return ", ".join(enis[:SHOWN_ENIS]) + (f" and {more} more" if more > 0 else "")


def _cells(row: Document) -> tuple[str, ...]:
    priority = str(row["priority"] or "")
    start = (row["direction"] or "", row["verdict"] or "", priority, decided_by(row))
    return (*start, str(row["packets"]), str(row["bytes"]), row["last_hit"] or "")


def decided_by(row: Document) -> str:
    """What counts, in few words."""
    from sgdataplane.model import words
    from sgdataplane.observe.hits import decision_of

    decision = decision_of(row)
    named = row["counter"] if decision is None else words.name(decision)
    return named if row["in_force"] else f"{named} (no longer in force)"


def _print_unused(document: Document) -> None:
    from sgdataplane.model import words

    found = document["unused"]
    if not found:
        say("every rule has decided about some packet")
        return
    rows = [
        (
            words.rule_name(entry["security_group_id"], entry["security_group_rule_id"]),
            entry["direction"],
            entry["verdict"],
            str(entry["priority"]),
            entry["since"] or "-",
            _enis(entry["enis"]),
        )
        for entry in found
    ]
    say_block(render_table(UNUSED_HEADERS, rows))
    say(f"{len(found)} of {_total(document['scopes'])} rules")


def _total(scopes: Iterable[Document]) -> int:
    rows = (row for scope in scopes for row in scope["counters"])
    return len({row["counter"] for row in rows if row["kind"] == "rule" and row["in_force"]})
