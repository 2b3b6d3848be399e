"""A lab and its matrix as text for a person and as JSON for programs.

Owns their form. Is given labs and cells. Must not touch the kernel.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from sgdataplane.cli.output import one_line, paint, render_table
from sgdataplane.lab.expect import Cell, cell_as_json, explain_cell
from sgdataplane.lab.health import Health
from sgdataplane.lab.manage import Lab
from sgdataplane.lab.parts import Interface, Node, Router
from sgdataplane.lab.probe import End
from sgdataplane.model import words
from sgdataplane.net.values import ICMP, ICMPV6, Family

SHORT = {"accept": "A", "drop": "-", "unknown": "?"}
COLOURS = {"accept": "green", "drop": "dim"}


def status_as_json(lab: Lab, health: Mapping[str, Health], unknown_timeouts: Sequence[str] = ()) -> dict[str, object]:
    """The keys of cli.md, and of each instance or router where policy is enforced (name -> health) how it is; and what
    the kernel tracks that we don't know."""
    return {
        "name": lab.record.name,
        "placement": lab.placement.value,
        "choices": lab.record.choices.plain(),
        "time_scale": lab.record.time_scale,
        "unknown_timeouts": list(unknown_timeouts),
        "nodes": {node.name: _node_as_json(node, health.get(node.name)) for node in lab.topology.nodes},
        "vpcs": {vpc_id: _vpc_as_json(found, health) for vpc_id, found in lab.topology.routers_of_vpc.items()},
    }


def _node_as_json(node: Node, health: Health | None) -> dict[str, object]:
    interfaces = [_interface_as_json(interface) for interface in node.interfaces]
    is_so = health.as_json() if health else {}
    where = {"host": node.host} if node.host > 1 else {}
    return {"kind": node.kind, "netns": node.netns, "interfaces": interfaces} | where | is_so


def _vpc_as_json(routers: Sequence[Router], health: Mapping[str, Health]) -> dict[str, object]:
    """The first host's router; others under `hosts`, by their number."""
    first, *others = (_router_as_json(router, health.get(router.name)) for router in routers)
    numbered = {str(number): found for number, found in enumerate(others, 2)}
    return first | ({"hosts": numbered} if numbered else {})


def _router_as_json(router: Router, health: Health | None) -> dict[str, object]:
    return {"netns": router.netns} | (health.as_json() if health else {})


def _interface_as_json(interface: Interface) -> dict[str, object]:
    eni = {"eni": interface.eni_id} if interface.eni_id else {}
    mac = {"mac": interface.mac} if interface.eni_id else {}
    return eni | {"ifname": interface.ifname} | mac | {family.value: _texts(interface, family) for family in Family}


def _texts(interface: Interface, family: Family) -> list[str]:
    return [str(address) for address in interface.addresses if address.family is family]


def status_as_text(lab: Lab) -> str:
    """Who is where: one line per interface, then the routers."""
    rows = [row for node in lab.topology.nodes for row in _status_rows(lab, node)]
    nodes = render_table(("NODE", "NAMESPACE", "INTERFACE", "ENI", "GROUPS", "ADDRESSES"), rows)
    routers = "\n".join(_router_line(router) for router in lab.topology.routers)
    head = f"lab {lab.record.name}: policy enforced in placement {lab.placement.value}{notes(lab)}"
    return "\n".join(part for part in (head, nodes, routers) if part)


def _router_line(router: Router) -> str:
    where = f" on host {router.host}" if router.host > 1 else ""
    return one_line(f"router of {router.vpc_id}{where}: {router.netns}")


def notes(lab: Lab) -> str:
    """What every report of a lab says if its timeouts aren't the real ones, or it judges otherwise than by default."""
    scale = [f"timeouts times {lab.record.time_scale:g}"] if lab.record.time_scale != 1.0 else []
    return "".join(f", {note}" for note in (*scale, *lab.unusual))


def _status_rows(lab: Lab, node: Node) -> Iterator[tuple[str, ...]]:
    name = f"{node.name} ({node.alias})" if node.alias and node.alias != node.name else node.name
    name += f" on host {node.host}" if node.host > 1 else ""
    if not node.interfaces:
        yield (name, node.netns, "-", "-", "-", "-")
    for index, interface in enumerate(node.interfaces):
        groups = lab.state.eni[interface.eni_id].security_group_ids if interface.eni_id else ()
        addresses = [str(value) for value in (*interface.addresses, *interface.prefixes)]
        node_columns = (name, node.netns) if index == 0 else ("", "")
        yield (*node_columns, interface.ifname, interface.eni_id or "-", ",".join(groups) or "-", " ".join(addresses))


def probe_as_text(cell: Cell, note: str = "") -> str:
    """One probe: who, what, expected beside observed, and why. `note`: see notes."""
    expected, observed = cell.expected, cell.observed
    lines = (
        f"{_end(cell.probe.source)} -> {_end(cell.probe.target)} {cell.probe.service}{note}",
        f"  expected: {_outcome(expected.verdict, expected.where)} by {words.ranked(expected.decision)}",
        f"  observed: {_outcome(observed.verdict, observed.where)} ({'; '.join(observed.evidence)})",
    )
    return "\n".join(map(one_line, lines if cell.agrees else (*lines, paint("  these disagree", "red"))))


def _outcome(verdict: str, where: str) -> str:
    return f"{verdict} at {where}" if where else verdict


def _end(end: End) -> str:
    return f"{end.node} {end.address}"


def matrix_as_json(cells: Sequence[Cell], seconds: float, time_scale: float = 1.0) -> dict[str, object]:
    """All cells with the keys of cli.md, how many disagree, and what the lab's timeouts are multiplied by."""
    disagreements = sum(not cell.agrees for cell in cells)
    return {
        "cells": [cell_as_json(cell) for cell in cells],
        "disagreements": disagreements,
        "seconds": round(seconds, 3),
        "time_scale": time_scale,
    }


def matrix_as_text(cells: Sequence[Cell], note: str = "") -> str:
    """A truth table, a line per pair of ends and a column per service, then every disagreement with its evidence.
    `note`: see notes."""
    services = tuple(dict.fromkeys(_column(cell) for cell in cells))
    lines: dict[tuple[str, str], dict[str, str]] = {}
    for cell in cells:
        lines.setdefault((_end(cell.probe.source), _end(cell.probe.target)), {})[_column(cell)] = _mark(cell)
    rows = [(*ends, *(marks.get(service, "") for service in services)) for ends, marks in lines.items()]
    wrong = [cell for cell in cells if not cell.agrees]
    parts = [
        f"expected/observed: A accept, - drop, ? unknown; ! marks a disagreement{note}",
        render_table(("FROM", "TO", *services), rows),
        *(one_line(f"{paint('!', 'red')} {_title(cell)}: {explain_cell(cell)}") for cell in wrong),
        summary(cells),
    ]
    return "\n".join(parts)


def summary(cells: Iterable[Cell]) -> str:
    """How many probes, and how many of them disagree."""
    counted = list(cells)
    wrong = sum(not cell.agrees for cell in counted)
    accepted = sum(cell.observed.verdict == "accept" for cell in counted)
    dropped = sum(cell.observed.verdict == "drop" for cell in counted)
    text = f"{len(counted)} probes: {accepted} accepted, {dropped} dropped, {wrong} disagree with the policy"
    return paint(text, "red" if wrong else "green")


def _title(cell: Cell) -> str:
    return f"{_end(cell.probe.source)} -> {_end(cell.probe.target)} {cell.probe.service}"


def _column(cell: Cell) -> str:
    return "icmp" if cell.probe.service.protocol in (ICMP, ICMPV6) else str(cell.probe.service)


def _mark(cell: Cell) -> str:
    text = f"{SHORT[cell.expected.verdict]}/{SHORT[cell.observed.verdict]}"
    return paint(text, COLOURS[cell.observed.verdict]) if cell.agrees else paint(f"{text}!", "red")
