"""Hosts that want more than is theirs, or that the relay serves nobody else; and those that may have no stream."""

from __future__ import annotations

import json
import socket
import ssl
import textwrap
import time
import warnings
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from cryptography.x509 import load_pem_x509_certificate
from websockets.exceptions import ConnectionClosed, InvalidMessage
from websockets.sync.client import connect

from sgdataplane.relay.wire import (
    BAD_MESSAGE,
    LARGEST_FROM_HOST,
    NEWER_STREAM,
    OTHER_PROTOCOL,
    PROTOCOL,
    REVOKED,
    Hello,
    Refused,
    Reported,
    digest_of,
    spell,
)
from sgdataplane.store.history import Version
from sgdataplane.store.hosts import StoredHost
from sgdataplane.store.sqlite.store import SqliteStore
from tests.support.probes.flood import DEADLINE, wait_until
from tests.support.scenes.attachbench import DNS, WEB, state_of
from tests.support.servers.certificates import Authority, Signed
from tests.support.servers.relaying import (
    HERE,
    Plant,
    RawHost,
    Running,
    hosts_of,
    port_of,
    put_host,
    rebind,
    set_ports,
    url_of,
    write_state,
)

NO_STREAM = (OSError, ConnectionClosed, InvalidMessage, EOFError)
TOO_BIG = 1009  # WebSocket's own code


@pytest.fixture
def relay(store: SqliteStore, store_file: Path, plant: Plant) -> Iterator[Running]:
    """Its store has one ENI, which is host-1's."""
    write_state(store, state_of(WEB), {"eni-a": "host-1"})
    yield plant.relay(store_file)
    assert plant.is_running(-1), "the relay has survived"


@pytest.fixture
def url(relay: Running) -> str:
    return url_of(relay)


def believing(plant: Plant) -> ssl.SSLContext:
    """Of a client that shows no certificate, and takes the relay's."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(plant.authority.certificate)
    return context


# who may have a stream


def test_a_host_gets_what_is_its_own_by_the_name_in_its_certificate(plant: Plant, url: str) -> None:
    """There is no message that names another host."""
    with RawHost(plant, url, "host-1") as one, RawHost(plant, url, "host-2") as two:
        assert "network_interface/eni-a" in one.greet().puts
        assert two.greet().puts == {}


def test_others_documents_are_not_told_to_who_knows_their_digests(plant: Plant, url: str) -> None:
    """A digest that is right says as little as a wrong one, and as that of a path that isn't there."""
    with RawHost(plant, url, "host-1") as one:
        known = {path: digest_of(fields) for path, fields in one.greet().puts.items()}
    guesses = known | {"security_group/sg-none": "0" * 32}
    wrong = dict.fromkeys(guesses, "f" * 32)
    for digests in (guesses, wrong):
        with RawHost(plant, url, "host-2") as two:
            answer = two.greet(Hello("test", Version(0, 1), digests))
            assert (answer.puts, set(answer.deletes)) == ({}, set(guesses))


def test_without_a_certificate_of_the_authority_there_is_no_stream(plant: Plant, url: str, tmp_path: Path) -> None:
    other = Authority(tmp_path / "other").sign("host-1")
    with pytest.raises(NO_STREAM), RawHost(plant, url, "host-1", other) as host:
        host.greet()
    context = believing(plant)
    with pytest.raises(NO_STREAM), connect(url, ssl=context, proxy=None) as bare:
        bare.recv(timeout=DEADLINE)
    with RawHost(plant, url, "host-1") as right:
        assert right.greet().puts


def test_without_tls_nothing_is_said(plant: Plant, url: str) -> None:
    with pytest.raises(NO_STREAM):
        connect(url.replace("wss:", "ws:"), proxy=None)
    with RawHost(plant, url, "host-1") as right:
        assert right.greet().puts


@pytest.mark.parametrize(("version", "is_taken"), [(ssl.TLSVersion.TLSv1_2, True), (ssl.TLSVersion.TLSv1_1, False)])
def test_old_versions_of_tls_are_refused(plant: Plant, url: str, version: ssl.TLSVersion, is_taken: bool) -> None:
    signed, context = plant.authority.sign("host-1"), believing(plant)
    context.load_cert_chain(signed.certificate, signed.key)
    context.set_ciphers("DEFAULT@SECLEVEL=0")  # or our own side would refuse
    with warnings.catch_warnings(action="ignore"):
        context.minimum_version = context.maximum_version = version
    with socket.create_connection((HERE, port_of(url))) as bare:
        if is_taken:
            context.wrap_socket(bare, server_hostname=HERE).close()
        else:
            with pytest.raises(ssl.SSLError, match=r"(?i)protocol.version|EOF"):
                context.wrap_socket(bare, server_hostname=HERE)


@pytest.mark.parametrize("name", ["Host_1", "-a", "a..b", "x" * 64, "eni a"])
def test_a_certificate_that_names_no_host_gets_no_stream(plant: Plant, url: str, name: str) -> None:
    with RawHost(plant, url, name, plant.authority.sign(name)) as host:
        code, reason = host.end()
    assert (code, "not a host's" in reason) == (REVOKED, True)


def test_a_revoked_host_is_ended_at_once_and_refused_until_it_may_again(
    store: SqliteStore, plant: Plant, url: str
) -> None:
    with RawHost(plant, url, "host-1") as one, RawHost(plant, url, "host-2") as two:
        one.greet()
        two.greet()
        begun = time.monotonic()
        put_host(store, StoredHost("host-1", 0.0, is_revoked=True))
        assert one.end() == (REVOKED, "the host host-1 is revoked")
        assert time.monotonic() - begun < 15.0, "silence would have ended it only after 15 s"
        with RawHost(plant, url, "host-1") as again:
            assert again.end()[0] == REVOKED
        put_host(store, StoredHost("host-1", 0.0))
        wait_until(lambda: is_served(plant, url, "host-1"))
        rebind(store, "eni-a", "host-2")
        assert two.hear_change().puts, "the other stream goes on"


def is_served(plant: Plant, url: str, name: str) -> bool:
    with RawHost(plant, url, name) as host:
        try:
            return bool(host.greet().puts)
        except ConnectionClosed:
            return False


def serial_of(signed: Signed, spelling: str) -> str:
    """Of a certificate, in hexadecimal as people have it."""
    found = load_pem_x509_certificate(signed.certificate.read_bytes()).serial_number
    text = f"{found:040X}"
    return {"openssl": text, "small": text.lower(), "colons": ":".join(textwrap.wrap(text, 2))}[spelling]


@pytest.mark.parametrize("spelling", ["openssl", "small", "colons"])
def test_one_certificate_of_a_host_can_be_revoked(store: SqliteStore, plant: Plant, url: str, spelling: str) -> None:
    lost = plant.authority.sign("host-1")
    with RawHost(plant, url, "host-1", lost) as stolen:
        stolen.greet()
        put_host(store, StoredHost("host-1", 0.0, refused_serials=(serial_of(lost, spelling),)))
        assert stolen.end() == (REVOKED, "this certificate is revoked")
    with RawHost(plant, url, "host-1", plant.authority.sign("host-1")) as right:
        assert right.greet().puts


def test_the_newer_stream_of_a_host_wins(plant: Plant, url: str) -> None:
    with RawHost(plant, url, "host-1") as old:
        old.greet()
        with RawHost(plant, url, "host-1") as new:
            new.greet()
            assert old.end() == (NEWER_STREAM, "the same host has connected anew")
            new.say(Reported(claims=("eni-none",)))
            assert new.hear() == Refused({"eni-none": "the store has no such ENI"})


# what a host says


HELLO = json.loads(spell(Hello("test")))


@pytest.mark.parametrize(
    ("messages", "code"),
    [
        (["{"], BAD_MESSAGE),
        ([b"\x00"], BAD_MESSAGE),
        ([spell(Reported())], BAD_MESSAGE),
        ([json.dumps({**HELLO, "protocol": PROTOCOL + 1})], OTHER_PROTOCOL),
        ([json.dumps({**HELLO, "digests": {"access_key/LTAI": "0" * 32}})], BAD_MESSAGE),
        ([spell(Hello("test")), spell(Hello("test"))], BAD_MESSAGE),
        ([spell(Hello("test")), '{"kind":"get","path":"network_interface/eni-a"}'], BAD_MESSAGE),
        ([spell(Hello("test")), '{"kind":"report"}'], BAD_MESSAGE),
        ([spell(Hello("test", digest="0" * 32))] * 2, BAD_MESSAGE),
        ([spell(Hello("test", digest="0" * 32)), spell(Reported())], BAD_MESSAGE),
        ([spell(Hello("x" * 400, None)) + " " * LARGEST_FROM_HOST], TOO_BIG),
        ([spell(Hello("test")), "[" * 1_000_000], BAD_MESSAGE),
    ],
)
def test_what_is_no_message_ends_the_stream_and_no_other(
    plant: Plant, url: str, messages: list[str | bytes], code: int
) -> None:
    with RawHost(plant, url, "host-1") as beside, RawHost(plant, url, "host-2") as hostile:
        beside.greet()
        with suppress(ConnectionClosed):  # what is too long ends it before its end
            for message in messages:
                hostile.say(message)
        assert hostile.end()[0] in ((code,) if code != TOO_BIG else (0, code))
        beside.say(Reported(claims=("eni-none",)))
        assert isinstance(beside.hear(), Refused)


def test_claims_that_do_not_count_are_told_to_who_made_them(store: SqliteStore, plant: Plant, url: str) -> None:
    with RawHost(plant, url, "host-2") as other:
        other.greet()
        other.say(Reported(claims=("eni-a", "eni-none")))
        told = other.hear()
        assert isinstance(told, Refused)
        assert told.enis == {
            "eni-a": "another host has this ENI: detach it there first",
            "eni-none": "the store has no such ENI",
        }
        rebind(store, "eni-a", "host-2")
        assert "network_interface/eni-a" in other.hear_change().puts
        assert other.hear() == Refused({"eni-none": "the store has no such ENI"})


def test_a_host_is_believed_about_itself_alone(store: SqliteStore, plant: Plant, url: str) -> None:
    """A report has no room for another host's name: what one adds to it is said of nobody."""
    said = json.loads(spell(Reported(Version(0, 99), error="mine")))
    other = {"host": "host-1", "name": "host-1", "hosts": {"host-1": said}}
    with RawHost(plant, url, "host-1") as one, RawHost(plant, url, "host-2") as hostile:
        one.greet()
        one.say(Reported(Version(0, 1)))
        hostile.greet()
        hostile.say(json.dumps({**said, **other}))
        wait_until(lambda: hosts_of(store).get("host-2", {}).get("error") == "mine")
        wait_until(lambda: hosts_of(store).get("host-1", {}).get("enforced") == [0, 1])
        assert hosts_of(store).keys() == {"host-1", "host-2"}
        assert "error" not in hosts_of(store)["host-1"]


def say_often(host: RawHost, text: str, times: int) -> None:
    for _ in range(times):
        host.say(text)


def test_a_flood_of_reports_stops_no_other_host(store: SqliteStore, plant: Plant, url: str) -> None:
    """They wait in the socket of the host that sends them."""
    with RawHost(plant, url, "host-1") as beside, RawHost(plant, url, "host-2") as hostile:
        beside.greet()
        hostile.greet()
        large = spell(Reported(claims=tuple(f"eni-{number}" for number in range(5_000))))
        hostile.socket.socket.settimeout(0.5)
        with pytest.raises((OSError, ConnectionClosed)):
            say_often(hostile, large, 10_000)
        begun = time.monotonic()
        revision = set_ports(store, "sg-a", DNS)
        assert beside.hear_change().version == Version(0, revision)
        assert time.monotonic() - begun < 15.0, "silence ends the hostile one after 15 s: nobody waits for that"
