"""Trials that the agent keeps: exact over kill -9 and applies, no drift, samples, time, names of others."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from sgdataplane.cli.trialtext import MERGED
from sgdataplane.contract.tables import TABLE, TRIALS
from sgdataplane.daemon.control import Request, ask
from sgdataplane.host import netns
from sgdataplane.model.state import CloudState, GroupTrial
from sgdataplane.statefile import dump_native
from sgdataplane.trial.lines import MAX_COUNTERS
from sgdataplane.trial.report import TrialReport
from sgdataplane.trial.trial import MAX_DONE
from tests.support.documents.schemas import assert_conforms
from tests.support.inputs.builders import make_group, make_rule
from tests.support.kernel.nft import nft
from tests.support.probes.flood import wait_until
from tests.support.probes.trialtraffic import Opener
from tests.support.scenes import attachhost
from tests.support.scenes.agentbench import AgentBench
from tests.support.scenes.attachbench import DNS, WEB, Bench, state_of
from tests.support.scenes.pair import HERE, Session

pytestmark = pytest.mark.daemon
OTHER = 7000
Sgdp = Callable[..., int]


class Trying:
    """A workload with an agent, and a peer that sends."""

    def __init__(self, bench: Bench, agent: AgentBench, place: str, state: Callable[..., object]) -> None:
        self.bench, self.agent, self.place, self.state = bench, agent, place, state
        self.opener = Opener(bench.pair["peer"], HERE["instance"][0], (WEB, DNS, OTHER), seed=11)

    def write(self, *ports: int) -> Path:
        path = self.bench.folder / "after.yaml"
        path.write_text(dump_native(self.state(*ports)), "utf-8")  # type: ignore[arg-type]
        return path

    def sgdp(self, *arguments: object) -> int:
        self.bench.read_output()
        return self.bench.run("trial", *arguments, "--config", self.agent.config)

    def report(self, name: str = "t") -> TrialReport:
        found = ask(self.agent.socket, Request.TRIAL, trial=name)["trial"]
        assert isinstance(found, dict)
        return TrialReport.of(found)

    def counts(self, name: str = "t") -> dict[int, int]:
        """Packets by port, at the workload's ingress over IPv4."""
        lines = [seen for seen in self.report(name).lines if seen.line.change.family.bits == 32]
        mine = [seen for seen in lines if seen.line.change.eni_id == "eni-a"]
        return {ports[0]: seen.packets for seen in mine if (ports := seen.line.change.ranges[-1]) is not None}

    def sent(self, *ports: int) -> dict[int, int]:
        return {port: self.opener.sent[port] for port in ports}

    def apply(self, *ports: int) -> None:
        """Change the state that is in force; returns when the agent has seen it."""
        number = self.agent.cycles
        self.agent.write(self.state(*ports))  # type: ignore[arg-type]
        wait_until(lambda: self.agent.cycles > number)

    def tables(self) -> list[str]:
        return [line for line in nft(self.place, "list tables").splitlines() if TRIALS in line]


@pytest.fixture(params=["instance", "host"])
def trying(request: pytest.FixtureRequest, agent: AgentBench) -> Trying:
    """The agent runs and lets WEB in, in each placement."""
    if request.param == "instance":
        bench = request.getfixturevalue("bench")
        bench.attach()
        found = Trying(bench, agent, bench.place, state_of)
        agent.write(state_of(WEB))
    else:
        bench = request.getfixturevalue("host_bench")
        agent.configure(placement="host")
        found = Trying(bench, agent, attachhost.ROUTER, attachhost.state_of)
        agent.write(attachhost.state_of(WEB))
    agent.start()
    with Session(bench.pair, WEB) as web:
        web.must_pass()  # the way is known, so that no packet waits for a neighbour's address
    return found


def test_counts_survive_kill_9_and_restarts(trying: Trying) -> None:
    """No packet is missed while no agent runs, and none counts twice."""
    assert trying.sgdp("start", trying.write(DNS), "--name", "t") == 0
    trying.opener.send(120)
    for number in (signal.SIGKILL, signal.SIGTERM, signal.SIGKILL):
        trying.agent.end(number)
        trying.opener.send(120)
        trying.agent.start()
        wait_until(lambda: trying.counts() == trying.sent(WEB, DNS))
    assert trying.opener.sent[WEB] > 100
    assert not trying.report().paused


def test_counts_stay_exact_while_the_agent_applies(trying: Trying) -> None:
    assert trying.sgdp("start", trying.write(DNS), "--name", "t") == 0
    with trying.opener:
        for ports in ((WEB, OTHER), (WEB,), (WEB, OTHER), (WEB,)):
            trying.apply(*ports)
    wait_until(lambda: trying.counts() == trying.sent(WEB, DNS))
    assert trying.opener.sent.total() > 30


def test_an_apply_makes_lines_true(trying: Trying) -> None:
    assert trying.sgdp("start", trying.write(DNS), "--name", "t") == 0
    trying.opener.send(60)
    trying.apply(WEB, DNS)
    wait_until(lambda: trying.counts() == trying.sent(WEB))
    done = {one.line.change.ranges[-1]: one.packets for one in trying.report().done if one.packets}
    assert done == {(DNS, DNS): trying.opener.sent[DNS]}


def test_enis_that_this_host_audits_are_audited_after_the_change_too(trying: Trying) -> None:
    """So nothing would change at them, until they are enforced."""
    placement = {"placement": "host"} if trying.place == attachhost.ROUTER else {}
    trying.agent.configure(audit=["*"], **placement)
    trying.agent.reload()
    wait_until(lambda: set(trying.agent.outcomes().values()) == {"auditing"})
    assert trying.sgdp("start", trying.write(DNS), "--name", "t") == 0
    assert trying.report().lines == ()
    trying.agent.configure(**placement)
    trying.agent.reload()
    wait_until(lambda: trying.report().lines != ())
    trying.opener.send(30)
    assert trying.counts() == trying.sent(WEB, DNS)


@pytest.mark.parametrize("times", [5, pytest.param(50, marks=pytest.mark.slow)])
def test_it_is_no_drift_and_costs_no_epoch(trying: Trying, times: int) -> None:
    """A trial's commits start no cycle, and the next look finds the policy in force, untouched."""
    before = {eni["eni"]: eni["epoch"] for eni in trying.agent.status()["enis"]}
    for number in range(times):
        assert trying.sgdp("start", trying.write(DNS), "--name", f"t{number}") == 0
        assert len(trying.tables()) == 1
        trying.sgdp("stop", f"t{number}")
    assert trying.tables() == []
    trying.agent.reload()
    assert {eni["eni"]: eni["epoch"] for eni in trying.agent.status()["enis"]} == before
    assert trying.agent.events("drift") == []
    assert not any("drift" in causes for causes in trying.agent.causes())
    assert [path.name for path in (trying.agent.var / "trials").iterdir()] == ["lock"]


def test_a_table_that_somebody_removes_comes_back(trying: Trying) -> None:
    """And the policy never notices."""
    assert trying.sgdp("start", trying.write(DNS), "--name", "t") == 0
    trying.opener.send(30)
    assert trying.counts() == trying.sent(WEB, DNS)
    nft(trying.place, f"delete table inet {trying.tables()[0].split()[-1]}")
    trying.report()
    assert len(trying.tables()) == 1
    trying.opener.send(30)
    assert trying.counts() == trying.sent(WEB, DNS), "what was read before is kept"


def test_ends_are_sampled_and_sessions_that_would_end_are_told(trying: Trying) -> None:
    assert trying.sgdp("start", trying.write(DNS), "--name", "t") == 0
    trying.opener.send(60)
    peer = HERE["peer"][0]
    wait_until(lambda: any(seen.ends == (peer,) for seen in trying.report().lines))
    assert trying.sgdp("show", "--json") == 1
    document = json.loads(trying.bench.read_output())
    assert_conforms("trial", document)
    assert {session["local_port"] for session in document["sessions"]} == {WEB}
    assert document["seen"] == {"close": trying.opener.sent[WEB], "open": trying.opener.sent[DNS]}


def test_a_trial_that_cannot_be_read_harms_nothing(trying: Trying) -> None:
    """Its state is damaged on disk. It is paused with the reason, and the policy is enforced."""
    assert trying.sgdp("start", trying.write(DNS), "--name", "t") == 0
    trying.agent.end(signal.SIGKILL)
    (trying.agent.var / "trials" / "t.yaml").write_text("{")
    trying.agent.start()
    wait_until(lambda: "t.yaml" in trying.report().paused)
    assert set(trying.agent.outcomes().values()) == {"in force"}
    trying.apply(WEB, DNS)
    assert set(trying.agent.outcomes().values()) == {"in force"}
    assert trying.sgdp("stop") == 0
    assert trying.tables() == [], "a table without a trial goes, too"


def test_clear_removes_it(trying: Trying) -> None:
    assert trying.sgdp("start", trying.write(DNS), "--name", "t") == 0
    assert trying.tables()
    trying.agent.end()
    trying.bench.sgdp("clear")
    if trying.place == attachhost.ROUTER:
        assert not netns.exists(trying.place), "with its last ENI, the router goes, and all of its tables"
    else:
        assert TABLE not in nft(trying.place, "list tables")


def test_it_ends_with_its_time(trying: Trying) -> None:
    assert trying.sgdp("start", trying.write(DNS), "--name", "t", "--for", "3s") == 0
    wait_until(lambda: ask(trying.agent.socket, Request.TRIALS)["trials"] == [])
    assert trying.tables() == []
    assert trying.sgdp("show", "t") == 5


# very many lines


def refusing(state: CloudState, ends: Sequence[str]) -> CloudState:
    """The state, where eni-a drops what comes from these ends."""
    group = make_group("sg-ends", [make_rule(f"ingress udp 1/65535 from {end} drop", f"sgr-{end}") for end in ends])
    enis = tuple(
        replace(eni, security_group_ids=(*eni.security_group_ids, "sg-ends")) if eni is state.eni["eni-a"] else eni
        for eni in state.network_interfaces
    )
    return replace(state, security_groups=(*state.security_groups, group), network_interfaces=enis)


@pytest.mark.parametrize(("ports", "ends"), [(50, 42), pytest.param(100, 100, marks=pytest.mark.slow)])
def test_more_lines_than_counters_are_counted_together_and_that_is_said(trying: Trying, ports: int, ends: int) -> None:
    """An apply that makes half of them true leaves the others, whose packets are counted as before."""
    opened = range(OTHER, OTHER + 2 * ports, 2)
    far = [HERE["peer"][0], *(f"192.0.2.{2 * number}" for number in range(1, ends))]
    state: Callable[..., CloudState] = trying.state  # type: ignore[assignment]
    trying.apply(*opened)
    after = trying.bench.folder / "after.yaml"
    after.write_text(dump_native(refusing(state(*opened), far)), "utf-8")
    assert trying.sgdp("start", after, "--name", "t") == 0
    said = trying.bench.read_output()
    assert f"counts {ports * ends:,} lines at 1 ENI" in said
    assert MERGED in said
    opener = Opener(trying.bench.pair["peer"], HERE["instance"][0], opened, seed=35)
    opener.send(60)
    assert trying.sgdp("show") == 1
    said = trying.bench.read_output()
    assert f" 60 (by {ports * ends:,} lines) " in said
    assert "new sessions seen: 60 that would close" in said
    assert MERGED in said

    number = trying.agent.cycles
    trying.agent.write(refusing(state(*opened), far[ends // 2 :]))
    wait_until(lambda: trying.agent.cycles > number)
    left = ports * (ends // 2)
    wait_until(lambda: len(trying.report().lines) == left)
    opener.send(60)
    report = trying.report()
    assert len(report.done) == min(MAX_DONE, ports * ends - left)
    assert {one.packets for one in report.done} == {None}
    assert report.packets(is_opening=False) == (120 if report.is_merged else 60), "each by itself counts anew"
    assert report.is_merged is (left > MAX_COUNTERS)


# trials that the state declares

SINCE, UNTIL = "2026-12-01T00:00:00Z", "2126-12-01T00:00:00Z"
NAME = "group-sg-a"


def declaring(state: CloudState, proposed: CloudState, since: str = SINCE, until: str = UNTIL) -> CloudState:
    """The state, where the rules that the other one has in sg-a are on trial."""
    group = proposed.group["sg-a"]
    trial = GroupTrial(since, until, group.inner_access_policy, group.rules)
    groups = (replace(one, trial=trial) if one is state.group["sg-a"] else one for one in state.security_groups)
    return replace(state, security_groups=tuple(groups))


def declare(trying: Trying, ports: tuple[int, ...], proposed: tuple[int, ...], **times: str) -> None:
    """Write a state with these ports open, and those on trial; returns when the agent has seen it."""
    number = trying.agent.cycles
    state: Callable[..., CloudState] = trying.state  # type: ignore[assignment]
    trying.agent.write(declaring(state(*ports), state(*proposed), **times))
    wait_until(lambda: trying.agent.cycles > number)


def declared(trying: Trying) -> list[dict[str, Any]]:
    """What the status says of declared trials."""
    return cast("list[dict[str, Any]]", trying.agent.status()["trials"])


def wait_until_it_counts(trying: Trying) -> None:
    wait_until(lambda: [one["count"] > 0 and not one["paused"] for one in declared(trying)] == [True])


def test_a_declared_trial_counts_exactly_and_only_its_group(trying: Trying) -> None:
    """It costs no epoch, so no session is judged again; and `trial stop` doesn't end what would begin anew."""
    epochs = [eni["epoch"] for eni in trying.agent.status()["enis"]]
    declare(trying, (WEB,), (DNS,))
    wait_until_it_counts(trying)
    assert [eni["epoch"] for eni in trying.agent.status()["enis"]] == epochs
    trying.opener.send(90)
    wait_until(lambda: trying.counts(NAME) == trying.sent(WEB, DNS))
    trying.agent.end(signal.SIGKILL)
    trying.opener.send(90)
    trying.agent.start()
    wait_until(lambda: trying.counts(NAME) == trying.sent(WEB, DNS))
    trying.agent.end(signal.SIGTERM)
    trying.agent.start()
    (told,) = wait_for(lambda: [one for one in declared(trying) if one["closes"]])
    assert (told["group"], told["opens"], told["closes"]) == ("sg-a", *map(trying.opener.sent.get, (DNS, WEB)))
    assert {line["packets"] for line in told["lines"]} - {0} == {*trying.sent(WEB, DNS).values()}
    assert trying.sgdp("stop", NAME) != 0
    assert trying.tables()


def test_a_declared_trial_ends_with_its_declaration_and_begins_anew_with_another(trying: Trying) -> None:
    declare(trying, (WEB,), (DNS,))
    wait_until_it_counts(trying)
    trying.opener.send(30)
    wait_until(lambda: trying.counts(NAME) == trying.sent(WEB, DNS))
    declare(trying, (WEB,), (WEB, OTHER), since="2026-12-01T00:00:01Z")
    wait_until(lambda: trying.counts(NAME) == {OTHER: 0})
    trying.apply(WEB)
    wait_until(lambda: trying.tables() == [])
    assert declared(trying) == []
    declare(trying, (WEB,), (DNS,), since=SINCE, until="2026-12-01T00:00:02Z")
    assert declared(trying) == [], "its time is over"


def test_what_is_on_trial_may_name_what_is_not_there_and_holds_nothing_up(trying: Trying) -> None:
    """The trial is paused with the reason, and the policy is in force."""
    state: Callable[..., CloudState] = trying.state  # type: ignore[assignment]
    gone = make_rule("ingress all from sg-gone", "sgr-gone")
    proposed = state(DNS)
    named = replace(proposed, security_groups=tuple(replace(one, rules=(gone,)) for one in proposed.security_groups))
    trying.agent.write(declaring(state(WEB, OTHER), named))
    (told,) = wait_for(lambda: [one for one in declared(trying) if "sg-gone" in one["paused"]])
    assert told["count"] == 0
    with Session(trying.bench.pair, OTHER) as other:
        other.must_pass()
    assert set(trying.agent.outcomes().values()) == {"in force"}


def test_a_trial_of_that_name_is_in_the_way_of_a_declared_one(trying: Trying) -> None:
    assert trying.sgdp("start", trying.write(DNS), "--name", NAME) == 0
    declare(trying, (WEB,), (OTHER,))
    (told,) = declared(trying)
    assert "there is one of that name" in told["paused"]
    trying.opener.send(30)
    assert trying.counts(NAME) == trying.sent(WEB, DNS), "of the trial that was there"


def wait_for(found: Callable[[], list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """What is found, once there is something."""
    wait_until(lambda: bool(found()))
    return found()
