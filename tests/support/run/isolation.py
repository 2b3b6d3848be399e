"""Keeps the suite off the machine: namespaces for each process that runs tests, and the proof that nothing was touched.

Owns the network and mount namespace that a test process lives in, the names it may use, and the sweep after a killed
run. Must not know what is tested, nor use its code: it has to hold when that is broken.
"""

from __future__ import annotations

import ctypes
import json
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fcntl import ioctl
from pathlib import Path
from typing import Any

CLONE_NEWNS, CLONE_NEWNET = 0x00020000, 0x40000000  # linux/sched.h
MS_REC, MS_PRIVATE = 0x4000, 0x40000  # linux/mount.h
SIOCSIFFLAGS, IFF_UP = 0x8914, 0x1  # linux/sockios.h, linux/if.h
NAMED = Path("/run/netns")
RECORDS = Path("/run/sgdataplane/labs")
THREAD_NETNS = Path("/proc/thread-self/ns/net")
RUN_VARIABLE = "SGDP_TEST_RUN"  # marks every process that a run starts: "<pid>.<start time>"
WORKER_VARIABLE = "PYTEST_XDIST_WORKER"
# Interfaces that the kernel gives namespaces by itself, down, once a tunnel module is loaded: whoever had it loaded.
BY_ITSELF = ("tunl0", "gre0", "gretap0", "erspan0", "ip_vti0", "sit0", "ip6tnl0", "ip6gre0", "ip6_vti0")
SUITE_NAME = re.compile(r"t(?P<pid>\d+)x\w+-\d+.*")


@dataclass(frozen=True)
class Machine:
    """The namespace in which the suite was started, held open by a descriptor so that it can be looked at later."""

    fd: int

    def snapshot(self) -> Mapping[str, frozenset[str]]:
        """Ruleset, links, addresses and routes, as sets of lines; without counters and what else moves by itself."""
        ruleset = json.loads(self.run("nft", "-j", "-s", "list", "ruleset"))["nftables"]
        return {
            "nftables": frozenset(json.dumps(item, sort_keys=True) for item in ruleset),
            "links": frozenset(_made(self._json("ip", "-j", "link", "show"))),
            "addresses": frozenset(_addresses(self._json("ip", "-j", "address", "show"))),
            "routes": frozenset(
                _route(route)
                for family in ("-4", "-6")
                for route in self._json("ip", "-j", family, "route", "show", "table", "all")
                if route.get("protocol") != "ra"
            ),
        }

    def run(self, *command: str) -> str:
        """The command's output, run in the machine's own network namespace. For looking only."""
        inside = f"--net=/proc/{os.getpid()}/fd/{self.fd}"
        return subprocess.run(["nsenter", inside, *command], check=True, capture_output=True, text=True).stdout

    def _json(self, *command: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(self.run(*command) or "[]")
        return found

    def is_here(self) -> bool:
        """Whether the calling thread is still in the machine's own network namespace."""
        return os.fstat(self.fd).st_ino == THREAD_NETNS.stat().st_ino


def _made(links: list[dict[str, Any]]) -> Iterator[str]:
    """The names of those that somebody made, or uses."""
    return (link["ifname"] for link in links if link["ifname"] not in BY_ITSELF or "UP" in link["flags"])


def find_machine() -> Machine:
    """The machine, from a process that has not left it yet."""
    return Machine(os.open(THREAD_NETNS, os.O_RDONLY | os.O_CLOEXEC))


def difference(before: Mapping[str, frozenset[str]], after: Mapping[str, frozenset[str]]) -> tuple[str, ...]:
    """A line for everything that came or went; empty if nothing did."""
    came = [f"{kind}: came: {line}" for kind in before for line in sorted(after[kind] - before[kind])]
    went = [f"{kind}: went: {line}" for kind in before for line in sorted(before[kind] - after[kind])]
    return tuple(came + went)


def isolate() -> None:
    """Moves the calling thread into a network namespace of its own, where /run/netns is its own and empty, too.

    Its loopback is up, as on any machine: with it down, binding to 127.0.0.1 works only until an address was given.

    What is named there vanishes with the last process that lives in it, so a killed run leaves no name behind.
    """
    NAMED.mkdir(mode=0o755, exist_ok=True)
    libc = ctypes.CDLL(None, use_errno=True)
    _check(libc.unshare(CLONE_NEWNS | CLONE_NEWNET), "unshare")
    _check(libc.mount(None, b"/", None, ctypes.c_ulong(MS_REC | MS_PRIVATE), None), "mount --make-rprivate /")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as door:
        ioctl(door, SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", IFF_UP))
    _check(libc.mount(b"sgdataplane-tests", bytes(NAMED), b"tmpfs", ctypes.c_ulong(0), None), f"mount {NAMED}")


def _check(code: int, what: str) -> None:
    if code != 0:
        raise OSError(ctypes.get_errno(), f"{what}: {os.strerror(ctypes.get_errno())}")


def run_of_this_process() -> str:
    """The run's mark, inherited from the process that started it; made if this is that process."""
    return os.environ.setdefault(RUN_VARIABLE, f"{os.getpid()}.{_start_time(os.getpid())}")


def prefix_of(run: str, worker: str) -> str:
    """What every name that this worker gives begins with: letters and digits, short, so it fits where names go."""
    return f"t{run.partition('.')[0]}x{worker}"


def leftovers(run: str, worker: str) -> tuple[str, ...]:
    """A line for every namespace and process that this worker's tests left; /run/netns has to be its own (isolate)."""
    processes = sorted(_marked_processes(run, worker))
    return (*(f"namespace {name}" for name in _names()), *(f"process {pid}: {_command(pid)}" for pid in processes))


def sweep() -> tuple[str, ...]:
    """Ends the processes and removes the named namespaces and records of labs of runs that are dead; returns a line for
    each."""
    done = []
    alive: dict[str, bool] = {}
    for pid, run in _processes_of_runs():
        if run not in alive:
            alive[run] = is_alive(run)
        if not alive[run]:
            done.append(f"process {pid}: {_command(pid)}")
            os.kill(pid, signal.SIGKILL)
    for name in filter(_is_of_the_dead, _names()):
        subprocess.run(["ip", "netns", "delete", name], check=True)
        done.append(f"namespace {name}")
    for record in RECORDS.iterdir() if RECORDS.exists() else ():
        if _is_of_the_dead(record.name):
            shutil.rmtree(record, ignore_errors=True)
            done.append(f"record of lab {record.name}")
    return tuple(done)


def _is_of_the_dead(name: str) -> bool:
    """Whether a run gave that name which is no more."""
    match = SUITE_NAME.fullmatch(name)
    return match is not None and not any(_numbered(match["pid"]))


def is_alive(run: str) -> bool:
    """Whether the process that started this run still runs (a later process with the same number isn't it), here or in
    a PID namespace of its own: the mark has its number as it is there."""
    pid, _, started = run.partition(".")
    return any(_start_time(other) == started for other in _numbered(pid))


def _numbered(number: str) -> Iterator[int]:
    """The processes, by their numbers here, that have this number in their own PID namespace."""
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                text = Path(f"/proc/{entry}/status").read_text(errors="replace")
            except (FileNotFoundError, ProcessLookupError):
                continue
            numbers = text.partition("\nNSpid:")[2].partition("\n")[0].split()
            if numbers[-1:] == [number]:
                yield int(entry)


def _start_time(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (FileNotFoundError, ProcessLookupError):
        return ""


def _names() -> list[str]:
    return sorted(os.listdir(NAMED)) if NAMED.is_dir() else []


def _processes_of_runs() -> Iterator[tuple[int, str]]:
    for pid, environment in _environments():
        if RUN_VARIABLE in environment:
            yield pid, environment[RUN_VARIABLE]


def _marked_processes(run: str, worker: str) -> Iterator[int]:
    for pid, environment in _environments():
        mine = environment.get(RUN_VARIABLE) == run and environment.get(WORKER_VARIABLE, "master") == worker
        if mine and pid != os.getpid():
            yield pid


def _environments() -> Iterator[tuple[int, dict[str, str]]]:
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                text = Path(f"/proc/{entry}/environ").read_bytes().decode(errors="replace")
            except OSError:  # it ended, or is not ours to read
                continue
            yield int(entry), dict(item.partition("=")[::2] for item in text.split("\0") if "=" in item)


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ").strip()
    except OSError:
        return "(ended)"


def _addresses(links: list[dict[str, Any]]) -> Iterator[str]:
    for link in links:
        for address in link["addr_info"]:
            yield f"{link['ifname']} {address['local']}/{address['prefixlen']}"


def _route(route: Mapping[str, Any]) -> str:
    return " ".join(f"{key} {route[key]}" for key in ("type", "dst", "gateway", "dev", "table") if key in route)
