"""`sgdp lab up --time-scale`: in force at each instance, kept by `apply`, and said by every report."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sgdataplane.host import netns, sysctl
from sgdataplane.statefile import dump_native
from tests.support.run.forked import run_forked_sgdp
from tests.support.scenes import labs
from tests.support.scenes.sessionlab import state_with

pytestmark = pytest.mark.traffic

ROOT = Path(__file__).parents[2]
NOTE = "timeouts times 0.1"
PROBE = ("probe", "--from", "i-a", "--to", "i-b", "--protocol", "icmp")
TIMEOUTS = {"udp_timeout": "3", "tcp_timeout_established": "91", "tcp_timeout_syn_sent": "12", "icmp_timeout": "3"}


def sgdp(*arguments: str) -> str:
    done = run_forked_sgdp("lab", *arguments, cwd=ROOT)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("state") / "state.yaml"
    path.write_text(dump_native(state_with([], "sg-far")), encoding="utf-8")
    return str(path)


@pytest.fixture(scope="module")
def lab(make_lab_name: Callable[[], str], state: str) -> Iterator[str]:
    name = make_lab_name()
    assert NOTE in sgdp("up", state, "--name", name, "--time-scale", "0.1")
    yield name
    sgdp("down", "--name", name)
    labs.assert_gone(name)


def test_it_is_in_force_and_stays_so(lab: str, state: str) -> None:
    for _ in range(2):
        for node in ("i-a", "i-b"):
            with netns.inside(f"{lab}-{node}"):
                found = {name: sysctl.read(f"netfilter/nf_conntrack_{name}") for name in TIMEOUTS}
            assert found == TIMEOUTS
        assert NOTE in sgdp("apply", state, "--name", lab)


@pytest.mark.parametrize("verb", [("status",), PROBE, ("matrix", "--ports", "icmp")], ids=lambda verb: verb[0])
def test_every_report_says_so(lab: str, verb: tuple[str, ...]) -> None:
    assert NOTE in sgdp(*verb, "--name", lab).splitlines()[0]
    assert json.loads(sgdp(*verb, "--name", lab, "--json"))["time_scale"] == 0.1
