"""The configurations of relay and sync: each key, each refusal with its place, and what options take the place of."""

from __future__ import annotations

import re
import ssl
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import MISSING, fields
from pathlib import Path

import pytest

from sgdataplane.cli.main import main
from sgdataplane.errors import ConfigError, EndpointError
from sgdataplane.relay.arguments import MissingError, RelayConfig, SyncConfig
from sgdataplane.relay.config import KINDS, load_config
from sgdataplane.relay.tls import TlsFiles, host_context, relay_context
from tests.support.servers.certificates import Authority

SYSTEMD = Path(__file__).resolve().parents[2] / "systemd"
SAMPLES = {RelayConfig: SYSTEMD / "relay.toml", SyncConfig: SYSTEMD / "sync.toml"}
PACKAGED = {RelayConfig: [], SyncConfig: ["folder", "agent_socket"]}  # where the package keeps things
TLS = 'tls_cert = "/c"\ntls_key = "/k"\ntls_ca = "/a"\n'
RELAY = f'store = "sqlite:/s"\nlisten = "[::]:8443"\n{TLS}'
SYNC = f'relays = ["wss://r1:1", "wss://r2:2"]\nfolder = "/f"\n{TLS}'
Kind = type[RelayConfig] | type[SyncConfig]


def written(folder: Path, text: str) -> Path:
    path = folder / "some.toml"
    path.write_text(text, "utf-8")
    return path


@pytest.mark.parametrize("kind", SAMPLES)
def test_the_sample_documents_every_key(kind: Kind, tmp_path: Path) -> None:
    text = SAMPLES[kind].read_text("utf-8")
    assert sorted(re.findall(r"^#?(\w+) = ", text, re.MULTILINE)) == sorted(KINDS[kind])
    assert set(KINDS[kind]) == {entry.name for entry in fields(kind)}
    assert re.findall(r"^(\w+) = ", text, re.MULTILINE) == PACKAGED[kind]
    said = load_config(kind, written(tmp_path, re.sub(r"^#(\w+ = )", r"\1", text, flags=re.MULTILINE)), must_exist=True)
    for entry in fields(kind):  # what is commented out shows the default, if there is one
        if entry.default not in (MISSING, "", None) and entry.name not in PACKAGED[kind]:
            assert getattr(said, entry.name) == entry.default, entry.name


def test_every_key_is_taken(tmp_path: Path) -> None:
    text = f'{RELAY}snapshots = 7\nname = "r"\n'
    tls = Path("/c"), Path("/k"), Path("/a")
    relay = load_config(RelayConfig, written(tmp_path, text), must_exist=True)
    assert relay == RelayConfig("sqlite:/s", "[::]:8443", *tls, 7.0, "r")
    sync = load_config(SyncConfig, written(tmp_path, f'{SYNC}agent_socket = "/x"\n'), must_exist=True)
    assert sync == SyncConfig(("wss://r1:1", "wss://r2:2"), Path("/f"), *tls, Path("/x"))


def test_options_override_the_file(tmp_path: Path) -> None:
    chosen = {"listen": "127.0.0.1:0", "snapshots": 9.0}
    found = load_config(RelayConfig, written(tmp_path, RELAY), must_exist=True, chosen=chosen)
    assert (found.listen, found.snapshots, found.store) == ("127.0.0.1:0", 9.0, "sqlite:/s")


@pytest.mark.parametrize("kind", SAMPLES)
def test_what_nothing_says_is_named_whole(kind: Kind, tmp_path: Path) -> None:
    with pytest.raises(MissingError) as raised:
        load_config(kind, tmp_path / "none.toml", must_exist=False)
    assert raised.value.keys == tuple(entry.name for entry in fields(kind) if entry.default is MISSING)


@pytest.mark.parametrize(
    ("kind", "line"),
    [
        (RelayConfig, 'store = "cloud.db"'),
        (RelayConfig, 'store = "etcd://"'),
        (RelayConfig, 'listen = "relay1:8443"'),
        (RelayConfig, "listen = 8443"),
        (RelayConfig, 'tls_ca = "ca.pem"'),
        (RelayConfig, "snapshots = 0"),
        (RelayConfig, "snapshots = true"),
        (RelayConfig, 'name = "a b"'),
        (RelayConfig, "folder = '/f'"),
        (SyncConfig, 'relays = "wss://r:1"'),
        (SyncConfig, "relays = []"),
        (SyncConfig, 'relays = ["wss://r:1", "ws://r:1"]'),
        (SyncConfig, 'relays = ["wss://r:1/x"]'),
        (SyncConfig, 'folder = "here"'),
        (SyncConfig, "agent_socket = 1"),
    ],
)
def test_what_is_wrong_is_refused_with_its_line(kind: Kind, line: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as raised:
        load_config(kind, written(tmp_path, f"# first\n{line}\n"), must_exist=True)
    (problem,) = raised.value.problems
    assert (problem.where.line, problem.where.pointer) == (2, f"/{line.split(maxsplit=1)[0]}")
    assert problem.expected


@pytest.mark.parametrize(("verb", "text"), [("relay", RELAY), ("sync", SYNC)])
def test_the_command_reads_it(verb: str, text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What it names isn't there: the certificate is missed, or the store."""
    assert main([verb, "--config", str(written(tmp_path, text))]) not in (0, 2)
    assert "/c" in (said := capsys.readouterr().err) or "/s" in said
    with pytest.raises(SystemExit) as raised:
        main([verb, "--config", str(written(tmp_path, ""))])
    assert raised.value.code == 2
    assert "--tls-cert, --tls-key, --tls-ca" in capsys.readouterr().err


@pytest.mark.parametrize(("mode", "is_taken"), [(0o600, True), (0o640, True), (0o644, False), (0o602, False)])
@pytest.mark.parametrize("context", [relay_context, host_context])
def test_a_key_that_everybody_can_read_or_change_is_refused(
    context: Callable[[TlsFiles], ssl.SSLContext], mode: int, is_taken: bool, tmp_path: Path
) -> None:
    """By relays and by hosts."""
    authority = Authority(tmp_path / "ca")
    signed = authority.sign("host-1")
    signed.key.chmod(mode)
    with nullcontext() if is_taken else pytest.raises(EndpointError, match="everybody on this machine can"):
        context(TlsFiles(signed.certificate, signed.key, authority.certificate))


@pytest.mark.parametrize("unit", ["api", "relay", "sync"])
def test_what_serves_others_has_a_limit_of_memory(unit: str) -> None:
    """Whoever makes it take more has only it killed and started again."""
    lines = (SYSTEMD / f"sgdataplane-{unit}.service").read_text("utf-8").splitlines()
    (limit,) = (line.removeprefix("MemoryMax=") for line in lines if line.startswith("MemoryMax="))
    assert re.fullmatch(r"[1-9]G", limit)
    assert "Restart=on-failure" in lines or "Restart=always" in lines
