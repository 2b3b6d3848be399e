"""What relays and hosts may be told, by options or in a file: the values, and how each is read from text.

Owns both configurations as values. Must not know files, and imports next to nothing: the command line reads it before
it knows which verb is meant.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

RELAY_FILE, SYNC_FILE = Path("/etc/sgdataplane/relay.toml"), Path("/etc/sgdataplane/sync.toml")
NAME = re.compile(r"[A-Za-z0-9._:-]{1,100}")
MOST_SNAPSHOTS = 100_000


@dataclass(frozen=True, slots=True)
class RelayConfig:
    """store: what is followed.    listen: an address and a port.    tls_cert, tls_key, tls_ca: the relay's certificate,
    its key, and the authority of hosts' certificates.    snapshots: how many hosts a second get all that they
    need.    name: what the relay is called in the store; "" for this machine's name and the port.    metrics: the
    address and port for Prometheus; "" for none."""

    store: str
    listen: str
    tls_cert: Path
    tls_key: Path
    tls_ca: Path
    snapshots: float = 200.0
    name: str = ""
    metrics: str = ""


@dataclass(frozen=True, slots=True)
class SyncConfig:
    """relays: their URLs, tried in this order.    folder: where the policy is written.    tls_cert, tls_key, tls_ca:
    this host's certificate, its key, and the authority of relays' certificates.    agent_socket: where the agent says
    what is in force.    metrics: the address and port for Prometheus; "" for none.    tls_crl: the authority's list of
    revoked certificates, so that no revoked relay is believed."""

    relays: tuple[str, ...]
    folder: Path
    tls_cert: Path
    tls_key: Path
    tls_ca: Path
    agent_socket: Path = Path("/run/sgdataplane/agent.sock")
    metrics: str = ""
    tls_crl: Path | None = None


class MissingError(Exception):
    """Neither an option nor the file says something that has no default. `keys`: what."""

    def __init__(self, keys: tuple[str, ...]) -> None:
        super().__init__(", ".join(keys))
        self.keys = keys


def read_url(text: str) -> str:
    """The URL of a relay. ValueError; also without TLS, as whoever reads along could change what is enforced."""
    try:
        parts = urlsplit(text)
        is_right = parts.scheme == "wss" and parts.hostname and parts.port and not (parts.query or parts.fragment)
        is_right = is_right and not parts.username and parts.path in ("", "/")
    except ValueError:
        is_right = False
    if not is_right:
        raise ValueError(f"{text!r} is not the URL of a relay: wss://HOST:PORT (TLS is always used)")
    return text


def read_pace(text: str) -> float:
    """How many hosts a second. ValueError."""
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= MOST_SNAPSHOTS:
        raise ValueError(f"{text!r} is not a number from 1 to {MOST_SNAPSHOTS}")
    return float(text)


def read_name(text: str) -> str:
    """What a relay is called. ValueError."""
    if not NAME.fullmatch(text):
        raise ValueError(f"{text!r} is not a relay's name: letters, digits and any of . _ : -, at most 100")
    return text
