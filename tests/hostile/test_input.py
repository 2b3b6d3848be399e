"""Input that is made to be expensive: refused, or read, at a bounded cost."""

from __future__ import annotations

import gzip
import struct
import tracemalloc
from pathlib import Path

from sgdataplane.lab.replay.capture import MAX_RECORD, Capture

MEGABYTE = 1 << 20


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
