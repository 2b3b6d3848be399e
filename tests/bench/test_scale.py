"""The benchmark of many hosts: hosts that a change concerns hear of it, others don't, and the page says so."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from threading import Event
from typing import Any

import pytest
from bench import scale, scalemeasures
from bench.deadlines import no_longer_than
from bench.errors import BenchError
from bench.fleet import Fleet, host_name
from bench.scale import former, run
from bench.scalecases import FULL, LARGE, QUICK, Case, CommandCase, find_cases
from bench.scalegoals import PROMISES, p99, rows
from bench.scalemeasures import require_descriptors, summed

from sgdataplane.relay.closure import Closures
from sgdataplane.statefile import load_native
from sgdataplane.store.documents import Documents, native
from sgdataplane.store.interface import Snapshot

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("hosts", [1, 20, 60])
def test_a_fleet_is_a_valid_state_and_each_host_gets_about_the_same(hosts: int) -> None:
    fleet = Fleet(hosts)
    documents = Documents.of(Snapshot(1, dict(fleet.documents()), {}))
    assert len(load_native(native(documents.bodies()), profile="unlimited").state.network_interfaces) == fleet.enis
    closures = Closures(documents)
    sizes = {len(closures.of(host_name(host))) for host in range(hosts)}
    assert closures.hosts() == {host_name(host) for host in range(hosts)}
    assert max(sizes) - min(sizes) < 20


def test_relays_are_as_many_as_hosts_need() -> None:
    assert [Case(10_000, there, "etcd", 1).relays for there in (1, 1250, 1251, 10_000)] == [1, 1, 2, 8]
    assert {case.name for case in FULL} >= {f"{hosts}-{store}" for hosts in (10, 1_000) for store in ("sqlite", "etcd")}


def test_each_goal_is_of_a_case_that_some_run_has() -> None:
    names = [case.name for case in (*FULL, *LARGE)]
    assert len(names) == len(set(names))
    assert {promise.case for promise in PROMISES} <= {*names}
    assert [case.name for case in find_cases([*names, names[0]])] == names
    assert {type(case) for case in QUICK} == {Case, CommandCase}


def test_what_is_missing_is_counted() -> None:
    one = {"commit_ms": 1.0, "last_ms": None, "concerned": 5, "missing": 5, "others": 2}
    found = summed([one, {**one, "last_ms": 8.0, "missing": 0, "others": 0}])
    assert (found["missing"], found["others"], found["last_ms"]["max"]) == (5, 2, 8.0)


def test_a_case_that_takes_too_long_says_so_and_the_rest_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was measured before stays, in the results and on the page."""

    def measured(case: Case, _: Path, seconds: float, result: dict[str, Any]) -> None:
        with no_longer_than(min(seconds, case.most_s)):
            result["relay_alone_mb"] = 40.0
            result["relay"] = {"memory_mb": 50.0, "idle_share": 0.1}
            if case.hosts == 100:
                Event().wait(60)
            if case.hosts == 1000:
                raise ValueError("a bug")

    monkeypatch.setattr(scale, "measure", measured)
    file = tmp_path / "out" / "scale.json"
    cases = [Case(hosts, hosts, "sqlite", 1, 0.2) for hosts in (10, 100, 1000, 20)]
    run(cases, file, 60, [])
    found = json.loads(file.read_text())["cases"]
    errors = [one.get("error") for one in found]
    assert errors == [None, "BenchError: stopped after 0 s", "ValueError: a bug", None]
    assert all(one["relay"]["memory_mb"] == 50.0 for one in found)
    run(cases[:1], file, 60, former(file))
    assert [one["case"]["hosts"] for one in json.loads(file.read_text())["cases"]] == [100, 1000, 20, 10]


def test_there_is_no_time_left_for_a_case(tmp_path: Path) -> None:
    file, case = tmp_path / "scale.json", Case(10, 10, "sqlite", 1)
    run([case], file, 0.0, [])
    (one,) = json.loads(file.read_text())["cases"]
    assert one["error"] == "BenchError: no time is left"
    before = {"name": case.name, "relay_alone_mb": 40.0}
    run([case], file, 0.0, [before])
    assert json.loads(file.read_text())["cases"] == [before]  # what an older run has measured


def test_too_few_descriptors_are_found_before_anything_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scalemeasures, "getrlimit", lambda _: (1024, 1024))
    require_descriptors(Case(100, 100, "sqlite", 1))
    with pytest.raises(BenchError, match="1024 descriptors, and needs 3000"):
        require_descriptors(Case(10_000, 10_000, "sqlite", 1))


def test_older_results_keep_their_commit_and_churn_comes_from_the_other_benchmark(tmp_path: Path) -> None:
    facts = {"commit": "aaaa", "date": "2026-11-29"}
    old = {"facts": facts, "cases": [{"case": {"hosts": 10, "connected": 10, "store": "etcd"}, "fill_s": 1.0}]}
    samples = {"churn.after_mb": [140.0], "typical.compile": [1.0]}
    file = tmp_path / "scale.json"
    file.write_text(json.dumps(old))
    assert [(one["name"], one["commit"]) for one in former(file)] == [("10-etcd", "aaaa")]
    other = {"facts": {**facts, "commit": "bbbb"}, "figures": {"samples": samples}}
    (tmp_path / "results.json").write_text(json.dumps(other))
    case, churn = former(file)
    assert (case["commit"], churn["commit"], churn["figures"]) == ("aaaa", "bbbb", {"churn.after_mb": [140.0]})
    file.write_text(json.dumps({**old, "cases": [{"name": "churn", "commit": "cccc"}]}))
    assert [one["commit"] for one in former(file)] == ["cccc"]


def test_each_goal_says_whether_it_is_met() -> None:
    everywhere = {"everywhere-3.enforced_ms": [70.0] * 90 + [200.0] * 10, "everywhere-3.packet_ms": [41.0]}
    entries: list[dict[str, Any]] = [
        {"name": "everywhere-3", "figures": everywhere},
        {"name": "10000-etcd", "drop": {"seconds": 19.0}},
        {"name": "10000-sqlite", "error": "BenchError: given up"},
    ]
    found = {row.goal.title: row.goal for row in rows(entries)}
    assert len(found) == len(PROMISES)
    assert found['3 hosts: call to "enforced", p50'].is_met
    assert found['3 hosts: call to "enforced", p99'].verdict == "short by 66.7 %"
    assert found["3 hosts: call to the first packet that obeys, p50"].verdict == "short by 2.5 %"
    assert found["all of 10,000 hosts come back at once, etcd"].is_met
    assert found["all of 10,000 hosts come back at once, SQLite"].verdict == "not measured: BenchError: given up"
    assert found['16 hosts: call to "enforced", p50'].verdict == "not measured: no run has measured it"
    assert p99([5.0]) == 5.0 < p99([5.0, 6.0]) < 6.0


def test_the_page_marks_results_of_other_commits(tmp_path: Path) -> None:
    scalereport = pytest.importorskip("bench.scalereport", exc_type=ImportError)
    whole = {name: [50.0, 60.0] for name in ("beside_agent_ms", "acknowledged_ms", "enforced_ms", "agent_ms")}
    churn = {f"churn.{name}": [100.0] for name in ("after_mb", "before_mb", "after_threads", "before_threads")}
    cases = [
        {"name": "churn", "commit": "bbbb", "date": "2026-12-01", "figures": churn},
        {"name": "whole-1000-etcd", "commit": "aaaa", "date": "2026-12-02", "seconds": 61.0, "whole": whole},
    ]
    page = scalereport.page({"facts": {"commit": "aaaa"}, "cases": cases}, tmp_path)
    (agent,) = (line for line in page.splitlines() if "memory after 300 changes" in line)
    assert agent.endswith("| at most 150 MB | 100 MB | met | bbbb, 2026-12-01 |")
    (threads,) = (line for line in page.splitlines() if "threads after 300 changes" in line)
    assert "| **missed**, short by a factor of 5.6 |" in threads
    (host,) = (line for line in page.splitlines() if "without the agent's own, p99" in line)
    assert host.endswith("| at most 100 ms | 59.9 ms | met |  |")
    assert "| whole-1000-etcd | 61.0 |  |  |" in page
    assert page == (tmp_path / "scale.md").read_text()


def test_a_run_that_takes_too_long_still_has_each_goal_with_one_store() -> None:
    with_goal = {promise.case for promise in PROMISES if promise.limit is not None}
    have_goal = [case.name in with_goal for case in FULL]
    assert have_goal == sorted(have_goal, reverse=True)
    assert "10000-etcd" in {case.name for case in FULL}, "the goal is the same with SQLite, which the large run has"


def measure_case(folder: Path, *words: str) -> dict[str, Any]:
    """Run one case, and return what it has measured. Its page is beside it."""
    command = [sys.executable, "-m", "bench.scale", *words, "--out", str(folder)]
    environment = os.environ | {"PYTHONPATH": "netns-lab"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    (case,) = json.loads((folder / "scale.json").read_text())["cases"]
    assert "error" not in case, case["error"]
    return dict(case)


@pytest.mark.daemon
@pytest.mark.slow
@pytest.mark.optional
def test_ten_hosts_are_measured(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    case = measure_case(tmp_path, "--only", "10-sqlite", "--changes", "2")
    for what in ("rule", "member"):
        assert (case[what]["missing"], case[what]["others"], case[what]["count"]) == (0, 0, 2)
        assert case[what]["concerned"] == 9
        assert 0 < case[what]["last_ms"]["p50"] < 30_000
    assert case["relay"]["memory_mb"] > 10 < case["host"]["memory_mb"]
    assert case["drop"]["seconds"] > 0
    assert "| 10 | 10 | 1 | sqlite |" in (tmp_path / "scale.md").read_text()
    assert (tmp_path / "scale.png").stat().st_size > 10_000


@pytest.mark.daemon
@pytest.mark.slow
@pytest.mark.optional
def test_a_whole_host_among_simulated_ones_enforces_and_is_known_to(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    if not shutil.which("etcd"):
        pytest.skip("etcd is not installed")
    whole = measure_case(tmp_path, "--only", "whole-100-etcd", "--changes", "3")["whole"]
    assert {len(samples) for samples in whole.values()} == {3}
    for step in range(3):
        one = {name: samples[step] for name, samples in whole.items()}
        assert 0 < one["agent_ms"] < one["enforced_ms"] <= one["acknowledged_ms"] < 30_000
        assert 0 < one["beside_agent_ms"] < one["acknowledged_ms"]
