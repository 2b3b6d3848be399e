"""From the store to packets: a real relay, a real sync, and the real agent, which enforces and is believed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from sgdataplane.control.actions.engine import Engine
from sgdataplane.handover.publishing import Publisher
from sgdataplane.model.state import CloudState
from sgdataplane.store.interface import Json
from sgdataplane.store.sqlite.store import SqliteStore
from tests.support.inputs.builders import make_eni, make_group, make_state
from tests.support.inputs.controlling import Client
from tests.support.probes.flood import wait_until
from tests.support.scenes.agentbench import AgentBench, agent_in
from tests.support.scenes.attachbench import DNS, WEB, Bench, state_of
from tests.support.scenes.pair import Session
from tests.support.scenes.workload import bench, dns, pair, process, web  # noqa: F401  # fixtures
from tests.support.servers.relaying import (
    Plant,
    document_in,
    hosts_of,
    ports_in,
    rebind,
    set_ports,
    url_of,
    write_state,
)

pytestmark = pytest.mark.daemon


@pytest.fixture
def agent(tmp_path: Path, plant: Plant) -> Iterator[AgentBench]:
    """It reads what host-1 gets."""
    with agent_in(tmp_path) as agent:
        agent.state = Publisher(plant.folder_of("host-1")).current
        agent.configure()
        yield agent


def has_read(agent: AgentBench, revision: int) -> bool:
    return bool(agent.status()["state"]["generation"] == f"{revision:012}")


def test_packets_obey_what_the_store_says(  # noqa: PLR0917  # fixtures
    bench: Bench,  # noqa: F811
    agent: AgentBench,
    store: SqliteStore,
    store_file: Path,
    plant: Plant,
    web: Session,  # noqa: F811
    dns: Session,  # noqa: F811
) -> None:
    bench.attach()
    write_state(store, state_of(WEB), {"eni-a": "host-1"})
    plant.sync("host-1", url_of(plant.relay(store_file)), socket=agent.socket)
    wait_until(lambda: ports_in(plant.folder_of("host-1")) == {WEB})
    agent.start()
    for port, asked, other in ((DNS, dns, web), (WEB, web, dns)):
        revision = set_ports(store, "sg-a", port)
        wait_until(partial(has_read, agent, revision))
        assert not other.passes(beside=asked)
        wait_until(partial(is_told, store, [0, revision]))
    rebind(store, "eni-a", "host-2")
    wait_until(lambda: agent.outcomes() == {"eni-a": "closed"})


def test_a_tag_puts_an_eni_into_audit_mode_at_its_host(  # noqa: PLR0917  # fixtures
    bench: Bench,  # noqa: F811
    agent: AgentBench,
    store: SqliteStore,
    store_file: Path,
    plant: Plant,
    web: Session,  # noqa: F811
    dns: Session,  # noqa: F811
) -> None:
    """By the API's own action, relay, sync and agent. The port that no rule lets in is the witness."""
    bench.attach()
    write_state(store, state_of(WEB), {"eni-a": "host-1"})
    plant.sync("host-1", url_of(plant.relay(store_file)), socket=agent.socket)
    wait_until(lambda: ports_in(plant.folder_of("host-1")) == {WEB})
    agent.start()
    eni: dict[str, Json] = {"ResourceType": "eni", "ResourceId": ["eni-a"]}
    assert not dns.passes(beside=web)
    Client(Engine(store))("TagResources", **eni, Tag=[{"Key": "sgdp:mode", "Value": "audit"}])
    wait_until(lambda: agent.outcomes() == {"eni-a": "auditing"})
    assert dns.passes(beside=web)
    Client(Engine(store))("UntagResources", **eni, TagKey=["sgdp:mode"])
    wait_until(lambda: agent.outcomes() == {"eni-a": "in force"})
    assert not dns.passes(beside=web)


def test_an_eni_that_is_bound_to_another_host_is_closed(  # noqa: PLR0917  # fixtures
    bench: Bench,  # noqa: F811
    agent: AgentBench,
    store: SqliteStore,
    store_file: Path,
    plant: Plant,
    web: Session,  # noqa: F811
) -> None:
    """Host-1 knows it as a member of a group that the rules of its own ENI name, and that group without rules: no
    policy follows from that. A basic group without rules would let everything out."""
    bench.attach()
    write_state(store, beside_a_listener(state_of(WEB)), {"eni-a": "host-2", "eni-b": "host-1"})
    plant.sync("host-1", url_of(plant.relay(store_file)), socket=agent.socket)
    wait_until(lambda: set(members_in(plant.folder_of("host-1"))) == {"eni-a"})
    agent.start()
    assert agent.outcomes() == {"eni-a": "closed"}
    question, answer = web.send(), web.answer()
    revision = rebind(store, "eni-a", "host-1")
    wait_until(partial(has_read, agent, revision))
    assert agent.outcomes() == {"eni-a": "in force"}
    assert not members_in(plant.folder_of("host-1"))
    assert question not in web.must_pass()
    assert answer not in web.must_be_answered()


def beside_a_listener(state: CloudState) -> CloudState:
    """And an ENI whose group lets in what comes from eni-a's."""
    other = make_state([make_group("sg-b", ["ingress all from sg-a"])], [make_eni("eni-b", "10.0.0.7", "sg-b")])
    return replace(
        state,
        instances=state.instances + other.instances,
        security_groups=state.security_groups + other.security_groups,
        network_interfaces=state.network_interfaces + other.network_interfaces,
    )


def members_in(folder: Path) -> list[str]:
    """The ENIs that the agent is told to know as members only."""
    enis = document_in(folder).get("network_interfaces", [])
    return [eni["network_interface_id"] for eni in enis if eni.get("member_only")]


def is_told(store: SqliteStore, enforced: list[int]) -> bool:
    """Whether the relay says that it is in force on host-1, of which nothing later is needed."""
    found = hosts_of(store).get("host-1", {})
    return found.get("enforced") == enforced and found["needed"] == enforced[1] and "error" not in found
