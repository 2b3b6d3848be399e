"""`python -m bench.historycost`: what history costs while a host is flooded with packets that its policy refuses.

Owns the flood, and the order in which an agent with history and one without take turns. The scene and the agent are
those of agentscale.py. Must not know what is promised.

    processor    of the recorder's process, in percent of one processor, while RATE packets a second are refused
    change       from the rename of a state file until another ENI has its new policy, meanwhile
    times        such a change beside an agent with history : without, round by round
"""

from __future__ import annotations

import argparse
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.agentscale import Agent, Ear, Scene, shown, started, state_of, told, with_port
from bench.batch import PACKETS, Batch
from bench.errors import BenchError
from bench.isolation import isolate
from sgdataplane.history import file
from sgdataplane.model.state import CloudState

RATE = 300_000  # packets a second
ENIS, PER_GROUP = 20, 10
FLOODED, CHANGED = 0, 1  # the number of the ENI that is flooded; of the group that changes, where that ENI isn't
SOURCE, PORT = "192.0.2.250", 9  # the discard port, which no rule opens
CHANGES = 6  # of a round, in each half
LONGEST_S = 60.0  # of a flood, however long a round takes
HISTORY = {"history.keep": "30d", "history.max_mb": 64}


def lead_to(number: int, address: str, mac: str) -> None:
    """Let packets from SOURCE go to that workload."""
    commands = (
        f"address add {SOURCE}/32 dev v{number}",
        f"route add {address}/32 dev v{number} src {SOURCE}",
        f"neigh replace {address} lladdr {mac} dev v{number} nud permanent",
    )
    subprocess.run(["ip", "-batch", "-"], input="\n".join(commands), text=True, check=True)


@contextmanager
def flood(address: str) -> Iterator[list[float]]:
    """Send while the block runs, from a process of its own. Afterwards the list has the packets a second."""
    read, write = os.pipe()
    began, rate = time.monotonic(), list[float]()
    pid = os.fork()
    if pid == 0:
        _send(address, write)
    os.close(write)
    try:
        yield rate
    finally:
        os.kill(pid, signal.SIGTERM)
        with open(read, "rb") as sent:
            rate.append(int(sent.read() or 0) / (time.monotonic() - began))
        os.waitpid(pid, 0)


def _send(address: str, answer: int) -> None:
    """Send RATE packets a second until SIGTERM comes or LONGEST_S are over; then write their number, and end."""
    is_over = False

    def end(*_: object) -> None:
        nonlocal is_over
        is_over = True

    signal.signal(signal.SIGTERM, end)
    batch, sent = Batch(), 0
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.bind((SOURCE, 0))
            sender.connect((address, PORT))
            began = time.monotonic()
            while not is_over and (now := time.monotonic()) < began + LONGEST_S:
                if sent > RATE * (now - began):
                    time.sleep(PACKETS / RATE)
                    continue
                batch.send(sender)
                sent += PACKETS
        os.write(answer, str(sent).encode())
    finally:
        os._exit(0)


def recorder_of(agent: Agent, path: Path) -> int:
    """Return the number of the process that records."""
    children = Path(f"/proc/{agent.process.pid}/task/{agent.process.pid}/children").read_text("ascii").split()
    found = [int(pid) for pid in children if bytes(path) in Path(f"/proc/{pid}/cmdline").read_bytes()]
    if len(found) != 1:
        raise BenchError(f"{len(found)} processes record")
    return found[0]


def cpu_s(pid: int) -> float:
    """Return the processor time that a process has taken."""
    fields = Path(f"/proc/{pid}/stat").read_text("ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Rounds:
    """The rounds of one scene."""

    def __init__(self, folder: Path) -> None:
        self._state: CloudState = state_of(ENIS, PER_GROUP)
        self._scene = Scene(folder, self._state, is_folder=True)
        self._history, self._port = folder / "var" / file.NAME, 20_000
        eni = self._state.network_interfaces[FLOODED]
        self._address = str(eni.addresses[0])
        lead_to(FLOODED, self._address, eni.mac_address)
        self.processor, self.rates = list[float](), list[float]()

    def changes(self, *, is_recorded: bool) -> list[float]:
        """Return the ms of each change beside the flood, at an agent with or without history."""
        self._scene.configure(**(HISTORY if is_recorded else {}))
        with ExitStack() as stack:
            agent, _ = started(self._scene, stack)
            stack.enter_context(self._noting(agent) if is_recorded else flood(self._address))
            ear = Ear(ENIS)
            return [self._change(agent, ear) for _ in range(CHANGES)]

    @contextmanager
    def _noting(self, agent: Agent) -> Iterator[None]:
        """Flood, and note what it costs the recorder."""
        recorder = recorder_of(agent, self._history)
        with flood(self._address) as rate:
            before, began = cpu_s(recorder), time.monotonic()
            yield
            self.processor.append(100 * (cpu_s(recorder) - before) / (time.monotonic() - began))
        self.rates += rate

    def _change(self, agent: Agent, ear: Ear) -> float:
        self._port += 1
        self._state = with_port(self._state, CHANGED, self._port)
        agent.settle()
        ear.drain()
        began = self._scene.write(self._state)
        numbers = [number for number in range(ENIS) if number % (ENIS // PER_GROUP) == CHANGED]
        return 1000 * (ear.wait(numbers) - began)


def measure(folder: Path, rounds: int, *, is_json: bool) -> None:
    say = told if is_json else shown
    rows, times, both = Rounds(folder), list[float](), {True: list[float](), False: list[float]()}
    for number in range(rounds):
        order = (True, False) if number % 2 else (False, True)
        found = {is_recorded: rows.changes(is_recorded=is_recorded) for is_recorded in order}
        times += [with_it / without for with_it, without in zip(found[True], found[False], strict=True)]
        for is_recorded, samples in found.items():
            both[is_recorded] += samples
    say("recorder", percent=rows.processor)
    say("refused", a_second=rows.rates)
    say("change", ms_with=both[True], ms_without=both[False], times=times)


def main() -> int:
    parser = argparse.ArgumentParser(prog="bench.historycost", description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=4, help="with history and without, each (default 4)")
    parser.add_argument("--json", action="store_true", help="all samples, for `bench`")
    options = parser.parse_args()
    isolate("bench.historycost")
    with TemporaryDirectory() as folder:
        measure(Path(folder), options.rounds, is_json=options.json)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
