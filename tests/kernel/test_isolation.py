"""The suite's own safety: what a test programs, however wrongly, is not programmed into the machine."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.probes.flood import DEADLINE, wait_until
from tests.support.run import isolation

pytestmark = pytest.mark.kernel
ROOT = Path(__file__).resolve().parents[2]


def nft(text: str) -> str:
    return subprocess.run(["nft", text], check=True, capture_output=True, text=True).stdout


def test_rules_in_the_tests_own_namespace_are_not_in_the_machines(machine: isolation.Machine, lab_name: str) -> None:
    nft(f"add table inet {lab_name.replace('-', '_')}")
    try:
        assert lab_name.replace("-", "_") in nft("list tables"), "control: the table is where the test runs"
        assert lab_name.replace("-", "_") not in machine.run("nft", "list", "tables")
    finally:
        nft(f"delete table inet {lab_name.replace('-', '_')}")


def test_links_in_the_tests_own_namespace_are_not_in_the_machines(machine: isolation.Machine) -> None:
    assert isolation.THREAD_NETNS.stat().st_ino != os.fstat(machine.fd).st_ino
    subprocess.run(["ip", "link", "add", "sgdp-probe", "type", "veth", "peer", "sgdp-peer"], check=True)
    try:
        assert "sgdp-probe" in subprocess.run(["ip", "link"], check=True, capture_output=True, text=True).stdout
        assert "sgdp-probe" not in machine.run("ip", "link")
    finally:
        subprocess.run(["ip", "link", "delete", "sgdp-probe"], check=True)


def test_a_named_namespace_is_seen_by_this_worker_only(lab_name: str) -> None:
    subprocess.run(["ip", "netns", "add", lab_name], check=True)
    try:
        assert isolation.leftovers("0.0", "none") == (f"namespace {lab_name}",)
        elsewhere = subprocess.run(
            ["nsenter", "--mount=/proc/1/ns/mnt", "ls", "/run/netns"], check=False, capture_output=True, text=True
        )
        assert lab_name not in elsewhere.stdout
    finally:
        subprocess.run(["ip", "netns", "delete", lab_name], check=True)
    assert isolation.leftovers("0.0", "none") == ()


def test_a_process_that_is_left_running_is_found(worker_id: str) -> None:
    run = isolation.run_of_this_process()
    environment = {**os.environ, isolation.WORKER_VARIABLE: worker_id}
    with subprocess.Popen(["sleep", "60"], env=environment) as process:
        try:
            # a process can be seen a moment before its environment can
            wait_until(lambda: f"process {process.pid}: sleep 60" in isolation.leftovers(run, worker_id))
        finally:
            process.kill()
    assert f"process {process.pid}: sleep 60" not in isolation.leftovers(run, worker_id)


def test_loopback_answers_whatever_addresses_came_and_went() -> None:
    """With it down, the kernel refuses 127.0.0.1 from the first address on that a test gives in this namespace."""
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname(), DEADLINE):
        server.accept()[0].close()


def test_the_sweep_leaves_a_run_in_another_pid_namespace_alone_while_it_runs() -> None:
    """Its number there is another one here, or none at all."""
    program = (
        "import os, subprocess, sys; from tests.support.run import isolation; isolation.run_of_this_process();"
        "child = subprocess.Popen(['sleep', '60']); print(child.pid, flush=True); sys.stdin.read()"
    )
    command = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc", sys.executable, "-c", program]
    environment = {key: value for key, value in os.environ.items() if key != isolation.RUN_VARIABLE}
    with subprocess.Popen(
        command, cwd=ROOT, env=environment, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as outer:
        assert outer.stdout
        assert outer.stdout.readline()
        wait_until(lambda: len(inner_processes()) > 0)
        marked = inner_processes()
        assert not any(f"process {pid}:" in line for pid in marked for line in isolation.sweep())
        outer.kill()


def inner_processes() -> list[int]:
    """Of a run whose number is 1 where it runs."""
    return [pid for pid, run in isolation._processes_of_runs() if run.startswith("1.")]


def test_the_sweep_ends_processes_of_dead_runs_and_only_those() -> None:
    with subprocess.Popen(["true"]) as dead:
        dead.wait()
    environments = ({**os.environ, isolation.RUN_VARIABLE: f"{dead.pid}.1"}, dict(os.environ))
    orphan, living = (subprocess.Popen(["sleep", "60"], env=environment) for environment in environments)
    try:
        wait_until(lambda: {orphan.pid, living.pid} <= {pid for pid, _ in isolation._processes_of_runs()})
        swept = isolation.sweep()
        assert f"process {orphan.pid}: sleep 60" in swept
        assert orphan.wait(DEADLINE) == -signal.SIGKILL
        assert living.poll() is None
    finally:
        for process in (orphan, living):
            process.kill()
            process.wait()


def test_the_sweep_removes_records_of_labs_of_dead_runs_and_only_those() -> None:
    ended = subprocess.Popen(["true"])
    ended.wait()
    dead, alive = (isolation.RECORDS / f"t{pid}xgw0-1" for pid in (ended.pid, os.getpid()))
    for record in (dead, alive):
        record.mkdir(parents=True)
    try:
        assert f"record of lab {dead.name}" in isolation.sweep()
        assert (dead.exists(), alive.exists()) == (False, True)
    finally:
        alive.rmdir()
