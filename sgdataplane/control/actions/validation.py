"""Validation of a change: the verdict of `statefile` on the whole state, from a small part of it.

Owns which part a change concerns. Must not know actions. tests/control/test_validation.py compares its verdict with
that of `statefile` on everything.

The part holds what was changed and all that it names. For changed ENIs it also holds all others of their instances and
those with their addresses. A group that is only named comes without its rules, which were right when they were written.
What is counted beyond one object (members of a group, rules of an ENI, lists) is counted from the indexes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from sgdataplane.control.calls.answers import NOT_FOUND, ApiError
from sgdataplane.errors import Problem, StateFileError
from sgdataplane.model.state import GroupType, NetworkType
from sgdataplane.statefile.load import load_native
from sgdataplane.statefile.quotas import PROFILES, Quotas
from sgdataplane.store.documents import (
    ADDRESSES,
    Fields,
    ResourceKind,
    Workspace,
    kind_of,
    name_of,
    native,
    path_of,
    prefixes_in,
    references,
    rules_in,
    state_in,
    texts,
)
from sgdataplane.store.interface import Body, Path

MANAGED = "InvalidOperation.ResourceManagedByCloudProduct"
STATUSES = {MANAGED: 403}
NO_PART_OF_STATES = (ResourceKind.ACCESS_KEY, ResourceKind.HOST, ResourceKind.REFUSAL, ResourceKind.KEY_PAIR)


def validate(workspace: Workspace, profile: str) -> None:
    """Refuse a change after which the state isn't valid any more.

    Raises:
        ApiError: It isn't. The code is the cloud's for the first problem; the message has all of them.
    """
    if not workspace.is_changed:
        return
    try:
        load_native(_part(workspace), profile=profile)
    except StateFileError as error:
        raise refusal(error.problems) from None
    _check_counts(workspace, profile)


def refusal(problems: Iterable[Problem]) -> ApiError:
    """Return the error of a request that would make a state with these problems."""
    first, *others = problems
    text = "; ".join(map(_sentence, (first, *others[:9])))
    return ApiError(first.code, text, status_of(first.code))


def status_of(code: str) -> int:
    """Return HTTP's status of an error code."""
    return STATUSES.get(code, NOT_FOUND if code.endswith(".NotFound") else 400)


def _sentence(problem: Problem) -> str:
    value = f": {problem.value}" if problem.value else ""
    expected = f" (expected: {problem.expected})" if problem.expected else ""
    return f"{problem.message}{value}{expected}"


def _part(workspace: Workspace) -> dict[str, object]:
    whole = _whole(workspace)
    named = {target for path in whole for target in _find_named(workspace, path)} - whole
    stubs = named | {target for path in named for target in _find_named(workspace, path, stub=True)}
    bodies = [
        (kind_of(path), body, path in whole) for path in sorted(whole | stubs) if (body := _body(workspace, path))
    ]
    part = native((kind, body) for kind, body, is_whole in bodies if is_whole)
    for section, objects in native(((kind, body) for kind, body, is_whole in bodies if not is_whole), _stub).items():
        if isinstance(objects, list):
            known = part.setdefault(section, [])
            assert isinstance(known, list)
            known += objects
    return part


def _whole(workspace: Workspace) -> set[Path]:
    """Return what has to be checked: what was changed, and the ENIs that a change can make wrong."""
    found = {path for path in workspace.puts if kind_of(path) not in NO_PART_OF_STATES}
    enis = {path for path in found | workspace.deletes if kind_of(path) is ResourceKind.ENI}
    enis |= {other for path in enis for other in _overlapping(workspace, path)}
    enis |= {other for path in enis for other in _siblings(workspace, path)}
    return found | {path for path in enis if _body(workspace, path)}


def _siblings(workspace: Workspace, path: Path) -> Iterator[Path]:
    """Yield the ENIs of an ENI's instance, and of the one that it had before."""
    for body in (_body(workspace, path), workspace.documents.get(path)):
        instance = str(state_in(body).get("instance_id", "")) if body else ""
        yield from (path_of(ResourceKind.ENI, eni_id) for eni_id in workspace.enis_of(instance) if instance)


def _overlapping(workspace: Workspace, path: Path) -> Iterator[Path]:
    """Yield the ENIs that have one of an ENI's addresses."""
    body = _body(workspace, path)
    try:
        prefixes = list(prefixes_in(body)) if body else []
    except ValueError:
        return  # it will be said what is wrong with them
    vpc_id = str(state_in(body)["vpc_id"]) if body else ""
    for prefix in prefixes:
        others = workspace.documents.taken.others(vpc_id, prefix)
        yield from (other for other in others if other not in workspace.deletes)


def _groups(workspace: Workspace, path: Path) -> list[str]:
    body = _body(workspace, path)
    return texts(state_in(body), "security_group_ids") if body else []


def _find_named(workspace: Workspace, path: Path, *, stub: bool = False) -> Iterator[Path]:
    """Yield the paths that a document names; only those that stay in it if it is a stub."""
    body = _body(workspace, path)
    if body is None:
        return
    kind = kind_of(path)
    found = references(kind, {"state": _stub(kind, body), "about": {}} if stub else body)
    yield from (target for target in found if kind_of(target) is not ResourceKind.VSWITCH)


def _stub(kind: ResourceKind, body: Body) -> Fields:
    """Return what others need to know of an object that they name."""
    state = state_in(body)
    return {name: value for name, value in state.items() if name != "rules"} if kind is ResourceKind.GROUP else state


def _body(workspace: Workspace, path: Path) -> Body | None:
    return workspace.get(kind_of(path), name_of(path))


def _check_counts(workspace: Workspace, profile: str) -> None:
    limits = PROFILES[profile]
    changed = {kind_of(path) for path in workspace.puts}
    lists = sum(1 for _ in workspace.all(ResourceKind.PREFIX_LIST)) if ResourceKind.PREFIX_LIST in changed else 0
    if limits.prefix_lists is not None and lists > limits.prefix_lists:
        raise ApiError("LimitExceed.PrefixList", f"there can be {limits.prefix_lists} prefix lists (profile {profile})")
    enis = [path for path in workspace.puts if kind_of(path) is ResourceKind.ENI]
    for group_id in sorted({group for path in enis for group in _groups(workspace, path)}):
        _check_members(workspace, group_id, limits, profile)
    groups = [name_of(path) for path in workspace.puts if kind_of(path) is ResourceKind.GROUP]
    of_enis = {tuple(_groups(workspace, path)) for path in enis}
    of_groups = {
        tuple(_groups(workspace, path))
        for name in groups
        for path in workspace.users(ResourceKind.GROUP, name, ResourceKind.ENI)
    }
    for ids in sorted(of_enis | of_groups):
        rules = sum(_cost(workspace, group_id) for group_id in ids)
        if limits.rules_per_eni is not None and rules > limits.rules_per_eni:
            message = f"an ENI in {', '.join(ids)} would have {rules} rules; {limits.rules_per_eni} is the most"
            raise ApiError("AclLimitExceed", f"{message} (profile {profile})")


def _check_members(workspace: Workspace, group_id: str, limits: Quotas, profile: str) -> None:
    state = workspace.state(ResourceKind.GROUP, group_id)
    kind = GroupType(state.get("security_group_type", GroupType.NORMAL.value))
    vpc = workspace.state(ResourceKind.VPC, str(state["vpc_id"]))
    most = limits.members(kind, is_classic=vpc.get("network_type") == NetworkType.CLASSIC.value)
    if most is not None and _count_members(workspace, group_id) > most:
        code = "SecurityGroupInstanceLimitExceed" if kind is GroupType.NORMAL else "InvalidOperation.EniCountExceeded"
        raise ApiError(code, f"{group_id} can have {most} members (profile {profile})")


def _count_members(workspace: Workspace, group_id: str) -> int:
    """Return how many members a group has. A member is a private address; a delegated prefix counts as one."""
    enis = (workspace.state(ResourceKind.ENI, eni_id) for eni_id in workspace.members(group_id))
    return sum(len(texts(eni, name)) for eni in enis for name in ADDRESSES)


def _cost(workspace: Workspace, group_id: str) -> int:
    """Return how many rules a group's rules count as.

    A rule with lists counts once for each combination of entries that the lists may have.
    """
    body = workspace.get(ResourceKind.GROUP, group_id)
    return sum(_cost_of_rule(workspace, rule) for rule in rules_in(body)) if body else 0


def _cost_of_rule(workspace: Workspace, rule: Fields) -> int:
    cost = 1
    for name, kind in (("prefix_list_id", ResourceKind.PREFIX_LIST), ("port_list_id", ResourceKind.PORT_LIST)):
        if name in rule:
            cost *= int(str(workspace.state(kind, str(rule[name]))["max_entries"]))
    return cost
