"""Denied packets are told as they happen, each once and with what denied it, in both placements; others are not."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import nullcontext, suppress

import pytest

from sgdataplane.cli.log import FLOW_FIELDS, HEADERS
from sgdataplane.errors import HostError
from sgdataplane.host import netns, nfnetlink
from sgdataplane.host.links import InterfaceAddress, Links
from sgdataplane.host.nfsocket import NetfilterSocket
from sgdataplane.model.decision import Decision
from sgdataplane.net.values import Address, Direction, Verdict
from sgdataplane.observe.denied import Denied, EnforcedPlace, Listener, Unlogged
from sgdataplane.observe.follow import Follow, Followed
from tests.support.documents.schemas import assert_conforms
from tests.support.inputs.builders import make_eni, make_group, make_rule, make_state
from tests.support.inputs.building import enforce
from tests.support.probes.flood import wait_until
from tests.support.scenes.attachbench import Bench, state_of
from tests.support.scenes.pair import HERE, Pair, Session, bound, desired_at

pytestmark = pytest.mark.kernel
OPEN, REFUSED, BY_DEFAULT, NOT_OUT = 5000, 6000, 7000, 8000
FLOOD = 3000
RULES = [
    make_rule(f"ingress udp {OPEN}/{OPEN} from 0.0.0.0/0", "sgr-open"),
    make_rule(f"ingress udp {REFUSED}/{REFUSED} from 0.0.0.0/0 drop", "sgr-no"),
    make_rule(f"egress udp {NOT_OUT}/{NOT_OUT} to 0.0.0.0/0 drop", "sgr.odd id"),
]
STATE = make_state([make_group("sg-a", RULES)], [make_eni("eni-a", " ".join(HERE["instance"]), "sg-a")])


@pytest.fixture
def place(pair: Pair) -> EnforcedPlace:
    """Where the state is in force."""
    desired = desired_at(pair, STATE)
    enforce(pair["policy"], desired)
    return EnforcedPlace(pair["policy"], desired.interfaces, desired.placement, STATE)


@pytest.fixture
def listener(place: EnforcedPlace) -> Iterator[Listener]:
    listener = Listener(place)
    yield listener
    listener.close()


def send(pair: Pair, role: str, port: int, count: int = 1) -> None:
    other = "peer" if role == "instance" else "instance"
    with bound(pair, role, 0) as sender:
        for _ in range(count):
            with suppress(OSError):  # the sender of what is dropped on its way out is told so
                sender.sendto(b"x", (HERE[other][0], port))


def read(listener: Listener, count: int) -> list[Denied]:
    """So many, when they have come."""
    found: list[Denied] = []

    def have_come() -> bool:
        found.extend(listener.read())
        return len(found) >= count

    wait_until(have_come)
    return found


def decision_of(entry: Denied | Unlogged) -> Decision:
    assert entry.decision is not None
    return entry.decision


def why(entry: Denied) -> tuple[str, str, str, int | None]:
    decision = decision_of(entry)
    return entry.direction.value, decision.cause, decision.security_group_rule_id, entry.headers.port


def test_each_denied_packet_is_told_once_and_no_other(pair: Pair, listener: Listener) -> None:
    with Session(pair, OPEN) as allowed:
        allowed.must_pass()
        for port in (REFUSED, BY_DEFAULT):
            send(pair, "peer", port, 3)
        send(pair, "instance", NOT_OUT, 2)
        allowed.must_pass()
    found = read(listener, 8)
    assert list(listener.read()) == []
    assert Counter(map(why, found)) == {
        ("ingress", "rule", "sgr-no", REFUSED): 3,
        ("ingress", "default", "", BY_DEFAULT): 3,
        ("egress", "rule", "sgr.odd id", NOT_OUT): 2,
    }
    assert {entry.eni_id for entry in found} == {"eni-a"}
    first = found[0]
    assert (str(first.headers.source), str(first.headers.destination)) == (HERE["peer"][0], HERE["instance"][0])
    assert (first.headers.protocol, first.headers.length, decision_of(first).security_group_id) == (17, 29, "sg-a")


def test_a_reply_is_told_with_the_rules_that_deny_its_session(pair: Pair, listener: Listener) -> None:
    with Session(pair, OPEN) as session:
        session.must_pass()
        closed = make_state([make_group("sg-a")], list(STATE.network_interfaces))
        enforce(pair["policy"], desired_at(pair, closed), desired_at(pair, STATE))
        session.answer()
    (entry,) = read(listener, 1)
    assert entry.direction is Direction.EGRESS
    assert entry.decision == Decision(Direction.INGRESS, Verdict.DROP, "default")


def test_what_never_meets_a_rule_is_told_too(pair: Pair, placement: str, listener: Listener) -> None:
    """From an address that isn't its own, and past the policy: through a packet socket."""
    with Links(pair["instance"]) as links:
        links.add_address(InterfaceAddress("eth0", Address.parse("10.0.0.77"), 32))
    with bound(pair, "instance", 0, address="10.0.0.77") as sender, suppress(PermissionError):
        sender.sendto(b"x", (HERE["peer"][0], OPEN))
    with netns.inside(pair["instance"]):
        door = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
    with door, suppress(OSError):
        door.bind(("eth0", 0))
        door.send(bytes(6) + b"\x02\0\0\0\0\1" + b"\x08\0" + b"E" + bytes(39))
    found = read(listener, 2)
    spoofed = "spoofed" if placement == "instance" else "fence.spoofed"
    assert sorted(decision_of(entry).cause for entry in found) == sorted([spoofed, "fence.other-mac"])
    entry = next(entry for entry in found if decision_of(entry).cause == spoofed)
    assert (str(entry.headers.source), entry.headers.port) == ("10.0.0.77", OPEN)
    assert {(entry.direction, entry.eni_id) for entry in found} == {(Direction.EGRESS, "eni-a")}


def test_of_a_flood_some_are_told_and_of_the_rest_how_many(pair: Pair, listener: Listener) -> None:
    send(pair, "peer", BY_DEFAULT, FLOOD)
    send(pair, "peer", REFUSED, 1)  # a flood that another rule refuses hides nothing
    told: list[Denied] = []
    unlogged: list[Unlogged] = []

    def are_all_told() -> bool:
        told.extend(listener.read())
        unlogged.extend(entry for entry in listener.tick() if isinstance(entry, Unlogged))
        return len(told) + sum(entry.packets for entry in unlogged) >= FLOOD + 1

    wait_until(are_all_told)
    assert len(told) + sum(entry.packets for entry in unlogged) == FLOOD + 1
    assert {decision_of(entry).cause for entry in unlogged} == {"default"}
    assert sum(decision_of(entry).cause == "rule" for entry in told) == 1
    assert list(listener.tick()) == []


def test_there_is_one_listener(place: EnforcedPlace, listener: Listener) -> None:
    assert listener.fileno() >= 0
    with pytest.raises(HostError, match="another process listens"):
        Listener(place)


def test_a_namespace_that_nobody_else_has_is_let_go(place: EnforcedPlace) -> None:
    held = nullcontext(place.path)
    source = Followed("it", lambda: held, lambda: False, place.interfaces, place.placement)
    with Follow([source]) as follow:
        assert list(follow.entries(None)) == []  # ends, as nothing is left
    Listener(place).close()  # nobody listens any more


def test_who_has_stopped_makes_room_at_once(place: EnforcedPlace, monkeypatch: pytest.MonkeyPatch) -> None:
    closing: list[NetfilterSocket] = []
    monkeypatch.setattr(nfnetlink, "close_socket", closing.append)  # no other thread has come to it yet
    Listener(place).close()
    Listener(place).close()
    assert closing
    for held in closing:
        held.socket.close()


def test_the_command_tells_of_attached_workloads(bench: Bench, web: Session, dns: Session) -> None:
    bench.attach()
    state = state_of(8080)
    assert bench.apply(state)["exit"] == "0"
    config = bench.folder / "agent.toml"
    config.write_text(f'state = "{bench.write(state)}"\nbindings = "{bench.folder / "attached"}"\n', encoding="utf-8")
    command = [sys.executable, "-m", "sgdataplane", "log", "-f", "--config", str(config)]
    for form in ("json", "flowlog", "text"):
        with subprocess.Popen(
            [*command, "--format", form], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as log:
            assert log.stdout is not None
            assert log.stderr is not None
            try:
                assert "listening" in log.stderr.readline()
                if form == "text":
                    assert re.split(" {2,}", log.stdout.readline().strip()) == list(HEADERS)
                assert not dns.passes(beside=web)
                line = log.stdout.readline()
                log.send_signal(signal.SIGINT)
                assert (log.stdout.read(), log.wait()) == ("", 0)
            finally:
                log.kill()
        check_line(form, line)


def check_line(form: str, line: str) -> None:
    if form == "text":
        assert line.split()[1:4] == ["eni-a", "ingress", "udp"]
        assert " ".join(line.split()).endswith(f"> {HERE['instance'][0]}:5353 default: no rule matches")
        return
    entry = json.loads(line)
    if form == "json":
        assert_conforms("log", entry)
        assert (entry["eni"], entry["destination_port"], entry["reason"]) == ("eni-a", 5353, "default")
    else:
        assert list(entry) == list(FLOW_FIELDS)
        assert (entry["action"], entry["direction"], entry["packets"], entry["dstport"]) == (
            "REJECT",
            "in",
            "1",
            "5353",
        )
