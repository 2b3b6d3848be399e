"""The policy's choices where packets go, and what `sgdp compile` prints, as the kernel takes it."""

from __future__ import annotations

import socket
import subprocess
from pathlib import Path

import pytest

from sgdataplane.cli.main import main
from sgdataplane.host import netns
from sgdataplane.model.state import CloudState
from sgdataplane.statefile import dump_native
from tests.support.inputs.builders import make_eni, make_group, make_rule, make_state
from tests.support.kernel.nft import nft, skip_unless_read
from tests.support.probes.flood import DEADLINE
from tests.support.scenes.attachbench import Bench
from tests.support.scenes.labs import run_in
from tests.support.scenes.pair import HERE

pytestmark = pytest.mark.kernel

METADATA, OTHER, PORT = "100.100.100.200", "100.100.100.201", 8080


def shut(*more: str) -> CloudState:
    """eni-a and eni-b may send nothing that isn't let through whatever the rules say."""
    rules = [make_rule("egress all to 0.0.0.0/0 drop", "sgr-out")]
    enis = [make_eni("eni-a", " ".join(HERE["instance"]), "sg-a"), *(make_eni(eni, "10.0.0.3", "sg-a") for eni in more)]
    return make_state([make_group("sg-a", rules)], enis)


def arriving(bench: Bench, *targets: str) -> list[str]:
    """Of addresses that the workload sends to, one after the other, those where it arrives; at the last it has to."""
    with netns.inside(bench.pair["peer"]):
        receiver = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        receiver.bind(("0.0.0.0", PORT))
        receiver.settimeout(DEADLINE)
    with netns.inside(bench.place):
        sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with receiver, sender:
        for target in targets:
            try:
                sender.sendto(target.encode(), (target, PORT))
            except PermissionError:  # so a sender is told that its own packet is dropped
                continue
        found = list[str]()
        while not found or found[-1] != targets[-1]:
            found.append(receiver.recv(64).decode())
        return found


def test_the_metadata_address_can_be_reached_by_default_and_what_is_chosen_instead(bench: Bench) -> None:
    for address in (METADATA, OTHER):
        run_in(bench.pair["peer"], "ip", "address", "add", f"{address}/32", "dev", "eth0")
        run_in(bench.place, "ip", "route", "add", address, "dev", "eth0")
    assert arriving(bench, OTHER, METADATA) == [OTHER, METADATA]  # without a policy
    bench.attach()
    assert bench.apply(shut())["eni-a"] == "in force"
    assert arriving(bench, OTHER, METADATA) == [METADATA]
    assert bench.apply(shut(), "--metadata", "100.100.100.200/31")["eni-a"] == "in force"
    assert arriving(bench, OTHER, METADATA) == [OTHER, METADATA]
    assert bench.apply(shut(), "--metadata", OTHER)["eni-a"] == "in force"
    assert arriving(bench, METADATA, OTHER) == [OTHER]


@pytest.mark.parametrize("options", [(), ("--placement", "host", "--uplink", "up0")], ids=["instance", "host"])
def test_what_compile_prints_loads_as_it_is(
    options: tuple[str, ...], namespace: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "state.yaml"
    path.write_text(dump_native(shut("eni-b")), encoding="utf-8")
    assert main(["compile", str(path), "--eni", "eni-a", *options]) == 0
    text = capsys.readouterr().out
    ifnames = ("eni-a", "eni-b", "up0") if options else ("eth0",)
    for ifname in ifnames:  # a fence stands on an interface, which has to be there
        run_in(namespace, "ip", "link", "add", ifname, "type", "veth", "peer", "name", f"{ifname}-far")
    with netns.inside(namespace):
        skip_unless_read(text)
        done = subprocess.run(["nft", "-f", "-"], input=text, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert nft(namespace, "list tables").split("\n")[:2] == ["table inet sgdataplane", "table netdev sgdataplane"]
    fence = nft(namespace, "list table netdev sgdataplane")
    assert all(f'device "{ifname}"' in fence for ifname in ifnames)
