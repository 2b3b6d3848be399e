"""The API's configuration: /etc/sgdataplane/api.toml.

Owns its keys and their defaults. Its input is a path. Must not know what the values are used for. `systemd/api.toml`
documents every key.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from sgdataplane.model.choices import CHOICES, IN_LAB, Choice, Choices
from sgdataplane.settings import ENDPOINT, PATH, SWITCH, SettingsFile, ValueKind
from sgdataplane.store.opening import STORE

CONFIG_FILE = Path("/etc/sgdataplane/api.toml")
OF_CHOICES = ("profile", "placement")


@dataclass(frozen=True, slots=True)
class ApiConfig:
    """What `sgdp api` is configured with. Only one of `lab` and `folder` is set."""

    store: str = ""  # where documents are kept; "" if nothing says so
    key_file: Path | None = None  # the key that seals secrets; None for a file beside the store
    listen: str = "127.0.0.1:8080"  # an address and a port
    tls_cert: Path | None = None  # the API's certificate
    tls_key: Path | None = None  # the key of that certificate
    lab: str = ""  # the name of the lab that follows
    folder: Path | None = None  # where the state is written for the agent
    agent_socket: Path = Path("/run/sgdataplane/agent.sock")  # where the agent reports what is in force
    v1: bool = True  # whether signatures of version 1 are accepted
    classic: bool = False  # whether a group without a VPC is of the classic network
    choices: Choices = IN_LAB  # the lab's options, and which quotas are in force


KINDS: Mapping[str, ValueKind | Choice] = {
    "store": STORE,
    "key_file": PATH,
    "listen": ENDPOINT,
    "tls_cert": PATH,
    "tls_key": PATH,
    "lab": ValueKind("the name of a lab", lambda value: value if isinstance(value, str) and value else None),
    "folder": PATH,
    "agent_socket": PATH,
    "v1": SWITCH,
    "classic": SWITCH,
    **{name: CHOICES[name] for name in OF_CHOICES},
}


def load_api_config(path: Path, *, must_exist: bool, chosen: Mapping[str, object] = MappingProxyType({})) -> ApiConfig:
    """Return the API's configuration: the file's values, overridden by `chosen`.

    A missing file means the defaults, unless it `must_exist`.

    Raises:
        ConfigError: Everything that is wrong with the file.
    """
    file = SettingsFile(path, must_exist=must_exist)
    read = file.read(KINDS)
    _check(file, read, {**read, **chosen})
    file.finish()
    return with_chosen(read, chosen)


def with_chosen(read: Mapping[str, object], chosen: Mapping[str, object]) -> ApiConfig:
    """Return the configuration of a file's values and of chosen ones.

    A lab that is chosen takes the place of a folder that was read, and the other way round.
    """
    where = {"lab", "folder"} if chosen.keys() & {"lab", "folder"} else set()
    values = {**{key: value for key, value in read.items() if key not in where}, **chosen}
    choices = IN_LAB.over({name: values.pop(name) for name in OF_CHOICES if name in values})
    return ApiConfig(choices=choices, **values)  # type: ignore[arg-type]  # each was read by its kind


def _check(file: SettingsFile, read: Mapping[str, object], values: Mapping[str, object]) -> None:
    """Note where the file contradicts itself."""
    if "lab" in read and "folder" in read:
        file.contradicts("folder", "the state is enforced in one place", "lab, or folder")
    for key, other in (("tls_cert", "tls_key"), ("tls_key", "tls_cert")):
        if key in read and other not in values:
            file.contradicts(key, f"TLS also needs {other}", "both tls_cert and tls_key")
    if "listen" in read and values["listen"] == read["listen"] and "tls_cert" not in values:
        host = str(read["listen"]).rpartition(":")[0].strip("[]")
        if not ipaddress.ip_address(host).is_loopback:
            expected = "tls_cert and tls_key, or 127.0.0.1 or [::1]"
            file.contradicts("listen", "plain HTTP is served on loopback only", expected)
