"""History in the real agent: what it records of known traffic, whatever happens to agent, file and clock."""

from __future__ import annotations

import json
import os
import random
import signal
import sqlite3
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from subprocess import PIPE, Popen

import pytest

from sgdataplane.contract.tables import TABLE
from sgdataplane.history.read import HistoryQuery, open_history
from sgdataplane.history.rows import Fate
from sgdataplane.history.sample import NAME as HISTORY_TABLE
from sgdataplane.nft.kernel import NetlinkKernel
from tests.support.kernel.nft import nft
from tests.support.probes.flood import DEADLINE, DenseFlood, wait_until
from tests.support.scenes.agentbench import ROOT
from tests.support.scenes.attachbench import DNS, WEB
from tests.support.scenes.historyscene import PRODUCT, HistoryScene, history_at
from tests.support.scenes.pair import HERE, Session

pytestmark = pytest.mark.daemon


@pytest.fixture
def kept(
    make_lab_name: Callable[[], str], tmp_path: Path, capsys: pytest.CaptureFixture[str], placement: str
) -> Iterator[HistoryScene]:
    with history_at(placement, make_lab_name, tmp_path, lambda: capsys.readouterr().out) as kept:
        yield kept


@pytest.fixture
def slow_kept(
    make_lab_name: Callable[[], str], tmp_path: Path, capsys: pytest.CaptureFixture[str], placement: str
) -> Iterator[HistoryScene]:
    """With the product's own intervals, priority and share of the processor."""
    with history_at(placement, make_lab_name, tmp_path, lambda: capsys.readouterr().out, PRODUCT) as kept:
        yield kept


def test_each_session_and_each_drop_is_recorded_with_its_end_and_its_rule(kept: HistoryScene) -> None:
    kept.scene.visit(WEB, 5)
    kept.deny(3)
    kept.wait_for(Fate.DROP, DNS, 3)
    kept.wait_for(Fate.ACCEPT, WEB, 6)
    (row,) = kept.flows(HistoryQuery(fates=(Fate.ACCEPT,), port=WEB, eni_id="eni-a"))
    here = "eni-b" if kept.scene.placement == "host" else HERE["peer"][0]
    assert (row.key.end, row.key.cause, row.key.group_id) == (here, "rule", "sg-a")
    assert row.key.rule_id.startswith(f"sgr-{WEB}")
    assert not row.count.is_sampled
    (refused,) = kept.flows(HistoryQuery(fates=(Fate.DROP,), port=DNS))
    assert (refused.key.end, refused.key.cause) == (here, "default")


def test_packets_can_be_followed_while_history_records_them(kept: HistoryScene) -> None:
    """The kernel serves one listener, which the recorder is; so it tells what it hears. Two may listen to it."""
    command = [sys.executable, "-m", "sgdataplane", "log", "--config", str(kept.scene.agent.config), "--json"]
    listeners = [Popen([*command, "--seconds", "5"], cwd=ROOT, stdout=PIPE, stderr=PIPE, text=True) for _ in range(2)]
    for listener in listeners:
        assert listener.stderr is not None
        assert listener.stderr.readline() == "listening in 1 namespace\n"
    kept.deny(3)
    kept.wait_for(Fate.DROP, DNS, 3)
    for listener in listeners:
        out, _ = listener.communicate(timeout=DEADLINE)
        lines = [json.loads(line) for line in out.splitlines()]
        assert [line["destination_port"] for line in lines if line["event"] == "denied"] == [DNS] * 3


@pytest.mark.parametrize("seconds", [4.0, pytest.param(12.0, marks=pytest.mark.slow)])
def test_a_flood_costs_little_and_is_counted_exactly(slow_kept: HistoryScene, seconds: float) -> None:
    """Of packets that come too fast, some are recorded with their ends; the kernel's counters have all."""
    address = HERE["instance"][0]
    kept, pair = slow_kept, slow_kept.scene.bench.pair
    flood = DenseFlood(kept.scene.bench.folder, pair["peer"], pair["instance"], [(address, WEB)], [(address, DNS)])
    before = kept.cpu_s()
    began = time.monotonic()
    with flood:
        wait_until(lambda: time.monotonic() - began > seconds)
    took = time.monotonic() - began
    sent = int(kept.scene.row("default.ingress.drop")["packets"])  # of what was sent, a busy machine loses some before
    wait_until(lambda: kept.total("default", Fate.DROP) >= sent)
    used = kept.cpu_s() - before
    print(f"{sent / took:,.0f} drops a second, history took {used / (time.monotonic() - began):.1%} of a processor")
    assert kept.total("default", Fate.DROP) == sent
    assert used < 0.05 * (time.monotonic() - began) + 0.5  # what the bucket lets come at once
    (row,) = [row for row in kept.flows(HistoryQuery(fates=(Fate.DROP,), port=DNS)) if row.key.eni_id == "eni-a"]
    assert row.count.is_sampled
    assert 0 < row.count.packets < sent
    with open_history(kept.path) as history:
        gaps = [gap for gap in history.gaps() if gap.fate is Fate.DROP and not gap.is_absence]
    assert row.count.packets + sum(gap.number for gap in gaps) == sent


@pytest.mark.parametrize("who", ["recorder", "agent"])
def test_killed_at_any_moment_no_packet_is_counted_twice_and_none_is_lost(kept: HistoryScene, who: str) -> None:
    """The file has each row with the readings of the counters that it comes from."""
    seed = int(os.environ.get("SGDP_TEST_SEED", time.time_ns() % 10**6))
    print(f"SGDP_TEST_SEED={seed}")
    chance, denied = random.Random(seed), 0
    for _ in range(4):
        with Session(kept.scene.bench.pair, WEB) as web, Session(kept.scene.bench.pair, DNS) as dns:
            until = time.monotonic() + chance.uniform(0.0, 1.6)  # it writes each 0.5 s
            while time.monotonic() < until:
                assert not dns.passes(beside=web)
                denied += 1
        if who == "recorder":
            kept.kill_recorder()
        else:
            kept.scene.agent.end(signal.SIGKILL)
            kept.scene.agent.start()
        kept.wait_until_listening()
        with Session(kept.scene.bench.pair, WEB) as web, Session(kept.scene.bench.pair, DNS) as dns:
            assert not dns.passes(beside=web)  # so that it has something to write
            denied += 1
    wait_until(lambda: kept.total("default", Fate.DROP) >= denied)
    assert kept.total("default", Fate.DROP) == denied
    with closing(sqlite3.connect(kept.path)) as db:
        assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


def test_changes_of_the_policy_lose_no_count(kept: HistoryScene) -> None:
    """A rule's last packets are counted with its removal; a rule that comes back begins at zero."""
    rule = f"sgr-{WEB}" + ("-9" if kept.scene.placement == "host" else "")
    for _ in range(2):
        kept.scene.visit(WEB, 3)
        kept.scene.write(DNS)  # and nobody reads before the rule goes
        kept.scene.write(WEB)
        kept.scene.visit(WEB, 2)
    kept.wait_until_listening()
    kept.deny(1)
    wait_until(lambda: kept.total(rule, Fate.ACCEPT) >= 11)
    assert kept.total(rule, Fate.ACCEPT) == 11


def test_a_recorder_that_starts_and_ends_is_no_drift_and_costs_no_epoch(kept: HistoryScene) -> None:
    """Its table comes and goes beside the policy's, which stays vouched for: also after kill -9, and when history
    ends."""
    agent = kept.scene.agent
    before = epochs(kept)
    agent.reload()
    assert (epochs(kept), stamped(kept)) == (before, generation(kept)), "it has a table now"
    kept.kill_recorder()
    wait_until(lambda: HISTORY_TABLE not in nft(kept.scene.policy, "list tables"))
    assert stamped(kept) == generation(kept), "the kernel removes a table that goes with its process, and no more"
    wait_until(lambda: HISTORY_TABLE in nft(kept.scene.policy, "list tables"))
    agent.reload()
    assert (epochs(kept), stamped(kept)) == (before, generation(kept))
    agent.configure(**({"placement": "host"} if kept.scene.placement == "host" else {}))
    agent.reload()
    wait_until(lambda: HISTORY_TABLE not in nft(kept.scene.policy, "list tables"))
    agent.reload()
    assert (epochs(kept), stamped(kept)) == (before, generation(kept))
    assert agent.events("drift") == []
    assert not any("drift" in causes for causes in agent.causes())
    nft(kept.scene.policy, f"add chain inet {TABLE} theirs")  # control: another program's commit is drift
    wait_until(lambda: agent.events("drift") != [])


def epochs(kept: HistoryScene) -> dict[str, int]:
    return {eni["eni"]: eni["epoch"] for eni in kept.scene.agent.status()["enis"]}


def generation(kept: HistoryScene) -> int:
    """The generation of the namespace's nftables."""
    with NetlinkKernel(kept.scene.policy) as kernel:
        return kernel.inventory(TABLE).generation


def stamped(kept: HistoryScene) -> int | None:
    """The generation that the policy's stamp vouches for."""
    with NetlinkKernel(kept.scene.policy) as kernel:
        stamp = kernel.inventory(TABLE).stamp
        return None if stamp is None else stamp.generation
