"""Hosts that lose a relay at one moment don't come back at one moment."""

from __future__ import annotations

import asyncio
import random
import socket
import ssl
from collections import Counter
from pathlib import Path
from typing import cast

import pytest

from sgdataplane.handover.agentplace import AgentPlace
from sgdataplane.relay import sync
from sgdataplane.relay.sync import LONGEST_S, SHORTEST_S, Folder, HostSync, wait_s
from sgdataplane.relay.tls import HostTls

HOSTS, ATTEMPTS = 1_000, 8


class EnoughError(Exception):
    """All attempts were seen."""


@pytest.mark.parametrize(
    ("attempts", "longest"), [(1, 2 * SHORTEST_S), (4, 16 * SHORTEST_S), (7, LONGEST_S), (99, LONGEST_S)]
)
def test_a_thousand_hosts_are_spread_over_all_of_the_time(attempts: int, longest: float) -> None:
    random.seed(4711)
    tenths = Counter(int(wait_s(attempts) / longest * 10) for _ in range(HOSTS))
    assert set(tenths) == set(range(10))
    assert max(tenths.values()) < 1.5 * HOSTS / 10


class AnyTls:
    """In place of a host's certificate: nobody answers."""

    is_replaced = False

    def context(self) -> ssl.SSLContext:
        return ssl.create_default_context()


def test_each_attempt_waits_for_longer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[int] = []

    def noted(attempts: int) -> float:
        waited.append(attempts)
        if len(waited) == ATTEMPTS:
            raise EnoughError
        return 0.0

    monkeypatch.setattr(sync, "wait_s", noted)
    folder = Folder.open(tmp_path / "generations")
    with socket.socket() as closed, pytest.RaisesGroup(EnoughError):
        closed.bind(("127.0.0.1", 0))
        url = f"wss://127.0.0.1:{closed.getsockname()[1]}"
        place = AgentPlace(folder.publisher, tmp_path / "no-agent.sock")
        asyncio.run(HostSync([url], cast(HostTls, AnyTls()), folder, place).run())
    assert waited == [*range(1, ATTEMPTS + 1)]
