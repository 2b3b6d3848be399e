"""A machine of its own with systemd, with the Debian package in it and one attached ENI.

Owns building and installing it, and what is asked of it. Must not know what is expected of it.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from sgdataplane.statefile import dump_native
from tests.support.inputs.builders import mac_of
from tests.support.probes.flood import wait_until
from tests.support.scenes.attachbench import WEB, state_of
from tests.support.scenes.pair import Pair, switch_on
from tests.support.servers.booted import Booted

ROOT = Path(__file__).resolve().parents[3]
BUILD_S = 900  # on a busy machine
PACKAGES = ("sgdataplane", "sgdataplane-api", "sgdataplane-hosts")
STAMP = re.compile(r"^\tmap applied \{.*?^\t\}\n", re.MULTILINE | re.DOTALL)
AGENT, BOOT = "sgdataplane.service", "sgdataplane-boot.service"
STATE, CONFIG, DEB = "/etc/sgdataplane/state.yaml", "/etc/sgdataplane/agent.toml", "/root/sgdataplane.deb"
TRIAL, AFTER = "moved", "/root/after.yaml"


def built_packages(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ...]:
    """The Debian packages of this tree, in the order of PACKAGES. All processes of one run share them: the first that
    needs them builds them, which takes a minute of a processor, and the others wait."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if os.environ.get("PYTEST_XDIST_WORKER") else base) / "debs"
    folder.mkdir(exist_ok=True)
    names = folder / "names"
    with open(folder / "lock", "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not names.exists():
            names.write_text(_build(folder), "utf-8")
    return tuple(folder / name for name in names.read_text("utf-8").split())


def _build(folder: Path) -> str:
    """The names of the packages, built now into that folder."""
    command = ["tools/deb.sh", str(folder)]
    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=BUILD_S, check=False)
    assert built.returncode == 0, built.stderr
    return built.stdout


@contextmanager
def installed(machine: Booted, package: Path) -> Iterator[Booted]:
    """The package is installed, the agent runs, and eni-a is attached: the workload of make_workload()."""
    install(machine, package)
    make_workload(machine)
    attach(machine)
    yield machine
    machine.run("dpkg", "--purge", "sgdataplane")
    machine.run("rm", "-rf", "/etc/sgdataplane", f"/run/systemd/system/{AGENT}.d")
    for name in ("p", "w"):
        machine.run("ip", "netns", "delete", name, check=False)


def install(machine: Booted, package: Path) -> None:
    """The package, and a state with eni-a, which is let be asked at WEB."""
    shutil.copy(package, machine.path(DEB))
    machine.run("dpkg", "--install", DEB)
    write(machine, STATE, dump_native(state_of(WEB)))


def attach(machine: Booted) -> None:
    """eth0 of the namespace w obeys."""
    machine.run("sgdp", "attach", "--eni", "eni-a", "--netns", "w", "--ifname", "eth0")
    wait_until(lambda: outcomes(machine) == {"eni-a": "in force"})


def make_workload(machine: Booted) -> Pair:
    """The namespace w, whose eth0 is joined by a link to the namespace p."""
    for name in ("p", "w"):
        machine.run("ip", "netns", "add", name)
    peer = ("peer", "eth0", "netns", "w", "address", mac_of("eni-a"))
    machine.run("ip", "-n", "p", "link", "add", "eth0", "type", "veth", *peer)
    pair = pair_of(machine)
    switch_on(pair)
    return pair


def pair_of(machine: Booted) -> Pair:
    """The namespaces of make_workload(), from here."""
    return {role: str(machine.path(f"/run/netns/{name}")) for role, name in (("peer", "p"), ("instance", "w"))}


def start_trial(machine: Booted, *ports: int) -> None:
    """One of a state that lets these ports in."""
    write(machine, AFTER, dump_native(state_of(*ports)))
    machine.run("sgdp", "trial", "start", AFTER, "--name", TRIAL)


def trial_counts(machine: Booted) -> dict[int, int]:
    """What the trial has counted at eni-a's ingress over IPv4, by port. Empty while nothing is compared."""
    said = machine.run("sgdp", "trial", "show", TRIAL, "--json", check=False)  # it exits with 1 if a line was seen
    assert said.startswith("{"), said
    lines = [line for line in json.loads(said)["lines"] if line["family"] == "ipv4"]
    return {int(line["ports"].split("-")[0]): line["packets"] for line in lines}


def write(machine: Booted, path: str, text: str) -> None:
    machine.path(path).parent.mkdir(parents=True, exist_ok=True)
    machine.path(path).write_text(text, "utf-8")


def status(machine: Booted) -> dict[str, Any]:
    said = machine.run("sgdp", "status", "--json", check=False)
    found = json.loads(said) if said.startswith("{") else {"enis": [], "pid": 0}
    assert isinstance(found, dict)
    return found


def outcomes(machine: Booted) -> dict[str, str]:
    return {eni["eni"]: eni["outcome"] for eni in status(machine)["enis"]}


def rules(machine: Booted, namespace: str = "w") -> str:
    """All of ours there, without what counts, what goes by itself (the adoption window), and the stamp, whose
    generation is another one when history's table comes or goes."""
    listing = machine.run("ip", "netns", "exec", namespace, "nft", "-s", "list", "table", "inet", "sgdataplane")
    listing = STAMP.sub("", listing)
    return "\n".join(line for line in listing.splitlines() if "timeout 30s" not in line)


def pid(machine: Booted) -> int:
    return int(machine.property(AGENT, "MainPID"))
