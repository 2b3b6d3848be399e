"""The real agent, as a process: from causes to packets."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import time

import pytest

from sgdataplane.cli.main import main
from sgdataplane.contract.tables import TABLE
from sgdataplane.daemon.control import Request, ask
from sgdataplane.host import netns
from sgdataplane.host.links import Links
from tests.support.kernel.nft import listing, nft
from tests.support.probes.flood import wait_until
from tests.support.probes.links import veths_in
from tests.support.scenes.agentbench import AgentBench
from tests.support.scenes.attachbench import DNS, WEB, Bench, state_of
from tests.support.scenes.pair import Session, join

pytestmark = pytest.mark.daemon


def test_it_enforces_from_its_start_and_after_its_end(
    bench: Bench, agent: AgentBench, web: Session, dns: Session
) -> None:
    bench.attach()
    assert dns.passes(beside=web)
    agent.start()
    assert agent.outcomes() == {"eni-a": "in force"}
    assert not dns.passes(beside=web)
    assert agent.end() == 0
    assert not dns.passes(beside=web)
    assert not agent.socket.exists()


@pytest.mark.parametrize("way", ["rename", "in-place", "link"])
def test_a_changed_state_is_enforced(bench: Bench, agent: AgentBench, web: Session, dns: Session, way: str) -> None:
    bench.attach()
    if way == "link":  # as of a ConfigMap: the link is turned to another folder
        for name, ports in (("one", (WEB,)), ("two", (DNS,))):
            (agent.folder / name).mkdir()
            AgentBench(agent.folder / name).write(state_of(*ports))
        (agent.folder / "now").symlink_to("one")
        agent.configure(state=str(agent.folder / "now" / "state.yaml"))
    agent.start()
    assert not dns.passes(beside=web)
    if way == "rename":
        agent.write(state_of(DNS))
    elif way == "in-place":
        bench.write(state_of(DNS))
    else:
        (agent.folder / "next").symlink_to("two")
        (agent.folder / "next").replace(agent.folder / "now")
    wait_until(lambda: agent.epoch() == 2)
    assert not web.passes(beside=dns)


def test_what_is_attached_later_is_enforced_and_what_is_detached_is_left(
    bench: Bench, agent: AgentBench, web: Session, dns: Session
) -> None:
    agent.start()
    assert agent.outcomes() == {}
    bench.attach()
    wait_until(lambda: agent.outcomes() == {"eni-a": "in force"})
    assert not dns.passes(beside=web)
    agent.reload()  # the cycle before is over, so it listens there
    assert bench.sgdp("detach", "--eni", "eni-a") == 0
    wait_until(lambda: agent.outcomes() == {})
    assert dns.passes(beside=web)
    agent.reload()  # whatever it has heard until now was a cause
    assert agent.status()["drift"]["count"] == 0
    found = frozenset[str]().union(*agent.causes())
    assert ("bindings" in found, "drift" in found) == (True, False)


def test_a_bad_state_changes_nothing_and_status_says_why(
    bench: Bench, agent: AgentBench, web: Session, dns: Session
) -> None:
    bench.attach()
    agent.start()
    for spoil in (lambda: agent.state.write_text("versoin: 1\n", "utf-8"), agent.state.unlink):
        spoil()
        wait_until(lambda: bool(agent.status()["state"]["error"]))
        status = agent.status()
        assert (status["healthy"], status["state"]["origin"]) == (False, "state")
        assert not dns.passes(beside=web)
        agent.write(state_of(WEB))
        wait_until(lambda: bool(agent.status()["healthy"]))
    assert "versoin" in agent.events("state-refused")[0]


def test_a_start_with_a_bad_state_takes_the_last_good_one(
    bench: Bench, agent: AgentBench, web: Session, dns: Session
) -> None:
    bench.attach()
    agent.start()
    web.must_pass()
    agent.end()
    agent.state.write_text("{", "utf-8")
    agent.start()
    assert (agent.status()["state"]["origin"], agent.epoch()) == ("last good", 1)
    assert not dns.passes(beside=web)
    agent.write(state_of(DNS))
    wait_until(lambda: agent.status()["state"]["origin"] == "state")
    assert not web.passes(beside=dns)


def test_a_start_without_any_policy_is_closed(bench: Bench, agent: AgentBench, web: Session) -> None:
    bench.attach()
    web.must_pass()
    agent.state.unlink()
    agent.start()
    assert (agent.status()["state"]["origin"], agent.outcomes()) == ("closed", {"eni-a": "closed"})
    sent = web.send()
    agent.write(state_of(WEB))
    wait_until(lambda: agent.outcomes() == {"eni-a": "in force"})
    assert sent not in web.must_pass()


def test_a_fresh_agent_waits_for_a_state_and_is_healthy(bench: Bench, agent: AgentBench, web: Session) -> None:
    agent.state.unlink()
    agent.start()
    status = agent.status()
    assert (status["healthy"], status["state"]["waiting"], status["state"]["error"]) == (True, True, None)
    assert agent.events("state-refused") == []
    bench.attach()
    wait_until(lambda: agent.outcomes() == {"eni-a": "closed"})
    status = agent.status()
    assert (status["healthy"], status["state"]["waiting"], bool(status["state"]["error"])) == (False, False, True)
    agent.write(state_of(WEB))
    wait_until(lambda: agent.outcomes() == {"eni-a": "in force"})
    assert (agent.status()["healthy"], agent.status()["state"]["waiting"]) == (True, False)
    web.must_pass()


def test_where_the_last_good_policy_cannot_be_kept_enforcement_goes_on(
    bench: Bench, agent: AgentBench, web: Session, dns: Session
) -> None:
    agent.var.write_text("no folder", "utf-8")  # root may write to any that is one
    bench.attach()
    agent.start()
    assert not dns.passes(beside=web)
    assert str(agent.var) in agent.status()["last_good"]["error"]
    assert not agent.status()["healthy"]
    agent.var.unlink()
    wait_until(lambda: bool(agent.status()["healthy"]))  # it tries again by itself


def test_killed_and_started_anew_it_converges_and_sessions_go_on(
    bench: Bench, agent: AgentBench, web: Session, dns: Session
) -> None:
    bench.attach()
    agent.start()
    web.must_pass()
    before = listing(bench.place, TABLE)
    agent.end(9)
    web.must_pass()
    agent.start()
    assert listing(bench.place, TABLE) == before
    assert (agent.epoch(), agent.outcomes()) == (1, {"eni-a": "in force"})
    web.must_pass()
    agent.end(9)
    agent.write(state_of(WEB, DNS))
    agent.start()
    web.must_pass()
    dns.must_pass()


def test_neither_its_own_commits_nor_those_to_other_tables_are_drift(bench: Bench, agent: AgentBench) -> None:
    bench.attach()
    agent.start()
    nft(bench.place, "add table inet other", "add chain inet other c", f"add table ip {TABLE}")
    agent.write(state_of(DNS))
    wait_until(lambda: agent.epoch() == 2)
    nft(bench.place, f"add chain inet {TABLE} mine")  # and this one is told, after all the others
    wait_until(lambda: agent.status()["drift"]["count"] > 0)
    assert agent.status()["drift"]["count"] == 1
    assert "chain added: mine" in agent.status()["drift"]["last"]["changes"]


def test_an_interface_that_comes_back_is_enforced(bench: Bench, agent: AgentBench) -> None:
    bench.attach()
    agent.start()
    with Links(bench.place) as links:
        links.delete_link("eth0")
    wait_until(lambda: agent.outcomes() == {"eni-a": "absent"})
    join(bench.pair)
    wait_until(lambda: agent.outcomes() == {"eni-a": "in force"})
    with Session(bench.pair, WEB) as web, Session(bench.pair, DNS) as dns:
        assert not dns.passes(beside=web)


def rename(bench: Bench, former: str, now: str) -> None:
    """As root of the workload."""
    for command in (f"{former} down", f"{former} name {now}", f"{now} up"):
        subprocess.run(["nsenter", f"--net={bench.place}", "ip", "link", "set", *command.split()], check=True)


def test_an_interface_that_was_renamed_is_said_and_not_healthy(
    bench: Bench, agent: AgentBench, capsys: pytest.CaptureFixture[str]
) -> None:
    bench.attach()
    agent.start()
    status = ["status", "--config", str(agent.config)]
    assert main(status) == 0
    rename(bench, "eth0", "eth1")
    wait_until(lambda: agent.outcomes() == {"eni-a": "absent"})
    assert main(status) == 1
    out, err = capsys.readouterr()
    assert "eth1 has the MAC of eni-a; if that is the interface under another name, rename it back" in err
    assert "not healthy" in out
    assert "next: bring back the interface of eni-a, or: sgdp detach --eni eni-a" in out
    rename(bench, "eth1", "eth0")
    wait_until(lambda: agent.outcomes() == {"eni-a": "in force"})
    assert main(status) == 0


def test_an_eni_that_the_state_lost_is_closed_and_not_healthy(
    bench: Bench, agent: AgentBench, capsys: pytest.CaptureFixture[str]
) -> None:
    bench.attach()
    agent.start()
    agent.write(state_of(WEB, eni="eni-b"))
    wait_until(lambda: agent.outcomes() == {"eni-a": "closed"})
    assert main(["status", "--config", str(agent.config)]) == 1
    assert "next: add eni-a to the state, or: sgdp detach --eni eni-a" in capsys.readouterr().out


def test_a_namespace_that_ends_is_listed_and_not_kept_alive(
    bench: Bench, agent: AgentBench, process: subprocess.Popen[bytes]
) -> None:
    bench.attach()
    agent.start()
    process.kill()
    process.wait()
    wait_until(lambda: not veths_in(bench.pair["peer"]))  # the link goes with the namespace that has its other end
    wait_until(lambda: agent.outcomes() == {"eni-a": "gone"})
    assert not agent.status()["healthy"]
    assert bench.sgdp("detach", "--eni", "eni-a") == 0
    wait_until(lambda: agent.outcomes() == {} and agent.status()["healthy"])


def test_the_step_that_status_names_makes_it_healthy_again(
    bench: Bench, agent: AgentBench, process: subprocess.Popen[bytes], capsys: pytest.CaptureFixture[str]
) -> None:
    bench.attach()
    agent.start()
    assert main(["status", "--config", str(agent.config)]) == 0
    assert "next: " not in capsys.readouterr().out
    process.kill()
    process.wait()
    wait_until(lambda: agent.outcomes() == {"eni-a": "gone"})
    assert main(["status", "--config", str(agent.config)]) == 1
    (step,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("next: ")]
    assert step.startswith("next: attach eni-a again where the workload runs now, or: sgdp detach ")
    assert main(shlex.split(step.rpartition(": ")[2])[1:]) == 0
    wait_until(lambda: agent.outcomes() == {} and agent.status()["healthy"])


def test_a_reload_takes_a_good_configuration_and_refuses_a_bad_one(
    bench: Bench, agent: AgentBench, web: Session, dns: Session
) -> None:
    bench.attach()
    agent.start()
    other = agent.folder / "other.yaml"
    agent.state.rename(other)
    wait_until(lambda: not agent.status()["healthy"])
    agent.configure(state=str(other), resnyc=7)
    ask(agent.socket, Request.RELOAD)
    wait_until(lambda: bool(agent.status()["config"]["error"]))
    assert "resync, which is the nearest known key" in agent.status()["config"]["error"]
    agent.configure(state=str(other), socket=str(agent.folder / "elsewhere"))
    assert agent.process is not None
    agent.process.send_signal(1)
    wait_until(lambda: agent.status()["config"]["error"] is None)
    wait_until(lambda: bool(agent.status()["healthy"]))
    assert (agent.status()["state"]["path"], agent.status()["config"]["restart"]) == (str(other), ["socket"])
    cycles = ask(agent.socket, Request.RELOAD)["cycle"]
    assert isinstance(cycles, int)
    wait_until(lambda: agent.cycles >= cycles)
    assert agent.status()["config"]["restart"] == ["socket"]  # it still runs with the former
    assert not dns.passes(beside=web)


def test_a_choice_is_in_force_after_a_reload_and_status_says_it(bench: Bench, agent: AgentBench, web: Session) -> None:
    bench.attach()
    agent.start()
    web.must_pass()
    assert "100.100.100.200" in listing(bench.place, TABLE)  # the metadata address, by default
    agent.configure(metadata=["192.0.2.9"], on_change="keep")
    cycle = ask(agent.socket, Request.RELOAD)["cycle"]
    assert isinstance(cycle, int)
    wait_until(lambda: agent.cycles >= cycle)
    rules = listing(bench.place, TABLE)
    assert ("192.0.2.9" in rules, "100.100.100.200" in rules) == (True, False)
    choices = agent.status()["config"]["choices"]
    assert (choices["metadata"], choices["on_change"]) == (["192.0.2.9/32"], "keep")
    web.must_pass()


def test_a_resync_writes_all_anew_and_loses_nothing(bench: Bench, agent: AgentBench, web: Session) -> None:
    bench.attach()
    agent.configure(adoption_window=0)  # else what is left of it differs
    agent.start()
    web.must_pass()
    before = listing(bench.place, TABLE)
    cycle = ask(agent.socket, Request.RESYNC)["cycle"]
    assert isinstance(cycle, int)
    wait_until(lambda: agent.cycles >= cycle)
    web.must_pass()
    assert (agent.epoch(), agent.status()["drift"]["count"]) == (1, 0)
    assert listing(bench.place, TABLE) == before


def test_a_second_agent_is_refused(agent: AgentBench) -> None:
    agent.start()
    command = [sys.executable, "-m", "sgdataplane", "agent", "--config", str(agent.config)]
    second = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    assert second.returncode == 3
    assert "an agent is running already" in second.stderr
    assert agent.cycles > 0


def test_names_that_are_no_text_do_it_no_harm(
    bench: Bench, agent: AgentBench, process: subprocess.Popen[bytes], web: Session, dns: Session
) -> None:
    """Root of a workload may name interfaces and processes with any bytes."""
    bench.attach()
    agent.start()
    name, inside = b"n\xff\xfe", ["nsenter", f"--net={bench.place}"]
    cycles = agent.cycles
    subprocess.run([*inside, "ip", "link", "set", "lo", "name", name], check=True)
    wait_until(lambda: agent.cycles > cycles)
    program = agent.folder / os.fsdecode(name)
    program.symlink_to(shutil.which("nft") or "")
    subprocess.run([*inside, program, f"delete table inet {TABLE}"], check=True)
    wait_until(lambda: agent.status()["drift"]["count"] == 1)
    assert "n\\xff\\xfe" in agent.events("drift")[0]
    assert not dns.passes(beside=web)
    assert agent.events("event-failed") == []
    assert process.poll() is None


def test_with_nothing_to_do_it_does_nothing(bench: Bench, agent: AgentBench) -> None:
    bench.attach()
    with netns.nowhere():  # where it numbers no namespaces of other tests, which take their time to end
        agent.start()
    nft(bench.place, "add table inet other")  # is no drift
    quiet_since = seen = 0.0

    def is_quiet(least_s: float) -> bool:
        """Whether it doesn't even wake up for that long."""
        nonlocal quiet_since, seen
        now, wakeups = time.monotonic(), agent.wakeups()
        quiet_since, seen = (quiet_since if wakeups == seen else now), wakeups
        return now - quiet_since >= least_s

    wait_until(lambda: is_quiet(3))
    assert agent.cycles > 0
    wait_until(lambda: not is_quiet(3))  # to be asked has woken it
