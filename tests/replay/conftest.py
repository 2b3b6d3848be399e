"""A lab for each module and placement, and a way to send a capture through it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from scapy.packet import Packet

from sgdataplane.lab.manage import Lab, enforce_policy
from sgdataplane.lab.replay.capture import Capture
from sgdataplane.lab.replay.endpoints import Mapping
from sgdataplane.lab.replay.flows import Report
from sgdataplane.lab.replay.run import Replay
from sgdataplane.lab.replay.stage import build_lab
from sgdataplane.net.values import Address
from tests.replay.generator import STATE, write_pcap
from tests.support.scenes.labs import assert_gone, choices_at, state_of


@dataclass(frozen=True)
class Stage:
    """A lab that captures are sent through, one after the other."""

    lab: Lab
    everybody: str
    folder: Path

    def replay(self, packets: Iterable[Packet], maps: dict[str, str] | None = None) -> Report:
        return self.replay_file(write_pcap(self.folder / "capture.pcap", packets), maps)

    def replay_file(self, path: Path, maps: dict[str, str] | None = None) -> Report:
        mapping = Mapping({Address.parse(a): node for a, node in (maps or {}).items()}, self.everybody)
        with Capture(path) as capture:
            return Replay(self.lab, mapping, is_shared=False).run(capture, lambda _: None, is_real_time=False)


@pytest.fixture(scope="module")
def stage(
    make_lab_name: Callable[[], str], placement: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stage]:
    name = make_lab_name()
    with build_lab(name, state_of(STATE), choices_at(placement), enforce_policy) as (lab, everybody):
        yield Stage(lab, everybody, tmp_path_factory.mktemp("captures"))
    assert_gone(name)
