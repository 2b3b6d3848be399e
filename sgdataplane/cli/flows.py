"""`sgdp flows`: who talked to whom, with verdict and rule, from the agent's history.

Owns the arguments, the wording, the document of `--json` and the page of `--html`. Must not know how history is kept.

    {... of cli/history.py, "by": what rows are summed up by, or null, "more": rows that are left out,
     "flows": [{"eni", "workload", "direction", "end", "end_workload", "protocol", "port", "icmp_type", "icmp_code",
                "verdict", "reason", "security_group_id", "security_group_rule_id", "packets", "bytes", "first", "last",
                "sampled", "merged"}]}

    workload    the name of the container or pod at the ENI, or null; end_workload: that at the other end
    packets     of drops; else sessions. Rows of --by have only the keys that they are summed up by, and the numbers
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sgdataplane.attach.names import describe_eni
from sgdataplane.cli.history import (
    Coverage,
    Document,
    add_where,
    coverage_of,
    history_path,
    query_of,
    say_coverage,
)
from sgdataplane.cli.scopes import agent_config, names_here
from sgdataplane.cli.times import add_time
from sgdataplane.history.read import History, HistoryQuery, open_history
from sgdataplane.history.rows import ALL_OF_ENI, ANY, Fate, FlowCount, FlowKey, HistoryRow, traffic_words
from sgdataplane.model import words
from sgdataplane.model.decision import Decision
from sgdataplane.model.words import pluralize
from sgdataplane.net.values import ICMP, ICMPV6, Direction, Protocol
from sgdataplane.terminal.arguments import ENI_HELP, Verbs, read_limit, require_root
from sgdataplane.terminal.files import require_writable, write
from sgdataplane.terminal.output import (
    Exit,
    iso_time,
    paint_verdict,
    print_json,
    render_table,
    say,
    say_aside,
    say_block,
    whole_seconds,
)

MAX_ROWS, MAX_JSON = 100, 100_000
HEADERS = ("ENI", "DIRECTION", "OTHER END", "TRAFFIC", "VERDICT", "DECIDED BY", "COUNT", "LAST SEEN")
# what rows are summed up by -> the columns of history, and their headers
BY: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "eni": (("eni", "direction", "fate"), ("ENI", "DIRECTION", "VERDICT")),
    "group": (("cause", "grp", "rule", "direction", "fate"), ("GROUP", "RULE", "DIRECTION", "VERDICT")),
    "address": (("end", "fate"), ("OTHER END", "VERDICT")),
    "port": (("protocol", "port", "direction", "fate"), ("TRAFFIC", "DIRECTION", "VERDICT")),
}
TITLE, SOURCE = "Who talked to whom", "the agent's history"
NOTHING = "nothing was seen in that time"


def register(verbs: Verbs) -> None:
    """Add the verb."""
    more = "The agent keeps history if its configuration has the key history. Needs root."
    parser = verbs.add("flows", run, more)
    add_where(parser)
    add_time(parser)
    parser.add_argument("--eni", metavar="ENI", help=f"only of this ENI: {ENI_HELP}")
    parser.add_argument("--by", choices=tuple(BY), help="sum up by this")
    verdicts = tuple(fate.value for fate in Fate)
    parser.add_argument("--verdict", choices=verdicts, help="only what was accepted, dropped, or audited")
    help_text = (
        f"show at most N rows, the latest (with --by: the largest); default: {MAX_ROWS}, with --json {MAX_JSON:,}"
    )
    parser.add_argument("--limit", type=read_limit, metavar="N", help=help_text)
    shown = parser.add_mutually_exclusive_group()
    shown.add_argument("--html", type=Path, metavar="FILE", help="write an HTML page, a single file")
    parser.add_json("sgdataplane/schemas/flows.schema.json", shown)


def run(arguments: argparse.Namespace) -> int:
    """Print what was seen, or write it as a page."""
    require_root("reading the agent's history")
    fates = None if arguments.verdict is None else (Fate(arguments.verdict),)
    query = query_of(arguments, fates=fates)
    if arguments.html is not None:
        require_writable(arguments.html)
    most = arguments.limit or (MAX_JSON if arguments.json else MAX_ROWS)
    with open_history(history_path(arguments)) as history:
        coverage = coverage_of(history, query)
        document = read(history, query, arguments.by, most)
    names = names_here(agent_config(arguments))
    document["flows"] = [names.add_to(flow) for flow in document["flows"]]
    if arguments.json:
        print_json({**coverage.as_json(), **document})
    elif arguments.html is not None:
        _write_page(arguments.html, coverage, document)
    else:
        _say(document, coverage)
    return Exit.DONE


def read(history: History, query: HistoryQuery, by: str | None, most: int) -> Document:
    """Return the document of --json, without the coverage."""
    if by is None:
        found = [document_of(row) for row in history.flows(query, most=most + 1)]
    elif is_exact(query, by):
        found = _exact(history, query, by)
    else:
        columns = BY[by][0]
        sums = history.sums(query, columns, most=most + 1)
        found = [_sum(dict(zip(columns, of, strict=True)), count) for of, count in sums]
    return {"by": by, "more": len(found) > most, "flows": found[:most]}


def is_exact(query: HistoryQuery, by: str) -> bool:
    """Return whether the kernel has counted what is asked for.

    It counts an ENI's audited sessions among those accepted.
    """
    is_of_eni = by == "eni" and Fate.AUDITED not in (query.fates or ())
    return is_of_eni or (by == "group" and query.eni_id is None)


def _exact(history: History, query: HistoryQuery, by: str) -> list[Document]:
    """Return rows by ENI or by rule, from what the kernel has counted."""
    found: dict[tuple[object, ...], tuple[Document, FlowCount]] = {}
    for total in history.totals(query):
        decision, fate = total.decision, total.fate
        is_of_eni = decision.cause == ALL_OF_ENI
        if is_of_eni is not (by == "eni") or (query.fates is not None and fate not in query.fates):
            continue
        shown: Document = {"eni": total.scope} if is_of_eni else _rule(decision)
        shown |= {"direction": decision.direction.value, "verdict": fate.value}
        _, count = found.setdefault(tuple(shown.values()), (shown, FlowCount(0, 0, total.first, total.last)))
        count.packets, count.bytes = count.packets + total.packets, count.bytes + total.bytes
        count.first, count.last = min(count.first, total.first), max(count.last, total.last)
    ordered = sorted(found.values(), key=lambda entry: -entry[1].packets)
    return [{**shown, **_numbers(count)} for shown, count in ordered]


def _rule(decision: Decision) -> Document:
    ids = decision.security_group_id or None, decision.security_group_rule_id or None
    return {"reason": decision.cause, "security_group_id": ids[0], "security_group_rule_id": ids[1]}


def document_of(row: HistoryRow) -> Document:
    """Return a row as the document has it."""
    return {**_key(row.key), **_numbers(row.count)}


def _key(key: FlowKey) -> Document:
    return {
        "eni": key.eni_id,
        "direction": key.direction.value,
        "end": key.end,
        **_traffic(key.protocol, key.port),
        "verdict": key.fate.value,
        "reason": key.cause,
        "security_group_id": key.group_id or None,
        "security_group_rule_id": key.rule_id or None,
    }


def _traffic(protocol: int, port: int) -> Document:
    is_icmp = protocol in (ICMP, ICMPV6) and port != ANY
    return {
        "protocol": None if protocol == ANY else str(Protocol(protocol)),
        "port": None if port == ANY or is_icmp else port,
        "icmp_type": port >> 8 if is_icmp else None,
        "icmp_code": port & 0xFF if is_icmp else None,
    }


def _sum(of: Mapping[str, Any], count: FlowCount) -> Document:
    """Return a sum as the document has it, by the columns that it is of."""
    shown: Document = {}
    for column, value in of.items():
        match column:
            case "cause":
                shown["reason"] = value
            case "grp":
                shown["security_group_id"] = value or None
            case "rule":
                shown["security_group_rule_id"] = value or None
            case "fate":
                shown["verdict"] = value.value
            case "direction":
                shown["direction"] = value.value
            case "protocol":
                shown |= _traffic(value, of["port"])
            case "eni" | "end":
                shown[column] = value
    return {**shown, **_numbers(count)}


def _numbers(count: FlowCount) -> Document:
    return {
        "packets": count.packets,
        "bytes": count.bytes,
        "first": iso_time(count.first),
        "last": iso_time(count.last),
        "sampled": count.is_sampled,
        "merged": count.is_merged,
    }


# for people


def _say(document: Document, coverage: Coverage) -> None:
    headers, rows = table_of(document)
    if rows:
        say_block(render_table(headers, rows))
    else:
        say_aside(NOTHING)
    if document["more"]:
        say_aside(
            f"{pluralize(len(rows), 'row')} shown, and there are more: use --limit, --eni, --by or a shorter time"
        )
    say_coverage(coverage)


def table_of(document: Document) -> tuple[Sequence[str], list[tuple[str, ...]]]:
    """Return headers and cells for people."""
    if document["by"] is None:
        return HEADERS, [_cells(flow) for flow in document["flows"]]
    headers = (*BY[document["by"]][1], "COUNT", "LAST SEEN")
    return headers, [_cells_by(document["by"], flow) for flow in document["flows"]]


def _cells(flow: Document) -> tuple[str, ...]:
    start = (_eni(flow), flow["direction"], _other_end(flow), traffic(flow), paint_verdict(flow["verdict"]))
    return (*start, describe_decision(flow), *_counts(flow))


def _cells_by(by: str, flow: Document) -> tuple[str, ...]:
    end = (paint_verdict(flow["verdict"]), *_counts(flow))
    match by:
        case "eni":
            return (_eni(flow), flow["direction"], *end)
        case "group":
            group, rule = flow["security_group_id"] or "-", flow["security_group_rule_id"] or flow["reason"]
            return (group, rule, flow["direction"], *end)
        case "address":
            return (_other_end(flow), *end)
    return (traffic(flow), flow["direction"], *end)


def _eni(flow: Document) -> str:
    return describe_eni(flow["eni"], flow["workload"])


def _other_end(flow: Document) -> str:
    return describe_eni(flow["end"], flow["end_workload"])


def _counts(flow: Document) -> tuple[str, str]:
    return f"{'~' if flow['sampled'] else ''}{flow['packets']}", whole_seconds(flow["last"])


def traffic(flow: Document) -> str:
    """Return protocol and port in words."""
    protocol = flow["protocol"]
    number = ANY if protocol is None else Protocol.parse(protocol).number
    port = flow["port"] if flow["port"] is not None else ANY
    if flow["icmp_type"] is not None:
        port = flow["icmp_type"] << 8 | flow["icmp_code"]
    return traffic_words(number, port)


def describe_decision(flow: Document) -> str:
    """Say in few words what decided."""
    ids = flow["security_group_id"] or "", flow["security_group_rule_id"] or ""
    key = FlowKey("", Direction(flow["direction"]), "", ANY, ANY, Fate(flow["verdict"]), flow["reason"], *ids)
    return words.name(key.decision)


def _write_page(path: Path, coverage: Coverage, document: Document) -> None:
    """Write the page of `--html`."""
    from sgdataplane import __version__
    from sgdataplane.report.content import FlowsPage
    from sgdataplane.report.render import render_page

    headers, rows = table_of(document)
    span = f"{whole_seconds(coverage.since)} to {whole_seconds(coverage.until)}"
    facts = (("Time", span), ("Rows", f"{len(rows):,}{', and more that are left out' if document['more'] else ''}"))
    page = FlowsPage(TITLE, SOURCE, __version__, facts, tuple(headers), tuple(rows), tuple(coverage.lines()))
    write(render_page(page), path)
    say(f"wrote {path}")
