"""Tags of an ENI say its mode, and its state has what they say."""

from __future__ import annotations

from sgdataplane.store.documents import ResourceKind, state_in
from sgdataplane.store.interface import Json
from tests.support.inputs.controlling import Client


def test_tags_say_the_mode_of_an_eni() -> None:
    """The state has what they say, so that every host gets it. Other tags leave the mode alone."""
    client = Client()
    vpc, switch = client.network()
    group = client.group(vpc)
    tags: Json = [{"Key": "sgdp:mode", "Value": "audit"}]
    made = client.text(
        "CreateNetworkInterface", "NetworkInterfaceId", VSwitchId=switch, SecurityGroupId=group, Tag=tags
    )
    eni: dict[str, Json] = {"ResourceType": "eni", "ResourceId": [made]}

    def mode() -> tuple[object, ...]:
        state = state_in(client.engine.documents.of_kind[ResourceKind.ENI][made])
        return state.get("mode"), state.get("audit_until")

    assert mode() == ("audit", None)
    client("TagResources", **eni, Tag=[{"Key": "sgdp:audit-until", "Value": "2026-12-24T00:00:00Z"}])
    assert mode() == ("audit", "2026-12-24T00:00:00Z")
    client("TagResources", **eni, Tag=[{"Key": "env", "Value": "prod"}])
    assert mode() == ("audit", "2026-12-24T00:00:00Z")
    client("TagResources", **eni, Tag=[{"Key": "sgdp:mode", "Value": "observe"}])
    assert mode() == (None, None)
    client("TagResources", **eni, Tag=tags)
    assert mode() == ("audit", "2026-12-24T00:00:00Z")
    client("UntagResources", **eni, TagKey=["sgdp:mode"])
    assert mode() == (None, None)
