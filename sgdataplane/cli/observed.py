"""What the kernel tells of a state's rules and sessions: from a lab, or from the ENIs that are attached on this host.

Owns which namespaces are asked, and what there is to beware of in their answers. Is given a state. Must not know where
they are shown.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from sgdataplane.attach.registry import Binding
from sgdataplane.cli import scopes
from sgdataplane.cli.sessions import decided_by, end_text, next_packet
from sgdataplane.contract.counters import counter_name
from sgdataplane.contract.sites import SITES
from sgdataplane.errors import HostError
from sgdataplane.model.choices import Choices
from sgdataplane.model.options import Options, Placement
from sgdataplane.model.semantics import of_rule
from sgdataplane.model.state import CloudState
from sgdataplane.net.values import Protocol
from sgdataplane.observe.decisions import Decider
from sgdataplane.observe.drops import read_counters
from sgdataplane.observe.sessions import Session, read_sessions
from sgdataplane.report.content import Observed, SessionRow, Unobserved
from sgdataplane.report.words import counted

MOST_SESSIONS = 200


class Reading:
    """What some namespaces told, added up. `judged_by`: the state that is in force there. `options`: how it is read."""

    def __init__(self, judged_by: CloudState, options: Options) -> None:
        self._state, self._decider = judged_by, Decider(judged_by, options)
        self._packets: Counter[str] = Counter()
        self._sessions: list[Session] = []

    def add(self, place: str, interfaces: Mapping[str, str], placement: Placement) -> None:
        """Read a namespace, which has these interfaces (ENI id -> name). HostError if it is gone or can't be read."""
        try:
            self._packets.update(read_counters(place))
        except OSError as error:
            raise HostError(place, error.strerror or str(error)) from error
        sessions = read_sessions(place, self._state, interfaces, self._decider, SITES[placement])
        self._sessions += [one for one in sessions if one.eni_id]

    def observed(self, state: CloudState, where: str) -> Observed:
        """What was read, for a page about that state."""
        counters = {
            (group.security_group_id, rule.security_group_rule_id): counter_name(of_rule(group.security_group_id, rule))
            for group in state.security_groups
            for rule in group.rules
        }
        hits = {ids: self._packets[counter] for ids, counter in counters.items()}
        ordered = sorted(self._sessions, key=_order)
        return Observed(where, hits, tuple(map(_row, ordered[:MOST_SESSIONS])), len(ordered))


def choices_of_lab(name: str) -> Choices:
    """How a lab judges. LabError if there is none of that name."""
    from sgdataplane.lab import manage

    return manage.record_of(name).choices


def of_lab(state: CloudState, name: str) -> Observed:
    """From a lab, which stays as it is meanwhile. LabError if there is none of that name."""
    from sgdataplane.lab import manage

    with manage.watch(name) as lab:
        reading = Reading(lab.state, lab.options)
        for scope in scopes.of_lab(lab).all:
            reading.add(scope.namespace, scope.interfaces, scope.placement)
    differs = "" if lab.state == state else " (another state than this one is in force there)"
    return reading.observed(state, f"in the lab {name} as it is now{differs}")


def of_host(state: CloudState, attached: Sequence[Binding], options: Options) -> Observed | Unobserved:
    """From those of this host's attached ENIs that the state has; why not, if there are none."""
    bindings = [binding for binding in attached if binding.eni_id in state.eni]
    if not bindings:
        how = "none of the state's ENIs is attached on this host" if attached else "no ENI is attached on this host"
        return Unobserved(f"no lab was named with --name, and {how}.")
    reading, ended = Reading(state, options), 0
    for scope in scopes.of_bindings(bindings, state, options).all:
        with scope.held() as path:
            if path is None:
                ended += len(scope.interfaces)
            else:
                reading.add(path, scope.interfaces, scope.placement)
    missing = f"; {counted(ended, 'ENI')} more ended" if ended else ""
    where = f"at {counted(len(bindings) - ended, 'ENI')} of this state that this host has{missing}"
    return reading.observed(state, where)


def _order(session: Session) -> tuple[object, ...]:
    local_port, remote_port = session.local_port or 0, session.remote_port or 0
    return session.eni_id, session.protocol, session.local, local_port, session.remote, remote_port


def _row(session: Session) -> SessionRow:
    return SessionRow(
        session.eni_id,
        session.direction.value if session.direction else "",
        str(Protocol(session.protocol)),
        end_text(session.remote, session.remote_port),
        end_text(session.local, session.local_port),
        session.state,
        next_packet(session),
        decided_by(session),
    )
