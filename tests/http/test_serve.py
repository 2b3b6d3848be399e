"""Where the API may listen, TLS, and how it ends."""

from __future__ import annotations

import json
import os
import resource
import signal
import socket
import ssl
from collections.abc import Callable
from contextlib import nullcontext
from http.client import HTTPSConnection
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from sgdataplane.control.http import server as serving
from sgdataplane.control.http.server import ListenAt, allow_connections, listen_at
from sgdataplane.errors import EndpointError
from tests.http.conftest import Alone, Serve
from tests.http.signing import acs3, send, send_on
from tests.http.test_bad_clients import CREATE, connected, read_all, text_of


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("127.0.0.1:8080", ListenAt("127.0.0.1", 8080)),
        ("localhost:0", ListenAt("127.0.0.1", 0)),
        ("[::1]:8080", ListenAt("::1", 8080)),
        ("127.9.9.9:1", ListenAt("127.9.9.9", 1)),
    ],
)
def test_plain_http_is_served_on_loopback(text: str, at: ListenAt) -> None:
    assert listen_at(text) == at


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("0.0.0.0:8080", "plain HTTP is served on loopback only: give --tls-cert and --tls-key, or listen on"),
        ("[::]:8080", "plain HTTP is served on loopback only"),
        ("192.0.2.1:8080", "plain HTTP is served on loopback only"),
        ("example.com:8080", "not an address and a port, such as 127.0.0.1:8080"),
        ("127.0.0.1", "not an address and a port"),
        ("127.0.0.1:", "not an address and a port"),
        ("127.0.0.1:99999", "not an address and a port"),
        ("127.0.0.1:-1", "not an address and a port"),
        ("", "not an address and a port"),
        ("\x1b[31m:1", "not an address and a port"),
    ],
)
def test_other_addresses_are_refused_with_what_to_do(text: str, words: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011  (its words are below)
        listen_at(text)
    assert words in str(caught.value)
    assert str(caught.value).isprintable()


def test_tls_needs_both_files() -> None:
    with pytest.raises(ValueError, match="needs both"):
        listen_at("0.0.0.0:1", certificate=Path("c"))


def test_tls_is_served_with_the_certificate(serve: Serve, pem: tuple[Path, Path]) -> None:
    served = serve(listen_at("127.0.0.1:0", *pem))
    assert served.url.startswith("https://127.0.0.1:")
    trust = ssl.create_default_context(cafile=str(pem[0]))
    connection = HTTPSConnection(urlsplit(served.url).netloc, timeout=20, context=trust)
    assert send_on(connection, acs3("CreateSecurityGroup", CREATE)).status == 200
    connection.close()


def test_plain_http_to_a_port_with_tls_gets_nothing(serve: Serve, pem: tuple[Path, Path]) -> None:
    served = serve(listen_at("127.0.0.1:0", *pem))
    with connected(served) as client:
        client.sendall(text_of(acs3("CreateSecurityGroup", CREATE)))
        assert b"HTTP/1.1" not in read_all(client)
    assert served.engine.calls == []


def test_a_handshake_that_doesnt_come_is_not_waited_for(
    serve: Serve, pem: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serving, "HANDSHAKE_S", 0.3)
    served = serve(listen_at("127.0.0.1:0", *pem))
    with connected(served) as client:
        assert read_all(client) == b""


@pytest.mark.parametrize(("mode", "is_taken"), [(0o600, True), (0o640, True), (0o644, False), (0o602, False)])
def test_a_key_that_everybody_can_read_or_change_is_refused(
    serve: Serve, pem: tuple[Path, Path], mode: int, is_taken: bool
) -> None:
    pem[1].chmod(mode)
    try:
        with nullcontext() if is_taken else pytest.raises(EndpointError, match="everybody on this machine can"):
            serve(listen_at("127.0.0.1:0", *pem))
    finally:
        pem[1].chmod(0o600)


def test_what_is_no_certificate_is_refused(serve: Serve, tmp_path: Path) -> None:
    text = tmp_path / "text"
    text.write_text("text")
    text.chmod(0o600)
    for files in ((text, text), (tmp_path / "absent", text)):
        with pytest.raises(EndpointError, match="not a certificate and its key in PEM"):
            serve(listen_at("127.0.0.1:0", *files))


def test_a_port_that_is_taken_is_refused(serve: Serve) -> None:
    with socket.create_server(("127.0.0.1", 0)) as door:
        port = door.getsockname()[1]
        with pytest.raises(EndpointError, match="can't listen there: Address already in use"):
            serve(listen_at(f"127.0.0.1:{port}"))


def test_connections_leave_descriptors_for_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (300, 300))
    allow_connections()
    assert serving.ApiConnection.most == 300 - serving.OTHER_FILES
    monkeypatch.undo()
    allow_connections()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_after_what_was_begun(alone: Callable[..., Alone], number: int) -> None:
    server = alone()
    assert send(server.url, acs3("CreateSecurityGroup", CREATE)).status == 200
    with connected(server) as client:
        client.sendall(text_of(acs3("CreateSecurityGroup", {"SecurityGroupName": "blocks"})))
        assert server.line() == "begun"
        os.kill(server.pid, number)
        assert server.line() == "stopping"
        answer = read_all(client)
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["SecurityGroupId"] == "sg-1"
    assert server.rest() == ("closed\n", "")
    assert server.process.returncode == 0


def test_what_waits_ends_with_the_server(alone: Callable[..., Alone]) -> None:
    server = alone()
    with connected(server) as client:
        client.sendall(text_of(acs3("SgdpWait", {"Timeout": "3600"})))
        assert server.line() == "begun"
        server.process.terminate()
        assert b'"Enforced":false' in read_all(client)
    assert server.rest()[1] == ""
    assert server.process.returncode == 0


def test_a_server_that_has_ended_frees_its_port(serve: Serve) -> None:
    served = serve()
    served.stop()
    again = serve(ListenAt("127.0.0.1", urlsplit(served.url).port or 0))
    assert again.url == served.url
