"""Heavy answers over real sockets: they are computed aside, for clients that stay, and hold up no other call."""

from __future__ import annotations

import json
import os
import signal
import socket
import ssl
import statistics
import struct
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from sgdataplane.control.access.signature import Verifier
from sgdataplane.control.actions.engine import Engine
from sgdataplane.control.hosts.following import Following
from sgdataplane.control.http.accesslog import AccessLog
from sgdataplane.control.http.admission import Admission
from sgdataplane.control.http.api import Api, ApiLimits
from sgdataplane.control.http.server import ApiServer, ListenAt, listen_at
from sgdataplane.control.http.tokenbuckets import TokenBuckets
from sgdataplane.control.service import aside as module
from sgdataplane.control.service.aside import Aside
from sgdataplane.control.service.dispatch import ApiService
from sgdataplane.control.service.heavy import Computer
from tests.http.conftest import Running
from tests.http.signing import KEY, KEYS, SECRET, KeyOfTests, Reply, Signed, acs3, send, send_on
from tests.http.test_bad_clients import text_of
from tests.support.inputs.controlling import Client, counted_ids
from tests.support.probes.flood import wait_until
from tests.support.run.memorystore import MemoryStore
from tests.support.run.processes import list_running_children
from tests.support.variants.slowforks import BREAKS, KILLED, SPINS
from tests.support.variants.slowforks import SECRET as INSIDE

OTHER_KEY = "LTAIother"
PATIENT = ApiLimits(heavy_s=600.0)  # nothing but what a test does ends an answer
RATIO, TURNS, CALLS = 5, 8, 10


class Heavy(Running):
    """The real engine with one ENI, behind HTTP."""

    def __init__(self, computer: Computer, at: ListenAt, limits: ApiLimits = PATIENT) -> None:
        store = MemoryStore()
        engine = Engine(store, "seed", counted_ids())
        client, self.lines = Client(engine), list[str]()
        vpc, switch = client.network()
        group = client.group(vpc)
        self.eni = client.text("CreateNetworkInterface", "NetworkInterfaceId", VSwitchId=switch, SecurityGroupId=group)
        keys = {**KEYS, OTHER_KEY: KeyOfTests(OTHER_KEY, SECRET)}
        admission = Admission(Verifier(keys.get), buckets=TokenBuckets(1e6, 1e6))
        service = ApiService(engine, store, Following(engine, ()), heavy=computer)
        super().__init__(ApiServer(Api(service, admission, AccessLog(self.lines.append), limits), at))

    def explain(self, eni: str = "", key: str = KEY) -> Reply:
        return send(self.url, explaining(eni or self.eni, key))


def explaining(eni: str, key: str = KEY) -> Signed:
    asked = {"NetworkInterfaceId": eni, "SourceIp": "192.0.2.7", "IpProtocol": "tcp", "Port": "22"}
    return acs3("SgdpExplain", asked, key=key)


@pytest.fixture
def aside(monkeypatch: pytest.MonkeyPatch) -> Iterator[Aside]:
    monkeypatch.setattr(module, "MODULE", "tests.support.variants.slowforks")
    with Aside("seed") as made:
        yield made


@contextmanager
def heavy(aside: Computer, at: ListenAt | None = None, limits: ApiLimits = PATIENT) -> Iterator[Heavy]:
    running = Heavy(aside, at or listen_at("127.0.0.1:0"), limits)
    try:
        yield running
    finally:
        running.stop()


@pytest.fixture
def service(aside: Aside) -> Iterator[Heavy]:
    with heavy(aside) as running:
        yield running


def forks(aside: Aside) -> list[int]:
    return list_running_children(aside.pid) if aside.pid else []


def connect(service: Heavy, trust: ssl.SSLContext | None = None) -> socket.socket:
    """A client that has asked for an answer that never comes."""
    host, _, port = urlsplit(service.url).netloc.rpartition(":")
    client = socket.create_connection((host, int(port)), timeout=20)
    if trust is not None:
        client = trust.wrap_socket(client, server_hostname=host)
    client.sendall(text_of(explaining(SPINS)))
    return client


def reset(client: socket.socket) -> None:
    """Go without a word of farewell, as a process does that is killed with data unread."""
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()


def half_close(client: socket.socket) -> None:
    client.shutdown(socket.SHUT_WR)


LEAVING: tuple[Callable[[socket.socket], None], ...] = (socket.socket.close, reset, half_close)


@pytest.mark.parametrize("leave", LEAVING, ids=["closes", "resets", "closes its side"])
def test_a_client_that_goes_away_ends_its_answer_and_frees_its_share(
    service: Heavy, aside: Aside, leave: Callable[[socket.socket], None]
) -> None:
    first, second = connect(service), connect(service)
    with closing(first), closing(second):
        wait_until(lambda: len(forks(aside)) == 2)
        assert service.explain().code == "Throttling.User", "that is the key's share"
        leave(first)
        wait_until(lambda: len(forks(aside)) == 1)
        wait_until(lambda: len(service.lines) == 2)
        assert json.loads(service.lines[1])["code"] == "ClientClosedRequest"
        assert service.explain().status == 200, "its share is free, and who stays gets an answer"
        leave(second)
        wait_until(lambda: forks(aside) == [])


def test_a_client_of_tls_that_goes_away_ends_its_answer(aside: Aside, pem: tuple[Path, Path]) -> None:
    trust = ssl.create_default_context(cafile=str(pem[0]))
    with heavy(aside, listen_at("127.0.0.1:0", *pem)) as service:
        client = connect(service, trust)
        wait_until(lambda: len(forks(aside)) == 1)
        client.close()
        wait_until(lambda: forks(aside) == [])


def test_a_client_that_stays_beside_others_that_go_gets_its_answer(service: Heavy) -> None:
    with closing(connect(service)):
        replies = [service.explain(key=key) for key in (KEY, OTHER_KEY)]
    assert [(reply.status, reply.body["Passes"]) for reply in replies] == [(200, False)] * 2


def test_a_process_that_dies_is_an_error_and_a_bug_isnt_shown(service: Heavy) -> None:
    died, broken = service.explain(KILLED), service.explain(BREAKS)
    assert (died.status, died.code) == (503, "ServiceUnavailable")
    assert (broken.status, broken.code) == (500, "InternalError")
    assert INSIDE not in json.dumps(broken.body)
    assert any(INSIDE in json.loads(line).get("traceback", "") for line in service.lines), "the log has it"
    assert service.explain().status == 200


def test_what_takes_too_long_is_given_up_and_its_process_ended(aside: Aside) -> None:
    with heavy(aside, limits=ApiLimits(heavy_s=2.0)) as service:
        reply = service.explain(SPINS)
        assert (reply.status, reply.code) == (503, "ServiceUnavailable")
        assert "given up" in reply.body["Message"]
        wait_until(lambda: forks(aside) == [])
        assert service.explain().status == 200


def test_a_server_that_stops_ends_heavy_answers_and_says_so(service: Heavy, aside: Aside) -> None:
    with ThreadPoolExecutor() as threads:
        asked = [threads.submit(service.explain, SPINS, key) for key in (KEY, OTHER_KEY)]
        wait_until(lambda: len(forks(aside)) == 2)
        service.stop()
        assert [(one.result(30).status, one.result(30).code) for one in asked] == [(503, "ServiceUnavailable")] * 2
    wait_until(lambda: forks(aside) == [])


def test_light_calls_are_answered_beside_as_many_heavy_ones_as_may_run(service: Heavy, aside: Aside) -> None:
    """Medians of turns in which heavy answers are computed, and of others in which their processes are stopped: what
    else the machine does slows both. With heavy answers in threads of the API, the former were 20 to 110 times those
    without."""
    alone, beside = list[float](), list[float]()
    with ThreadPoolExecutor() as threads, closing(HTTPConnection(urlsplit(service.url).netloc, timeout=60)) as light:
        asked = hold_all(service, threads)
        wait_until(lambda: len(forks(aside)) == ApiLimits().heavy)
        for _ in range(TURNS):
            for number, times in ((signal.SIGSTOP, alone), (signal.SIGCONT, beside)):
                signal_all(forks(aside), number)
                times += [seconds_of_light(light) for _ in range(CALLS)]
        assert not any(one.done() for one in asked)
        service.stop()
    ratio = statistics.median(beside) / statistics.median(alone)
    print(f"median beside heavy answers: {ratio:.1f} times the one without")
    assert ratio < RATIO


def hold_all(service: Heavy, threads: ThreadPoolExecutor) -> list[Future[Reply]]:
    """As many answers that never come as two keys may have."""
    keys = [key for key in (KEY, OTHER_KEY) for _ in range(ApiLimits().heavy_of_key)]
    return [threads.submit(service.explain, SPINS, key) for key in keys]


def signal_all(pids: list[int], number: signal.Signals) -> None:
    for pid in pids:
        os.kill(pid, number)


def seconds_of_light(connection: HTTPConnection) -> float:
    """How long a signed call takes that reads little."""
    begun = time.monotonic()
    assert send_on(connection, acs3("DescribeVpcs", {})).status == 200
    return time.monotonic() - begun
