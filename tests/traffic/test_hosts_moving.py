"""An ENI moves from host to host: what binds it where, and what becomes of its sessions (docs/many-hosts.md)."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from socket import SOCK_DGRAM, SOCK_STREAM

import pytest

from sgdataplane.lab.hosts.hostslab import AGENT_CONFIG, Host, start_all
from sgdataplane.lab.hosts.sandbox import sgdp
from tests.support.events.hostsmoving import bring, plugged_in, talk, unplug
from tests.support.probes.flood import wait_until
from tests.support.scenes.hostscloud import HOST_TAG, Cloud, rule
from tests.support.scenes.hostsscene import Scene
from tests.support.servers.sdks import Driver

pytestmark = [pytest.mark.traffic, pytest.mark.slow]

IN, OUT, ASKED, HERE = 6001, 6002, 6003, 6004  # ports: to the ENI, from it, of UDP to it, of what stays
ADOPTION_S = 30.0
DROP_UDP = {"IpProtocol": "UDP", "PortRange": "1/65535", "DestCidrIp": "0.0.0.0/0", "Policy": "Drop"}


@pytest.fixture
def group(scene: Scene) -> Iterator[str]:
    """Of the instance that moves. Others may open TCP and UDP to it; it may open TCP, but no UDP."""
    cloud = scene.cloud
    made = cloud.group(rule(IN), rule(ASKED, "UDP"))
    cloud.ask("AuthorizeSecurityGroupEgress", SecurityGroupId=made, Permissions=[DROP_UDP])
    opened = (scene.groups["db"], rule(OUT)), (scene.groups["web"], rule(HERE))
    for other, one in opened:
        cloud.open(other, one)
    yield made
    for other, one in opened:
        cloud.shut(other, one)
    remove(cloud, "mover")


def remove(cloud: Cloud, name: str) -> None:
    """The workload and its instance."""
    guest = cloud.workloads.pop(name)
    unplug_and_forget = (["ip", "netns", "delete", guest.name], sgdp("detach", "--eni", guest.eni_id))
    for command in unplug_and_forget:
        cloud.lab.sandbox.run(command, guest.host.namespace)
    cloud.ask("DeleteInstance", InstanceId=instance_of(cloud, name))
    cloud.settle()


def instance_of(cloud: Cloud, name: str) -> str:
    (found,) = cloud.ask("DescribeInstances", InstanceName=name)["Instances"]["Instance"]
    return str(found["InstanceId"])


def comes_through(scene: Scene) -> None:
    """To the mover; a new port of a bridge forwards only after a while."""
    wait_until(lambda: scene.reaches("db", "mover", IN))


def named(cloud: Cloud, eni: str, host: Host) -> None:
    """By our parameter of the cloud's action."""
    cloud.ask("ModifyNetworkInterfaceAttribute", NetworkInterfaceId=eni, SgdpHost=host.name)


@contextmanager
def with_choice(scene: Scene, name: str, line: str) -> Iterator[None]:
    """Meanwhile, that host's agent has one more line of configuration."""
    host = scene.host(name)
    file = host.namespace.path(AGENT_CONFIG)
    before = file.read_text("utf-8")

    def restart(text: str) -> None:
        file.write_text(text, "utf-8")
        host.agent.kill()
        start_all([host.agent])

    restart(before + line)
    try:
        yield
    finally:
        restart(before)


@pytest.mark.optional
def test_sessions_stop_at_the_old_host_and_are_judged_anew_at_the_new_one(
    scene: Scene, sdk: Driver, group: str
) -> None:
    """The workload goes on with its sockets. Whoever talks to it is on a third host, which hears nothing of it."""
    cloud, old, new = scene.cloud, scene.host("web"), scene.host("far")
    eni = cloud.instance("mover", group, old)
    plugged_in(cloud, "mover")
    cloud.settle()
    comes_through(scene)
    with (
        talk(cloud, "db", "mover", IN, SOCK_STREAM) as theirs,
        talk(cloud, "mover", "db", OUT, SOCK_STREAM) as own,
        talk(cloud, "mover", "db", OUT, SOCK_STREAM) as late,
        talk(cloud, "db", "mover", ASKED, SOCK_DGRAM) as asked,
        talk(cloud, "db", "web", HERE, SOCK_STREAM) as stays,
    ):
        elsewhere = scene.generation("db")
        with cloud.through(sdk):
            named(cloud, eni, new)
            cloud.settle()
        for session in (theirs, own, asked):
            assert session.is_silent()
            assert session.is_silent(back=True)
        assert stays.is_heard(), "to the same host, where another ENI is"
        assert old.outcomes()[eni] == "closed"

        unplug(cloud, "mover")
        bring(cloud, "mover", new)
        plugged_in(cloud, "mover")
        protected = time.monotonic()
        cloud.settle()
        assert new.outcomes()[eni] == "in force"
        assert asked.is_silent(back=True), "the answer is a new session now, which the egress rule refuses"
        assert own.is_heard()
        assert theirs.is_heard()
        assert asked.is_heard()
        assert asked.is_heard(back=True)
        assert own.is_heard(back=True)
        assert theirs.is_heard(back=True)
        assert scene.generation("db") == elsewhere
        assert stays.is_heard()

        wait_until(lambda: time.monotonic() > protected + ADOPTION_S + 1)
        if scene.lab.placement.is_outside:
            assert late.is_silent(), "it says something for the first time there, and too late"
        else:
            assert late.is_heard(), "its socket was there when the namespace was first protected"
        assert own.is_heard()


def test_strict_syn_at_the_new_host_ends_what_others_have_opened(scene: Scene, group: str) -> None:
    """But for what a socket in the protected namespace itself tells of."""
    cloud, old, new = scene.cloud, scene.host("web"), scene.host("far")
    eni = cloud.instance("mover", group, old)
    plugged_in(cloud, "mover")
    cloud.settle()
    comes_through(scene)
    with with_choice(scene, "far", "strict_syn = true\n"), talk(cloud, "db", "mover", IN, SOCK_STREAM) as theirs:
        named(cloud, eni, new)
        cloud.settle()
        unplug(cloud, "mover")
        bring(cloud, "mover", new)
        plugged_in(cloud, "mover")
        cloud.settle()
        with talk(cloud, "db", "mover", IN, SOCK_STREAM) as fresh:
            assert fresh.is_heard()
            assert theirs.is_silent() if scene.lab.placement.is_outside else theirs.is_heard()


# what binds an ENI, and what moves it


def moved_by_tag(cloud: Cloud, _eni: str, host: Host) -> None:
    tags = [{"Key": HOST_TAG, "Value": host.name}]
    cloud.ask("TagResources", ResourceType="instance", ResourceId=[instance_of(cloud, "mover")], Tag=tags)


@pytest.mark.parametrize(
    ("is_tagged", "move"),
    [pytest.param(True, moved_by_tag, id="a-tag"), pytest.param(False, named, id="a-claim")],
)
def test_what_a_tag_binds_moves_with_it_and_a_call_moves_what_a_host_has_claimed(
    scene: Scene, group: str, *, is_tagged: bool, move: Callable[[Cloud, str, Host], None]
) -> None:
    """As long as the old host has it attached, its interface there stays closed."""
    cloud, old, new = scene.cloud, scene.host("web"), scene.host("far")
    eni = cloud.instance("mover", group, old, is_tagged=is_tagged)
    plugged_in(cloud, "mover")
    wait_until(lambda: old.outcomes().get(eni) == "in force")
    cloud.settle()
    comes_through(scene)
    move(cloud, eni, new)
    cloud.settle()
    assert old.outcomes()[eni] == "closed"
    assert not scene.reaches("db", "mover", IN)
    unplug(cloud, "mover")
    bring(cloud, "mover", new)
    plugged_in(cloud, "mover")
    cloud.settle()
    comes_through(scene)
    assert not scene.reaches("db", "mover", OUT)


def test_what_was_detached_and_forgotten_is_whoever_claims_it_next(scene: Scene, group: str) -> None:
    """Attached elsewhere before that, it stays the first one's, and closed where it is now."""
    cloud, old, new = scene.cloud, scene.host("web"), scene.host("far")
    eni = cloud.instance("mover", group, old, is_tagged=False)
    plugged_in(cloud, "mover")
    wait_until(lambda: old.outcomes().get(eni) == "in force")
    cloud.settle()
    comes_through(scene)
    unplug(cloud, "mover")
    bring(cloud, "mover", new)
    plugged_in(cloud, "mover")
    cloud.settle()
    assert new.outcomes()[eni] == "closed"
    assert not scene.reaches("db", "mover", IN)
    cloud.lab.sandbox.run(sgdp("hosts", "forget", old.name, eni, "--store", cloud.lab.store("api")))
    wait_until(lambda: new.outcomes().get(eni) == "in force")
    cloud.settle()
    comes_through(scene)
    assert not scene.reaches("db", "mover", OUT)
