"""What a run with many hosts consists of: a filled store, relays, crowds of simulated hosts, a real `sgdp sync`.

Owns starting and ending the processes, their certificates, and what the kernel says of each. Must not know what is
measured.
"""

from __future__ import annotations

import datetime as dt
import ipaddress
import json
import os
import queue
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from bench.errors import BenchError
from bench.fleet import Fleet
from sgdataplane.store.interface import Store, Write
from sgdataplane.store.opening import open_store

HERE, DAY, A_COMMIT = "127.0.0.1", dt.timedelta(days=1), 5_000  # documents
START_S = 900.0  # for all relays; each reads the whole store
MANY = 2_000  # hosts, of which each pinging its relay would be most of what one machine can do
TICKS = os.sysconf("SC_CLK_TCK")


class Signer:
    """An authority and what it signs. All certificates have one key: they differ in whom they name."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        self._folder, self._key = folder, ec.generate_private_key(ec.SECP256R1())
        self.key, self.authority = folder / "key.pem", folder / "authority.pem"
        plain = serialization.NoEncryption()
        pkcs8 = serialization.PrivateFormat.PKCS8
        self.key.touch(mode=0o600)  # a relay refuses a key that others can read
        self.key.write_bytes(self._key.private_bytes(serialization.Encoding.PEM, pkcs8, plain))
        constraints = x509.BasicConstraints(ca=True, path_length=0)
        self._write(self.authority, self._builder("authority").add_extension(constraints, critical=True))

    def sign(self, name: str, address: str = "") -> Path:
        builder = self._builder(name)
        if address:
            names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(address))])
            builder = builder.add_extension(names, critical=False)
        return self._write(self._folder / f"{name}.pem", builder)

    def _builder(self, subject: str) -> x509.CertificateBuilder:
        now = dt.datetime.now(dt.UTC)
        made = x509.CertificateBuilder().subject_name(_named(subject)).issuer_name(_named("authority"))
        made = made.public_key(self._key.public_key()).serial_number(x509.random_serial_number())
        return made.not_valid_before(now - DAY).not_valid_after(now + DAY)

    def _write(self, file: Path, builder: x509.CertificateBuilder) -> Path:
        file.write_bytes(builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
        return file


def _named(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


@dataclass
class Started:
    """A process. `lines`: what it says, as it comes."""

    process: subprocess.Popen[str]
    lines: queue.Queue[str] = field(default_factory=queue.Queue)
    said: list[str] = field(default_factory=list)

    @staticmethod
    def of(command: Sequence[str], *, reads_errors: bool) -> Started:
        streams: dict[str, Any] = {"stdin": subprocess.PIPE, "text": True}
        other = {"stderr": subprocess.PIPE, "stdout": subprocess.DEVNULL}
        streams |= other if reads_errors else {"stdout": subprocess.PIPE}
        one = Started(subprocess.Popen(command, **streams))
        source = one.process.stderr if reads_errors else one.process.stdout
        threading.Thread(target=one._read, args=(source,), daemon=True).start()
        return one

    def _read(self, source: Iterator[str]) -> None:
        for line in source:
            self.lines.put(line)

    def wait_for(self, pattern: str, timeout: float) -> re.Match[str]:
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            try:
                self.said.append(self.lines.get(timeout=0.2))
            except queue.Empty:
                if self.process.poll() is not None:
                    break
                continue
            if found := re.search(pattern, self.said[-1]):
                return found
        raise BenchError(f"process {self.process.pid} doesn't say {pattern!r}: {self.said[-5:]}")

    def write(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def end(self, seconds: float = 10) -> None:
        self.process.terminate()
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    @property
    def cpu_s(self) -> float:
        """Processor time so far."""
        after_name = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(after_name[11]) + int(after_name[12])) / TICKS

    def memory_mb(self, what: str = "VmRSS") -> float:
        """VmRSS: now; VmHWM: the most so far."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        found = re.search(rf"{what}:\s+(\d+) kB", status)
        assert found is not None
        return int(found[1]) / 1024


class Etcd:
    """One member. `watches`: how many watches it has."""

    def __init__(self, folder: Path) -> None:
        program = shutil.which("etcd")
        if program is None:
            raise BenchError("there is no etcd: apt install etcd-server")
        client, peer, health = (f"http://{HERE}:{port}" for port in free_ports(3))
        command = [
            program, "--name", "bench", "--data-dir", str(folder), "--listen-client-urls", client,
            "--advertise-client-urls", client, "--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer,
            "--initial-cluster", f"bench={peer}", "--listen-metrics-urls", health, "--log-level", "error",
            "--quota-backend-bytes", str(4 << 30),
        ]  # fmt: skip
        self.started, self._health = Started.of(command, reads_errors=True), health
        self.store = "etcd://" + client.removeprefix("http://") + "/bench"
        until(self._is_healthy, "etcd", 30)

    def _is_healthy(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self._health}/health", timeout=2) as answer:
                return bool(json.load(answer)["health"] == "true")
        except OSError:
            return False

    @property
    def watches(self) -> int:
        with urllib.request.urlopen(f"{self._health}/metrics", timeout=5) as answer:
            found = re.search(r"^etcd_debugging_mvcc_watcher_total (\d+)", answer.read().decode(), re.MULTILINE)
        return int(found[1]) if found else -1


def free_ports(count: int) -> list[int]:
    """Return ports that nobody has, each another."""
    with ExitStack() as stack:
        doors = [stack.enter_context(socket.create_server((HERE, 0))) for _ in range(count)]
        return [sock.getsockname()[1] for sock in doors]


def until(is_true: Callable[[], bool], what: str, timeout: float) -> None:
    deadline = time.monotonic() + timeout
    while not is_true():
        if time.monotonic() > deadline:
            raise BenchError(f"waited {timeout:.0f} s for {what}")
        time.sleep(0.05)


def fill(spec: str, fleet: Fleet) -> Store:
    store = open_store(spec, create=True)
    documents = fleet.documents()
    while some := dict(islice(documents, A_COMMIT)):
        store.commit(Write({}, some))
    return store


class Plant:
    """`spec`: of the store, which is filled. Use as a context manager."""

    def __init__(self, folder: Path, spec: str) -> None:
        self._folder, self._spec = folder, spec
        self._signer = Signer(folder / "ca")
        self.relays: list[Started] = []
        self.urls: list[str] = []
        self.crowds: list[Started] = []
        self.sync: Started | None = None

    def start_relays(self, count: int, snapshots: int) -> None:
        certificate = self._signer.sign("relay", HERE)
        for number in range(count):
            command = ["relay", "--store", self._spec, "--listen", f"{HERE}:0", "--name", f"relay-{number}"]
            command += ["--snapshots", str(snapshots), *self._tls(certificate)]
            self.relays.append(Started.of([sys.executable, "-m", "sgdataplane", *command], reads_errors=True))
        self.urls = [relay.wait_for(r"serving at (\S+); ", START_S)[1] for relay in self.relays]

    def _tls(self, certificate: Path) -> list[str]:
        files = {"cert": certificate, "key": self._signer.key, "ca": self._signer.authority}
        return [option for name, file in files.items() for option in (f"--tls-{name}", str(file))]

    def start_crowds(self, names: Sequence[str], count: int) -> None:
        for number in range(count):
            mine = [
                (name, self.urls[index % len(self.urls)], str(self._signer.sign(name)))
                for index, name in enumerate(names)
                if index % count == number
            ]
            crowd = Started.of([sys.executable, "-m", "bench.scalehosts"], reads_errors=False)
            files = {"authority": str(self._signer.authority), "key": str(self._signer.key)}
            crowd.write(json.dumps({"hosts": mine, "pings": len(names) <= MANY, **files}))
            self.crowds.append(crowd)

    @property
    def synced(self) -> Path:
        """The folder that the real `sgdp sync` writes."""
        return self._folder / "sync"

    def start_sync(self, name: str, agent: Path | None = None) -> Started:
        """A real one, which writes folders. `agent`: the socket of the agent that answers it, if there is one."""
        folder = self.synced
        asked = agent or folder / "none"
        command = ["sync", "--relay", self.urls[0], "--folder", str(folder), "--agent-socket", str(asked)]
        command += self._tls(self._signer.sign(name))
        self.sync = Started.of([sys.executable, "-m", "sgdataplane", *command], reads_errors=True)
        until((folder / "current").is_symlink, "the first generation", 60)
        return self.sync

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        started = (*self.crowds, *([self.sync] if self.sync else []), *self.relays)
        for one in started:
            one.process.terminate()
        deadline = time.monotonic() + 10
        for one in started:
            one.end(max(0.1, deadline - time.monotonic()))
