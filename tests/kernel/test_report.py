"""`sgdp report` on a host with attached ENIs: hits and sessions are theirs, wherever they are enforced."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from sgdataplane.model.state import CloudState
from tests.support.scenes import attachbench, attachhost
from tests.support.scenes.attachbench import DNS, WEB, Bench
from tests.support.scenes.pair import Session

pytestmark = pytest.mark.kernel


@pytest.fixture
def hosted(host_bench: Bench) -> Bench:
    return host_bench


def report(bench: Bench, state: CloudState, tmp_path: Path) -> tuple[str, str]:
    """The page, and what was said of it."""
    bench.read_output()
    assert bench.sgdp("report", bench.write(state), "--html", tmp_path / "page.html") == 0
    return (tmp_path / "page.html").read_text(encoding="utf-8"), bench.read_output()


def hits(page: str, rule: str) -> int:
    found = re.search(rf'>{rule}</span>.*class="number">([\d,]+)</td></tr>', page)
    assert found is not None
    return int(found[1].replace(",", ""))


def test_hits_and_sessions_of_an_attached_workload(bench: Bench, tmp_path: Path) -> None:
    state = attachbench.state_of(WEB, DNS)
    assert "no ENI is attached on this host" in report(bench, state, tmp_path)[1]
    assert bench.attach() == 0
    assert bench.apply(state)["exit"] == "0"
    with Session(bench.pair, WEB) as web:
        web.must_pass()
        page, said = report(bench, state, tmp_path)
    assert "hits and sessions: at 1 ENI of this state that this host has" in said
    assert hits(page, f"sgr-{WEB}") > 0
    assert hits(page, f"sgr-{DNS}") == 0
    assert f":{WEB}<" in page.partition('id="sessions"')[2]
    other = replace(state, network_interfaces=(replace(state.network_interfaces[0], network_interface_id="eni-z"),))
    assert "none of the state's ENIs is attached on this host" in report(bench, other, tmp_path)[1]


def test_hits_and_sessions_of_workloads_behind_a_router_of_ours(hosted: Bench, tmp_path: Path) -> None:
    state = attachhost.state_of(WEB, DNS)
    assert hosted.apply(state, *attachhost.HOST)["exit"] == "0"
    with Session(hosted.pair, WEB) as web:
        web.must_pass()
        page, said = report(hosted, state, tmp_path)
    assert "hits and sessions: at 2 ENIs of this state that this host has" in said
    assert hits(page, f"sgr-{WEB}-9") > 0
    assert hits(page, f"sgr-{DNS}-9") == 0
    assert f":{WEB}<" in page.partition('id="sessions"')[2]
