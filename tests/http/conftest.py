"""A server of the API on a real socket, with a fake engine."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import pytest

from sgdataplane.control.access.signature import Verifier
from sgdataplane.control.actions.engine import Engine
from sgdataplane.control.actions.scope import Habits
from sgdataplane.control.calls.answers import NOT_FOUND, UNAVAILABLE, Answer, ApiError
from sgdataplane.control.calls.products import qualify_action
from sgdataplane.control.hosts.following import Following
from sgdataplane.control.http.accesslog import AccessLog
from sgdataplane.control.http.admission import Admission, Permits
from sgdataplane.control.http.api import Api, ApiLimits
from sgdataplane.control.http.client import ApiClient
from sgdataplane.control.http.development import ServedEndpoint, write_trusted
from sgdataplane.control.http.server import MAX_CONNECTIONS, ApiServer, ListenAt, listen_at
from sgdataplane.control.http.tokenbuckets import TokenBuckets
from sgdataplane.control.service.analysis import HeavyAnswers
from sgdataplane.control.service.dispatch import ApiService
from sgdataplane.lab.hosts.authority import Authority
from sgdataplane.store.call import Call
from sgdataplane.store.interface import Body
from tests.http.signing import KEY, KEYS, OTHER_KEY, SECRET
from tests.support.run.memorystore import MemoryStore


@pytest.fixture(autouse=True)
def _nothing_unforeseen(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Neither asyncio nor uvicorn reports an exception that nobody has caught."""
    yield
    for when in ("setup", "call", "teardown"):
        assert [record.getMessage() for record in caplog.get_records(when)] == []


@dataclass
class FakeEngine:
    """Answers writes with revisions, remembers calls, and refuses, breaks, or blocks as a name tells it. Heavy calls
    block until they are let go or `ended`. `size`: of an answer to a read, if it is to be large."""

    calls: list[Call] = field(default_factory=list)
    is_open: threading.Event = field(default_factory=threading.Event)
    has_begun: threading.Event = field(default_factory=threading.Event)
    ended: list[Call] = field(default_factory=list)
    revisions: Iterator[int] = field(default_factory=lambda: itertools.count(1))
    size: int = 0

    def call(self, call: Call) -> Answer:
        self.calls.append(call)
        match call.parameters.get("SecurityGroupName", call.parameters.get("SecurityGroupId")):
            case "breaks":
                raise RuntimeError("a secret of the inside")
            case "blocks":
                self.has_begun.set()
                assert self.is_open.wait(20)
            case "absent":
                words = "The specified SecurityGroupId does not exist."
                raise ApiError("InvalidSecurityGroupId.NotFound", words, NOT_FOUND)
        if call.action == "DescribeSecurityGroups":
            return Answer({"Padding": "a" * self.size} if self.size else GROUPS)
        return Answer({"SecurityGroupId": "sg-1"} if call.action == "CreateSecurityGroup" else {}, next(self.revisions))

    def wait(self, call: Call, is_stopping: threading.Event) -> Answer:
        self.calls.append(call)
        self.has_begun.set()
        is_stopping.wait(20)
        return Answer({"Enforced": False})

    def compute(self, call: Call, is_ended: threading.Event) -> Answer:
        self.calls.append(call)
        while not self.is_open.wait(0.01):
            if is_ended.is_set():
                self.ended.append(call)
                raise ApiError("ServiceUnavailable", "It was given up.", UNAVAILABLE)
        return Answer({"Passes": True})

    def why_unhealthy(self) -> str:
        return ""


GROUPS: Body = {
    "RegionId": "cn-hangzhou",
    "TotalCount": 1,
    "PageNumber": 1,
    "PageSize": 10,
    "SecurityGroups": {
        "SecurityGroup": [{"SecurityGroupId": "sg-1", "SecurityGroupName": "web \u202e\n", "VpcId": "v"}]
    },
}


class Running:
    """A server that runs in a thread."""

    def __init__(self, server: ApiServer) -> None:
        self.server = server
        self._thread = threading.Thread(target=server.serve_forever)
        self._thread.start()

    @property
    def url(self) -> str:
        return self.server.url

    def stop(self) -> None:
        self.server.should_exit = True
        self._thread.join(30)
        assert not self._thread.is_alive()


class Served(Running):
    """A server with a fake engine. `lines`: of its log."""

    def __init__(self, server: ApiServer, engine: FakeEngine, lines: list[str]) -> None:
        super().__init__(server)
        self.engine, self.lines = engine, lines

    def stop(self) -> None:
        self.engine.is_open.set()
        super().stop()


class Serve(Protocol):
    def __call__(
        self,
        at: ListenAt = ...,
        *,
        limits: ApiLimits | None = None,
        buckets: TokenBuckets | None = None,
        permits: Permits = ...,
        accepts_v1: bool = True,
    ) -> Served: ...


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Starts servers that end with the test."""
    running: list[Served] = []

    def start(
        at: ListenAt | None = None,
        *,
        limits: ApiLimits | None = None,
        buckets: TokenBuckets | None = None,
        permits: Permits = lambda _: True,
        accepts_v1: bool = True,
    ) -> Served:
        engine, lines = FakeEngine(), list[str]()
        admission = Admission(Verifier(KEYS.get, accepts_v1=accepts_v1), permits, buckets or TokenBuckets(1e6, 1e6))
        server = ApiServer(Api(engine, admission, AccessLog(lines.append), limits), at or listen_at("127.0.0.1:0"))
        running.append(Served(server, engine, lines))
        return running[-1]

    yield start
    for served in running:
        served.stop()


@pytest.fixture
def served(serve: Serve) -> Served:
    return serve()


@dataclass(frozen=True)
class Cloud:
    """An API with an empty store, over TLS. `environment`: by which clients find it; `lines`: of its log; `client`: of
    another key, with which tests look."""

    environment: Mapping[str, str]
    lines: list[str]
    client: ApiClient

    def outcomes(self) -> dict[str, str]:
        """Each action that others than `client` have called, and what became of it last: "" or the error's code."""
        called = [line for line in map(json.loads, self.lines) if line["key"] == KEY]
        return {qualify_action(line["action"], line["version"]): line["code"] for line in called}


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[Cloud]:
    """As `sgdp api --dev` serves, in this process."""
    store, lines = MemoryStore(), list[str]()
    engine = Engine(store, "seed", habits=Habits(has_default_group=True, can_reset=True))
    admission = Admission(Verifier(KEYS.get), lambda _: True, TokenBuckets(1e6, 1e6))
    authority = Authority(tmp_path / "authority")
    signed, trusted = authority.sign("api", "127.0.0.1"), write_trusted(tmp_path, authority.certificate)
    with Following(engine, []) as following:
        api = Api(
            ApiService(engine, store, following, heavy=HeavyAnswers(engine.profile)), admission, AccessLog(lines.append)
        )
        running = Running(ApiServer(api, listen_at("127.0.0.1:0", signed.certificate, signed.key)))
        endpoint = ServedEndpoint(running.url, KEY, SECRET, str(authority.certificate), str(trusted))
        client = ApiClient(running.url, OTHER_KEY, SECRET, authority.certificate)
        yield Cloud({"PATH": os.environ["PATH"], **endpoint.environment()}, lines, client)
        running.stop()


class Alone:
    """A server as a process of its own (alone.py). `url`: what it has printed first."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.url = self.line()

    @property
    def pid(self) -> int:
        return self.process.pid

    def line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def rest(self) -> tuple[str, str]:
        """What it still prints until it ends, on either stream."""
        return self.process.communicate(timeout=60)


@pytest.fixture
def alone() -> Iterator[Callable[..., Alone]]:
    """Starts servers with at most so many connections; they end with the test."""
    with ExitStack() as stack:

        def start(most: int = MAX_CONNECTIONS) -> Alone:
            command = [sys.executable, "-m", "tests.http.alone", str(most)]
            pipe = subprocess.PIPE
            process = stack.enter_context(subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True))
            stack.callback(process.kill)
            return Alone(process)

        yield start


@pytest.fixture(scope="session")
def pem(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1, and its key."""
    folder = tmp_path_factory.mktemp("pem")
    made = (folder / "cert.pem", folder / "key.pem")
    options = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj", "/CN=api"]
    names = ["-addext", "subjectAltName=IP:127.0.0.1", "-out", str(made[0]), "-keyout", str(made[1])]
    subprocess.run(["openssl", "req", "-x509", *options, *names], check=True, capture_output=True)
    return made
