"""Hits per rule in the real agent: exact for known numbers of packets, whatever happens to counters."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sgdataplane.cli.main import main
from sgdataplane.contract.tables import TABLE
from sgdataplane.terminal.output import Exit
from tests.support.documents.schemas import assert_conforms
from tests.support.kernel.nft import nft
from tests.support.probes.flood import wait_until
from tests.support.scenes.agentscene import Scene, scene_at
from tests.support.scenes.attachbench import DNS, WEB
from tests.support.scenes.pair import HERE, Session, bound

pytestmark = pytest.mark.daemon


@pytest.fixture
def scene(
    make_lab_name: Callable[[], str], tmp_path: Path, capsys: pytest.CaptureFixture[str], placement: str
) -> Iterator[Scene]:
    with scene_at(placement, make_lab_name, tmp_path, lambda: capsys.readouterr().out) as scene:
        scene.write(WEB)
        scene.agent.start()
        yield scene


def test_hits_are_exact_over_recompiles_removed_rules_and_restarts(scene: Scene) -> None:
    assert scene.rule(WEB)["packets"] == 0
    scene.visit(WEB, 5)
    with Session(scene.bench.pair, WEB) as web, Session(scene.bench.pair, DNS) as dns:
        for _ in range(3):
            assert not dns.passes(beside=web)
    first = scene.rule(WEB)
    assert (first["packets"], first["in_force"]) == (6, True)
    assert 6 * 28 < first["bytes"] < 6 * 64
    assert scene.row("default.ingress.drop")["packets"] == 3
    scene.visit(WEB, 2)
    scene.write(WEB, DNS)
    scene.visit(WEB, 2)
    assert scene.rule(WEB)["packets"] == 10
    scene.visit(WEB, 1)  # and nobody reads before the rule goes
    scene.write(DNS)
    gone = scene.rule(WEB)
    assert (gone["packets"], gone["in_force"]) == (11, False)
    scene.write(DNS, WEB)
    scene.visit(WEB, 1)
    scene.wait_until_kept(gone["counter"], 11)
    scene.agent.end(9)
    scene.visit(WEB, 2)
    scene.agent.start()
    again = scene.rule(WEB)
    assert (again["packets"], again["in_force"]) == (14, True)
    assert (again["since"], again["first_hit"]) == (first["since"], first["first_hit"])
    assert first["first_hit"] <= first["last_hit"] < again["last_hit"]


@pytest.mark.placement("instance")
def test_what_was_never_hit_is_told_and_since_when(scene: Scene) -> None:
    scene.write(WEB, DNS)
    scene.visit(WEB, 1)
    document = scene.read()
    unused = {entry["security_group_rule_id"]: entry for entry in document["unused"]}
    assert set(unused) >= {scene.rule(DNS)["security_group_rule_id"]}
    assert scene.rule(WEB)["security_group_rule_id"] not in unused
    entry = unused[scene.rule(DNS)["security_group_rule_id"]]
    assert "eni-a" in entry["enis"]
    assert entry["since"] <= document["at"]
    scene.visit(DNS, 1)
    assert scene.rule(DNS)["security_group_rule_id"] not in {
        e["security_group_rule_id"] for e in scene.read()["unused"]
    }
    assert {enis for scope in scene.read("--eni", "eni-a")["scopes"] for enis in scope["enis"]} >= {"eni-a"}
    assert main(["counters", "--config", str(scene.agent.config), "--eni", "eni-none"]) == 5


@pytest.mark.placement("instance")
def test_counts_go_on_where_others_delete_the_table(scene: Scene) -> None:
    scene.visit(WEB, 2)
    assert scene.rule(WEB)["packets"] == 2
    nft(scene.policy, f"delete table inet {TABLE}")
    scene.agent.wait_for_event("drift", 1)
    scene.visit(WEB, 3)
    assert scene.rule(WEB)["packets"] == 5


@pytest.mark.placement("instance")
def test_counts_that_cannot_be_read_begin_anew_and_enforcement_goes_on(scene: Scene) -> None:
    scene.visit(WEB, 2)
    scene.agent.end()
    kept = scene.agent.var / "counters.json"
    assert json.loads(kept.read_bytes())["version"] == 1
    kept.write_text("{", "utf-8")
    scene.agent.start()
    assert len(scene.agent.events("counts-not-kept")) == 1
    assert scene.rule(WEB)["packets"] == 2  # which the kernel has still counted
    assert json.loads(kept.read_bytes())["version"] == 1
    scene.agent.end()
    shutil.rmtree(scene.agent.var)
    scene.agent.var.write_text("no folder", "utf-8")
    scene.agent.start()
    scene.visit(WEB, 1)
    assert scene.rule(WEB)["packets"] == 3
    assert "counters.json" in scene.read()["error"]


def test_packets_of_what_is_attached_are_traced_and_the_agent_takes_it_for_no_drift(scene: Scene) -> None:
    def is_marking() -> bool:
        return "meta nftrace" in nft(scene.policy, "list ruleset")

    command = [sys.executable, "-m", "sgdataplane", "trace", "--config", str(scene.agent.config), "--eni", "eni-a"]
    command += ["--direction", "ingress", "--protocol", "udp", "--count", "2", "--seconds", "60", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        wait_until(lambda: is_marking() or process.poll() is not None)
        with Session(scene.bench.pair, WEB) as web, Session(scene.bench.pair, DNS) as dns:
            assert not dns.passes(beside=web)
        out, error = process.communicate(timeout=60)
    assert process.returncode == 0, error
    document = json.loads(out)
    assert_conforms("trace", document)
    found = {packet["port"]: packet for packet in document["packets"]}
    gates = {port: next(g for g in p["gates"] if g["direction"] == "ingress") for port, p in found.items()}
    assert {port: packet["verdict"] for port, packet in found.items()} == {WEB: "accept", DNS: "drop"}
    assert {port: (gate["eni"], gate["reason"], gate["priority"]) for port, gate in gates.items()} == {
        WEB: ("eni-a", "rule", 1),
        DNS: ("eni-a", "default", None),
    }
    assert gates[WEB]["security_group_rule_id"] == scene.rule(WEB)["security_group_rule_id"]
    assert not is_marking()
    assert scene.agent.status()["drift"]["count"] == 0


@pytest.mark.parametrize("is_sender", [False, True], ids=["it receives", "it sends"])
def test_packets_between_two_ends_are_awaited_at_what_is_attached_and_no_lab_is_asked_for(
    is_sender: bool, scene: Scene
) -> None:
    """Nothing is sent: whoever waits sees packets that come anyway."""
    peer = HERE["peer"][0]
    ends = ("eni-a", peer) if is_sender else (peer, "eni-a")
    config = ("--config", str(scene.agent.config))

    def is_marking() -> bool:
        return "meta nftrace" in nft(scene.policy, "list ruleset")

    command = [sys.executable, "-m", "sgdataplane", "trace", *config, *ends, f"udp/{DNS}", "--count", "1", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        wait_until(lambda: is_marking() or process.poll() is not None)
        if is_sender:
            with bound(scene.bench.pair, "instance", 0) as socket:
                socket.sendto(b"anybody there?", (peer, DNS))
        else:
            with Session(scene.bench.pair, WEB) as web, Session(scene.bench.pair, DNS) as dns:
                assert not dns.passes(beside=web)
        out, error = process.communicate(timeout=60)
    assert process.returncode == 0, error
    document = json.loads(out)
    assert_conforms("trace", document)
    (packet,) = document["packets"]
    mine = ("eni-a", "egress" if is_sender else "ingress")
    gate = next(each for each in packet["gates"] if (each["eni"], each["direction"]) == mine)
    assert (packet["port"], gate["verdict"]) == (DNS, "accept" if is_sender else "drop")
    elsewhere = [*command[:4], *config, "192.0.2.1", "192.0.2.2", "icmp"]
    done = subprocess.run(elsewhere, capture_output=True, text=True, check=False)
    assert done.returncode == Exit.INPUT
    assert "neither is attached here; these ENIs are: eni-a" in done.stderr
