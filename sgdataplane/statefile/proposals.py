"""What is on trial for a group, checked against the state that it would change.

Owns that check. A state is accepted whatever its trials name, because a trial must not hold up a policy: what a trial
names may be deleted while it runs. So whoever compares with the proposal checks it at that moment. Must not know
formats, or what a trial is for.
"""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from contextlib import suppress

from sgdataplane.model.state import CloudState
from sgdataplane.statefile.fields import Fields
from sgdataplane.statefile.problems import EnoughProblemsError, Problems
from sgdataplane.statefile.sections import ID_FIELD, Draft, Index
from sgdataplane.statefile.validate import RuleCheck


def propose(state: CloudState, group_id: str) -> CloudState:
    """Return the state with what is on trial for a group in force there; the state itself if nothing is.

    Raises:
        StateFileError: The rules on trial name what isn't there, or what such a group's rules can't name.
    """
    if group_id not in state.group or state.group[group_id].trial is None:
        return state
    found, problems = state.propose(group_id), Problems()
    index = Index(problems, _ids_of(found), found.vpc, found.prefix_list, found.port_list, found.group)
    group = found.group[group_id]
    with suppress(EnoughProblemsError):
        for rule in group.rules:
            fields = Fields("", f"/security_groups/{group_id}/trial/rules/{rule.security_group_rule_id}", {})
            RuleCheck(group, Draft(rule, fields), index).run(state.unknown_groups)
    if problems.count:
        raise problems.as_error()
    return found


def _ids_of(state: CloudState) -> dict[str, AbstractSet[str]]:
    return {
        section: frozenset(getattr(one, name) for one in getattr(state, section)) for section, name in ID_FIELD.items()
    }
