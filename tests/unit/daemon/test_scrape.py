"""The part of HTTP that is understood. Over a socket, with slow clients and garbage: tests/agent/test_metrics.py."""

from __future__ import annotations

import os
import selectors
import socket
import threading
import time

import pytest

from sgdataplane.daemon.clients import MAX_REQUEST_BYTES, Clients
from sgdataplane.daemon.scrape import MetricsServer, reply
from tests.support.probes.flood import DEADLINE, wait_until

GET = b"GET /metrics HTTP/1.1\r\nHost: a\r\nAccept: */*\r\n\r\n"


def status(answer: bytes | None) -> int:
    assert answer is not None
    head, _, body = answer.partition(b"\r\n\r\n")
    assert f"Content-Length: {len(body)}".encode() in head.split(b"\r\n")
    assert b"Connection: close" in head
    return int(head.split(b" ")[1])


def metrics() -> tuple[str, bytes]:
    return "text/plain", b"up 1\n"


def test_metrics_are_told() -> None:
    for asked in (GET, GET.replace(b"1.1", b"1.0"), GET.replace(b"/metrics", b"/metrics?x=y")):
        answer = reply(asked, metrics)
        assert status(answer) == 200
        assert answer is not None
        assert answer.endswith(b"\r\n\r\nup 1\n")
        assert b"Content-Type: text/plain\r\n" in answer


def test_many_who_ask_for_the_same_share_it() -> None:
    assert reply(GET, metrics) is reply(GET, metrics)


def test_nothing_is_said_before_all_was_asked() -> None:
    assert [reply(GET[:length], metrics) for length in range(len(GET))] == [None] * len(GET)


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        pytest.param(GET.replace(b"GET", b"POST"), 405, id="post"),
        pytest.param(GET.replace(b"GET", b"HEAD"), 405, id="head"),
        pytest.param(GET.replace(b"/metrics", b"/"), 404, id="elsewhere"),
        pytest.param(GET.replace(b"/metrics", b"/metrics/../../etc/passwd"), 404, id="a-path"),
        pytest.param(b"\r\n\r\n", 400, id="nothing"),
        pytest.param(b"\xff\x00\xfe garbage\r\n\r\n", 400, id="garbage"),
        pytest.param(b"GET /metrics\r\n\r\n", 400, id="no-version"),
        pytest.param(b"GET /metrics HTTP/2\r\n\r\n", 400, id="another-version"),
        pytest.param(b"x" * (MAX_REQUEST_BYTES + 1), 431, id="too-much"),
        pytest.param(GET[:-2] + b"a: b\r\n" * 700, 431, id="too-many-headers"),
    ],
)
def test_anything_else_is_refused(asked: bytes, expected: int) -> None:
    assert status(reply(asked, metrics)) == expected


def test_metrics_that_cannot_be_told_are_an_error_of_ours() -> None:
    assert status(reply(GET, lambda: None)) == 500


def test_a_client_sees_the_end_though_a_child_has_the_connection_too() -> None:
    waits, ends = os.pipe()
    with socket.create_server(("127.0.0.1", 0)) as door, selectors.DefaultSelector() as selector:
        clients = Clients(door, selector, lambda _, asked, _is_last: reply(asked, metrics), time.monotonic)
        with socket.create_connection(door.getsockname()) as client:
            serve(selector)
            child = os.fork()
            if child == 0:
                os.close(ends)
                os.read(waits, 1)
                os._exit(0)
            client.settimeout(DEADLINE)
            client.sendall(GET)
            serve(selector)
            serve(selector)
            answer = b"".join(iter(lambda: client.recv(1 << 16), b""))
            has_ended = os.waitpid(child, os.WNOHANG) != (0, 0)
        clients.close()
    os.close(ends)
    os.waitpid(child, 0)
    os.close(waits)
    assert not has_ended
    assert status(answer) == 200


def serve(selector: selectors.BaseSelector) -> None:
    """What is ready, or soon will be."""
    for key, _ in selector.select(DEADLINE):
        key.data()


def serving() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name == "metrics"]


def test_it_serves_at_one_place_and_leaves_no_thread() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        server = MetricsServer(metrics)
        assert "in use" in server.follow(f"127.0.0.1:{port}")
        assert serving() == []
    for at in (f"127.0.0.1:{port}", f"127.0.0.1:{port}", f"0.0.0.0:{port}"):
        assert server.follow(at) == ""
        wait_until(lambda: serving() == ["metrics"])
    assert server.follow("") == ""
    wait_until(lambda: serving() == [])
    server.close()
