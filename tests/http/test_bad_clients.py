"""Clients that mean harm, or are broken: each gets a clear error, nothing is done for it, and others are served."""

from __future__ import annotations

import http.client
import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from sgdataplane.control.http import server as serving
from sgdataplane.control.http.api import ApiLimits
from tests.http.conftest import Alone, Serve, Served
from tests.http.signing import KEY, Signed, acs3, send, send_on, v1
from tests.http.test_http import until

CREATE = {"RegionId": "cn-hangzhou", "SecurityGroupName": "web"}


@contextmanager
def connected(served: Served | Alone) -> Iterator[socket.socket]:
    host, _, port = urlsplit(served.url).netloc.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=20) as client:
        yield client


def text_of(request: Signed) -> bytes:
    headers = {"host": "127.0.0.1", "content-length": str(len(request.body)), **request.headers}
    lines = (f"{request.method} {request.target} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items()))
    return "".join(f"{line}\r\n" for line in (*lines, "")).encode("latin-1") + request.body


def send_last(client: socket.socket, text: bytes) -> None:
    """As much of it as the server takes before it closes."""
    with suppress(OSError):
        client.sendall(text)
        client.shutdown(socket.SHUT_WR)


def read_all(client: socket.socket) -> bytes:
    """Until the server closes."""
    found = b""
    while part := received(client):
        found += part
    return found


def received(client: socket.socket) -> bytes:
    try:
        return client.recv(65536)
    except ConnectionResetError:
        return b""


def is_served(served: Served | Alone) -> bool:
    """Somebody else, who means no harm."""
    return send(served.url, acs3("CreateSecurityGroup", CREATE)).status == 200


def unsigned() -> Signed:
    request = acs3("CreateSecurityGroup", CREATE)
    return Signed("POST", request.target, {"host": "127.0.0.1"})


@pytest.mark.parametrize(
    ("request_of", "status", "code"),
    [
        pytest.param(unsigned, 400, "MissingParameter", id="unsigned"),
        pytest.param(lambda: Signed("GET", "/", {}), 400, "MissingParameter", id="empty"),
        pytest.param(
            lambda: acs3("CreateSecurityGroup", CREATE, secret="x"), 400, "SignatureDoesNotMatch", id="wrong secret"
        ),
        pytest.param(
            lambda: v1("CreateSecurityGroup", CREATE, secret="x"), 400, "SignatureDoesNotMatch", id="wrong v1"
        ),
        pytest.param(
            lambda: acs3("CreateSecurityGroup", CREATE, key="x"), 404, "InvalidAccessKeyId.NotFound", id="no such key"
        ),
        pytest.param(
            lambda: acs3("CreateSecurityGroup", CREATE, headers={"x-acs-date": "2020-01-01T00:00:00Z"}),
            400,
            "InvalidTimeStamp.Expired",
            id="late",
        ),
        pytest.param(lambda: acs3("FormatDisks", {}), 404, "InvalidAction.NotFound", id="unknown action"),
        pytest.param(
            lambda: acs3("CreateSecurityGroup", {}, headers={"x-acs-version": "1999-01-01"}),
            400,
            "InvalidVersion",
            id="unknown version",
        ),
        pytest.param(
            lambda: acs3("DescribeSecurityGroups", {"MaxResults": "many"}), 400, "InvalidParameter", id="wrong type"
        ),
        pytest.param(
            lambda: acs3("CreateSecurityGroup", {"SecurityGroupName.1": "x"}), 400, "InvalidParameter", id="a list"
        ),
        pytest.param(lambda: acs3("CreateSecurityGroup", {"a" * 200: "x"}), 400, "InvalidParameter", id="a long name"),
        pytest.param(
            lambda: acs3("CreateSecurityGroup", {}, {"SecurityGroupName": "x" * 70_000}),
            400,
            "InvalidParameter",
            id="a long value",
        ),
        pytest.param(
            lambda: acs3("CreateSecurityGroup", {}, {f"Tag.{n}.Key": "x" for n in range(1, 4100)}),
            400,
            "InvalidParameter",
            id="many parameters",
        ),
        pytest.param(
            lambda: Signed("POST", "/", {"content-type": "application/json"}, b"{}"),
            415,
            "UnsupportedContentType",
            id="JSON",
        ),
        pytest.param(
            lambda: Signed("POST", f"/?Action=%FF&Signature=s&AccessKeyId={KEY}", {}),
            400,
            "InvalidParameter",
            id="not UTF-8",
        ),
    ],
)
def test_a_bad_request_is_refused(served: Served, request_of: Callable[[], Signed], status: int, code: str) -> None:
    reply = send(served.url, request_of())
    assert (reply.status, reply.code) == (status, code)
    assert {"RequestId", "HostId", "Message"} < set(reply.body)
    assert served.engine.calls == []
    assert is_served(served)


@pytest.mark.parametrize("sign", [acs3, v1])
def test_a_replayed_request_is_refused(served: Served, sign: Callable[..., Signed]) -> None:
    request = sign("CreateSecurityGroup", CREATE)
    assert [send(served.url, request).code for _ in range(3)] == ["", "SignatureNonceUsed", "SignatureNonceUsed"]
    assert len(served.engine.calls) == 1


def test_a_request_that_somebody_has_changed_is_refused(served: Served) -> None:
    request = acs3("CreateSecurityGroup", CREATE)
    for target in (f"{request.target}&VpcId=v", request.target.replace("web", "db")):
        assert send(served.url, Signed("POST", target, request.headers)).code == "SignatureDoesNotMatch"
    assert served.engine.calls == []


def test_headers_that_count_mustnt_come_twice(served: Served) -> None:
    text = text_of(acs3("CreateSecurityGroup", CREATE))
    with connected(served) as client:
        send_last(client, text.replace(b"x-acs-action:", b"x-acs-action: DeleteVpc\r\nx-acs-action:"))
        assert b"comes more than once" in read_all(client)
    assert served.engine.calls == []


@pytest.mark.parametrize("size", [(1 << 20) + 1, 20 << 20], ids=["a byte too many", "20 MB"])
def test_a_body_that_is_too_large_is_refused(served: Served, size: int) -> None:
    with connected(served) as client:
        client.sendall(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % size)
        if size < 2 << 20:
            client.sendall(b"a" * size)
        answer = read_all(client)
    assert b" 413 " in answer
    assert b"RequestEntityTooLarge" in answer
    assert is_served(served)


def test_a_body_without_an_end_is_refused(served: Served) -> None:
    with connected(served) as client:
        client.sendall(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
        chunk = b"10000\r\n" + b"a" * 65536 + b"\r\n"
        for _ in range(300):
            try:
                client.sendall(chunk)
            except OSError:
                break
        else:
            pytest.fail("the server took 20 MB")
    assert is_served(served)


def test_a_body_that_doesnt_come_is_not_waited_for(serve: Serve) -> None:
    served = serve(limits=ApiLimits(body_s=0.2))
    with connected(served) as client:
        client.sendall(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabc")
        assert b" 408 " in read_all(client)
    assert is_served(served)


@pytest.mark.parametrize("begun", [b"", b"GET /healthz HTTP/1.1\r\nHost:"], ids=["nothing", "half a head"])
def test_a_head_that_doesnt_come_is_not_waited_for(serve: Serve, monkeypatch: pytest.MonkeyPatch, begun: bytes) -> None:
    monkeypatch.setattr(serving, "HEAD_S", 0.3)
    served = serve()
    with connected(served) as client:
        client.sendall(begun)
        assert read_all(client) == b""
    assert is_served(served)


def test_a_head_that_comes_byte_by_byte_has_no_more_time(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "HEAD_S", 0.3)
    served = serve()
    with connected(served) as client:
        client.settimeout(0.05)
        for byte in b"GET /healthz HTTP/1.1\r\nX: " + b"a" * 200:
            try:
                client.sendall(bytes((byte,)))
                if client.recv(1) == b"":
                    break
            except TimeoutError:
                continue
            except OSError:
                break
        else:
            pytest.fail("the server waited")
    assert is_served(served)


def test_a_second_head_on_a_connection_has_its_time_too(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "HEAD_S", 0.3)
    served = serve()
    with connected(served) as client:
        client.sendall(text_of(acs3("CreateSecurityGroup", CREATE)) + b"GET /heal")
        assert read_all(client).startswith(b"HTTP/1.1 200")
    assert is_served(served)


def test_a_client_that_doesnt_read_is_dropped(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "WRITE_S", 0.3)
    served = serve()
    served.engine.size = 16 << 20
    with connected(served) as client:
        client.sendall(text_of(acs3("DescribeSecurityGroups", {})))
        until(lambda: len(served.lines) == 1)
        until(lambda: not served.server.server_state.connections)
    assert is_served(served)


def test_a_client_that_has_sent_its_last_gets_its_answer(served: Served) -> None:
    with connected(served) as client:
        client.sendall(text_of(acs3("CreateSecurityGroup", {"SecurityGroupName": "blocks"})))
        client.shutdown(socket.SHUT_WR)
        assert served.engine.has_begun.wait(20)
        served.engine.is_open.set()
        answer = read_all(client)
    assert answer.startswith(b"HTTP/1.1 200")
    assert b"x-sgdp-revision: 1" in answer


def test_a_client_that_goes_away_ends_no_call(served: Served) -> None:
    with connected(served) as client:
        client.sendall(text_of(acs3("CreateSecurityGroup", {"SecurityGroupName": "blocks"})))
        assert served.engine.has_begun.wait(20)
    served.engine.is_open.set()
    until(lambda: len(served.lines) == 1)
    assert json.loads(served.lines[0])["revision"] == 1


def test_a_client_that_goes_away_within_its_body_calls_nothing(served: Served) -> None:
    with connected(served) as client:
        client.sendall(text_of(acs3("CreateSecurityGroup", {}, CREATE))[:-3])
    until(lambda: len(served.lines) == 1)
    assert json.loads(served.lines[0])["code"] == "ClientClosedRequest"
    assert served.engine.calls == []


GARBAGE = [
    pytest.param(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", id="TLS"),
    pytest.param(b"\0" * 100 + b"\r\n\r\n", id="zeros"),
    pytest.param(b"GET / HTTP/9.9\r\nHost: a\r\n\r\n", id="HTTP/9.9"),
    pytest.param(b"GET /\xff\xfe HTTP/1.1\r\nHost: a\r\n\r\n", id="a path of bytes"),
    pytest.param(b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", id="two hosts"),
    pytest.param(b"GET / HTTP/1.1\r\n\r\n", id="no host"),
    pytest.param(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n", id="a negative length"),
    pytest.param(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", id="two lengths"),
    pytest.param(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n", id="another encoding"),
    pytest.param(b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"a" * 200_000 + b"\r\n\r\n", id="a large header"),
    pytest.param(b"GET /?" + b"a" * 200_000 + b" HTTP/1.1\r\nHost: a\r\n\r\n", id="a large target"),
    pytest.param(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", id="a wrong chunk"),
]


@pytest.mark.parametrize("garbage", GARBAGE)
def test_garbage_is_refused(served: Served, garbage: bytes) -> None:
    with connected(served) as client:
        send_last(client, garbage)
        answer = read_all(client)
    assert answer == b"" or answer.startswith((b"HTTP/1.1 400", b"HTTP/1.1 404"))
    assert served.engine.calls == []
    assert is_served(served)


@pytest.mark.parametrize("garbage", GARBAGE)
def test_garbage_after_a_request_leaves_that_alone(served: Served, garbage: bytes) -> None:
    with connected(served) as client:
        send_last(client, text_of(acs3("CreateSecurityGroup", CREATE)) + garbage)
        answer = read_all(client)
    assert answer.startswith(b"HTTP/1.1 200")
    assert len(served.engine.calls) == 1
    assert is_served(served)


def test_requests_that_are_pipelined_are_answered_in_order(served: Served) -> None:
    texts = [text_of(acs3("CreateSecurityGroup", CREATE)) for _ in range(20)]
    with connected(served) as client:
        client.sendall(b"".join(texts))
        found = b""
        while found.count(b"x-sgdp-revision") < 20:
            found += client.recv(65536)
    revisions = [line.split()[1] for line in found.splitlines() if line.startswith(b"x-sgdp-revision")]
    assert revisions == [str(number).encode() for number in range(1, 21)]


def test_who_a_client_says_it_is_doesnt_count(served: Served) -> None:
    request = acs3(
        "CreateSecurityGroup", CREATE, headers={"x-forwarded-for": "203.0.113.7", "forwarded": "for=1.2.3.4"}
    )
    assert send(served.url, request).status == 200
    assert served.engine.calls[0].source == "127.0.0.1"


def test_text_of_others_reaches_the_log_and_the_answer_safely(served: Served) -> None:
    odd = "\x1b[31m\u202e\n\0\"'`;}{%s${a}<script>"
    send(served.url, acs3("CreateSecurityGroup", {"SecurityGroupName": odd}))
    assert served.engine.calls[0].parameters["SecurityGroupName"] == odd
    reply = send(served.url, acs3(odd.replace("\n", "").replace("\0", "").replace("\u202e", ""), {}, headers=ODD_HOST))
    assert reply.code == "InvalidAction.NotFound"
    send(served.url, v1("DescribeSecurityGroups", {"MaxResults": odd}))
    for line in served.lines:
        assert line.isprintable()
        json.loads(line)


ODD_HOST = {"host": "a\x1b\x07<b>"}
MANY, VERY_MANY = 1_000, 10_000
KB_EACH = 32  # of a connection that is open


@pytest.mark.parametrize("count", [MANY, pytest.param(VERY_MANY, marks=pytest.mark.slow)])
def test_many_connections_leave_room_for_others(alone: Callable[..., Alone], count: int) -> None:
    """Most are closed while they ask for nothing; the server stays as large as it may be."""
    most = count // 4
    server = alone(most)
    assert is_served(server)
    before = memory_of(server)
    with ExitStack() as stack:
        for _ in range(count):
            stack.enter_context(connected(server))
        assert is_served(server)
        assert len([*Path(f"/proc/{server.pid}/fd").iterdir()]) < most + 50
        assert memory_of(server) - before < 16_000 + most * KB_EACH
    assert is_served(server)


def memory_of(server: Alone) -> int:
    """In KB."""
    lines = Path(f"/proc/{server.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))


def test_many_writers_get_each_their_own_answer(served: Served) -> None:
    count, replies = 8, list[int]()

    def write() -> None:
        connection = http.client.HTTPConnection(urlsplit(served.url).netloc, timeout=20)
        for _ in range(25):
            replies.append(int(send_on(connection, acs3("CreateSecurityGroup", CREATE)).headers["x-sgdp-revision"]))
        connection.close()

    threads = [threading.Thread(target=write) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(replies) == list(range(1, count * 25 + 1))
