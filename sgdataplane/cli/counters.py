"""`sgdp counters`: how many packets each rule decided about, and which rules never did.

Owns the arguments, the wording and the document of `--json`. Must not know how counters are read or kept.

    {"source": "agent" | "lab", "name": of the lab or null, "at": time, "error": why counts aren't kept or null,
     "scopes": [{"namespace", "placement", "enis", "at", "counters": [a row each]}], "unused": [...],
     "workloads": {ENI id: the name of its container or pod}}

    scopes      the namespaces; "at": when its counters were read; the keys of a row: pydoc sgdataplane.observe.hits
    unused      rules in force that decided about no packet in any of these namespaces: {security_group_id,
                security_group_rule_id, direction, verdict, priority, enis, since}
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterable, Iterator
from typing import Any

from sgdataplane.attach.names import NO_NAMES, WorkloadNames
from sgdataplane.cli.scopes import USUAL, agent_config, ask_agent, find_named_lab, names_here, of_lab
from sgdataplane.cli.times import add_since
from sgdataplane.daemon.control import Request
from sgdataplane.errors import Problem, StateFileError, Where
from sgdataplane.model import words
from sgdataplane.model.words import pluralize
from sgdataplane.observe.hits import decision_of, decisions, eni_of_counter, read_hits, rows
from sgdataplane.observe.ledger import Sum
from sgdataplane.terminal.arguments import ENI_HELP, Verbs, require_root
from sgdataplane.terminal.output import Exit, iso_time, print_json, render_table, say, say_block, warn, whole_seconds

HEADERS = ("DIRECTION", "VERDICT", "PRIORITY", "DECIDED BY", "PACKETS", "BYTES", "LAST HIT")
UNUSED_HEADERS = ("RULE", "DIRECTION", "VERDICT", "PRIORITY", "NEVER HIT SINCE", "COUNTED FOR")
AUDITED_HEADERS = ("ENI", "DIRECTION", "WOULD BE DROPPED BY", "PACKETS", "LAST HIT")
NOT_AUDITED = "no ENI is in audit mode"
SHOWN_ENIS = 3
NOTHING = "nothing is counted: no ENI is enforced"
NO_RULE = "no rule is in force: the defaults decide"
ALL_USED = "every rule in force has decided about a packet"
Document = dict[str, Any]


def register(verbs: Verbs) -> None:
    """Add the verb."""
    more = "The agent keeps counts over restarts and policy changes; a lab has those of the kernel. Needs root."
    parser = verbs.add("counters", run, more)
    parser.add_where("that in SGDP_LAB, or the running agent; if none runs, the lab named lab")
    parser.add_argument("--eni", metavar="ENI", help=f"only the namespace of this ENI: {ENI_HELP}")
    parser.add_argument("--unused", action="store_true", help="only list the rules that decided about no packet")
    parser.add_argument(
        "--audited", action="store_true", help="only what passed at ENIs in audit mode, and would be dropped otherwise"
    )
    add_since(parser, None, "with --unused: only what was decided from then on counts, by the agent's history")
    parser.add_argument("--all", action="store_true", help="also rules that are no longer in force")
    parser.add_json("sgdataplane/schemas/counters.schema.json")


def run(arguments: argparse.Namespace) -> int:
    """Print the counts."""
    require_root("reading the counters of other namespaces")
    if arguments.since is not None and not arguments.unused:
        arguments.parser.error(
            "--since says from when on rules are unused: add --unused, or ask `sgdp flows --by group`"
        )
    document = read(arguments)
    if arguments.since is not None:
        from sgdataplane.cli.counterssince import since_then

        scopes, begin = since_then(document, arguments)
        document = {**document, "unused": list(find_unused(scopes)), "recorded_since": begin}
    names = names_here(agent_config(arguments)) if document["source"] == "agent" else NO_NAMES
    if arguments.json:
        print_json({**document, "workloads": _workloads(document["scopes"], names)})
        return Exit.DONE
    if document["error"]:
        warn(f"counts are not kept: {document['error']}")
    if arguments.unused:
        _print_unused(document, names)
    elif arguments.audited:
        _print_audited(document["scopes"], names)
    else:
        _print_scopes(document["scopes"], names, is_all=arguments.all)
    return Exit.DONE


def read(arguments: argparse.Namespace) -> Document:
    """Return the document of --json. HostError if there is neither an agent nor a lab."""
    answer: Document | None = ask_agent(arguments, Request.COUNTERS, eni=arguments.eni)
    found = _of_lab(arguments) if answer is None else {"source": "agent", "name": None, **answer["counters"]}
    if arguments.eni is not None and not found["scopes"]:
        expected = "an ENI that is attached here, or was: `sgdp status` lists them"
        problem = Problem(Where(), "InvalidEniId.NotFound", "nothing is counted for the ENI", arguments.eni, expected)
        raise StateFileError((problem,))
    return {**found, "unused": list(find_unused(found["scopes"]))}


def _of_lab(arguments: argparse.Namespace) -> Document:
    """Return what the kernel has counted since the lab was built; nobody has kept the times of hits."""
    from sgdataplane.lab import manage
    from sgdataplane.lab.record import up_since

    name = find_named_lab(arguments) or USUAL
    with manage.watch(name) as lab:
        there = of_lab(lab)
        eni = "" if arguments.eni is None else there.eni(arguments.eni)
        at, since = iso_time(time.time()), iso_time(up_since(name))
        scopes = []
        for scope in there.all if not eni else (there.having(eni),):
            sums = {counter: Sum(c.packets, c.bytes, since) for counter, c in read_hits(scope.namespace).items()}
            scopes.append(
                {
                    "namespace": scope.namespace,
                    "placement": scope.placement.value,
                    "enis": sorted(scope.interfaces),
                    "at": at,
                    "counters": list(
                        rows(
                            decisions(lab.state, scope.interfaces),
                            sums,
                            eni_of_counter(lab.state, scope.interfaces),
                        )
                    ),
                }
            )
    return {"source": "lab", "name": name, "at": at, "error": None, "scopes": scopes}


def find_unused(scopes: Iterable[Document]) -> Iterator[Document]:
    """Yield the rules in force that decided about no packet in any of these scopes.

    "since" is that of the scope that has counted the longest.
    """
    of_rule: dict[str, list[tuple[Document, Document]]] = {}
    audited: set[tuple[str, str]] = set()  # rules that would have dropped something
    for scope in scopes:
        for row in scope["counters"]:
            if row.get("audited") and row["packets"]:
                audited.add((row["security_group_id"], row["security_group_rule_id"]))
            elif row["kind"] == "rule" and row["in_force"] and not row.get("audited"):
                of_rule.setdefault(row["counter"], []).append((scope, row))
    for entries in of_rule.values():
        row = entries[0][1]
        is_audited = bool(audited) and (row["security_group_id"], row["security_group_rule_id"]) in audited
        if not is_audited and not any(found["packets"] for _, found in entries):
            keys = ("security_group_id", "security_group_rule_id", "direction", "verdict", "priority")
            yield {
                **{key: row[key] for key in keys},
                "enis": sorted({eni for scope, _ in entries for eni in scope["enis"]}),
                "since": min((row["since"] for _, row in entries if row["since"]), default=None),
            }


def _workloads(scopes: list[Document], names: WorkloadNames) -> dict[str, str]:
    """Return ENI id -> the name of its container or pod, if it has one."""
    enis = {eni for scope in scopes for eni in scope["enis"]}
    return {eni: name for eni in sorted(enis) if (name := names.workload(eni))}


def _print_scopes(scopes: list[Document], names: WorkloadNames, *, is_all: bool) -> None:
    """Print a table for each namespace."""
    shown = [scope for scope in scopes if is_all or _is_enforced(scope)]
    if not shown:
        say(NOTHING)
    for number, scope in enumerate(shown):
        if number:
            say()
        say(_title(scope, names))
        rows = [row for row in scope["counters"] if (is_all or row["in_force"]) and not row.get("audited")]
        is_timed = any(row["last_hit"] for row in rows)
        table = [cells if is_timed else cells[:-1] for cells in map(_cells, rows)]
        say_block(render_table(HEADERS if is_timed else HEADERS[:-1], table))


def _print_audited(scopes: list[Document], names: WorkloadNames) -> None:
    """Print one row for each ENI and rule that would have dropped something, and the sum."""
    rows = [row for scope in scopes for row in scope["counters"] if row.get("audited") and row["packets"]]
    if not any(row.get("audited") for scope in scopes for row in scope["counters"]):
        say(NOT_AUDITED)
        return
    table = [
        (
            names.label(row.get("eni") or ""),
            row["direction"] or "",
            describe_decision(row),
            str(row["packets"]),
            whole_seconds(row["last_hit"]),
        )
        for row in rows
    ]
    is_timed = any(row["last_hit"] for row in rows)
    if rows:
        shown = len(AUDITED_HEADERS) if is_timed else -1
        say_block(render_table(AUDITED_HEADERS[:shown], [cells[:shown] for cells in table]))
    say(f"{pluralize(sum(row['packets'] for row in rows), 'packet')} passed that would be dropped in mode enforce")


def _is_enforced(scope: Document) -> bool:
    """Return whether a namespace has rules in force."""
    return any(row["in_force"] for row in scope["counters"])


def _title(scope: Document, names: WorkloadNames) -> str:
    """Return the ENIs of a namespace, and where they are."""
    where = f"in {names.place(scope['namespace'])}" if scope["namespace"] else "in a namespace that has ended"
    enis = [*map(names.label, scope["enis"])]
    return f"{words.first_of(enis, SHOWN_ENIS)} {where}" if enis else where


def _cells(row: Document) -> tuple[str, ...]:
    priority = str(row["priority"] or "")
    start = (row["direction"] or "", row["verdict"] or "", priority, describe_decision(row))
    return (*start, str(row["packets"]), str(row["bytes"]), whole_seconds(row["last_hit"]))


def describe_decision(row: Document) -> str:
    """Say in few words what a row counts."""
    found = decision_of(row)
    decision = found and found.enforced
    named = row["counter"] if decision is None else words.name(decision)
    return named if row["in_force"] else f"{named} (no longer in force)"


def _print_unused(document: Document, names: WorkloadNames) -> None:
    """Print the rules that never decided about a packet, or why there are none."""
    found, scopes = document["unused"], document["scopes"]
    if not found:
        say(NOTHING if not any(map(_is_enforced, scopes)) else ALL_USED if _total(scopes) else NO_RULE)
        return
    rows = [
        (
            words.rule_name(entry["security_group_id"], entry["security_group_rule_id"]),
            entry["direction"],
            entry["verdict"],
            str(entry["priority"]),
            whole_seconds(entry["since"]) or "-",
            words.first_of([*map(names.label, entry["enis"])], SHOWN_ENIS),
        )
        for entry in found
    ]
    say_block(render_table(UNUSED_HEADERS, rows))
    say(f"{len(found)} of {pluralize(_total(scopes), 'rule')} never decided about a packet")


def _total(scopes: Iterable[Document]) -> int:
    """Return how many rules are in force."""
    rows = (row for scope in scopes for row in scope["counters"])
    return len({row["counter"] for row in rows if row["kind"] == "rule" and row["in_force"]})
