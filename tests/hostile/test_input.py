"""Input that is made to be expensive: refused, or read, at a bounded cost."""

from __future__ import annotations

import gzip
import struct
import time
import tracemalloc
from pathlib import Path

import pytest

from sgdataplane.lab.replay.capture import MAX_RECORD, Capture
from sgdataplane.model.state import CloudState
from tests.support.scenes.agentbench import agent_in

MEGABYTE = 1 << 20
INSTANCES = 40_000


@pytest.mark.daemon
def test_the_agent_answers_while_it_reads_a_huge_state_that_is_bad(tmp_path: Path) -> None:
    """Right but for its last line, so that all of it is read: some seconds, in which it was silent before."""
    lines = "".join(f"- {{instance_id: i-{number}, instance_name: node}}\n" for number in range(INSTANCES))
    with agent_in(tmp_path) as agent:
        agent.write(CloudState())
        agent.start()
        beside = tmp_path / "beside.yaml"
        beside.write_text(f"version: 1\ninstances:\n{lines}- {{instance_id: '?'}}\n", "utf-8")
        beside.replace(agent.state)
        began, waits, error = time.monotonic(), [0.0], ""
        while not error:
            asked = time.monotonic()
            error = agent.status()["state"]["error"]
            waits.append(time.monotonic() - asked)
        took = time.monotonic() - began
        print(f"{len(waits)} answers in {took:.1f} s, the slowest after {max(waits):.2f} s")
        assert f":{INSTANCES + 3} /instances/{INSTANCES}/instance_id" in error
        assert max(waits) < took / 3
        agent.reload()
        assert sum("state" in causes for causes in agent.causes()) == 1  # who asks has it read no second time


def test_a_gzip_bomb_is_streamed(tmp_path: Path) -> None:
    """A quarter of a megabyte on the disk, 256 in all."""
    path, records = tmp_path / "bomb", 256 * MEGABYTE // MAX_RECORD
    record = struct.pack("<IIII", 0, 0, MAX_RECORD, MAX_RECORD) + bytes(MAX_RECORD)
    with gzip.open(path, "wb", compresslevel=1) as file:
        file.write(struct.pack("<IHHIIII", 0xA1B2C3D4, 2, 4, 0, 0, MAX_RECORD, 1))
        for _ in range(records):
            file.write(record)
    assert path.stat().st_size < 2 * MEGABYTE
    tracemalloc.start()
    with Capture(path) as capture:
        assert sum(1 for _ in capture.records()) == records
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 4 * MEGABYTE
