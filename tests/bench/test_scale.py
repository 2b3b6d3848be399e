"""The benchmark of many hosts: hosts that a change concerns hear of it, others don't, and the page says so."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from bench.fleet import Fleet, host_name
from bench.scale import FULL, Case, summed

from sgdataplane.control.documents import Documents, native
from sgdataplane.control.store import Snapshot
from sgdataplane.relay.closure import Closures
from sgdataplane.statefile import load_native

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
