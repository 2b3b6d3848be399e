"""The configurations of `sgdp relay` and `sgdp sync`: /etc/sgdataplane/relay.toml and sync.toml.

Owns their keys, and what values may be. Its input is a path and what options say. Must not know what the values are
used for. `systemd/relay.toml` and `systemd/sync.toml` document every key.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields
from pathlib import Path
from types import MappingProxyType
from typing import TypeVar

from sgdataplane.relay.arguments import (
    MAX_SNAPSHOTS,
    MissingError,
    RelayConfig,
    SyncConfig,
    read_name,
    read_url,
)
from sgdataplane.settings import ENDPOINT, PATH, ReadsValue, SettingsFile, ValueKind, or_nothing
from sgdataplane.store.opening import STORE

C = TypeVar("C", bound=RelayConfig | SyncConfig)


def _or_none(read: Callable[[str], object]) -> Callable[[object], object | None]:
    def convert(value: object) -> object | None:
        try:
            return read(value) if isinstance(value, str) else None
        except ValueError:
            return None

    return convert


def _urls(value: object) -> tuple[str, ...] | None:
    read = _or_none(read_url)
    is_right = isinstance(value, list) and value and all(read(entry) is not None for entry in value)
    return tuple(value) if is_right else None  # type: ignore[arg-type]  # a list of texts


def _pace(value: object) -> float | None:
    is_number = isinstance(value, int) and not isinstance(value, bool)
    return float(value) if is_number and 1 <= value <= MAX_SNAPSHOTS else None  # type: ignore[operator, arg-type]


TLS: Mapping[str, ReadsValue] = {"tls_cert": PATH, "tls_key": PATH, "tls_ca": PATH}
KINDS: Mapping[type, Mapping[str, ReadsValue]] = {
    RelayConfig: {
        "store": STORE,
        "listen": ENDPOINT,
        **TLS,
        "snapshots": ValueKind(f"a number from 1 to {MAX_SNAPSHOTS}", _pace),
        "name": ValueKind("letters, digits and any of . _ : -, at most 100", _or_none(read_name)),
        "metrics": or_nothing(ENDPOINT),
    },
    SyncConfig: {
        "relays": ValueKind("a list of URLs, each as wss://HOST:PORT", _urls),
        "folder": PATH,
        **TLS,
        "tls_crl": PATH,
        "agent_socket": PATH,
        "metrics": or_nothing(ENDPOINT),
    },
}


def load_config(
    kind: type[C], path: Path, *, must_exist: bool, chosen: Mapping[str, object] = MappingProxyType({})
) -> C:
    """Return the configuration of a relay or a sync: the file's values, overridden by `chosen`.

    Args:
        kind: `RelayConfig` or `SyncConfig`.
        path: The file.
        must_exist: Whether a missing file is an error. Otherwise it counts as an empty one.
        chosen: What options say, by key.

    Raises:
        ConfigError: Everything that is wrong with the file.
        MissingError: All keys that have no default and no value.
    """
    file = SettingsFile(path, must_exist=must_exist)
    values = {**file.read(KINDS[kind]), **chosen}
    file.finish()
    missing = tuple(one.name for one in fields(kind) if one.default is MISSING and one.name not in values)
    if missing:
        raise MissingError(missing)
    return kind(**values)  # type: ignore[arg-type]  # each was read by its kind
