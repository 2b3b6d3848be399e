"""What is attached here is named by an ENI's id, or by its instance's id or name: each verb, each way, with the agent
and without one."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from sgdataplane.cli.main import main
from sgdataplane.host import netns
from sgdataplane.host.links import Links
from sgdataplane.model.state import CloudState, EniType, Instance
from tests.support.inputs.builders import mac_of, make_eni
from tests.support.probes.flood import wait_until
from tests.support.scenes.agentbench import AgentBench, agent_in
from tests.support.scenes.attachbench import WEB, Bench, living_nowhere, state_of
from tests.support.scenes.pair import join

pytestmark = pytest.mark.daemon

DONE, NONE_CAME, NO_AGENT, INPUT = 0, 1, 3, 5
OURS = ("eni-a", "i-a", "web")
NOT_HERE = "eni-b1"
SEVERAL = ("two", "i-t")  # eni-t1, which is attached, and eni-t2, which isn't
UNKNOWN = ("wep", "batch", "", "w\x1b[2Jb")  # "batch": two ENIs, neither is attached
VERBS = {
    "counters": (("counters", "--json"), DONE),
    "log": (("log", "--seconds", "0.05"), DONE),
    "trace": (("trace", "--seconds", "0.05"), NONE_CAME),
}


def state() -> CloudState:
    """Of the instances web (eni-a), two (eni-t1, eni-t2), and batch, twice."""
    base = state_of(WEB)
    more = [
        make_eni("eni-t1", "10.9.0.1", "sg-a", instance_id="i-t"),
        make_eni("eni-t2", "10.9.0.2", "sg-a", instance_id="i-t", type=EniType.SECONDARY),
        make_eni("eni-b1", "10.9.0.3", "sg-a"),
        make_eni("eni-b2", "10.9.0.4", "sg-a"),
    ]
    names = {"i-a": "web", "i-b1": "batch", "i-b2": "batch", "i-t": "two"}
    instances = tuple(Instance(*entry) for entry in names.items())
    return replace(base, network_interfaces=(*base.network_interfaces, *more), instances=instances)


@pytest.fixture(scope="module")
def agent(make_lab_name: Callable[[], str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[AgentBench]:
    """It runs, and enforces eni-a and eni-t1."""
    folder, peer = tmp_path_factory.mktemp("names"), make_lab_name()
    netns.create(peer)
    with living_nowhere() as process, agent_in(folder) as agent:
        place = f"/proc/{process.pid}/ns/net"
        join({"peer": peer, "instance": place})
        with Links(peer) as links:
            links.add_veth("eth1", place, "eth1", mac_of("eni-t1"))
        bench = Bench({"peer": peer, "instance": place}, process.pid, folder, str)
        agent.write(state())
        assert [bench.attach(), bench.attach(eni="eni-t1", ifname="eth1")] == [DONE, DONE]
        agent.start()
        yield agent
    netns.remove(peer)


@pytest.fixture(params=["agent", "no agent"])
def config(request: pytest.FixtureRequest, agent: AgentBench, tmp_path: Path) -> Path:
    """The running agent's, or one that differs in nothing but that nobody answers."""
    if request.param == "agent":
        return agent.config
    other = tmp_path / "agent.toml"
    other.write_text(agent.config.read_text("utf-8").replace("agent.sock", "none.sock"), "utf-8")
    return other


def run(verb: str, config: Path, name: str) -> int:
    return main([*VERBS[verb][0], "--config", str(config), "--eni", name])


def has_agent(config: Path) -> bool:
    return "none.sock" not in config.read_text("utf-8")


@pytest.mark.parametrize("name", OURS)
@pytest.mark.parametrize("verb", VERBS)
def test_each_name_of_an_attached_eni_is_understood(
    verb: str, name: str, config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Counters are the agent's alone."""
    can = verb != "counters" or has_agent(config)
    assert run(verb, config, name) == (VERBS[verb][1] if can else NO_AGENT)
    out, err = capsys.readouterr()
    assert "InvalidEniId" not in err
    if verb == "counters" and can:
        assert "eni-a" in {eni for scope in json.loads(out)["scopes"] for eni in scope["enis"]}


@pytest.mark.parametrize("name", [NOT_HERE, *SEVERAL, *UNKNOWN])
@pytest.mark.parametrize("verb", VERBS)
def test_what_is_not_one_attached_eni_is_refused(
    verb: str, name: str, config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    is_known = verb == "counters" and name == NOT_HERE and not has_agent(config)  # by the state, and nobody counts
    assert run(verb, config, name) == (NO_AGENT if is_known else INPUT)
    err = capsys.readouterr().err
    assert ("one of eni-t1, eni-t2" in err) is (name in SEVERAL), err
    assert "\x1b[2J" not in err
    if name == "wep" and verb == "counters":
        assert "such as web" in err


def test_the_agent_tells_which_eni_a_name_stands_for_also_of_those_that_are_no_longer_attached(
    agent: AgentBench, capsys: pytest.CaptureFixture[str]
) -> None:
    """Detached by a name, attached again by another one; and what was counted is still found."""
    bindings = ("--bindings", str(agent.folder / "attached"))
    known = ("--config", str(agent.config))
    assert main(["detach", "--eni", "web", *known, *bindings]) == DONE
    assert capsys.readouterr().out.startswith("eni-a: no longer bound")
    wait_until(lambda: "eni-a" not in agent.outcomes())
    for name in ("web", "i-a", "eni-a"):
        assert main(["detach", "--eni", name, *known, *bindings]) == INPUT
        assert "no ENI with this id or name is attached here" in capsys.readouterr().err
    assert run("counters", agent.config, "web") == DONE
    place = Path(json.loads((agent.folder / "attached" / "bindings.json").read_text())["bindings"][0]["path"])
    where = ("--pid", place.parts[2], "--ifname", "eth0", *known, *bindings)
    for name in SEVERAL:
        assert main(["attach", "--eni", name, *where]) == INPUT
        assert "one of eni-t1, eni-t2" in capsys.readouterr().err
    assert main(["attach", "--eni", "wep", *where, "--state", str(agent.state)]) == INPUT
    assert "such as web" in capsys.readouterr().err
    assert main(["attach", "--eni", "i-a", *where]) == DONE
    assert capsys.readouterr().out.startswith("eni-a: bound")
    wait_until(lambda: agent.outcomes().get("eni-a") == "in force")


def test_an_eni_that_nobody_knows_yet_is_attached_by_its_id_and_told_if_it_may_have_been_a_name(
    bench: Bench, agent: AgentBench, capsys: pytest.CaptureFixture[str]
) -> None:
    """It passes nothing before the state has it."""
    for name, warnings in (("eni-new", 0), ("wep", 1)):
        where = ("--pid", bench.pid, "--config", agent.config)
        assert bench.sgdp("attach", "--eni", name, "--ifname", "eth0", *where) == DONE
        out, err = capsys.readouterr()
        assert out.startswith(f"{name}: bound")
        assert err.count("no ENI or instance of this name is known here (near: web") == warnings
        assert bench.sgdp("detach", "--eni", name) == DONE
        capsys.readouterr()
