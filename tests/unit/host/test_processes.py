"""What is measured of a process, with all of /proc and with as much of it as the units leave."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client import ProcessCollector

from sgdataplane.host.processes import ProcessUsage

pytestmark = pytest.mark.kernel


@pytest.fixture
def kept_in(tmp_path: Path) -> Iterator[Path]:
    """A /proc as ProcSubset=pid makes it."""
    subprocess.run(["mount", "-t", "proc", "-o", "subset=pid", "proc", tmp_path], check=True)
    yield tmp_path
    subprocess.run(["umount", tmp_path], check=True)


def measured(collector: ProcessCollector) -> dict[str, float]:
    return {sample.name: sample.value for metric in collector.collect() for sample in metric.samples}


def test_all_is_measured_where_there_are_processes_only(kept_in: Path) -> None:
    assert not (kept_in / "stat").exists()
    assert measured(ProcessCollector(registry=None, proc=str(kept_in))) == {}, "or ours isn't needed any more"
    found = measured(ProcessUsage(registry=None, proc=str(kept_in)))
    assert found["process_resident_memory_bytes"] > 1 << 20
    assert found.keys() == measured(ProcessCollector(registry=None)).keys()


def test_it_is_what_the_library_measures() -> None:
    theirs, ours = measured(ProcessCollector(registry=None)), measured(ProcessUsage(registry=None))
    assert abs(theirs["process_start_time_seconds"] - ours["process_start_time_seconds"]) < 2
