"""The state of running containers: which ids, groups and rules they get, and that it is one that can be loaded."""

from __future__ import annotations

from pathlib import Path

from sgdataplane.attach.containers import NetworkEnd, Running
from sgdataplane.attach.suggest import MAX_NAME, eni_ids, suggest_state
from sgdataplane.model.modes import Mode
from sgdataplane.model.semantics import decide
from sgdataplane.model.state import CloudState
from sgdataplane.net.packet import Packet
from sgdataplane.net.values import TCP, Address, Direction, Verdict
from sgdataplane.statefile import dump_native, load


def end(number: int, network: str = "bridge", *, ipv6: bool = False) -> NetworkEnd:
    block = {"bridge": 17, "back": 18}[network]
    addresses = [(Address.parse(f"172.{block}.0.{number}"), 16)]
    if ipv6:
        addresses.append((Address.parse(f"2001:db8:{block}::{number}"), 64))
    return NetworkEnd(network, f"02:42:ac:{block:02x}:00:{number:02x}", tuple(addresses))


def running(name: str, *ends: NetworkEnd, published: frozenset[tuple[str, int]] = frozenset()) -> Running:
    return Running(name, ends, published)


def written(folder: Path, *containers: Running) -> CloudState:
    """The state, after a user has got it in a file."""
    file = folder / "state.yaml"
    file.write_text(dump_native(suggest_state(containers)), "utf-8")
    return load(file).state


def verdict(state: CloudState, eni: str, far: str, port: int) -> Verdict:
    local = next(address for address in state.eni[eni].addresses if address.family is Address.parse(far).family)
    packet = Packet(eni, Direction.INGRESS, Address.parse(far), local, TCP, port, 40_000, None)
    return decide(state.with_mode({eni}, Mode.ENFORCE), packet).verdict


def test_no_two_ends_share_an_id_whatever_containers_are_called(tmp_path: Path) -> None:
    """The second end of `web` isn't the first one of `web-2`, nor of `web--2`; long names stay apart, too."""
    long = "a" * MAX_NAME
    containers = [
        running("web", end(2), end(2, "back")),
        running("web-2", end(3)),
        running("web--2", end(4), end(4, "back")),
        running(f"{long}-one", end(5)),
        running(f"{long}-two", end(6)),
    ]
    found = [eni for container in containers for eni in eni_ids(container)]
    assert len(set(found)) == len(found) == 7
    assert {"eni-web", "eni-web--2", "eni-web-2"} < set(found)
    assert set(written(tmp_path, *containers).eni) == set(found)


def test_a_container_is_reached_by_its_networks_and_at_what_it_publishes_by_all(tmp_path: Path) -> None:
    web = running("web", end(2, ipv6=True), published=frozenset({("tcp", 80), ("tcp", 81)}))
    state = written(tmp_path, web, running("job", end(3)), running("db", end(2, "back")))
    assert state.eni["eni-web"].mode is Mode.AUDIT
    tried = {
        (far, port): verdict(state, "eni-web", far, port)
        for far in ("172.17.0.3", "172.18.0.2", "192.0.2.1", "2001:db8::1")
        for port in (80, 81, 82)
    }
    assert [asked for asked, found in tried.items() if found is Verdict.DROP] == [
        ("172.18.0.2", 82),
        ("192.0.2.1", 82),
        ("2001:db8::1", 82),
    ]


def test_a_container_without_an_ipv4_address_is_left_out(tmp_path: Path) -> None:
    """Such as one that shares the host's network."""
    alone = running("host", NetworkEnd("host", "", ()))
    assert set(written(tmp_path, alone, running("web", end(2))).eni) == {"eni-web"}
