"""What stands on a page about a state, and that it is bounded, escaped and the same for the same state."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Callable

import pytest

from sgdataplane.lab.report import matrix_page, matrix_picture
from sgdataplane.model.modes import Mode
from sgdataplane.model.state import CloudState
from sgdataplane.report.content import GridCell, Network, Observed
from sgdataplane.report.page import MAX_RULES, Subject, report_page
from sgdataplane.report.render import render_page, render_picture
from tests.support.inputs import pages
from tests.support.inputs.builders import make_eni, make_group, make_rule, make_state
from tests.support.inputs.hardpolicies import five_tuple, kinships, typical


def network_of(page_subject: Subject) -> Network:
    (network,) = report_page(page_subject).networks
    return network


def texts(cell: GridCell) -> str:
    return " | ".join(line.text for line in cell.lines)


@pytest.fixture(scope="module")
def three_tier() -> Network:
    return network_of(Subject("state.yaml", pages.three_tier(), (), pages.NOT_HERE))


@pytest.mark.parametrize(
    ("source", "target", "passes"),
    [
        ("lb1", "web1", "tcp 8080"),
        ("web1", "db1", "tcp 5432"),
        ("web1", "web2", ""),
        ("db1", "db2", "everything"),
        ("Outside", "lb1", "IPv4: tcp 80, 443 | IPv6: tcp 443 | some addresses, IPv4: icmp; tcp 22"),
        ("Outside", "db1", ""),
        ("web2", "Outside", "everything but tcp"),
        ("db1", "lb1", "tcp 80, 443"),
    ],
)
def test_the_table_says_who_reaches_whom(three_tier: Network, source: str, target: str, passes: str) -> None:
    names = [head.name for head in three_tier.grid.rows]
    assert texts(three_tier.grid.cells[names.index(source)][names.index(target)]) == passes


def test_outside_is_told_by_addresses(three_tier: Network) -> None:
    rows = {(row.names, row.services): (row.who, row.family) for row in three_tier.incoming}
    assert rows["db2, lb1, web1, web2", ("tcp 22",)] == ("192.0.2.0/25 but 192.0.2.66, 198.51.100.16/28", "IPv4")
    assert rows["lb1", ("tcp 80, 443",)] == ("anyone but 203.0.113.0/24", "IPv4")
    assert rows["lb1", ("tcp 443",)] == ("anyone", "IPv6")


def test_the_picture_tells_the_same_in_words(three_tier: Network) -> None:
    assert three_tier.picture is not None
    assert "lb1 to web1, web2: tcp 8080." in three_tier.picture.story
    assert "Outside to db2: from some: icmp; tcp 22." in three_tier.picture.story


def test_an_eni_in_audit_mode_is_marked_and_shown_as_it_is() -> None:
    """What its rules refuse passes, so the table says so; the same ENI in mode enforce is the control."""
    state = pages.three_tier()
    audited = network_of(Subject("x", state.with_mode({"eni-db1"}, Mode.AUDIT), (), pages.NOT_HERE))
    for network, passes in ((network_of(Subject("x", state, (), pages.NOT_HERE)), ""), (audited, "everything")):
        heads = {head.name: (place, head.detail) for place, head in enumerate(network.grid.rows)}
        assert texts(network.grid.cells[heads["Outside"][0]][heads["db1"][0]]) == passes
        assert ("in audit mode" in heads["db1"][1]) is bool(passes)
        assert "in audit mode" not in heads["db2"][1]
    assert audited.notes[0] == "1 ENI is in audit mode: what its rules refuse passes, and is shown so."


def test_many_enis_share_rows_and_the_page_says_so() -> None:
    network = network_of(Subject("x", typical(1), (), pages.NOT_HERE))
    assert len(network.grid.rows) <= 41
    assert "401 ENIs are too many for a row each" in network.notes[0]


@pytest.mark.parametrize("make", [typical, kinships], ids=lambda make: make.__name__)
def test_the_size_is_bounded(make: Callable[[int], CloudState]) -> None:
    text = pages.page_of(make(1), findings=())
    assert len(text) < 1_000_000
    assert "\N{HORIZONTAL ELLIPSIS}" in text or "more" in text
    drawing = re.search(r"<svg.*?</svg>", text, re.DOTALL)
    assert drawing is not None
    ET.fromstring(drawing[0])


def test_what_is_too_intricate_is_said_to_be_so() -> None:
    network = network_of(Subject("x", five_tuple(1), (), pages.NOT_HERE))
    assert {(row.services, row.who) for row in network.incoming} == {(("not worked out",), "not worked out")}
    assert "sgdp explain answers" in network.notes[0]


def test_rules_that_are_left_out_are_counted() -> None:
    groups = [
        make_group(
            f"sg-{n}", [make_rule(f"ingress tcp {i}/{i} from 192.0.2.0/24", f"sgr-{n}-{i}") for i in range(1, 401)]
        )
        for n in range(3)
    ]
    page = report_page(Subject("x", make_state(groups, [make_eni("eni-a", "10.0.0.1", "sg-0")]), (), pages.NOT_HERE))
    assert sum(len(group.rules) for group in page.groups) <= MAX_RULES
    assert page.groups_note == "2 groups with 800 rules more: this page shows up to 600 rules."


def test_a_state_without_enis_has_a_page() -> None:
    text = pages.page_of(make_state([make_group("sg-a")], []))
    assert "The state has no ENIs." in text
    assert "It has no rules." in text


def test_the_same_state_gives_the_same_bytes() -> None:
    assert pages.page_of(pages.three_tier()) == pages.page_of(pages.three_tier())


def test_hits_stand_with_their_rules_and_why_there_are_none() -> None:
    seen = pages.page_of(pages.three_tier(), observed=Observed("in the lab x", {("sg-db", "sgr-from-web"): 4711}))
    assert re.search(r"sgr-from-web</span></th>.*?<td class=\"number\">4,711</td>", seen)
    unseen = pages.page_of(pages.three_tier())
    assert "No hits: no lab was named with --name." in unseen
    assert "Not shown: no lab was named with --name." in unseen
    assert "Hits</th>" not in unseen


def test_names_are_never_markup() -> None:
    text = pages.hostile_page()
    assert "<script" not in text
    assert "<img" not in text
    assert "{{7*7}}" in text
    lab, cells = pages.matrix_of(pages.hostile_state(), "wide", "tcp/22", wrong=1)
    assert "<script" not in render_page(matrix_page(lab, cells))


def test_the_picture_alone_is_well_formed() -> None:
    lab, cells = pages.matrix_of(pages.hostile_state(), "wide", "tcp/22,tcp/8080", wrong=1)
    root = ET.fromstring(render_picture(matrix_picture(lab, cells)))
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    names = [child.tag.partition("}")[2] for child in root]
    assert names[:2] == ["title", "desc"]
