"""The computing of heavy answers: SgdpDiff and SgdpExplain, actions that the cloud hasn't.

Owns what they are asked and what they answer. Must not know who computes it when, or who may see it. The API's own
process doesn't import this module, because what it needs takes long to import: the fork server does.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from threading import Event
from typing import cast

from sgdataplane.analyse.diff import StateDiff
from sgdataplane.analyse.difference import compare
from sgdataplane.analyse.document import difference_as_json, end_as_json
from sgdataplane.analyse.explain import explain_flow
from sgdataplane.control.actions.engine import random_id
from sgdataplane.control.actions.rules import propose_rules, rules_of
from sgdataplane.control.actions.scope import Scope
from sgdataplane.control.actions.validation import validate
from sgdataplane.control.calls.answers import ApiError
from sgdataplane.control.hosts.following import state_of
from sgdataplane.model.state import CloudState
from sgdataplane.net.packet import Packet
from sgdataplane.net.ports import EPHEMERAL
from sgdataplane.net.values import ECHO_REQUEST, ICMP, ICMPV6, Address, Direction, Protocol
from sgdataplane.statefile import Memory
from sgdataplane.statefile.native_objects import NativeGroup
from sgdataplane.store.call import Call
from sgdataplane.store.documents import Documents, Workspace
from sgdataplane.store.interface import Body, Json, Revision

MAX_CHANGES = 1_000  # rows of a kind in one answer; the others are only counted
# What `sgdp diff --json` tells of one group's change, by its key there: as the API names the rows, and their number.
TOLD_OF_DIFF = {
    "changes": ("Changes", "TotalCount"),
    "would_open": ("WouldOpen", "WouldOpenTotalCount"),
    "opened_to_internet": ("OpenedToInternet", "OpenedToInternetTotalCount"),
    "would_open_to_internet": ("WouldOpenToInternet", "WouldOpenToInternetTotalCount"),
}


class HeavyAnswers:
    """Computes heavy answers where it is called, to the end."""

    def __init__(self, profile: str) -> None:
        self._actions: dict[str, Callable[[Scope], Body]] = {
            "SgdpDiff": partial(diff, profile=profile),
            "SgdpExplain": partial(explain, profile=profile),
        }

    def compute(self, documents: Documents, call: Call, is_ended: Event | None = None) -> Body:  # noqa: ARG002
        """Return the answer's fields.

        Raises:
            ApiError: The call is refused.
        """
        return self._actions[call.action](Scope(Workspace(documents), call, random_id))


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
