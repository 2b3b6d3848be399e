"""The benchmark of many hosts: hosts that a change concerns hear of it, others don't, and the page says so."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from threading import Event
from typing import Any

import pytest
from bench import scale
from bench.errors import BenchError
from bench.fleet import Fleet, host_name
from bench.scale import FULL, Case, at_most, former, require_descriptors, run, summed

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
    assert {(case.hosts, case.store) for case in FULL} >= {(n, s) for n in (10, 10_000) for s in ("sqlite", "etcd")}


def test_what_is_missing_is_counted() -> None:
    one = {"commit_ms": 1.0, "last_ms": None, "concerned": 5, "missing": 5, "others": 2}
    found = summed([one, {**one, "last_ms": 8.0, "missing": 0, "others": 0}])
    assert (found["missing"], found["others"], found["last_ms"]["max"]) == (5, 2, 8.0)


def test_a_case_that_takes_too_long_says_so_and_the_rest_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was measured before stays, in the results and on the page."""

    def measured(case: Case, _: Path, seconds: float, result: dict[str, Any]) -> None:
        with at_most(min(seconds, case.most_s)):
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
    assert errors == [None, "BenchError: given up after 0 s", "ValueError: a bug", None]
    assert all(one["relay"]["memory_mb"] == 50.0 for one in found)
    run(cases[:1], file, 60, former(file))
    assert [one["case"]["hosts"] for one in json.loads(file.read_text())["cases"]] == [100, 1000, 20, 10]


def test_there_is_no_time_left_for_a_case(tmp_path: Path) -> None:
    run([Case(10, 10, "sqlite", 1)], tmp_path / "scale.json", 0.0, [])
    (one,) = json.loads((tmp_path / "scale.json").read_text())["cases"]
    assert one["error"] == "BenchError: no time is left"


def test_too_few_descriptors_are_found_before_anything_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scale, "getrlimit", lambda _: (1024, 1024))
    require_descriptors(Case(100, 100, "sqlite", 1))
    with pytest.raises(BenchError, match="1024 descriptors, and needs 3000"):
        require_descriptors(Case(10_000, 10_000, "sqlite", 1))


@pytest.mark.daemon
@pytest.mark.slow
@pytest.mark.optional
def test_ten_hosts_are_measured(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    command = [sys.executable, "-m", "bench.scale", "--quick", "--only", "0", "--changes", "2", "--out", str(tmp_path)]
    environment = os.environ | {"PYTHONPATH": "netns-lab"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    (case,) = json.loads((tmp_path / "scale.json").read_text())["cases"]
    assert "error" not in case
    for what in ("rule", "member"):
        assert (case[what]["missing"], case[what]["others"], case[what]["count"]) == (0, 0, 2)
        assert case[what]["concerned"] == 9
        assert 0 < case[what]["last_ms"]["p50"] < 30_000
    assert case["relay"]["memory_mb"] > 10 < case["host"]["memory_mb"]
    assert case["drop"]["seconds"] > 0
    assert "| 10 | 10 | 1 | sqlite |" in (tmp_path / "scale.md").read_text()
    assert (tmp_path / "scale.png").stat().st_size > 10_000
