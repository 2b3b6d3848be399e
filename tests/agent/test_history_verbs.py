"""What the verbs say of history, of known traffic in the real agent. (Those that change it: test_history_forget.py.)"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from sgdataplane.statefile import dump_native
from tests.support.documents.schemas import assert_conforms
from tests.support.scenes.attachbench import DNS, WEB
from tests.support.scenes.historyscene import HistoryScene, run_verb, seen_at
from tests.support.scenes.pair import HERE

pytestmark = pytest.mark.daemon
Sgdp = Callable[..., str]


@pytest.fixture(scope="module")
def kept(
    make_lab_name: Callable[[], str], tmp_path_factory: pytest.TempPathFactory, placement: str
) -> Iterator[HistoryScene]:
    """For tests that only read."""
    with seen_at(placement, make_lab_name, tmp_path_factory.mktemp("kept")) as kept:
        yield kept


@pytest.fixture
def sgdp(kept: HistoryScene, capsys: pytest.CaptureFixture[str]) -> Sgdp:
    return partial(run_verb, capsys, kept.scene.agent.config)


def test_flows_are_shown_row_by_row_and_summed_up(kept: HistoryScene, sgdp: Sgdp) -> None:
    peer = "eni-b" if kept.scene.placement == "host" else HERE["peer"][0]
    shown = sgdp("flows")
    assert re.search(rf"eni-a +ingress +{peer} +udp/{WEB} +accept +sgr-{WEB}\S* of sg-a +6  T\n", shown)
    assert re.search(rf"eni-a +ingress +{peer} +udp/{DNS} +drop +default +3  T\n", shown)
    assert shown.endswith("all rows are exact\n")
    assert re.search(r"eni-a +ingress +accept +6", sgdp("flows", "--by", "eni"))
    assert re.search(rf"sg-a +sgr-{WEB}\S* +ingress +accept +6", sgdp("flows", "--by", "group"))
    assert re.search(rf"{peer} +drop +3", sgdp("flows", "--by", "address"))
    assert re.search(rf"udp/{DNS} +ingress +drop +3", sgdp("flows", "--by", "port"))
    assert "nothing was seen" in sgdp("flows", "--eni", "eni-a", "--until", "30m", "--since", "2h")


@pytest.mark.parametrize("by", [None, "eni", "group", "address", "port"])
def test_json_conforms_to_its_schema(sgdp: Sgdp, by: str | None) -> None:
    document = read_json(sgdp, "flows", *(() if by is None else ("--by", by)))
    assert_conforms("flows", document)
    assert sum(flow["packets"] for flow in document["flows"] if flow["verdict"] == "drop") == 3
    assert_conforms("history-show", read_json(sgdp, "history show"))


def read_json(sgdp: Sgdp, verb: str, *more: object) -> dict[str, Any]:
    text = re.sub(r'"T"', '"2026-01-01T00:00:00.000Z"', sgdp(verb, "--json", *more))
    document: dict[str, Any] = json.loads(text)
    return document


def test_the_page_needs_nothing_and_has_all_rows(sgdp: Sgdp, tmp_path: Path) -> None:
    sgdp("flows", "--html", tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text("utf-8")
    assert f"udp/{DNS}" in page
    assert "<script" not in page


def test_the_log_of_the_past_has_what_was_denied(sgdp: Sgdp) -> None:
    shown = sgdp("log", "--since", "1h")
    assert re.search(rf"T +T +eni-a +ingress +\S+ +udp/{DNS} +3 +default", shown)
    assert f"udp/{WEB}" not in shown
    (line,) = sgdp("log", "--since", "1h", "--json").splitlines()
    found = json.loads(line.replace('"T"', '"2026-01-01T00:00:00.000Z"'))
    assert_conforms("log", found)
    assert (found["port"], found["packets"], found["reason"]) == (DNS, 3, "default")


def test_explain_says_when_a_flow_was_seen_and_what_decided(kept: HistoryScene, sgdp: Sgdp) -> None:
    flow = ("--eni", "eni-a", "--direction", "ingress", "--remote", HERE["peer"][0], "--protocol", "udp", "--history")
    seen = sgdp("explain", kept.scene.agent.state, *flow, "--port", WEB)
    assert re.search(
        rf"eni-a ingress: 6 sessions, the last at T: accept, accepted by rule sgr-{WEB}\S* of sg-a\n", seen
    )
    dropped = sgdp("explain", kept.scene.agent.state, *flow, "--port", DNS)
    assert "eni-a ingress: 3 packets, the last at T: drop, dropped by the default\n" in dropped
    assert "eni-a ingress: not seen\n" in sgdp("explain", kept.scene.agent.state, *flow, "--port", 9)
    document = read_json(sgdp, "explain", kept.scene.agent.state, *flow, "--port", DNS)
    assert_conforms("explain", document)
    assert [row["packets"] for row in document["history"]["seen"]] == [3]


def test_diff_live_says_which_dropped_packets_a_change_would_accept(
    kept: HistoryScene, sgdp: Sgdp, tmp_path: Path
) -> None:
    before, (after, other) = kept.scene.agent.state, (tmp_path / name for name in ("after.yaml", "other.yaml"))
    after.write_text(dump_native(kept.scene.state_of(WEB, DNS)), "utf-8")
    other.write_text(dump_native(kept.scene.state_of(WEB, DNS + 1)), "utf-8")
    shown = sgdp("diff", before, after, "--live")
    assert "packets dropped in the last hour that the change would accept: 3\n" in shown
    assert re.search(rf"eni-a +ingress +\S+ +udp/{DNS} +3 +T +sgr-{DNS}", shown)
    assert "  history begins at T\n" in shown
    assert "would accept: 0\n" in sgdp("diff", before, other, "--live")
    document = read_json(sgdp, "diff", before, after, "--live")
    assert_conforms("diff", document)
    (row,) = document["dropped"]["flows"]
    assert (row["port"], row["packets"], row["is_certain"], row["after"]["verdict"]) == (DNS, 3, True, "accept")
