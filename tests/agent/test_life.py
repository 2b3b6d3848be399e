"""The real agent when things go wrong around it: kills at any moment, floods, garbage, links that come and go."""

from __future__ import annotations

import random
import re
import signal
import socket
import subprocess
from collections.abc import Callable
from contextlib import ExitStack, suppress

import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Ether

from sgdataplane.contract.tables import TABLE
from sgdataplane.daemon.clients import MAX_CLIENTS
from sgdataplane.daemon.control import Request, ask
from sgdataplane.host import netns
from sgdataplane.host.links import Links
from tests.support.events.ordeal import ADDRESS, ALLOWED, DENIED, changing_state, flooded, holds
from tests.support.inputs.builders import mac_of, make_eni, make_group, make_rule, make_state
from tests.support.kernel.nft import nft
from tests.support.probes.flood import DEADLINE, Flood, wait_until
from tests.support.scenes.agentbench import AgentBench
from tests.support.scenes.attachbench import DNS, WEB, Bench, state_of
from tests.support.scenes.pair import HERE, Session

pytestmark = [pytest.mark.daemon, pytest.mark.placement("instance")]
LONGEST_S = 1.5  # a start takes two thirds of it


@pytest.mark.parametrize("kills", [5, pytest.param(500, marks=pytest.mark.slow)])
def test_killed_at_random_moments_it_leaks_and_loses_nothing(attached: Bench, agent: AgentBench, kills: int) -> None:
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    chooser = random.Random(seed)
    agent.configure(adoption_window=0)  # else what is left of it differs
    agent.is_fresh = True  # it is killed while it imports, too
    agent.write(changing_state(0))
    agent.start()
    with flooded(attached, agent) as flood:
        for step in range(1, kills + 1):
            assert agent.process is not None
            if chooser.random() < 0.5:
                agent.write(changing_state(step))
            if chooser.random() < 0.3:
                nft(attached.place, f"insert rule inet {TABLE} egress accept")  # drift to repair meanwhile
            with pytest.raises(subprocess.TimeoutExpired):
                agent.process.wait(chooser.uniform(0, LONGEST_S))
            agent.end(signal.SIGKILL)
            agent.launch()
        agent.write(changing_state(kills + 1))
        agent.end(signal.SIGKILL)
        agent.start()
        wait_until(lambda: min(flood.allowed.sent, flood.denied.sent) > 1000 * kills)
    assert holds(attached, changing_state(kills + 1)), f"seed {seed}: the kernel holds another policy than the last one"


def test_a_target_that_was_denied_receives_once_it_is_allowed(attached: Bench, agent: AgentBench) -> None:
    """The positive control of the previous test."""
    agent.write(state_of(*ALLOWED, *DENIED))
    agent.start()
    targets = [[(ADDRESS, port) for port in ports] for ports in (ALLOWED, DENIED)]
    with Flood(agent.folder, attached.pair["peer"], attached.place, *targets) as flood:
        wait_until(lambda: flood.denied.received > 1000)


def test_a_running_connection_survives_kill_and_restart(attached: Bench, agent: AgentBench) -> None:
    rules = [make_rule("ingress tcp 80/80 from 0.0.0.0/0", "sgr-web")]
    agent.write(make_state([make_group("sg-a", rules)], [make_eni("eni-a", " ".join(HERE["instance"]), "sg-a")]))
    agent.start()
    with ExitStack() as stack:
        with netns.inside(attached.place):
            listener = stack.enter_context(socket.create_server(("0.0.0.0", 80)))
        with netns.inside(attached.pair["peer"]):
            client = stack.enter_context(socket.create_connection((HERE["instance"][0], 80), timeout=DEADLINE))
        server, _ = listener.accept()
        stack.enter_context(server)
        for step in (lambda: agent.end(signal.SIGKILL), agent.start):
            step()
            for sender, receiver in ((server, client), (client, server)):
                receiver.settimeout(DEADLINE)
                sender.send(b"still there")
                assert receiver.recv(64) == b"still there"


def test_garbage_and_floods_on_its_socket_harm_nothing(attached: Bench, agent: AgentBench) -> None:
    agent.start()
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    noise = random.Random(seed).randbytes(1 << 16)
    with ExitStack() as stack:

        def connect() -> socket.socket:
            door = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
            door.connect(str(agent.socket))
            return door

        for number in range(100):
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as door:
                door.connect(str(agent.socket))
                door.settimeout(DEADLINE)
                try:
                    door.sendall(noise if number % 2 else b"[" * 4000 + b"\n")
                except (BrokenPipeError, ConnectionResetError):
                    continue  # it had enough
        for _ in range(MAX_CLIENTS):
            connect().send(b'{"request"')  # and never ends
        web, dns = (stack.enter_context(Session(attached.pair, port)) for port in (WEB, DNS))
        web.must_pass()
        agent.write(state_of(DNS))
        agent.wait_for_event("eni", 2)
        assert not web.passes(beside=dns)
        assert agent.epoch() == 2  # answered when those that never end are left
    assert ask(agent.socket, Request.STATUS)


def test_systemd_is_told_when_it_has_enforced_and_that_it_lives(attached: Bench, agent: AgentBench) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(agent.folder / "notify"))
        systemd.settimeout(DEADLINE)
        agent.is_fresh = True
        agent.launch(NOTIFY_SOCKET=systemd.getsockname(), WATCHDOG_USEC="200000")
        told = [systemd.recv(4096).decode()]
        while "READY=1" not in told[-1]:
            told.append(systemd.recv(4096).decode())
        assert f"table inet {TABLE}" in nft(attached.place, "list tables")
        assert "1 ENI, healthy" in told[-1]
        for _ in range(3):
            while systemd.recv(4096) != b"WATCHDOG=1":
                pass
        agent.end()
        while systemd.recv(4096) != b"STOPPING=1":
            pass


def is_fenced(place: str, number: int) -> bool:
    """Whether a packet that bypasses the policy is dropped at that ENI's interface."""

    def unapproved() -> int:
        found = re.search(r"fence.unapproved \{\s*packets (\d+)", nft(place, f"list counters table netdev {TABLE}"))
        return int(found[1]) if found else 0

    before, frame = (
        unapproved(),
        Ether(src=mac_of(f"eni-{number}")) / IP(src=f"10.0.9.{number}", dst="10.0.9.99") / UDP(),
    )
    with netns.inside(place), socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as sender:
        sender.bind((f"eth{number}", 0))
        with suppress(OSError):  # the drop is told
            sender.send(bytes(frame))
    return unapproved() > before


def test_interfaces_that_come_and_go_are_enforced(attached: Bench, agent: AgentBench) -> None:
    enis = [make_eni(f"eni-{number}", f"10.0.9.{number}", "sg-a") for number in range(1, 4)]
    agent.write(make_state([make_group("sg-a")], [*enis, make_eni("eni-a", HERE["instance"][0], "sg-a")]))
    agent.start()
    with Links(attached.pair["peer"]) as far, Links(attached.place) as near:

        def come(number: int) -> None:
            far.add_veth(f"far{number}", attached.place, f"eth{number}", mac_of(f"eni-{number}"))
            far.set_up(f"far{number}")
            near.set_up(f"eth{number}")

        for number in (1, 2, 3):
            come(number)
            assert attached.attach("--netns", attached.place, eni=f"eni-{number}", ifname=f"eth{number}") == 0
        there = {"eni-a", "eni-1", "eni-2", "eni-3"}
        wait_until(lambda: agent.outcomes() == dict.fromkeys(there, "in force"))
        assert all(is_fenced(attached.place, number) for number in (1, 2, 3))
        for number in (2, 1, 3):
            near.delete_link(f"eth{number}")
            wait_until(lambda: agent.outcomes()[f"eni-{number}"] == "absent")  # noqa: B023  (called here only)
        for number in (3, 1, 2):
            come(number)
            wait_until(lambda: agent.outcomes()[f"eni-{number}"] == "in force")  # noqa: B023
            assert is_fenced(attached.place, number)


@pytest.mark.usefixtures("attached")
def test_what_happens_in_namespaces_of_others_is_no_cause(agent: AgentBench, make_lab_name: Callable[[], str]) -> None:
    agent.start()
    agent.reload()
    before = len(agent.causes())
    for _ in range(5):
        other = make_lab_name()
        netns.create(other)
        with Links(other) as links:
            links.set_up("lo")
        netns.remove(other)
    agent.write(state_of(DNS))
    wait_until(lambda: agent.epoch() == 2)
    agent.reload()
    assert frozenset[str]().union(*agent.causes()[before:]) == {"state", "reload"}
