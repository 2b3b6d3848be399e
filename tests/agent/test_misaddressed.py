"""An interface whose address isn't its ENI's passes nothing: that is said as an outcome, which isn't healthy."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from sgdataplane.host.links import InterfaceAddress, Links
from sgdataplane.net.values import Address
from tests.support.probes.flood import wait_until
from tests.support.scenes.agentbench import AgentBench, agent_in
from tests.support.scenes.attachbench import WEB, Bench, state_of
from tests.support.scenes.pair import HERE, Pair, made_pair

pytestmark = [pytest.mark.daemon]
MINE, OTHER = HERE["instance"][0], "10.0.0.77"


@dataclass
class Scene:
    agent: AgentBench
    pair: Pair

    def add(self, address: str) -> None:
        with Links(self.pair["instance"]) as links:
            links.add_address(InterfaceAddress("eth0", Address.parse(address), 24))

    def remove(self, address: str) -> None:
        with Links(self.pair["instance"]) as links:
            links.delete_address(InterfaceAddress("eth0", Address.parse(address), 24))

    def is_so(self, outcome: str) -> bool:
        status = self.agent.status()
        return (status["healthy"], self.agent.outcomes()) == (outcome == "in force", {"eni-a": outcome})


@pytest.fixture
def scene(
    tmp_path: Path, make_lab_name: Callable[[], str], capsys: pytest.CaptureFixture[str], placement: str
) -> Iterator[Scene]:
    with ExitStack() as stack:
        pair = stack.enter_context(made_pair(make_lab_name))
        bench = Bench(pair, 0, tmp_path, lambda: capsys.readouterr().out)
        assert bench.attach("--netns", pair["instance"]) == 0
        stack.callback(bench.sgdp, "clear")
        agent = stack.enter_context(agent_in(tmp_path))
        agent.configure(placement=placement)
        agent.write(state_of(WEB))
        yield Scene(agent, pair)


def test_only_another_address_is_an_outcome_until_the_right_one_is_there(scene: Scene) -> None:
    scene.remove(MINE)
    scene.add(OTHER)
    scene.agent.start()
    assert scene.is_so("misaddressed")
    (eni,) = scene.agent.status()["enis"]
    assert any(line.startswith(f"{OTHER} is on the interface, but not the ENI's") for line in eni["warnings"])
    scene.add(MINE)
    wait_until(lambda: scene.is_so("in force"))  # by the event, long before the timer


def test_another_address_beside_its_own_is_a_warning(scene: Scene) -> None:
    scene.add(OTHER)
    scene.agent.start()
    assert scene.is_so("in force")
    (eni,) = scene.agent.status()["enis"]
    assert len(eni["warnings"]) == 1


def test_no_address_is_a_warning_since_a_guest_may_have_it(scene: Scene) -> None:
    scene.remove(MINE)
    scene.agent.start()
    assert scene.is_so("in force")
