"""The CNI plugin in a network's list, driven as libcni does it, with a real agent and real packets.

`wire` is a plugin of the tests that makes the interface, the instance's end of a pair; in one test Debian's `bridge`
takes its place.
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sgdataplane.attach.registry import Means, Registry
from sgdataplane.cli.main import main as sgdp
from sgdataplane.cni.plugin import main
from sgdataplane.cni.request import CniCode
from sgdataplane.host import netns
from sgdataplane.host.links import Links
from sgdataplane.model.state import CloudState
from tests.support.events.restarts import Arrivals, open_for, streaming, wait_for
from tests.support.inputs.builders import VPC_ID, mac_of, make_eni, make_group, make_rule, make_state
from tests.support.kernel.nft import nft
from tests.support.probes.flood import wait_until
from tests.support.scenes.agentbench import AgentBench, agent_in
from tests.support.scenes.attachbench import DNS, WEB
from tests.support.scenes.pair import ARRIVAL, HERE, Session, introduce, join
from tests.support.servers.cnidriver import ROOT, Network, PluginError, Result, Runtime, install
from tests.support.servers.engines import needs

pytestmark = [pytest.mark.kernel, pytest.mark.daemon]
EXAMPLE = json.loads((ROOT / "examples" / "podnet.conflist").read_text("utf-8"))["plugins"][-1]
OURS = {**EXAMPLE, "capabilities": {**EXAMPLE["capabilities"], "eni": True}}
DEBIANS = Path("/usr/lib/cni")
PEER, CONTAINER = HERE["peer"][0], HERE["instance"][0]


def state_of(*ports: int, eni: str = "eni-a") -> CloudState:
    """The ENI lets these UDP ports in, and sends to WEB but not to DNS."""
    rules = [make_rule(f"ingress udp {port}/{port} from 0.0.0.0/0", f"sgr-{port}") for port in ports]
    rules.append(make_rule(f"egress udp {DNS}/{DNS} to 0.0.0.0/0 drop", "sgr-out"))
    return make_state([make_group("sg-a", rules)], [make_eni(eni, " ".join(HERE["instance"]), "sg-a")])


def wired(command: str, config: Mapping[str, Any], runtime: Runtime) -> Result | None:
    """Stands for `bridge`, `ptp` and the like."""
    if command == "ADD":
        join({"peer": config["peer"], "instance": runtime.netns})
        entry = {"name": runtime.ifname, "mac": mac_of("eni-a"), "sandbox": runtime.netns}
        addresses = [{"address": f"{CONTAINER}/24", "interface": 0}]
        return {"cniVersion": config["cniVersion"], "interfaces": [entry], "ips": addresses, "dns": {}}
    if command == "DEL" and runtime.netns:
        with Links(runtime.netns) as links:
            if links.link(runtime.ifname) is not None:
                links.delete_link(runtime.ifname)
    return None


class CniBench:
    """A peer, containers' namespaces, an agent, and a network whose plugins are installed in a folder."""

    def __init__(self, agent: AgentBench, make_name: Callable[[], str], stack: ExitStack) -> None:
        self.agent, self._make_name, self._stack = agent, make_name, stack
        self.peer, self.folder = self.namespace(), agent.folder / "cni"
        self.folder.mkdir()
        install(self.folder, "sgdataplane", sys.executable, "-m", "sgdataplane.cni", "--config", str(agent.config))
        self.forked = {"sgdataplane": (main, ("--config", str(agent.config)))}
        self.registry = Registry(agent.folder / "attached")

    def namespace(self) -> str:
        name = self._make_name()
        netns.create(name)
        self._stack.callback(netns.remove, name)
        return name

    def network(self, *, is_guarded: bool = False, version: str = "1.0.0") -> Network:
        """`is_guarded`: our plugin stands before the one that makes the interface, too."""
        wire = {"type": "wire", "peer": self.peer}
        plugins: list[Mapping[str, object]] = [OURS, wire, OURS] if is_guarded else [wire, OURS]
        return Network("podnet", plugins, [self.folder], version, {"wire": wired}, self.forked)

    def alone(self, name: str = "podnet", version: str = "1.0.0") -> Network:
        """A network of our plugin and no other."""
        return Network(name, [OURS], [self.folder], version, forked=self.forked)

    def container(self, number: int = 1, *, eni: str = "eni-a") -> Runtime:
        arguments = f"IgnoreUnknown=1;SGDP_ENI={eni}" if eni else ""
        return Runtime(f"c{number}", str(netns.path_of(self.namespace())), arguments=arguments)

    def pair(self, runtime: Runtime) -> dict[str, str]:
        return {"peer": self.peer, "instance": runtime.netns}


@pytest.fixture
def bench(tmp_path: Path, make_lab_name: Callable[[], str]) -> Iterator[CniBench]:
    with ExitStack() as stack, agent_in(tmp_path, is_forked=True) as agent:
        agent.write(state_of(WEB))
        yield CniBench(agent, make_lab_name, stack)


def tables(place: str) -> str:
    return nft(place, "list tables")


def refused(call: Callable[[], object], code: CniCode) -> PluginError:
    with pytest.raises(PluginError) as raised:
        call()
    assert raised.value.code == code, raised.value
    return raised.value


def passes(bench: CniBench, runtime: Runtime, *, denied: int = DNS) -> bool:
    """Whether a packet to the denied port arrives, beside one to WEB that has to."""
    with Session(bench.pair(runtime), WEB) as web, Session(bench.pair(runtime), denied) as other:
        return other.passes(beside=web)


NAMED = {
    "annotation": {"capabilities": {"io.kubernetes.cri.pod-annotations": {"sgdataplane/eni": "eni-a", "x": "y"}}},
    "its instance": {"capabilities": {"eni": "i-a"}},
}


@pytest.mark.parametrize("named", NAMED.values(), ids=NAMED)
def test_a_container_obeys_from_add_to_del(bench: CniBench, named: dict[str, object]) -> None:
    bench.agent.start()
    network, runtime = bench.network(), replace(bench.container(eni=""), **named)  # type: ignore[arg-type]
    made = network.add(runtime)
    assert made["interfaces"] == [{"name": "eth0", "mac": mac_of("eni-a"), "sandbox": runtime.netns}]
    assert made["ips"] == [{"address": f"{CONTAINER}/24", "interface": 0}]  # as the plugin before us said
    assert not passes(bench, runtime)
    (binding,) = bench.registry.load()
    assert (binding.means, str(binding)) == (Means.RUNTIME, "eth0 of attachment podnet/c1")
    (eni,) = bench.agent.status()["enis"]
    assert (eni["bound_by"], eni["outcome"]) == ("runtime", "in force")
    network.check(runtime)
    network.delete(runtime)
    assert (bench.registry.load(), tables(runtime.netns)) == ((), "")
    network.delete(runtime)  # a DEL can come twice
    assert bench.agent.status()["enis"] == []


def test_a_pod_is_shown_by_its_name(bench: CniBench, capsys: pytest.CaptureFixture[str]) -> None:
    bench.agent.start()
    arguments = "IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web-0;SGDP_ENI=eni-a"
    bench.network().add(replace(bench.container(), arguments=arguments))
    capsys.readouterr()
    assert sgdp(["counters", "--config", str(bench.agent.config)]) == 0
    assert "eni-a (shop/web-0) in pod shop/web-0 of network podnet\n" in capsys.readouterr().out


def test_a_workload_that_starts_after_add_never_gets_a_denied_packet(bench: CniBench) -> None:
    bench.agent.start()
    network, runtime = bench.network(), bench.container()
    with streaming(bench.peer):
        network.add(runtime)
        with Arrivals(runtime.netns) as arrivals:
            wait_for(100, arrivals, WEB)
            assert arrivals.got[DNS] == []


def test_even_a_process_that_was_there_before_gets_and_sends_no_denied_packet(bench: CniBench) -> None:
    """Both ends send from before the interface is there, and never stop."""
    bench.agent.start()
    network, runtime = bench.network(is_guarded=True), bench.container()
    with Arrivals(runtime.netns) as inside, Arrivals(bench.peer) as outside:
        with streaming(bench.peer) as coming, streaming(runtime.netns, PEER) as going:
            network.add(runtime)
            assert open_for(coming, inside) == 0
            assert open_for(going, outside) == 0
            wait_for(len(inside.got[WEB]) + 100, inside, WEB)
            wait_for(len(outside.got[WEB]) + 100, outside, WEB)
        assert (inside.read()[DNS], outside.read()[DNS]) == ([], [])
        assert len(coming.sent[DNS]) > 100
        assert going.tried > 100


def test_without_our_plugin_in_front_such_a_process_is_open_until_add_gets_to_it(bench: CniBench) -> None:
    """The positive control of the test before, and the figure of docs/containers.md."""
    bench.agent.start()
    network, runtime = bench.network(), bench.container()
    with Arrivals(runtime.netns) as inside, streaming(bench.peer) as coming:
        network.add(runtime)
        opened = len(inside.read()[DNS])
        assert opened > 0
        assert open_for(coming, inside) == opened  # nothing more came after ADD
    print(f"{opened} packets to the denied port, one a ms, before our ADD closed it")


def test_without_an_agent_add_fails_and_nothing_passes(bench: CniBench) -> None:
    network, runtime = bench.network(), bench.container()
    error = refused(lambda: network.add(runtime), CniCode.LATER)
    assert "no agent is running" in error.message
    assert "nothing passes" in error.details
    with Arrivals(runtime.netns) as arrivals, streaming(bench.peer) as stream:
        wait_until(lambda: len(stream.sent[WEB]) > 200)
        assert arrivals.read() == {WEB: [], DNS: []}
        bench.agent.start()  # the control: the same packets on the same way
        assert open_for(stream, arrivals) == 0
    network.delete(runtime)
    assert (bench.registry.load(), tables(runtime.netns)) == ((), "")


def test_an_eni_that_the_state_lacks_fails_and_stays_closed(bench: CniBench) -> None:
    bench.agent.start()
    network, runtime = bench.network(), bench.container(eni="eni-b")
    error = refused(lambda: network.add(runtime), CniCode.LATER)
    assert "the state has no such ENI" in error.message
    with Arrivals(runtime.netns) as arrivals, streaming(bench.peer) as stream:
        wait_until(lambda: len(stream.sent[WEB]) > 200)
        assert arrivals.read() == {WEB: [], DNS: []}
        bench.agent.write(state_of(WEB, eni="eni-b"))
        wait_until(lambda: bench.agent.outcomes() == {"eni-b": "in force"})
        introduce(bench.pair(runtime))  # its MAC is the ENI's now
        assert open_for(stream, arrivals) == 0
    network.delete(runtime)
    assert bench.registry.load() == ()


def test_an_eni_that_comes_into_the_state_during_add_is_waited_for(bench: CniBench) -> None:
    bench.agent.start()
    network, runtime = bench.network(), bench.container(eni="eni-b")
    made = network.run("ADD", network.plugins[0], runtime, None)
    with network.start("ADD", OURS, runtime, made) as add:
        wait_until(lambda: bench.agent.outcomes() == {"eni-b": "closed"})
        bench.agent.write(state_of(WEB, eni="eni-b"))
        (entry,) = json.loads(add.communicate()[0])["interfaces"]
    assert entry["mac"] == mac_of("eni-b")  # which it has only now
    introduce(bench.pair(runtime))
    assert not passes(bench, runtime)


def test_an_eni_in_use_is_refused_and_its_del_harms_nobody(bench: CniBench) -> None:
    bench.agent.start()
    network, first, second = bench.network(), bench.container(1), bench.container(2)
    network.add(first)
    other = bench.alone()
    error = refused(lambda: other.add(second), CniCode.REFUSED)
    assert "eth0 of attachment podnet/c1" in error.message
    other.delete(second)
    assert not passes(bench, first)
    network.check(first)
    refused(lambda: other.run("CHECK", OURS, second, {}), CniCode.NOT_IN_FORCE)


def test_the_machines_own_namespace_is_refused(bench: CniBench) -> None:
    runtime = replace(bench.container(), netns=netns.OWN_NETNS.replace("thread-self", "self"))
    error = refused(lambda: bench.network().run("ADD", OURS, runtime, None), CniCode.ENVIRONMENT)
    assert "own namespace" in error.message
    assert bench.registry.load() == ()


def test_check_finds_removed_tables_and_a_removed_interface(bench: CniBench) -> None:
    bench.agent.start()
    network, runtime = bench.network(), bench.container()
    network.add(runtime)
    bench.agent.end()  # else it repairs them at once
    network.check(runtime)
    for family in ("inet", "netdev"):
        nft(runtime.netns, f"delete table {family} sgdataplane")
        assert "sgdataplane's tables" in refused(lambda: network.check(runtime), CniCode.NOT_IN_FORCE).message
        bench.agent.start()
        wait_until(lambda: bench.agent.outcomes() == {"eni-a": "in force"})
        network.check(runtime)
        bench.agent.end()
    with Links(runtime.netns) as links:
        links.delete_link("eth0")
    assert "interface" in refused(lambda: network.check(runtime), CniCode.NOT_IN_FORCE).message


STAGES: dict[str, Callable[[CniBench, Runtime], bool]] = {
    "begun": lambda _, __: True,
    "bound": lambda bench, _: bool(bench.registry.load()),
    "closed": lambda _, runtime: "inet sgdataplane" in tables(runtime.netns),
    "in force": lambda bench, _: bench.agent.outcomes() == {"eni-a": "in force"},
}


@pytest.mark.parametrize("stage", STAGES)
def test_del_cleans_up_after_an_add_that_was_killed(bench: CniBench, stage: str) -> None:
    bench.agent.start()
    network, runtime = bench.network(), bench.container()
    made = network.run("ADD", network.plugins[0], runtime, None)
    with network.start("ADD", OURS, runtime, made) as add:
        wait_until(lambda: STAGES[stage](bench, runtime))
        add.kill()
        add.communicate()
    network.delete(runtime)
    assert (bench.registry.load(), tables(runtime.netns)) == ((), "")
    network.add(runtime)
    assert not passes(bench, runtime)


def test_del_without_a_namespace_unbinds(bench: CniBench) -> None:
    bench.agent.start()
    network, runtime = bench.network(), bench.container()
    network.add(runtime)
    netns.remove(Path(runtime.netns).name)
    wait_until(lambda: bench.agent.outcomes() == {})  # the binding ends with its namespace
    network.delete(replace(runtime, netns=""))
    assert bench.registry.load() == ()
    wait_until(lambda: bench.agent.status()["healthy"])


def test_after_a_del_nothing_passes_at_an_interface_that_stays(bench: CniBench) -> None:
    """Ours is the first DEL of a list. The plugin that made the interface takes it away later."""
    bench.agent.start()
    network, runtime = bench.network(), bench.container()
    made = network.add(runtime)
    with Arrivals(runtime.netns) as arrivals, streaming(bench.peer) as stream:
        wait_for(100, arrivals, WEB)
        network.run("DEL", OURS, runtime, made)
        sent = len(stream.sent[DNS])
        wait_until(lambda: stream.tried > sent + 200)
        assert arrivals.read()[DNS] == []


def test_gc_unbinds_what_the_runtime_does_not_know(bench: CniBench) -> None:
    bench.agent.start()
    network = bench.network(version="1.1.0")
    kept, stale, others = (bench.container(number, eni=f"eni-{number}") for number in (1, 2, 3))
    for runtime, name in ((kept, "podnet"), (stale, "podnet"), (others, "othernet")):
        with suppress(PluginError):  # closed, as the state has none of them
            bench.alone(name, "1.1.0").run("ADD", OURS, runtime, None)
    network.collect([kept])
    assert {str(binding) for binding in bench.registry.load()} == {
        "eth0 of attachment podnet/c1",
        "eth0 of attachment othernet/c3",
    }
    assert (tables(stale.netns), "inet" in tables(kept.netns)) == ("", True)


def test_status_says_whether_an_add_could_succeed(bench: CniBench) -> None:
    network = bench.network(version="1.1.0")
    assert "no agent" in refused(network.status, CniCode.UNAVAILABLE).message
    bench.agent.state.write_text("no state\n", "utf-8")
    bench.agent.start()
    assert "no state" in refused(network.status, CniCode.UNAVAILABLE).message
    bench.agent.write(state_of(WEB))
    wait_until(lambda: bench.agent.status()["healthy"])
    network.status()
    refused(bench.network(version="1.0.0").status, CniCode.INCOMPATIBLE)


def test_version_needs_neither_configuration_nor_agent(bench: CniBench) -> None:
    done = bench.network().run("VERSION", {"type": "sgdataplane"}, None, None)
    assert done == {"cniVersion": "1.0.0", "supportedVersions": ["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"]}


def test_in_host_placement_the_router_judges_from_add_on(bench: CniBench) -> None:
    bench.agent.configure(placement="host")
    bench.agent.start()
    network, runtime = bench.network(), bench.container()
    made = network.add(runtime)
    assert made["interfaces"][0]["mac"] == mac_of("eni-a")
    assert tables(runtime.netns) == ""
    assert "inet sgdataplane" in tables(f"sgdp-{VPC_ID}")
    (binding,) = bench.registry.load()
    assert binding.enforced_at == f"eni-a of sgdp-{VPC_ID}"
    network.check(runtime)
    with Links(f"sgdp-{VPC_ID}") as links:
        assert [link.is_up for link in links.links() if link.ifname == "eni-a"] == [True]
    network.delete(runtime)
    assert bench.registry.load() == ()
    assert not netns.exists(f"sgdp-{VPC_ID}")


def heard_at(place: str, port: int) -> socket.socket:
    with netns.inside(place):
        found = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    found.settimeout(ARRIVAL)
    found.bind(("", port))
    return found


@pytest.mark.usefixtures("engines")
@needs("bridge", "static")
@pytest.mark.parametrize("is_guarded", [False, True], ids=["behind bridge", "around bridge"])
def test_behind_debians_bridge(bench: CniBench, *, is_guarded: bool) -> None:
    bench.agent.start()
    name = f"b{bench.peer[-10:]}"
    address = {"address": f"{CONTAINER}/24", "gateway": PEER}
    bridge = {"type": "bridge", "bridge": name, "isGateway": True, "ipam": {"type": "static", "addresses": [address]}}
    plugins: list[Mapping[str, object]] = [OURS, bridge, OURS] if is_guarded else [bridge, OURS]
    network = Network("podnet", plugins, [bench.folder, DEBIANS])
    runtime = replace(bench.container(eni=""), capabilities={"eni": "eni-a"})
    try:
        made = network.add(runtime)
        macs = {entry["name"]: entry["mac"] for entry in made["interfaces"]}
        assert macs["eth0"] == mac_of("eni-a")
        network.check(runtime)
        with (
            heard_at(runtime.netns, WEB) as web,
            heard_at(runtime.netns, DNS) as dns,
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender,
        ):
            sender.sendto(b"denied", (CONTAINER, DNS))
            sender.sendto(b"allowed", (CONTAINER, WEB))
            assert web.recv(64) == b"allowed"
            dns.setblocking(False)
            with pytest.raises(BlockingIOError):
                dns.recv(64)
        network.delete(runtime)
        assert bench.registry.load() == ()
    finally:
        subprocess.run(["ip", "link", "delete", name], check=True)
