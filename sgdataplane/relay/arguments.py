"""The configurations of a relay and of a host's sync, as values, and how each value is read from text.

Owns both configurations. Options and files are read by the same functions. Must not know files, and imports next to
nothing: the command line reads it before it knows which verb is meant.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

RELAY_FILE, SYNC_FILE = Path("/etc/sgdataplane/relay.toml"), Path("/etc/sgdataplane/sync.toml")
NAME = re.compile(r"[A-Za-z0-9._:-]{1,100}")
MAX_SNAPSHOTS = 100_000


@dataclass(frozen=True, slots=True)
class RelayConfig:
    """What `sgdp relay` is configured with."""

    store: str  # the address of the store to follow
    listen: str  # an address and a port
    tls_cert: Path  # the relay's certificate
    tls_key: Path  # the key of that certificate
    tls_ca: Path  # the authority that signs hosts' certificates
    snapshots: float = 200.0  # how many hosts a second get all that they need
    name: str = ""  # the relay's name in the store; "" for this machine's name and the port
    metrics: str = ""  # the address and port for Prometheus; "" for none


@dataclass(frozen=True, slots=True)
class SyncConfig:
    """What `sgdp sync` is configured with."""

    relays: tuple[str, ...]  # their URLs, tried in this order
    folder: Path  # where the policy is written
    tls_cert: Path  # this host's certificate
    tls_key: Path  # the key of that certificate
    tls_ca: Path  # the authority that signs relays' certificates
    agent_socket: Path = Path("/run/sgdataplane/agent.sock")  # where the agent reports what is in force
    metrics: str = ""  # the address and port for Prometheus; "" for none
    tls_crl: Path | None = None  # revoked certificates, so that no revoked relay is trusted


class MissingError(Exception):
    """Neither an option nor the file gives a value that has no default. `keys` names those that are missing."""

    def __init__(self, keys: tuple[str, ...]) -> None:
        super().__init__(", ".join(keys))
        self.keys = keys


def read_url(text: str) -> str:
    """Check the URL of a relay, and return it.

    Raises:
        ValueError: It isn't `wss://HOST:PORT`. TLS can't be left out, as anybody on the way could change the policy.
    """
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
    """Read how many hosts a second get all that they need.

    Raises:
        ValueError: It isn't a whole number within the bounds.
    """
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= MAX_SNAPSHOTS:
        raise ValueError(f"{text!r} is not a number from 1 to {MAX_SNAPSHOTS}")
    return float(text)


def read_name(text: str) -> str:
    """Check the name of a relay, and return it.

    Raises:
        ValueError: It has other characters than a name may have, or too many.
    """
    if not NAME.fullmatch(text):
        raise ValueError(f"{text!r} is not a relay's name: letters, digits and any of . _ : -, at most 100")
    return text
