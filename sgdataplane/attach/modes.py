"""The attached ENIs that are in audit mode now: by the state, by the configuration, or by how they were attached.

Owns how these are put together, and when that changes by itself. Its input has the time. Must not know files or
kernels.

The configuration is the agent's. It and a binding can only put an ENI into audit mode, never into mode enforce.

An audit that has ended stays ended when the clock goes back: else what is refused would pass again. So the latest end
that has passed is kept, and every end up to it has passed. If a clock is far ahead for once, audits end that had an end
then. They end too early, which refuses; a later end, or none, audits again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from sgdataplane.attach.registry import Binding
from sgdataplane.model.modes import Mode, until_seconds, until_text
from sgdataplane.model.state import CloudState


@dataclass(frozen=True, slots=True)
class AuditRule:
    """The agent's configuration of audit mode."""

    enis: tuple[str, ...] = ()  # patterns of ids of ENIs
    until: str = ""  # when it ends, as a text of modes.py; "": never

    def asks_for(self, eni_id: str) -> bool:
        """Whether the configuration puts this ENI into audit mode."""
        return any(fnmatchcase(eni_id, pattern) for pattern in self.enis)


NO_RULE = AuditRule()


@dataclass(frozen=True, slots=True)
class HostModes:
    """What a host knows of modes beside a state."""

    asked: Mapping[str, str] = field(default_factory=dict)
    """The ENIs that it audits whatever the state says, and until when."""
    ended: str = ""
    """Which ends have passed, as `ModesNow.ended`."""

    def apply(self, state: CloudState, seconds: float) -> tuple[CloudState, float | None]:
        """Return the state as this host would obey it at that time, and when that changes by itself, if it does.

        Both times are in seconds since 1970.
        """
        modes = ModesNow(ended=self.ended)
        return modes.with_asked(state, self.asked, seconds), modes.until


def list_audited_here(bindings: Iterable[Binding], rule: AuditRule) -> dict[str, str]:
    """Return the attached ENIs that the configuration or their binding puts into audit mode, and until when."""
    found = {b.eni_id: rule.until for b in bindings if rule.asks_for(b.eni_id)}
    return found | {b.eni_id: "" for b in bindings if b.mode is Mode.AUDIT}


@dataclass
class ModesNow:
    """The state with the modes of attached ENIs as they are now. It is the same object while nothing changes."""

    until: float | None = None  # when it changes by itself, in seconds since 1970; None if it doesn't
    ended: str = ""  # the latest end that has passed, as a text of modes.py; "": none has
    _state: CloudState = field(default_factory=CloudState)
    _found: CloudState = field(default_factory=CloudState)
    _wanted: Mapping[str, str] | None = None

    def of(self, state: CloudState, bindings: Iterable[Binding], rule: AuditRule, seconds: float) -> CloudState:
        """Return the state with the modes of this host's ENIs.

        `seconds` is the time by the clock, which may have gone back.
        """
        return self.with_asked(state, list_audited_here(tuple(bindings), rule), seconds)

    def with_asked(self, state: CloudState, asked: Mapping[str, str], seconds: float) -> CloudState:
        """Return the state with these ENIs in audit mode, until those times.

        `asked` has the ENIs that this host audits. `seconds` is the time by the clock.
        """
        now = self._note_ended(state, asked, until_text(seconds))
        wanted = dict(_list_audited(state, asked, now))
        self.until = min((until_seconds(end) for end in wanted.values() if end), default=None)
        present = {eni.network_interface_id: eni.audit_until for eni in state.audited}
        if wanted == present:
            return state
        if state is not self._state or wanted != self._wanted:
            self._state, self._wanted, self._found = state, wanted, _with_modes(state, wanted)
        return self._found

    def _note_ended(self, state: CloudState, asked: Mapping[str, str], now: str) -> str:
        """Note which ends have passed; return the time to go by."""
        ends = (*asked.values(), *(eni.audit_until for eni in state.audited))
        self.ended = max((self.ended, *(end for end in ends if end <= now)))
        return max(now, self.ended)


def _list_audited(state: CloudState, asked: Mapping[str, str], now: str) -> Iterable[tuple[str, str]]:
    """Return the ENIs in audit mode, and until when. ENIs of other hosts are in the mode that the state says."""
    found = {eni_id: until for eni_id, until in asked.items() if not until or until > now}
    for eni in state.audited:
        if not eni.audit_until or eni.audit_until > now:
            until = found.get(eni.network_interface_id, eni.audit_until)
            found[eni.network_interface_id] = max(until, eni.audit_until) if until and eni.audit_until else ""
    return ((eni_id, until) for eni_id, until in found.items() if eni_id in state.eni)


def _with_modes(state: CloudState, wanted: Mapping[str, str]) -> CloudState:
    over = {eni.network_interface_id for eni in state.audited} - wanted.keys()
    found = state.with_mode(over, Mode.ENFORCE) if over else state
    for until in sorted(set(wanted.values())):
        found = found.with_mode({eni_id for eni_id, end in wanted.items() if end == until}, Mode.AUDIT, until)
    return found
