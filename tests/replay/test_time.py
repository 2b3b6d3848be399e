"""In a replay as slow as the capture, sessions end when they are idle for too long; otherwise they don't."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from sgdataplane.lab import manage
from sgdataplane.lab.manage import Lab, enforce_policy
from sgdataplane.lab.replay.capture import Capture
from sgdataplane.lab.replay.endpoints import Mapping
from sgdataplane.lab.replay.run import Replay
from sgdataplane.net.values import Address
from tests.replay.generator import KINDS, STATE, scenes, write_pcap
from tests.support.scenes.labs import assert_gone, state_of

pytestmark = pytest.mark.replay

SCALE = 1 / 30  # a ping's session is over after one second


@pytest.fixture
def lab(lab_name: str) -> Iterator[Lab]:
    record = replace(manage.default_record(lab_name), time_scale=SCALE)
    yield manage.up(record, state_of(STATE), enforce_policy)
    manage.down(lab_name)
    assert_gone(lab_name)


def test_an_answer_after_the_idle_timeout_is_refused_in_real_time_alone(lab: Lab, tmp_path: Path) -> None:
    delivered = []
    for seed, is_real_time in ((41, False), (42, True)):
        (scene, *_) = scenes(seed)
        ask, answer = KINDS["ping"](scene).packets
        path = write_pcap(tmp_path / f"{seed}.pcap", [ask, answer], step=1.5)
        mapping = Mapping({Address.parse(scene.client): "ext-198.51.100.7"})
        with Capture(path) as capture:
            report = Replay(lab, mapping, is_shared=True).run(capture, lambda _: None, is_real_time=is_real_time)
        (flow,) = report.flows.values()
        assert (flow.packets, flow.problem, report.time_scale) == (2, "", SCALE), f"seed {seed}"
        delivered.append(flow.delivered)
    assert delivered == [2, 1]
