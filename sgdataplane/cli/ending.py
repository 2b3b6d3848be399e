"""Live sessions that a change would end, as text, Markdown and JSON.

Owns the wording. Is given the sessions, each with the line of the change. Must not know how they were found.
"""

from __future__ import annotations

from dataclasses import dataclass

from sgdataplane.cli.sessions import as_json as session_as_json
from sgdataplane.model import words
from sgdataplane.net.values import Protocol
from sgdataplane.observe.sessions import Session
from sgdataplane.terminal.output import endpoint, paint, render_table, say, say_block
from sgdataplane.trial.lines import TrialLine

MAX_SESSIONS = 20  # that are listed for people
SESSION_HEADERS = ("ENI", "DIRECTION", "PROTOCOL", "REMOTE", "LOCAL", "STATE", "DECIDED AFTER")
Ending = tuple[Session, TrialLine]


@dataclass(frozen=True, slots=True)
class EndingSessions:
    """Sessions that the policy in force has accepted and that the change would refuse."""

    sessions: tuple[Ending, ...]

    @property
    def title(self) -> str:
        """How many sessions the change would end, in words."""
        return f"live sessions that the change would end: {len(self.sessions):,}"

    @property
    def rows(self) -> list[tuple[str, ...]]:
        """The first sessions, as cells of SESSION_HEADERS."""
        return [_row(session, line) for session, line in self.sessions[:MAX_SESSIONS]]

    def say(self, *, is_markdown: bool = False, is_always: bool = False) -> None:
        """Print the sessions; nothing if there are none, unless `is_always`."""
        if self.sessions or is_always:
            say(f"**{self.title}**" if is_markdown else paint(self.title, "bold"))
        if self.sessions:
            say_block(render_table(SESSION_HEADERS, self.rows, indent=2))
        if len(self.sessions) > MAX_SESSIONS:
            say(f"  {len(self.sessions) - MAX_SESSIONS:,} more; --json has all")

    def as_json(self) -> list[object]:
        """Return all of them, as `sgdp sessions --json` has sessions, with what would decide after the change."""
        return [
            {**session_as_json(session, session.eni_id, 1.0), "after": line.change.after.as_json()}
            for session, line in self.sessions
        ]


def _row(session: Session, line: TrialLine) -> tuple[str, ...]:
    direction = "" if session.direction is None else session.direction.value
    ends = endpoint(session.remote, session.remote_port), endpoint(session.local, session.local_port)
    after = words.cite_decision(line.change.after)
    return session.eni_id, direction, str(Protocol(session.protocol)), *ends, session.state, after
