"""A capture of any size takes the same memory: one record at a time."""

from __future__ import annotations

import struct
import subprocess
import sys
import tracemalloc
from pathlib import Path

import pytest
from scapy.layers.inet import UDP
from scapy.layers.l2 import Ether
from scapy.packet import Raw

from tests.replay.conftest import Stage
from tests.replay.generator import STATE, scenes

pytestmark = pytest.mark.replay

ROOT = Path(__file__).parents[2]
MB = 1 << 20
# What a process takes at most, in KiB, begins with what its parent has when it starts it, so that must be a small one.
MEASURED = """import resource, subprocess, sys
code = subprocess.call(sys.argv[1:])
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
sys.exit(code)"""


def write_large(path: Path, size: int) -> int:
    """A capture with at least so many octets of large datagrams of one flow. Returns the number of datagrams."""
    (scene, *_) = scenes(31)
    frame = bytes(Ether() / scene.ip() / UDP(sport=scene.sport, dport=scene.port) / Raw(scene.text(60_000)))
    record = struct.pack("<IIII", 0, 0, len(frame), len(frame)) + frame
    count = size // len(record) + 1
    with open(path, "wb") as file:
        file.write(struct.pack("<IHHIIII", 0xA1B2C3D4, 2, 4, 0, 0, 262_144, 1))
        for _ in range(count):
            file.write(record)
    return count


@pytest.mark.placement("instance")
def test_64_mb_are_replayed_in_4(stage: Stage) -> None:
    count = write_large(stage.folder / "large.pcap", 64 * MB)
    tracemalloc.start()
    try:
        report = stage.replay_file(stage.folder / "large.pcap")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    (flow,) = report.flows.values()
    assert (flow.packets, flow.delivered, report.disagreements) == (count, count, 0)
    assert peak < 4 * MB


@pytest.mark.slow
def test_1_gb_is_replayed_by_a_process_of_200_mb(tmp_path: Path) -> None:
    (tmp_path / "state.yaml").write_text(STATE)
    count = write_large(tmp_path / "large.pcap", 1024 * MB)
    command = [sys.executable, "-m", "sgdataplane", "replay", str(tmp_path / "large.pcap")]
    command += ["--state", str(tmp_path / "state.yaml")]
    measured = [sys.executable, "-c", MEASURED, *command]
    done = subprocess.run(measured, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False)
    *lines, most = done.stdout.splitlines()
    assert done.returncode == 0, lines
    assert f"{count:,} packets read, {count:,} sent" in "\n".join(lines)
    assert int(most) < 200 * 1024
