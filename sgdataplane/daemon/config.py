"""The agent's configuration: /etc/sgdataplane/agent.toml.

Owns its keys, their defaults, and every refusal. Is given a path. Must not know what the values are used for.
Without the file, the defaults apply. `systemd/agent.toml` documents every key.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from difflib import get_close_matches
from pathlib import Path
from types import MappingProxyType

from sgdataplane.attach.discover import BindRule
from sgdataplane.attach.registry import ATTACHED_DIR, Means
from sgdataplane.attach.report import Manner
from sgdataplane.enforce import Settings
from sgdataplane.errors import ConfigError, Where
from sgdataplane.model.choices import CHOICES, ON_HOSTS, Choice, Choices
from sgdataplane.net.values import IFNAME, Address
from sgdataplane.statefile.problems import Problems

CONFIG_FILE = Path("/etc/sgdataplane/agent.toml")
MAX_BYTES = 1 << 20
LEVELS = ("debug", "info", "warning", "error")
LINE = re.compile(r"\(at line (\d+), column \d+\)|\(at end of document\)")
ENDPOINT = re.compile(r"(?:(?P<v4>[0-9.]+)|\[(?P<v6>[0-9A-Fa-f:]+)\]):(?P<port>[1-9][0-9]{0,4})")
PATTERN = re.compile(r"[A-Za-z0-9_.:+*?\[\]!-]{1,255}")  # of names that `ip netns` lists
# Keys that are read only at a start.
FIXED = ("bindings", "state_directory", "socket")


@dataclass(frozen=True, slots=True)
class Config:
    """state: the state's file or folder.    choices: one key each (model/choices.py). uplinks: as for `sgdp apply`.
    bind: which labels of an interface bind it to an ENI without `sgdp attach`.    bind_in: in which namespaces
    (patterns). adoption_window: for how many seconds running sessions of an ENI may continue when it is first
    protected. resync: seconds between two looks at everything, even if nothing was heard. fence, prove: as in
    enforce.Settings.    bindings: where `sgdp attach` keeps its bindings. state_directory: where the last good policy
    and the hits per rule are kept.    socket: where `sgdp status` asks. status_socket: where the owner of the state
    asks whether it is in force; "" for none. metrics: the address and port for Prometheus; "" for none."""

    state: Path = Path("/etc/sgdataplane/state.yaml")
    choices: Choices = ON_HOSTS
    uplinks: tuple[str, ...] = ()
    bind: tuple[Means, ...] = ()
    bind_in: tuple[str, ...] = BindRule().names
    adoption_window: float = 30.0
    resync: float = 300.0
    fence: bool = True
    prove: bool = True
    bindings: Path = ATTACHED_DIR
    state_directory: Path = Path("/var/lib/sgdataplane")
    socket: Path = Path("/run/sgdataplane/agent.sock")
    status_socket: str = ""
    log_level: str = "info"
    metrics: str = ""

    @property
    def manner(self) -> Manner:
        """How the state is put in force."""
        chosen = self.choices
        settings = Settings(
            on_change=chosen.on_change, adoption_window=self.adoption_window, fence=self.fence, prove=self.prove
        )
        return Manner(chosen.options, settings, chosen.placement, self.uplinks, chosen.profile)

    @property
    def bind_rule(self) -> BindRule:
        """How interfaces are bound without `sgdp attach`."""
        return BindRule(self.bind, self.bind_in)


@dataclass(frozen=True, slots=True)
class _Kind:
    """One kind of value. `read` returns what a value means, or None if it isn't allowed."""

    expected: str
    read: Callable[[object], object | None]


def _choice(*words: str) -> _Kind:
    return _Kind(f"one of {', '.join(words)}", lambda value: value if value in words else None)


def _seconds(least: float, most: float) -> _Kind:
    def read(value: object) -> object | None:
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
        return float(value) if is_number and least <= value <= most else None  # type: ignore[operator, arg-type]

    return _Kind(f"a number of seconds from {least:g} to {most:g}", read)


def _path(value: object) -> Path | None:
    return Path(value) if isinstance(value, str) and value.startswith("/") and "\0" not in value else None


def _text_of_path(value: object) -> str | None:
    path = _path(value)
    return None if path is None else str(path)


def _list(of: re.Pattern[str], what: str) -> _Kind:
    def read(value: object) -> object | None:
        is_list = isinstance(value, list) and all(isinstance(entry, str) and of.fullmatch(entry) for entry in value)
        return tuple(value) if is_list else None  # type: ignore[arg-type]

    return _Kind(f"a list of {what}", read)


def _means(value: object) -> tuple[Means, ...] | None:
    known = {means.value: means for means in Means if means.is_label}
    if not isinstance(value, list) or not all(isinstance(word, str) and word in known for word in value):
        return None
    return tuple(known[word] for word in value) if len(set(value)) == len(value) else None


def _endpoint(value: object) -> str | None:
    found = ENDPOINT.fullmatch(value) if isinstance(value, str) else None
    if value == "":
        return ""
    if found is None or int(found["port"]) > 0xFFFF:
        return None
    try:
        Address.parse(found["v4"] or found["v6"])
    except ValueError:
        return None
    return found[0]


PATH = _Kind("an absolute path", _path)
SWITCH = _Kind("true or false", lambda value: value if isinstance(value, bool) else None)
KINDS: Mapping[str, _Kind | Choice] = {
    "state": PATH,
    **CHOICES,
    "uplinks": _list(IFNAME, "names of interfaces"),
    "bind": _Kind("a list of alias, mac, each at most once", _means),
    "bind_in": _list(PATTERN, "patterns of names of namespaces"),
    "adoption_window": _seconds(0, 3600),
    "resync": _seconds(1, 86400),
    "fence": SWITCH,
    "prove": SWITCH,
    "bindings": PATH,
    "state_directory": PATH,
    "socket": PATH,
    "status_socket": _Kind("an absolute path, or nothing", lambda value: "" if value == "" else _text_of_path(value)),
    "log_level": _choice(*LEVELS),
    "metrics": _Kind("an address and a port, as 127.0.0.1:9469 or [::1]:9469, or nothing", _endpoint),
}


def load_config(path: Path, *, must_exist: bool, chosen: Mapping[str, object] = MappingProxyType({})) -> Config:
    """ConfigError with everything that is wrong with the file. Unless it `must_exist`, a missing file means the
    defaults. `chosen`: choices that override the file."""
    problems = Problems()
    text = _text(path, problems, must_exist=must_exist)
    values = _parsed(path, text, problems)
    read = _read(path, text, values, problems)
    choices = ON_HOSTS.over({name: read.pop(name) for name in CHOICES if name in read}).over(chosen)
    if read.get("uplinks") and not choices.placement.is_outside:
        where = Where(str(path), _line(text, "uplinks"), "/uplinks")
        message, expected = "without host placement there is no router", 'placement = "host", or no uplinks'
        problems.add(where, "InvalidConfig.Contradiction", message, value=values["uplinks"], expected=expected)
    if problems.count:
        raise ConfigError(problems.as_error().problems)
    return Config(choices=choices, **read)  # type: ignore[arg-type]  # each was read by its kind


def _text(path: Path, problems: Problems, *, must_exist: bool) -> str:
    where = Where(str(path))
    try:
        with open(path, "rb") as file:
            data = file.read(MAX_BYTES + 1)
        if len(data) <= MAX_BYTES:
            return data.decode("utf-8")
        problems.add(where, "InvalidConfig.TooLarge", "too large", expected=f"at most {MAX_BYTES} bytes")
    except FileNotFoundError:
        if must_exist:
            problems.add(where, "InvalidConfig.NotFound", "there is no such file", expected="a readable file")
    except (OSError, UnicodeDecodeError) as error:
        problems.add(where, "InvalidConfig.NotReadable", str(error), expected="a readable file of UTF-8 text")
    return ""


def _parsed(path: Path, text: str, problems: Problems) -> dict[str, object]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        found = LINE.search(str(error))
        line = int(found[1] or 0) if found else 0
        message = LINE.sub("", str(error)).strip()
        problems.add(Where(str(path), line), "InvalidConfig.Malformed", message, expected="TOML 1.0")
        return {}


def _read(path: Path, text: str, values: Mapping[str, object], problems: Problems) -> dict[str, object]:
    read: dict[str, object] = {}
    for key, value in values.items():
        where = Where(str(path), _line(text, key), f"/{key}")
        kind = KINDS.get(key)
        if kind is None:
            near = get_close_matches(key, KINDS, 1)
            expected = f"{near[0]}, which is the nearest known key" if near else f"one of {', '.join(KINDS)}"
            problems.add(where, "InvalidConfig.UnknownKey", "an unknown key", value=key, expected=expected)
            continue
        meant = kind.read(value)
        if meant is None:
            problems.add(where, "InvalidConfig.Value", "not a value of this key", value=value, expected=kind.expected)
        else:
            read[key] = meant
    return read


def _line(text: str, key: str) -> int:
    """The line of a key; 0 if it isn't written in the plain way."""
    found = re.search(rf"^\s*\[?\s*[\"']?{re.escape(key)}\b", text, re.MULTILINE)
    return text.count("\n", 0, found.end()) + 1 if found else 0


def changed_at_start_only(old: Config, new: Config) -> tuple[str, ...]:
    """Changed keys that are read only at a start."""
    names = (entry.name for entry in fields(Config) if entry.name in FIXED)
    return tuple(name for name in names if getattr(old, name) != getattr(new, name))
