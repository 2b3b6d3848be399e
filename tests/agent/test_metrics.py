"""The metrics of the real agent: they show what happened to packets, and no client harms the agent."""

from __future__ import annotations

import random
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from sgdataplane.contract.tables import TABLE
from sgdataplane.daemon.clients import MAX_CLIENTS
from sgdataplane.daemon.control import Request, ask
from sgdataplane.host import netns
from sgdataplane.host.links import Links
from tests.support.inputs.builders import make_eni, make_group, make_rule, make_state
from tests.support.kernel.nft import nft
from tests.support.probes.flood import wait_until
from tests.support.scenes.agentbench import AgentBench, agent_in
from tests.support.scenes.attachbench import DNS, WEB, Bench, state_of
from tests.support.scenes.attachhost import ROUTER
from tests.support.scenes.attachhost import state_of as state_of_pair
from tests.support.scenes.pair import HERE, Session
from tests.support.servers.scraping import get, scrape

pytestmark = pytest.mark.daemon
PORT, OTHER_PORT = 9469, 9470
ENI = {"eni": "eni-a"}
BY_DEFAULT = {"direction": "ingress", "cause": "default"}


@pytest.fixture(autouse=True)
def home(make_lab_name: Callable[[], str]) -> Iterator[str]:
    """The namespace of the agent and its clients, with its loopback up."""
    home = make_lab_name()
    netns.create(home)
    with Links(home) as links:
        links.set_up("lo")
    with netns.inside(home):
        yield home
    netns.remove(home)


@pytest.fixture
def agent(agent: AgentBench) -> AgentBench:
    """It serves metrics."""
    agent.configure(metrics=f"127.0.0.1:{PORT}")
    return agent


def value(name: str, **labels: str) -> float:
    return scrape(PORT).value(name, **labels)


def reload(agent: AgentBench, **more: object) -> None:
    """Reload, and wait for the cycle."""
    agent.configure(**more)
    cycle = ask(agent.socket, Request.RELOAD)["cycle"]
    assert isinstance(cycle, int)
    wait_until(lambda: agent.cycles >= cycle)


def test_they_count_the_packets_that_are_dropped_and_no_others(
    bench: Bench, agent: AgentBench, web: Session, dns: Session
) -> None:
    bench.attach()
    agent.start()
    assert value("dropped_packets_total", **BY_DEFAULT) == 0
    for _ in range(5):
        assert not dns.passes(beside=web)
    wait_until(lambda: value("dropped_packets_total", **BY_DEFAULT) == 5)
    found = scrape(PORT)
    assert sum(found.values("dropped_packets_total")) == 5
    assert found.value("eni_dropped_packets_total", direction="ingress", **ENI) == 5
    assert found.value("eni_dropped_packets_total", direction="egress", **ENI) == 0
    assert found.value("sessions") == 1
    assert found.value("eni_in_force", **ENI) == found.value("eni_epoch", **ENI) == found.value("healthy") == 1
    assert found.value("apply_seconds_count") == 1
    assert all(value > 0 for value in found.values("operations_total"))
    assert sum(found.values("errors_total")) == found.value("unread_namespaces") == 0
    agent.end(9)
    agent.start()  # the port isn't kept by what is left of the one before, and the kernel has counted on
    assert value("dropped_packets_total", **BY_DEFAULT) == 5


def test_they_count_what_audit_mode_lets_pass_by_eni_and_rule(
    bench: Bench, agent: AgentBench, web: Session, dns: Session
) -> None:
    """The other packets of a session whose first one was audited pass unjudged, so one session counts once."""
    bench.attach()
    agent.configure(metrics=f"127.0.0.1:{PORT}", audit=["*"])
    agent.start()
    for _ in range(5):
        assert dns.passes(beside=web)
    by_default = {"direction": "ingress", "group": "", "rule": "", **ENI}
    wait_until(lambda: value("audited_packets_total", **by_default) == 1)
    found = scrape(PORT)
    assert sum(found.values("audited_packets_total")) == 1
    assert found.value("eni_auditing", **ENI) == found.value("eni_in_force", **ENI) == found.value("healthy") == 1
    assert sum(found.values("dropped_packets_total")) == 0


def test_what_a_rule_refuses_is_told_apart(bench: Bench, agent: AgentBench, web: Session, dns: Session) -> None:
    """At first the rule accepts, so what it has counted until then wasn't dropped."""

    def write(verdict: str) -> None:
        rules = [
            make_rule(f"ingress udp {DNS}/{DNS} from 0.0.0.0/0 {verdict}", "sgr-dns"),
            make_rule(f"ingress udp {WEB}/{WEB} from 0.0.0.0/0", "sgr-web"),
        ]
        agent.write(make_state([make_group("sg-a", rules)], [make_eni("eni-a", " ".join(HERE["instance"]), "sg-a")]))

    bench.attach()
    write("accept")
    agent.start()
    dns.must_pass()
    write("drop")
    wait_until(lambda: value("eni_epoch", **ENI) == 2)
    wait_until(lambda: value("cycle_seconds_count") == agent.cycles)  # it has been read since
    for _ in range(3):
        assert not dns.passes(beside=web)
    by_rule = {"direction": "ingress", "cause": "rule"}
    wait_until(lambda: value("dropped_packets_total", **by_rule) == 3)
    assert sum(scrape(PORT).values("dropped_packets_total")) == 3


def test_what_is_detached_is_no_longer_told(bench: Bench, agent: AgentBench) -> None:
    bench.attach()
    agent.start()
    per_namespace = ("dropped_packets_total", "sessions", "session_limit", "conntrack_dropped_packets_total")
    named = (*per_namespace, "eni_in_force", "eni_epoch")
    assert all(scrape(PORT).values(name) for name in named)
    assert bench.sgdp("detach", "--eni", "eni-a") == 0
    wait_until(lambda: not any(scrape(PORT).values(name) for name in named))
    assert sum(scrape(PORT).values("enis")) == 0


def test_a_namespace_that_ends_is_no_longer_told_and_not_kept_alive(
    bench: Bench, agent: AgentBench, process: subprocess.Popen[bytes]
) -> None:
    bench.attach()
    agent.start()
    assert scrape(PORT).values("sessions")
    process.kill()
    process.wait()
    wait_until(lambda: not scrape(PORT).values("sessions"))
    wait_until(lambda: scrape(PORT).values("eni_in_force") == [0.0])


def test_they_say_what_is_wrong(bench: Bench, agent: AgentBench) -> None:
    bench.attach()
    agent.start()
    agent.state.write_text("{", "utf-8")
    wait_until(lambda: value("state_refused") == 1)
    wait_until(lambda: (value("healthy"), value("errors_total", kind="state")) == (0, 1))
    agent.write(state_of(WEB))
    wait_until(lambda: (value("state_refused"), value("healthy")) == (0, 1))
    reload(agent, metrics=f"127.0.0.1:{PORT}", resnyc=5)
    wait_until(lambda: (value("healthy"), value("errors_total", kind="config")) == (0, 1))
    nft(bench.place, f"delete table inet {TABLE}")
    wait_until(lambda: (value("drift_commits_total"), value("drift_repairs_total")) == (1, 1))


def test_where_they_are_served_can_change_and_does_not_hold_the_agent_up(bench: Bench, agent: AgentBench) -> None:
    def is_served(port: int, host: str = "127.0.0.1") -> bool:
        with suppress(ConnectionRefusedError):
            return get(port, host)[0] == 200
        return False

    bench.attach()
    with socket.create_server(("127.0.0.1", PORT)):
        agent.start()
        assert agent.outcomes() == {"eni-a": "in force"}
        assert "in use" in agent.events("metrics-not-served")[0]
        reload(agent, metrics=f"127.0.0.1:{PORT}")
        assert len(agent.events("metrics-not-served")) == 1
        reload(agent, metrics=f"127.0.0.1:{OTHER_PORT}")
        wait_until(lambda: is_served(OTHER_PORT))
    reload(agent, metrics=f"127.0.0.1:{PORT}")
    wait_until(lambda: is_served(PORT))
    assert not is_served(OTHER_PORT)
    reload(agent, metrics=f"[::1]:{PORT}")
    wait_until(lambda: is_served(PORT, "::1"))
    reload(agent)
    assert not is_served(PORT, "::1")


def test_garbage_slow_clients_and_floods_harm_nothing(
    bench: Bench, agent: AgentBench, web: Session, dns: Session
) -> None:
    bench.attach()
    agent.start()
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    noise = random.Random(seed).randbytes(1 << 16)
    for number in range(50):
        with socket.create_connection(("127.0.0.1", PORT), timeout=10) as door, suppress(ConnectionError):
            door.sendall((noise, b"GET /metrics HTTP/1.1\r\n\r\n", b"\r\n\r\n")[number % 3])
            door.recv(1)  # and no more
    with ExitStack() as stack:
        slow = [
            stack.enter_context(socket.create_connection(("127.0.0.1", PORT), timeout=10)) for _ in range(MAX_CLIENTS)
        ]

        def trickle() -> None:
            for door in slow:
                with suppress(ConnectionError):
                    door.send(b"G")

        def is_so(condition: Callable[[], bool]) -> bool:
            trickle()
            return condition()

        trickle()
        web.must_pass()
        agent.write(state_of(DNS))
        wait_until(lambda: is_so(lambda: agent.epoch() == 2))
        assert not web.passes(beside=dns)
        wait_until(lambda: is_so(lambda: get(PORT)[0] == 200))  # once the slow ones are left
    wait_until(lambda: value("eni_epoch", **ENI) == 2)
    assert agent.events("metrics-failed") == agent.events("serving-failed") == []


def test_in_host_placement_drops_are_those_of_the_router(host_bench: Bench, tmp_path: Path) -> None:
    with agent_in(tmp_path) as agent:
        agent.configure(placement="host", metrics=f"127.0.0.1:{PORT}")
        agent.write(state_of_pair(WEB))
        agent.start()
        with Session(host_bench.pair, WEB) as web, Session(host_bench.pair, DNS) as dns:
            assert not dns.passes(beside=web)
        wait_until(lambda: value("dropped_packets_total", namespace=ROUTER, **BY_DEFAULT) == 1)
        found = scrape(PORT)
        assert found.value("eni_dropped_packets_total", namespace=ROUTER, direction="ingress", **ENI) == 1
        assert sum(found.values("eni_dropped_packets_total")) == 1
        assert len(found.values("eni_dropped_packets_total")) == 4
        assert sorted(scrape(PORT).values("eni_in_force", namespace=ROUTER)) == [1, 1]
        agent.end()
