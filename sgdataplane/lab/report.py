"""A probe and a matrix as text for a person, as JSON for programs, and as a page with a picture.

Owns their form, and how nodes are drawn together: those with the same groups are one box. It is given a lab and the
results of its probes. Must not send anything, nor know HTML.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence

from sgdataplane import __version__
from sgdataplane.lab.expect import ProbeResult, explain_result, result_as_json
from sgdataplane.lab.manage import Lab
from sgdataplane.lab.probe import ACCEPT, Probe, ProbeEnd
from sgdataplane.model import words
from sgdataplane.report import content
from sgdataplane.report.picture import Edge, Node, draw, story
from sgdataplane.terminal.output import hanging, one_line, paint, render_table

MAX_ROWS, MAX_WRONG, MAX_BOXES, MAX_ENDS = 400, 100, 14, 16
MAX_NAMES = 4
OUTSIDE = "outside"
Key = tuple[str, ...]  # the groups of a node's ENIs; none outside. In a table: cells of a row
Pair = tuple[ProbeEnd, ProbeEnd]


def probe_as_text(cell: ProbeResult, note: str = "") -> str:
    """Return one probe as text: its ends and service, expected beside observed, and why.

    `note` stands behind the title (status.notes).
    """
    expected, observed = cell.expected, cell.observed
    lines = [
        one_line(f"{cell.probe}{note}"),
        hanging(
            "  expected: ", f"{_outcome(expected.verdict, expected.where)} by {words.cite_decision(expected.decision)}"
        ),
        hanging("  observed: ", f"{_outcome(observed.verdict, observed.where)} ({'; '.join(observed.evidence)})"),
    ]
    return "\n".join(lines if cell.agrees else (*lines, paint("  these disagree", "red")))


def _outcome(verdict: str, where: str) -> str:
    return f"{verdict} at {where}" if where else verdict


def matrix_as_json(cells: Sequence[ProbeResult], seconds: float, time_scale: float = 1.0) -> dict[str, object]:
    """Return the keys of command-line.md: all results, how many disagree, and the factor of the lab's timeouts."""
    disagreements = sum(not cell.agrees for cell in cells)
    return {
        "cells": [result_as_json(cell) for cell in cells],
        "disagreements": disagreements,
        "seconds": round(seconds, 3),
        "time_scale": time_scale,
    }


def matrix_as_text(cells: Sequence[ProbeResult], note: str = "") -> str:
    """Return a table of what passes between which ends, then each disagreement with its evidence.

    Identical endpoints are grouped. `note` stands in the title (status.notes).
    """
    services = tuple(dict.fromkeys(cell.probe.service.column for cell in cells))
    pairs: dict[Pair, list[ProbeResult]] = {}
    for cell in cells:
        pairs.setdefault((cell.probe.source, cell.probe.target), []).append(cell)
    wrong = [cell for cell in cells if not cell.agrees]
    headers = ("FROM", "TO", "PASSES", "DISAGREES")[: 4 if wrong else 3]
    fates = {
        ends: (_describe_passing(found), _describe_disagreeing(found))[: len(headers) - 2]
        for ends, found in pairs.items()
    }
    parts = [
        one_line(f"what passes, of {', '.join(services)}{note}"),
        render_table(headers, _fold_fates(fates)),
        *(one_line(f"{paint('!', 'red')} {cell.probe}: {explain_result(cell)}") for cell in wrong),
        summary(cells),
    ]
    return "\n".join(parts)


def _describe_passing(cells: Sequence[ProbeResult]) -> str:
    passing = [cell.probe.service.column for cell in cells if cell.observed.verdict == ACCEPT]
    if not passing:
        return paint("nothing", "dim")
    return paint("everything" if len(passing) == len(cells) else ", ".join(passing), "green")


def _describe_disagreeing(cells: Iterable[ProbeResult]) -> str:
    return paint(", ".join(cell.probe.service.column for cell in cells if not cell.agrees), "red")


def _fold_fates(fates: Mapping[Pair, Key]) -> Iterator[Key]:
    """Yield a row for each group of senders with the same results at a group of receivers.

    Rows of a sender follow each other.
    """
    alike: dict[ProbeEnd, dict[Key, list[ProbeEnd]]] = {}
    for (source, target), fate in fates.items():
        alike.setdefault(source, {}).setdefault(fate, []).append(target)
    together: dict[tuple[Key, tuple[ProbeEnd, ...]], list[ProbeEnd]] = {}
    for source, targets_of in alike.items():
        for fate, targets in targets_of.items():
            together.setdefault((fate, tuple(targets)), []).append(source)
    senders = _by_node(source for source, _ in fates)
    receivers = _by_node(target for _, target in fates)
    for (fate, reached), sources in together.items():
        yield (_ends(sources, senders), _ends(reached, receivers), *fate)


def _by_node(ends: Iterable[ProbeEnd]) -> dict[str, set[ProbeEnd]]:
    found: dict[str, set[ProbeEnd]] = {}
    for end in ends:
        found.setdefault(end.node, set()).add(end)
    return found


def _ends(ends: Iterable[ProbeEnd], known: Mapping[str, set[ProbeEnd]]) -> str:
    """Return these ends as text; where all known ends of a node are among them, just the node."""
    return ", ".join(
        node if found == known[node] else ", ".join(sorted(map(_end, found))) for node, found in _by_node(ends).items()
    )


def _end(end: ProbeEnd) -> str:
    """Return an end as text: a host outside that is named by this address has no need to repeat it."""
    return end.node if end.node.endswith(f"-{end.address}") else str(end)


def summary(cells: Iterable[ProbeResult]) -> str:
    """Say how many probes there were, and how many disagree with the policy."""
    counted = list(cells)
    wrong = sum(not cell.agrees for cell in counted)
    accepted = sum(cell.observed.verdict == "accept" for cell in counted)
    dropped = sum(cell.observed.verdict == "drop" for cell in counted)
    probes, disagree = words.pluralize(len(counted), "probe"), "disagrees" if wrong == 1 else "disagree"
    text = f"{probes}: {accepted} accepted, {dropped} dropped, {wrong} {disagree} with the policy"
    return paint(text, "red" if wrong else "green")


# the page and the picture


def matrix_page(lab: Lab, cells: Sequence[ProbeResult]) -> content.MatrixPage:
    """Return everything that `sgdp lab matrix` shows.

    The page's size is bounded, and it says what it leaves out.
    """
    rows: dict[tuple[ProbeEnd, ProbeEnd], dict[str, ProbeResult]] = {}
    for cell in cells:
        rows.setdefault((cell.probe.source, cell.probe.target), {})[cell.probe.service.column] = cell
    services = tuple(dict.fromkeys(cell.probe.service.column for cell in cells))
    wrong = [cell for cell in cells if not cell.agrees]
    ordered = sorted(rows.items(), key=lambda row: all(cell.agrees for cell in row[1].values()))
    return content.MatrixPage(
        title=f"Who reached whom in lab {lab.record.name}",
        source=f"lab {lab.record.name}",
        version=__version__,
        facts=tuple(_facts(cells, lab)),
        services=services,
        picture=matrix_picture(lab, cells),
        grid=_grid(rows, services),
        rows=tuple(_row(ends, found, services) for ends, found in ordered[:MAX_ROWS]),
        wrong=tuple((_title(cell.probe), explain_result(cell)) for cell in wrong[:MAX_WRONG]),
        notes=tuple(_notes(len(rows), len(wrong))),
    )


def _notes(rows: int, wrong: int) -> Iterator[str]:
    if rows > MAX_ROWS:
        yield f"{rows:,} pairs are too many for a page: it shows {MAX_ROWS}, those with disagreements first."
    if wrong > MAX_WRONG:
        yield f"The first {MAX_WRONG} of {wrong:,} disagreements are explained."


def _facts(cells: Sequence[ProbeResult], lab: Lab) -> Iterator[tuple[str, str]]:
    observed = Counter(cell.observed.verdict for cell in cells)
    yield "Probes", f"{len(cells):,}"
    yield "Accepted", f"{observed['accept']:,}"
    yield "Dropped", f"{observed['drop']:,}"
    if observed["unknown"]:
        yield "Unknown", f"{observed['unknown']:,}"
    yield "Disagree with the policy", f"{sum(not cell.agrees for cell in cells):,}"
    yield "Placement", lab.placement.value
    if lab.record.time_scale != 1.0:
        yield "Timeouts times", f"{lab.record.time_scale:g}"
    yield from (("Option", words) for words in lab.unusual)


def _title(probe: Probe) -> str:
    return f"{probe.source} to {probe.target}, {probe.service}"


def _head(end: ProbeEnd) -> content.Head:
    return content.Head(end.node, str(end.address))


def _row(
    ends: tuple[ProbeEnd, ProbeEnd], found: Mapping[str, ProbeResult], services: Sequence[str]
) -> content.ProbeRow:
    return content.ProbeRow(_head(ends[0]), _head(ends[1]), tuple(_cell(found.get(service)) for service in services))


def _cell(cell: ProbeResult | None) -> content.ProbeCell | None:
    return None if cell is None else content.ProbeCell(cell.expected.verdict, cell.observed.verdict, cell.agrees)


def _grid(
    rows: Mapping[tuple[ProbeEnd, ProbeEnd], Mapping[str, ProbeResult]], services: Sequence[str]
) -> content.Grid | None:
    """Return what passed between each two ends; None if there are too many ends."""
    ends = tuple(dict.fromkeys(end for pair in rows for end in pair))
    if len(ends) > MAX_ENDS:
        return None
    heads = tuple(map(_head, ends))
    cells = tuple(tuple(_make_cell(rows.get((source, target)), services) for target in ends) for source in ends)
    return content.Grid(heads, heads, cells)


def _make_cell(found: Mapping[str, ProbeResult] | None, services: Sequence[str]) -> content.GridCell:
    if found is None:
        return content.GridCell(is_same=True)
    wrong = tuple(service for service, cell in found.items() if not cell.agrees)
    passed = [service for service, cell in found.items() if cell.agrees and cell.observed.verdict == ACCEPT]
    lines = [content.Line(tuple(_all_or(passed, len(services))))] if passed else []
    if wrong:
        lines.append(content.Line(wrong, "disagrees", is_some=True))
    return content.GridCell(tuple(lines), is_wrong=bool(wrong))


def _all_or(passed: Sequence[str], probed: int) -> Sequence[str]:
    return ["all probed"] if len(passed) == probed > 1 else passed


def matrix_picture(lab: Lab, cells: Sequence[ProbeResult]) -> content.Picture:
    """Return a picture: a box for nodes with the same groups, an arrow for what passed between two boxes."""
    members = _members(lab)
    keys = sorted((key for key in members if key), key=lambda key: (-len(members[key]), key))[:MAX_BOXES]
    names = {key: f"n{number}" for number, key in enumerate(keys)} | {(): OUTSIDE}
    key_of = {name: key for key, some in members.items() for name in some}
    edges: dict[tuple[str, str], list[ProbeResult]] = defaultdict(list)
    for cell in cells:
        ends = key_of[cell.probe.source.node], key_of[cell.probe.target.node]
        if ends[0] in names and ends[1] in names:
            edges[names[ends[0]], names[ends[1]]].append(cell)
    made = [edge for ends, some in edges.items() if ends[0] != ends[1] for edge in _edges(ends, some)]
    nodes = [Node(names[key], *_box(key, members[key], edges, names[key])) for key in keys]
    if () in members:
        nodes.insert(0, Node(OUTSIDE, "Outside", tuple(members[()][:MAX_NAMES]), is_outside=True))
    shown = [edge for edge in made if edge.target != OUTSIDE or edge.is_wrong]
    title = f"What packets passed in lab {lab.record.name}"
    if len(nodes) < len(members):
        title += f" (the {len(nodes)} largest of {len(members)} boxes)"
    return content.Picture("picture", title, story(nodes, made), draw(nodes, shown))


def _members(lab: Lab) -> dict[Key, list[str]]:
    """Return the nodes that have the same groups, by these groups."""
    found: dict[Key, list[str]] = {}
    for node in lab.topology.nodes:
        enis = [lab.state.eni[end.eni_id] for end in node.interfaces if end.eni_id]
        key = tuple(sorted({group for eni in enis for group in eni.security_group_ids}))
        found.setdefault(key, []).append(node.name)
    return found


def _box(
    key: Key, names: Sequence[str], edges: Mapping[tuple[str, str], Sequence[ProbeResult]], name: str
) -> tuple[str, tuple[str, ...]]:
    lines = [words.first_of(list(key), MAX_NAMES)]
    if (name, name) in edges:
        lines.append(f"among them: {_describe_passed(edges[name, name])}")
    if (name, OUTSIDE) in edges:
        lines.append(f"out: {_describe_passed(edges[name, OUTSIDE])}")
    return words.first_of(names, MAX_NAMES), tuple(lines)


def _describe_passed(cells: Sequence[ProbeResult]) -> str:
    return "; ".join(" ".join(edge.texts) for edge in _edges(("", ""), cells)) or "nothing"


def _edges(ends: tuple[str, str], cells: Sequence[ProbeResult]) -> Iterator[Edge]:
    """Yield what passed between all pairs, what passed between some, and what disagrees with the policy."""
    of_service: dict[str, list[ProbeResult]] = {}
    for cell in cells:
        of_service.setdefault(cell.probe.service.column, []).append(cell)
    right = {name: some for name, some in of_service.items() if all(cell.agrees for cell in some)}
    accepted = {name: sum(cell.observed.verdict == ACCEPT for cell in some) for name, some in right.items()}
    whole = [name for name, count in accepted.items() if count == len(right[name])]
    some = [name for name, count in accepted.items() if 0 < count < len(right[name])]
    if whole:
        yield Edge(*ends, (words.first_of(_all_or(whole, len(of_service)), MAX_NAMES),))
    if some:
        yield Edge(*ends, ("between some:", words.first_of(some, MAX_NAMES)), is_some=True)
    wrong = [name for name in of_service if name not in right]
    if wrong:
        yield Edge(*ends, ("! disagrees:", words.first_of(wrong, MAX_NAMES)), is_wrong=True)
