"""The configurations of `sgdp relay` and `sgdp sync`: /etc/sgdataplane/relay.toml and sync.toml.

Owns their keys, what values may be, and the defaults. Is given a path and what options say. Must not know what the
values are used for. `systemd/relay.toml` and `systemd/sync.toml` document every key.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from types import MappingProxyType
from typing import TypeVar
from urllib.parse import urlsplit

from sgdataplane.control.config import STORE
from sgdataplane.settings import ENDPOINT, PATH, ReadsValue, SettingsFile, ValueKind

RELAY_FILE, SYNC_FILE = Path("/etc/sgdataplane/relay.toml"), Path("/etc/sgdataplane/sync.toml")
NAME = re.compile(r"[A-Za-z0-9._:-]{1,100}")
MOST_SNAPSHOTS = 100_000

C = TypeVar("C", bound="RelayConfig | SyncConfig")


@dataclass(frozen=True, slots=True)
class RelayConfig:
    """store: what is followed.    listen: an address and a port.    tls_cert, tls_key, tls_ca: the relay's certificate,
    its key, and the authority of hosts' certificates.    snapshots: how many hosts a second get all that they
    need.    name: what the relay is called in the store; "" for this machine's name and the port."""

    store: str
    listen: str
    tls_cert: Path
    tls_key: Path
    tls_ca: Path
    snapshots: float = 200.0
    name: str = ""


@dataclass(frozen=True, slots=True)
class SyncConfig:
    """relays: their URLs, tried in this order.    folder: where the policy is written.    tls_cert, tls_key, tls_ca:
    this host's certificate, its key, and the authority of relays' certificates.    agent_socket: where the agent says
    what is in force."""

    relays: tuple[str, ...]
    folder: Path
    tls_cert: Path
    tls_key: Path
    tls_ca: Path
    agent_socket: Path = Path("/run/sgdataplane/agent.sock")


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


def _or_none(read: Callable[[str], object]) -> Callable[[object], object | None]:
    def found(value: object) -> object | None:
        try:
            return read(value) if isinstance(value, str) else None
        except ValueError:
            return None

    return found


def _urls(value: object) -> tuple[str, ...] | None:
    read = _or_none(read_url)
    is_right = isinstance(value, list) and value and all(read(entry) is not None for entry in value)
    return tuple(value) if is_right else None  # type: ignore[arg-type]  # a list of texts


def _pace(value: object) -> float | None:
    is_number = isinstance(value, int) and not isinstance(value, bool)
    return float(value) if is_number and 1 <= value <= MOST_SNAPSHOTS else None  # type: ignore[operator, arg-type]


TLS: Mapping[str, ReadsValue] = {"tls_cert": PATH, "tls_key": PATH, "tls_ca": PATH}
KINDS: Mapping[type, Mapping[str, ReadsValue]] = {
    RelayConfig: {
        "store": STORE,
        "listen": ENDPOINT,
        **TLS,
        "snapshots": ValueKind(f"a number from 1 to {MOST_SNAPSHOTS}", _pace),
        "name": ValueKind("letters, digits and any of . _ : -, at most 100", _or_none(read_name)),
    },
    SyncConfig: {
        "relays": ValueKind("a list of URLs, each as wss://HOST:PORT", _urls),
        "folder": PATH,
        **TLS,
        "agent_socket": PATH,
    },
}


def load_config(
    kind: type[C], path: Path, *, must_exist: bool, chosen: Mapping[str, object] = MappingProxyType({})
) -> C:
    """ConfigError with everything that is wrong with the file, MissingError with what nothing says. Unless it
    `must_exist`, a missing file says nothing. `chosen`: what options say, which override it."""
    file = SettingsFile(path, must_exist=must_exist)
    values = {**file.read(KINDS[kind]), **chosen}
    file.finish()
    missing = tuple(one.name for one in fields(kind) if one.default is MISSING and one.name not in values)
    if missing:
        raise MissingError(missing)
    return kind(**values)  # type: ignore[arg-type]  # each was read by its kind
