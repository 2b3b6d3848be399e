"""Documents in which another program has put values of a wrong kind: whoever describes them still gets an answer."""

from __future__ import annotations

import pytest

from sgdataplane.control.actions.engine import Engine
from sgdataplane.store.interface import Body, Json, Write
from tests.support.inputs.controlling import Client, counted_ids
from tests.support.run.memorystore import MemoryStore


@pytest.mark.parametrize(
    ("kind", "part", "field", "action", "parameters"),
    [
        ("vpc", "about", "name", "DescribeVpcs", {"VpcName": "5"}),
        ("security_group", "state", "security_group_name", "DescribeSecurityGroups", {"SecurityGroupName": "5"}),
        ("security_group", "about", "resource_group_id", "resourcemanager:ListResourceGroups", {}),
        ("instance", "about", "instance_type", "DescribeInstances", {}),
        ("network_interface", "about", "name", "DescribeNetworkInterfaces", {"NetworkInterfaceName": "5"}),
        ("network_interface", "state", "type", "DescribeNetworkInterfaces", {}),
    ],
)
def test_a_number_in_place_of_a_text_is_described(
    kind: str, part: str, field: str, action: str, parameters: dict[str, Json]
) -> None:
    store = MemoryStore()
    client = Client(Engine(store, new_id=counted_ids()))
    vpc_id, switch_id = client.network()
    client("CreateInstance", VSwitchId=switch_id, SecurityGroupId=client.group(vpc_id))
    path, body = next((path, body) for path, body in store.snapshot().documents.items() if path.startswith(f"{kind}/"))
    store.commit(Write({}, {path: _with(body, part, field, 5)}))
    client.engine.catch_up()
    assert client.engine.documents.get(path) != body  # control: the other program's value has come
    assert int(client.text(action, "TotalCount", **parameters)) >= 1


def _with(body: Body, part: str, field: str, value: Json) -> Body:
    fields = body[part]
    assert isinstance(fields, dict)
    return {**body, part: {**fields, field: value}}
