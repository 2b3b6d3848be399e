"""That somebody has a flowtable where policy is enforced is said by whoever is asked, and the agent looks at once."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sgdataplane.lab.manage import enforce_policy
from sgdataplane.lab.status import read_health
from sgdataplane.model.options import Placement
from tests.features.flows import TABLE, carried, carry
from tests.features.probes import FLOWTABLES, require
from tests.support.documents.schemas import assert_conforms
from tests.support.kernel.nft import nft
from tests.support.probes.flood import wait_until
from tests.support.scenes import labs
from tests.support.scenes.agentbench import agent_in
from tests.support.scenes.attachbench import DNS, WEB, Bench
from tests.support.scenes.attachhost import HOST, ROUTER, state_of
from tests.support.scenes.pair import Session
from tests.support.scenes.sessionlab import state_with

pytestmark = [pytest.mark.traffic, pytest.mark.optional]
ENDS = ("eni-a", "eni-b")  # as they are called in the router
TOLD = f"flowtable inet {TABLE} f (eni-a, eni-b) carries sessions past the policy: "


@pytest.fixture(scope="module", autouse=True)
def _feature() -> None:
    require(FLOWTABLES)


@pytest.fixture
def bench(host_bench: Bench) -> Bench:
    return host_bench


def test_apply_says_so_for_people_and_programs(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    assert bench.apply(state_of(WEB), *HOST)["exit"] == "0"
    carry(ROUTER, ENDS)
    path = bench.write(state_of(WEB))
    assert bench.sgdp("apply", path, *HOST, "--json") == 0
    said = json.loads(capsys.readouterr().out)
    assert_conforms("apply", said)
    (line,) = said["warnings"]
    assert line.startswith(f"{ROUTER}: {TOLD}")
    assert bench.sgdp("apply", path, *HOST) == 0
    assert f"warning: {line}\n" in capsys.readouterr().err
    nft(ROUTER, f"delete table inet {TABLE}")
    assert bench.sgdp("apply", path, *HOST) == 0
    assert TABLE not in capsys.readouterr().err


def test_agent_sees_it_come_and_ends_what_a_change_refuses(bench: Bench, tmp_path: Path) -> None:
    with agent_in(tmp_path) as agent, Session(bench.pair, WEB) as web, Session(bench.pair, DNS) as dns:
        agent.configure(adoption_window=0, placement="host", fence=False, sessions_per_eni=1000)  # few: no warning
        agent.write(state_of(WEB, DNS))
        agent.start()
        assert agent.status()["warnings"] == []
        carry(ROUTER, ENDS, WEB, WEB)
        wait_until(lambda: bool(agent.status()["warnings"]))
        assert agent.status()["warnings"][0].startswith(f"{ROUTER}: {TOLD}")
        assert TOLD in agent.events("flowtable-bypasses-policy")[-1]
        assert agent.events("binding-superseded") == []
        for _ in range(2):
            web.must_pass()
        assert carried(ROUTER) == {WEB}
        epoch = {eni["epoch"] for eni in agent.status()["enis"]}
        agent.write(state_of(DNS))
        wait_until(lambda: {eni["epoch"] for eni in agent.status()["enis"]}.isdisjoint(epoch))
        for _ in range(3):
            assert not web.passes(beside=dns)
        assert carried(ROUTER) == set()


def test_status_of_a_lab_says_so(lab_name: str, placement: str) -> None:
    with labs.running(lab_name, state_with([], "sg-far"), enforce_policy, placement=placement) as lab:
        place, *_ = lab.enforced
        carry(place.netns, ("lo",))
        health = read_health(lab)[place.name]
        (found,) = health.flowtables
        assert (found.family, found.table, found.name, found.devices) == ("inet", TABLE, "f", ("lo",))
        (line,) = health.warnings(Placement(placement))
        assert "stall" in line
        assert {"flowtables"} <= health.as_json().keys()
