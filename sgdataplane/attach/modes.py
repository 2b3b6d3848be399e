"""Which attached ENIs are in audit mode now: by the state, by the agent's configuration, or by how they were attached.

Owns how these are put together, and when that changes by itself. Is given the time. Must not know files or kernels.

The configuration and a binding can only put an ENI into audit mode, never into mode enforce.

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
    """What the agent's configuration says: patterns of ids of ENIs, and until when (modes.py); "": without end."""

    enis: tuple[str, ...] = ()
    until: str = ""

    def asks_for(self, eni_id: str, now: str) -> bool:
        is_over = bool(self.until) and self.until <= now
        return not is_over and any(fnmatchcase(eni_id, pattern) for pattern in self.enis)


NO_RULE = AuditRule()


@dataclass
class ModesNow:
    """The state with the modes of attached ENIs as they are now. It is the same object as long as nothing changes.
    `until`: when it changes by itself (in seconds since 1970), if it does. `ended`: the latest end that has passed, as
    texts of modes.py; "": none has."""

    until: float | None = None
    ended: str = ""
    _state: CloudState = field(default_factory=CloudState)
    _found: CloudState = field(default_factory=CloudState)
    _wanted: Mapping[str, str] | None = None

    def of(self, state: CloudState, bindings: Iterable[Binding], rule: AuditRule, seconds: float) -> CloudState:
        """`seconds`: the time by the clock, which may have gone back."""
        now = self._note_ended(state, rule, until_text(seconds))
        wanted = dict(_wanted(state, bindings, rule, now))
        self.until = min((until_seconds(end) for end in wanted.values() if end), default=None)
        present = {eni.network_interface_id: eni.audit_until for eni in state.audited}
        if wanted == present:
            return state
        if state is not self._state or wanted != self._wanted:
            self._state, self._wanted, self._found = state, wanted, _with_modes(state, wanted)
        return self._found

    def _note_ended(self, state: CloudState, rule: AuditRule, now: str) -> str:
        """Note which ends have passed; return the time to go by."""
        ends = (rule.until, *(eni.audit_until for eni in state.audited))
        self.ended = max((self.ended, *(end for end in ends if end <= now)))
        return max(now, self.ended)


def _wanted(state: CloudState, bindings: Iterable[Binding], rule: AuditRule, now: str) -> Iterable[tuple[str, str]]:
    """The ENIs in audit mode, and until when. ENIs of other hosts are in the mode that the state says."""
    asked = {b.eni_id: rule.until for b in bindings if rule.asks_for(b.eni_id, now)}
    asked |= {b.eni_id: "" for b in bindings if b.mode is Mode.AUDIT}
    for eni in state.audited:
        if not eni.audit_until or eni.audit_until > now:
            until = asked.get(eni.network_interface_id, eni.audit_until)
            asked[eni.network_interface_id] = max(until, eni.audit_until) if until and eni.audit_until else ""
    return ((eni_id, until) for eni_id, until in asked.items() if eni_id in state.eni)


def _with_modes(state: CloudState, wanted: Mapping[str, str]) -> CloudState:
    over = {eni.network_interface_id for eni in state.audited} - wanted.keys()
    found = state.with_mode(over, Mode.ENFORCE) if over else state
    for until in sorted(set(wanted.values())):
        found = found.with_mode({eni_id for eni_id, end in wanted.items() if end == until}, Mode.AUDIT, until)
    return found
