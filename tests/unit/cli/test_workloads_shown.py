"""On a host, verbs show the name of a container or pod beside its ENI, and not only the number that its engine gave it:
in text as `eni-web (web)`, in JSON as `workload`."""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import pytest

from sgdataplane.attach import containers
from sgdataplane.attach.registry import Binding, Means, Registry
from sgdataplane.attach.report import EniOutcome, EniReport
from sgdataplane.cli import agent, counters, flows, log, logpast, main, sessions, top, trace
from sgdataplane.cli.scopes import Scopes, of_bindings
from sgdataplane.daemon import control
from sgdataplane.daemon.status import EniStatus
from sgdataplane.history.rows import ALL_OF_ENI, Fate, FlowCount, FlowKey, HistoryRow, TotalRow
from sgdataplane.host.identity import Identity
from sgdataplane.model.decision import Decision
from sgdataplane.model.options import Options
from sgdataplane.net.values import Address, Direction, Verdict
from sgdataplane.observe.sessions import Session
from tests.support.documents.schemas import assert_conforms

POD = "attachment podnet/9876543210ab"
BOUND = (
    Binding("eni-web", "eth0", "attachment oci:0123456789ab", "/p", Identity(1, 1), means=Means.RUNTIME),
    Binding("eni-db", "eth0", "container db", "/q", Identity(2, 2)),
    Binding("eni-cache", "eth0", "netns cache", "/r", Identity(3, 3)),
    Binding("eni-pod", "eth0", POD, "/s", Identity(4, 4), means=Means.RUNTIME, pod="shop/web-0"),
)
NAMES = {"eni-web": "web", "eni-db": "db", "eni-cache": None, "eni-pod": "shop/web-0"}
SHOWN = {
    "eni-web": "eni-web (web)",
    "eni-db": "eni-db (db)",
    "eni-cache": "eni-cache",
    "eni-pod": "eni-pod (shop/web-0)",
}
BY_DEFAULT = Decision(Direction.INGRESS, Verdict.DROP, "default")
Sgdp = Callable[..., str]


@pytest.fixture(autouse=True)
def engines(monkeypatch: pytest.MonkeyPatch) -> None:
    """They know a container by its number alone."""
    monkeypatch.setattr(containers, "names_by_id", lambda: {"0123456789ab": "web"})


@pytest.fixture
def there() -> Scopes:
    return of_bindings(BOUND, None, Options())


@pytest.fixture
def sgdp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Sgdp:
    """Runs a verb on a host where all of these are bound; gives what it printed."""
    registry = Registry(tmp_path / "attached")
    with registry.lock():
        registry.store(BOUND)
    config = tmp_path / "agent.toml"
    config.write_text(f'bindings = "{registry.folder}"\nstate_directory = "{tmp_path}"\n', "utf-8")
    for module in (agent, counters, flows, log, top):
        monkeypatch.setattr(module, "require_root", lambda _: None)
    seen = Seen()
    for module in (flows, logpast, top):
        monkeypatch.setattr(module, "open_history", lambda _: seen)

    def run(*words: str) -> str:
        capsys.readouterr()
        assert main.main([*words, "--config", str(config)]) == 0
        return capsys.readouterr().out

    return run


class Seen:
    """A history in which each of them dropped a packet of the next one, and which has one more at each look."""

    since = 0

    def __init__(self) -> None:
        self._looks = 0

    def __enter__(self) -> Self:
        self._looks += 1
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def flows(self, *_: object, **__: object) -> Iterator[HistoryRow]:
        for eni_id, end in zip(NAMES, (*[*NAMES][1:], "192.0.2.7"), strict=True):
            key = FlowKey(eni_id, Direction.INGRESS, end, 6, 22, Fate.DROP, "default", "", "")
            yield HistoryRow(60, 60, key, FlowCount(self._looks, 40, 60, 61))

    buckets = flows

    def sums(self, _: object, columns: tuple[str, ...], **__: object) -> Iterator[tuple[tuple[object, ...], FlowCount]]:
        assert columns == ("end", "fate")
        yield from (((row.key.end, row.key.fate), row.count) for row in self.flows())

    def totals(self, *_: object, **__: object) -> Iterator[TotalRow]:
        of_eni = Decision(Direction.INGRESS, Verdict.DROP, ALL_OF_ENI)
        yield from (TotalRow(60, 60, eni, Fate.DROP, of_eni, self._looks, 40, 60, 61) for eni in NAMES)
        yield TotalRow(60, 60, "eni-web", Fate.DROP, BY_DEFAULT, self._looks, 40, 60, 61)

    def gaps(self, _: object) -> tuple[()]:
        return ()


def session(number: int, binding: Binding) -> Session:
    ends = Address.parse(f"192.0.2.{number % 250}"), 4242, Address.parse("10.0.0.1"), 22
    return Session(
        binding.named, binding.eni_id, "eth0", None, 6, *ends, None, "ESTABLISHED", 9, None, None, True, None
    )


def test_enis_have_labels(there: Scopes) -> None:
    assert {binding.eni_id: there.workloads.label(binding.eni_id) for binding in BOUND} == SHOWN


def cells(text: str, column: int) -> list[str]:
    """What stands in that column, below the header."""
    return [re.split(" {2,}", row)[column] for row in text.splitlines()[1:]]


def named(rows: list[dict[str, Any]]) -> dict[str, str | None]:
    return {row["eni"]: row["workload"] for row in rows}


@pytest.fixture
def listed(there: Scopes, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Runs `sgdp sessions` where these sessions are."""

    @contextmanager
    def given(_: argparse.Namespace) -> Iterator[Scopes]:
        yield there

    def run(found: list[Session], limit: int | None = None, *, is_json: bool = False) -> str:
        monkeypatch.setattr(sessions, "read", lambda *_: found)
        assert sessions.run(argparse.Namespace(sort="eni", reverse=False, limit=limit, json=is_json)) == 0
        return capsys.readouterr().out

    monkeypatch.setattr(sessions, "scopes", given)
    for name in ("settle_ports", "require_root"):
        monkeypatch.setattr(sessions, name, lambda _: None)
    return run


def test_sessions_have_them(listed: Callable[..., str]) -> None:
    found = [session(1, binding) for binding in BOUND]
    assert sorted(cells(listed(found), 0)[:-1]) == sorted(SHOWN.values())
    assert named(json.loads(listed(found, is_json=True))) == NAMES


def test_a_session_of_no_eni_has_its_container(listed: Callable[..., str]) -> None:
    own = Binding("", "lo", BOUND[0].named, "/p", BOUND[0].identity)
    assert cells(listed([session(1, own)]), 0)[0] == "container web"


def test_50_sessions_are_listed_and_the_others_counted(listed: Callable[..., str]) -> None:
    found = [session(number, BOUND[0]) for number in range(61)]
    rows = listed(found).splitlines()
    assert (len(rows), rows[-1]) == (1 + 50 + 1, "50 of 61 sessions; --limit N lists more")
    assert len(listed(found, 60).splitlines()) == 1 + 60 + 1


def test_a_trace_has_them(there: Scopes, capsys: pytest.CaptureFixture[str]) -> None:
    gate = {"kind": "policy", "eni": "eni-web", "direction": "ingress", "verdict": "accept", "steps": []}
    packet = {
        "at": "2026-11-28T05:39:42.993Z", "protocol": "tcp", "source": "192.0.2.1", "source_port": 1,
        "destination": "10.0.0.1", "port": 22, "verdict": "accept", "gates": [there.workloads.add_to(gate)],
    }  # fmt: skip
    trace._say(packet)
    assert capsys.readouterr().out.splitlines()[1] == "  eni-web (web) ingress: accept"


def test_status_has_them(sgdp: Sgdp, monkeypatch: pytest.MonkeyPatch) -> None:
    reports = [EniReport(binding, EniOutcome.IN_FORCE) for binding in BOUND]
    enis = [EniStatus(report, "ns", 1, "", "2026-11-28T05:39:42Z").as_json() for report in reports]
    status = {"healthy": True, "enis": enis}
    monkeypatch.setattr(control, "ask", lambda *_: {"status": status})
    assert named(json.loads(sgdp("status", "--json"))["enis"]) == NAMES


def test_status_names_the_container_of_an_interface(there: Scopes, capsys: pytest.CaptureFixture[str]) -> None:
    reports = [EniReport(binding, EniOutcome.IN_FORCE) for binding in BOUND]
    enis = [EniStatus(report, "ns", 1, "", "2026-11-28T05:39:42Z").as_json() for report in reports]
    agent._print_enis(enis, there.workloads)
    rows = [re.split(" {2,}", row)[:3] for row in capsys.readouterr().out.splitlines()[1:]]
    workloads = ["container web", "container db", "netns cache", "pod shop/web-0 of network podnet"]
    places = [f"eth0 of {workload}" for workload in workloads]
    assert rows == [[binding.eni_id, place, place] for binding, place in zip(BOUND, places, strict=True)]


def test_status_has_local_times(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(agent, "local_time", lambda time: f"local {time}")
    last = {"at": "2026-11-28T05:39:42.993Z", "router": "r", "what": "w", "by": "b"}
    agent._say_tampering({"count": 1, "recent": False, "last": last})
    assert "last at local 2026-11-28T05:39:42.993Z\n" in capsys.readouterr().out


RULE = {
    "counter": "rule.sg-a.sgr-1", "eni": None, "audited": False, "kind": "rule", "direction": "ingress",
    "verdict": "accept", "security_group_id": "sg-a", "security_group_rule_id": "sgr-1", "priority": 1, "cause": None,
    "in_force": True, "packets": 0, "bytes": 0, "since": None, "first_hit": None, "last_hit": None,
}  # fmt: skip
AUDITED = {**RULE, "security_group_rule_id": "sgr-2", "eni": "eni-db", "audited": True, "packets": 3}


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """An agent that counts at each of them."""
    scopes = [
        {"namespace": one.named, "placement": "instance", "enis": [one.eni_id], "at": None, "counters": [RULE]}
        for one in BOUND
    ]
    scopes[1]["counters"] = [RULE, AUDITED]
    answer = {"at": "2026-11-28T05:39:42.993Z", "error": None, "scopes": scopes}
    monkeypatch.setattr(counters, "ask_agent", lambda *_, **__: {"counters": answer})


@pytest.mark.usefixtures("counted")
def test_counters_have_them(sgdp: Sgdp) -> None:
    document = json.loads(sgdp("counters", "--json"))
    assert_conforms("counters", document)
    assert document["workloads"] == {eni: name for eni, name in NAMES.items() if name}
    titles = [line for line in sgdp("counters").splitlines() if line.startswith("eni-")]
    assert titles == [
        "eni-web (web) in container web",
        "eni-db (db) in container db",
        "eni-cache in netns cache",
        "eni-pod (shop/web-0) in pod shop/web-0 of network podnet",
    ]
    assert cells(sgdp("counters", "--audited"), 0)[0] == "eni-db (db)"
    assert "eni-cache, eni-db (db), eni-pod (shop/web-0) and 1 more" in sgdp("counters", "--unused")


def test_flows_have_them_at_both_ends(sgdp: Sgdp) -> None:
    document = json.loads(sgdp("flows", "--json"))
    assert_conforms("flows", document)
    assert named(document["flows"]) == NAMES
    assert [row["end_workload"] for row in document["flows"]] == ["db", None, "shop/web-0", None]
    text = sgdp("flows")
    assert cells(text, 0) == [*SHOWN.values()]
    assert cells(text, 2) == ["eni-db (db)", "eni-cache", "eni-pod (shop/web-0)", "192.0.2.7"]
    assert cells(sgdp("flows", "--by", "eni"), 0) == [*SHOWN.values()]
    assert cells(sgdp("flows", "--by", "address"), 0) == cells(text, 2)


def test_a_page_of_flows_has_them(sgdp: Sgdp, tmp_path: Path) -> None:
    sgdp("flows", "--html", str(tmp_path / "page.html"))
    assert "eni-pod (shop/web-0)" in (tmp_path / "page.html").read_text("utf-8")


def test_the_log_of_the_past_has_them(sgdp: Sgdp) -> None:
    rows = [json.loads(line) for line in sgdp("log", "--since", "1h", "--json").splitlines()]
    for row in rows:
        assert_conforms("log", row)
    assert named(rows) == NAMES
    text = sgdp("log", "--since", "1h")
    assert cells(text, 2) == [*SHOWN.values()]
    assert cells(text, 4) == ["eni-db (db)", "eni-cache", "eni-pod (shop/web-0)", "192.0.2.7"]


def test_top_has_them(sgdp: Sgdp) -> None:
    look = ("--count", "1", "--interval", "0.01")
    document = json.loads(sgdp("top", "--json", *look))
    assert_conforms("top", document)
    assert {row["name"]: row["workload"] for row in document["enis"]} == NAMES
    assert {row["workload"] for row in document["ends"]} == {"db", "shop/web-0", None}
    text = sgdp("top", *look)
    assert [name for name in SHOWN.values() if f"\n{name} " not in text] == []
