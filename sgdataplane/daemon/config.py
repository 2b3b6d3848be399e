"""The agent's configuration: /etc/sgdataplane/agent.toml.

Owns its keys and their defaults. Its input is a path. Must not know what the values are used for. Without the file, the
defaults apply. `systemd/agent.toml` documents every key.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from types import MappingProxyType

from sgdataplane.attach.discover import BindRule
from sgdataplane.attach.modes import AuditRule
from sgdataplane.attach.registry import ATTACHED_DIR, Means
from sgdataplane.attach.report import Manner
from sgdataplane.enforce import Settings
from sgdataplane.history.merge import HistoryLimits
from sgdataplane.history.span import SPAN_WORDS, parse_span
from sgdataplane.model.choices import CHOICES, ON_HOSTS, Choice, Choices
from sgdataplane.model.modes import UNTIL_EXPECTED, is_until
from sgdataplane.net.values import IFNAME
from sgdataplane.settings import ENDPOINT, PATH, SWITCH, SettingsFile, ValueKind, choice, or_nothing, seconds, texts

CONFIG_FILE = Path("/etc/sgdataplane/agent.toml")
LEVELS = ("debug", "info", "warning", "error")
PATTERN = re.compile(r"[A-Za-z0-9_.:+*?\[\]!-]{1,255}")  # of names that `ip netns` lists
MAX_KEEP_S, MAX_HISTORY_MB = 10 * 366 * 86400, 1 << 16
# Keys that are read only at a start.
FIXED = ("bindings", "state_directory", "socket")


@dataclass(frozen=True, slots=True)
class Config:
    """What the agent is configured with."""

    state: Path = Path("/etc/sgdataplane/state.yaml")
    """The state's file or folder."""
    choices: Choices = ON_HOSTS
    """One key for each (model/choices.py)."""
    uplinks: tuple[str, ...] = ()
    """Interfaces of routers that lead elsewhere, as for `sgdp apply`."""
    bind: tuple[Means, ...] = ()
    """Which labels of an interface bind it to an ENI without `sgdp attach`."""
    bind_in: tuple[str, ...] = BindRule().names
    """Patterns of the names of namespaces where interfaces are bound by labels."""
    audit: tuple[str, ...] = ()
    """Patterns of the ids of ENIs that are in audit mode, whatever the state says."""
    audit_until: str = ""
    """When audit mode ends for these; "": never."""
    conntrack_max: str = "auto"
    """Whether the kernel's setting is raised if a router needs that: "auto" does so, "keep" doesn't."""
    adoption_window: float = 30.0
    """For how many seconds running sessions of an ENI may continue when it is first protected."""
    resync: float = 300.0
    """Seconds between two looks at everything, even without any event."""
    fence: bool = True
    """Whether there is a fence at the interfaces of ENIs (enforce.Settings)."""
    prove: bool = True
    """Whether tables are proven before the kernel gets them (enforce.Settings)."""
    bindings: Path = ATTACHED_DIR
    """The folder where `sgdp attach` keeps its bindings."""
    state_directory: Path = Path("/var/lib/sgdataplane")
    """Where the last good policy and the hits per rule are kept."""
    socket: Path = Path("/run/sgdataplane/agent.sock")
    """Where `sgdp status` asks."""
    status_socket: str = ""
    """Where the owner of the state asks whether it is in force; "" for none."""
    log_level: str = "info"
    metrics: str = ""
    """The address and port for Prometheus; "" for none."""
    history: HistoryLimits | None = None
    """For how long, and in how much room, history is kept; None: it isn't."""

    @property
    def manner(self) -> Manner:
        """The manner in which the state is put in force."""
        chosen = self.choices
        settings = Settings(
            on_change=chosen.on_change, adoption_window=self.adoption_window, fence=self.fence, prove=self.prove
        )
        audit = AuditRule(self.audit, self.audit_until)
        return Manner(chosen.options, settings, chosen.placement, self.uplinks, chosen.profile, audit)

    @property
    def bind_rule(self) -> BindRule:
        """The rule by which interfaces are bound without `sgdp attach`."""
        return BindRule(self.bind, self.bind_in)


def _means(value: object) -> tuple[Means, ...] | None:
    known = {means.value: means for means in Means if means.is_label}
    if not isinstance(value, list) or not all(isinstance(word, str) and word in known for word in value):
        return None
    return tuple(known[word] for word in value) if len(set(value)) == len(value) else None


def _until(value: object) -> str | None:
    return value if isinstance(value, str) and is_until(value) else None


HISTORY_WORDS = (
    f'a table: keep ({SPAN_WORDS}, up to {MAX_KEEP_S // 86400}d; "30d" if left out) and max_mb (megabytes from 8 to '
    f"{MAX_HISTORY_MB}; 256 if left out)"
)


def _history(value: object) -> HistoryLimits | None:
    if not isinstance(value, dict) or not value.keys() <= {"keep", "max_mb"}:
        return None
    keep, max_mb = value.get("keep", "30d"), value.get("max_mb", 256)
    if not isinstance(keep, str) or not isinstance(max_mb, int) or isinstance(max_mb, bool):
        return None
    try:
        keep_s = parse_span(keep)
    except ValueError:
        return None
    is_fit = 3600 <= keep_s <= MAX_KEEP_S and 8 <= max_mb <= MAX_HISTORY_MB
    return HistoryLimits(keep_s, max_mb << 20) if is_fit else None


KINDS: Mapping[str, ValueKind | Choice] = {
    "state": PATH,
    **CHOICES,
    "uplinks": texts(IFNAME, "names of interfaces"),
    "bind": ValueKind("a list of alias, mac, each at most once", _means),
    "bind_in": texts(PATTERN, "patterns of names of namespaces"),
    "audit": texts(PATTERN, "ids of ENIs, or patterns of them"),
    "audit_until": or_nothing(ValueKind(UNTIL_EXPECTED, _until)),
    "conntrack_max": choice("auto", "keep"),
    "adoption_window": seconds(0, 3600),
    "resync": seconds(1, 86400),
    "fence": SWITCH,
    "prove": SWITCH,
    "bindings": PATH,
    "state_directory": PATH,
    "socket": PATH,
    "status_socket": or_nothing(PATH),
    "log_level": choice(*LEVELS),
    "metrics": or_nothing(ENDPOINT),
    "history": ValueKind(HISTORY_WORDS, _history),
}


def load_config(path: Path, *, must_exist: bool, chosen: Mapping[str, object] = MappingProxyType({})) -> Config:
    """Return the configuration that the file and `chosen` choices make.

    A missing file means the defaults, unless it `must_exist`.

    Raises:
        ConfigError: Everything that is wrong with the file.
    """
    file = SettingsFile(path, must_exist=must_exist)
    read = file.read(KINDS)
    choices = ON_HOSTS.over({name: read.pop(name) for name in CHOICES if name in read}).over(chosen)
    if read.get("uplinks") and not choices.placement.is_outside:
        file.contradicts("uplinks", "without host placement there is no router", 'placement = "host", or no uplinks')
    if read.get("audit_until") and not read.get("audit"):
        file.contradicts("audit_until", "no ENI is put into audit mode", 'audit = ["*"], or no audit_until')
    file.finish()
    return Config(choices=choices, **read)  # type: ignore[arg-type]  # each was read by its kind


def find_start_only_changes(old: Config, new: Config) -> tuple[str, ...]:
    """Return the changed keys that are read only at a start."""
    names = (entry.name for entry in fields(Config) if entry.name in FIXED)
    return tuple(name for name in names if getattr(old, name) != getattr(new, name))
