"""On a host, verbs show a container's name beside its ENI, and not only the number that its engine gave it."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from sgdataplane.attach import names
from sgdataplane.attach.registry import Binding, Means
from sgdataplane.attach.report import EniOutcome, EniReport
from sgdataplane.cli import agent, sessions, trace
from sgdataplane.cli.scopes import Scopes, of_bindings
from sgdataplane.daemon.status import EniStatus
from sgdataplane.host.identity import Identity
from sgdataplane.model.options import Options
from sgdataplane.net.values import Address
from sgdataplane.observe.sessions import Session

BOUND = (
    Binding("eni-web", "eth0", "attachment oci:0123456789ab", "/p", Identity(1, 1), means=Means.RUNTIME),
    Binding("eni-db", "eth0", "container db", "/q", Identity(2, 2)),
    Binding("eni-cache", "eth0", "netns cache", "/r", Identity(3, 3)),
)
SHOWN = {"eni-web": "eni-web (web)", "eni-db": "eni-db (db)", "eni-cache": "eni-cache"}


@pytest.fixture
def there(monkeypatch: pytest.MonkeyPatch) -> Scopes:
    monkeypatch.setattr(names, "names_by_id", lambda: {"0123456789ab": "web"})
    return of_bindings(BOUND, None, Options())


def session(number: int, binding: Binding) -> Session:
    ends = Address.parse(f"192.0.2.{number % 250}"), 4242, Address.parse("10.0.0.1"), 22
    return Session(
        binding.named, binding.eni_id, "eth0", None, 6, *ends, None, "ESTABLISHED", 9, None, None, True, None
    )


def test_enis_have_labels(there: Scopes) -> None:
    assert {binding.eni_id: there.label(binding.eni_id) for binding in BOUND} == SHOWN


def listed(
    there: Scopes,
    found: list[Session],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    limit: int | None = None,
) -> list[str]:
    @contextmanager
    def given(_: argparse.Namespace) -> Iterator[Scopes]:
        yield there

    monkeypatch.setattr(sessions, "scopes", given)
    monkeypatch.setattr(sessions, "read", lambda *_: found)
    for name in ("settle_ports", "require_root"):
        monkeypatch.setattr(sessions, name, lambda _: None)
    asked = argparse.Namespace(sort="eni", reverse=False, limit=limit, json=False)
    assert sessions.run(asked) == 0
    return capsys.readouterr().out.splitlines()


def test_sessions_have_them(there: Scopes, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    rows = listed(there, [session(1, binding) for binding in BOUND], monkeypatch, capsys)
    assert sorted(re.split(" {2,}", row)[0] for row in rows[1:-1]) == sorted(SHOWN.values())
    assert rows[-1] == "3 sessions"


def test_50_sessions_are_listed_and_the_others_counted(
    there: Scopes, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = [session(number, BOUND[0]) for number in range(61)]
    rows = listed(there, found, monkeypatch, capsys)
    assert (len(rows), rows[-1]) == (1 + 50 + 1, "50 of 61 sessions; --limit N lists more")
    assert len(listed(there, found, monkeypatch, capsys, limit=60)) == 1 + 60 + 1


def test_a_trace_has_them(there: Scopes, capsys: pytest.CaptureFixture[str]) -> None:
    gate = {"kind": "policy", "eni": "eni-web", "direction": "ingress", "verdict": "accept", "steps": []}
    packet = {
        "at": "2026-11-28T05:39:42.993Z", "protocol": "tcp", "source": "192.0.2.1", "source_port": 1,
        "destination": "10.0.0.1", "port": 22, "verdict": "accept", "gates": [gate],
    }  # fmt: skip
    trace._say(packet, there.label)
    assert capsys.readouterr().out.splitlines()[1] == "  eni-web (web) ingress: accept"


@pytest.mark.usefixtures("there")
def test_status_names_the_container_of_an_interface(capsys: pytest.CaptureFixture[str]) -> None:
    reports = [EniReport(binding, EniOutcome.IN_FORCE) for binding in BOUND]
    agent._print_enis([EniStatus(report, "ns", 1, "", "2026-11-28T05:39:42Z").as_json() for report in reports])
    rows = [re.split(" {2,}", row)[:3] for row in capsys.readouterr().out.splitlines()[1:]]
    places = ["eth0 of container web", "eth0 of container db", "eth0 of netns cache"]
    assert rows == [[binding.eni_id, place, place] for binding, place in zip(BOUND, places, strict=True)]


def test_status_has_local_times(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(agent, "local_time", lambda time: f"local {time}")
    last = {"at": "2026-11-28T05:39:42.993Z", "router": "r", "what": "w", "by": "b"}
    agent._say_tampering({"count": 1, "recent": False, "last": last})
    assert "last at local 2026-11-28T05:39:42.993Z\n" in capsys.readouterr().out
