"""The actions that the cloud hasn't: SgdpWait, SgdpDiff, SgdpExplain, SgdpDescribeEvents.

Owns what they are asked and what they answer. Must not know HTTP, or how anything is enforced. (SgdpCloneSecurityGroup
is an action like the others.)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from typing import cast

from sgdataplane.analyse.diff import StateDiff
from sgdataplane.analyse.difference import compare
from sgdataplane.analyse.document import difference_as_json, end_as_json
from sgdataplane.analyse.explain import explain_flow
from sgdataplane.control.access.hiding import hide_unseen, may_see_group
from sgdataplane.control.access.permissions import Rights
from sgdataplane.control.actions.rules import propose_rules, rules_of
from sgdataplane.control.actions.scope import MAX_TOKEN, Scope
from sgdataplane.control.actions.validation import validate
from sgdataplane.control.calls.answers import ApiError
from sgdataplane.control.hosts.following import state_of
from sgdataplane.model.state import CloudState
from sgdataplane.net.packet import Packet
from sgdataplane.net.ports import EPHEMERAL
from sgdataplane.net.values import ECHO_REQUEST, ICMP, ICMPV6, Address, Direction, Protocol
from sgdataplane.statefile import Memory
from sgdataplane.statefile.native_objects import NativeGroup
from sgdataplane.store.audit import record_as_json
from sgdataplane.store.history import PRUNED, find_last_pruned
from sgdataplane.store.interface import AuditRecord, Body, Json, Revision, Store

MAX_CHANGES = 1_000  # rows of a kind in one answer; the others are only counted
MAX_EVENTS = 1_000
MAX_EVENT_RULES = 2_000  # rules in one answer, or those of one event
EVENTS_AT_ONCE = 20  # that are read from the store: each may have 1,000 rules
MAX_REVISION = 1 << 62
# What `sgdp diff --json` tells of one group's change, by its key there: as the API names the rows, and their number.
TOLD_OF_DIFF = {
    "changes": ("Changes", "TotalCount"),
    "would_open": ("WouldOpen", "WouldOpenTotalCount"),
    "opened_to_internet": ("OpenedToInternet", "OpenedToInternetTotalCount"),
    "would_open_to_internet": ("WouldOpenToInternet", "WouldOpenToInternetTotalCount"),
}
EVENT = {  # an audit record's fields, as the API names them
    "revision": "Revision",
    "time": "Time",
    "request_id": "RequestId",
    "key": "AccessKeyId",
    "action": "Action",
    "source": "SourceIpAddress",
    "changed": "Changed",
    "rules": "Rules",
    "more_rules": "MoreRules",
}


def diff(scope: Scope, profile: str) -> Body:
    """Answer SgdpDiff: what would change if a group had these rules, or this inner policy. Nothing is written.

    The answer also has what would change at ENIs that aren't there.
    """
    group_id, memory = scope.require("SecurityGroupId"), Memory()
    group = scope.groups.find(group_id)
    before = state_of(scope.workspace.documents, profile, memory)
    state: NativeGroup = {**group.state, "rules": propose_rules(scope, rules_of(group))}
    if scope.has("InnerAccessPolicy"):
        state["inner_access_policy"] = scope.text("InnerAccessPolicy").capitalize()
    scope.groups.put(group_id, state, group.about)
    validate(scope.workspace, profile)
    documents = scope.workspace.documents
    change = Revision(documents.revision, scope.workspace.puts, frozenset(), frozenset())
    found = difference_as_json(compare(StateDiff(before, state_of(documents.after(change), profile, memory))))
    answer: dict[str, Json] = {}
    for key, (rows, total) in TOLD_OF_DIFF.items():
        answer[rows], answer[total] = cast(Json, found[key][:MAX_CHANGES]), len(found[key])
    return answer


def explain(scope: Scope, profile: str) -> Body:
    """Answer SgdpExplain: why a packet passes an ENI or not, and the other end, if that is known."""
    state = state_of(scope.workspace.documents, profile)
    flow = explain_flow(state, _packet(scope, state))
    ends = [end_as_json(end) for end in flow.ends]
    return {"Passes": flow.passes, "Ends": cast(Json, ends)}


def _packet(scope: Scope, state: CloudState) -> Packet:
    eni_id = scope.require("NetworkInterfaceId")
    scope.enis.find(eni_id)
    try:
        direction = Direction(scope.text("Direction", "ingress").lower())
        protocol = Protocol.parse(scope.text("IpProtocol", "tcp").lower())
        is_in = direction is Direction.INGRESS
        far = Address.parse(scope.require("SourceIp" if is_in else "DestIp"))
        near = scope.text("DestIp" if is_in else "SourceIp")
        local = Address.parse(near) if near else _own(state, eni_id, far)
    except ValueError as error:
        raise ApiError("InvalidParameter", str(error)) from None
    port = scope.number("Port", 0) if protocol.has_ports else None
    source_port = scope.number("SourcePort", EPHEMERAL) if protocol.has_ports else None
    icmp = ECHO_REQUEST[far.family] if protocol.number in (ICMP, ICMPV6) else None
    return Packet(eni_id, direction, far, local, protocol.number, port, source_port, icmp)


def _own(state: CloudState, eni_id: str, far: Address) -> Address:
    own = [address for address in state.eni[eni_id].addresses if address.family is far.family]
    if not own:
        raise ApiError("InvalidParameter", f"{eni_id} has no {far.family.value} address")
    return own[0]


def describe_events(scope: Scope, store: Store, rights: Rights) -> Body:
    """Answer SgdpDescribeEvents with the audit records, in order, from the revision after After.

    Ids that the key may not see are hidden, and rules of such groups are only counted.
    """
    after = scope.number("After", 0)
    token = scope.text("NextToken")
    if token.isascii() and token.isdecimal() and len(token) <= MAX_TOKEN:
        after = int(token)
    size = min(max(scope.number("MaxResults", 100), 1), MAX_EVENTS)
    events, may_be_more = _read_events(store, min(after, MAX_REVISION), size)
    may_see = cache(partial(may_see_group, call=scope.call, rights=rights))
    records = ({**record_as_json(event), **_visible_rules(event, may_see)} for event in events)
    shown: list[Json] = [{key: record.get(name, "") for name, key in EVENT.items()} for record in records]
    documents = scope.workspace.documents
    hidden = hide_unseen({"Events": shown}, documents, scope.call, rights)
    more = {"Epoch": documents.version.epoch, "PrunedUpTo": find_last_pruned(documents.get(PRUNED))}
    return {**hidden, "NextToken": str(events[-1].revision) if may_be_more else "", **more}


def _read_events(store: Store, after: int, size: int) -> tuple[list[AuditRecord], bool]:
    """Return up to `size` records, fewer if they have very many rules; and whether there may be more."""
    found: list[AuditRecord] = []
    rules = 0
    while len(found) < size and rules < MAX_EVENT_RULES:
        wanted = min(EVENTS_AT_ONCE, size - len(found))
        batch = store.events(found[-1].revision if found else after, wanted)
        for event in batch:
            rules += len(_rules_in(event))
            if found and rules > MAX_EVENT_RULES:
                return found, True
            found.append(event)
        if len(batch) < wanted:
            return found, False
    return found, True


def _rules_in(event: AuditRecord) -> Sequence[Json]:
    """Return the rules that a record has. Another program may have written anything there."""
    rules = event.record.get("rules")
    return rules if isinstance(rules, list) else ()


def _visible_rules(event: AuditRecord, may_see: Callable[[str], bool]) -> Body:
    """Return the rules of a record that the key may see, and how many others the commit has changed."""
    rules, more = _rules_in(event), event.record.get("more_rules", 0)
    seen = [one for one in rules if isinstance(one, Mapping) and may_see(str(one.get("security_group_id", "")))]
    return {"rules": seen, "more_rules": len(rules) - len(seen) + (more if isinstance(more, int) else 0)}
