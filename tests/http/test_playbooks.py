"""The playbooks of examples/ansible: Ansible's own modules for the cloud make, change and remove what it is about.

They skip where Ansible isn't (`make test-slow` installs it). `--update-golden` renews what is recorded of it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sgdataplane.control.http.client import ApiClient
from tests.http.conftest import Cloud
from tests.support.servers.playbooks import Playbooks
from tools.apiactions import PASSED, record_client, tried_clients

pytestmark = [pytest.mark.slow, pytest.mark.optional]
PLAYBOOKS = Path(__file__).resolve().parents[2] / "examples" / "ansible"
SHOP, REMOVE = PLAYBOOKS / "shop.yml", PLAYBOOKS / "remove.yml"
NAME = "Ansible"


def rules(client: ApiClient, name: str) -> set[tuple[str, str, str]]:
    """Of the group of that name: protocol, ports, and the name of the group or the block from which it accepts."""
    found = client.ask("DescribeSecurityGroups", SecurityGroupName=name)["SecurityGroups"]["SecurityGroup"]
    (group,) = (one["SecurityGroupId"] for one in found)
    listed = client.ask("DescribeSecurityGroupAttribute", SecurityGroupId=group)["Permissions"]["Permission"]
    return {(one["IpProtocol"], one["PortRange"], one["SourceGroupName"] or one["SourceCidrIp"]) for one in listed}


def attached(client: ApiClient) -> list[tuple[str, str]]:
    """Each ENI's primary address, and its kind."""
    found: list[dict[str, Any]] = client.ask("DescribeNetworkInterfaces")["NetworkInterfaceSets"]["NetworkInterfaceSet"]
    return sorted((one["PrivateIpAddress"], one["Type"]) for one in found if one["InstanceId"])


def test_a_shop_is_made_once_changed_and_removed(cloud: Cloud, tmp_path: Path, update_golden: bool) -> None:
    ansible, client = Playbooks(cloud.environment, tmp_path), cloud.client
    assert ansible.play(SHOP) > 0
    ping = ("ICMP", "-1/-1", "10.20.6.18/16")  # with host bits, as it is written in the playbook
    assert rules(client, "db") == {("TCP", "5432/5432", "web"), ping}
    assert attached(client) == [("10.20.1.1", "Primary"), ("10.20.1.77", "Secondary")]
    assert ansible.play(SHOP) == 0, "a second run finds everything as it is"
    assert ansible.play(SHOP, open_port=5433) == 1
    assert rules(client, "db") == {("TCP", "5433/5433", "web"), ping}
    assert ansible.play(REMOVE) > 0
    assert client.ask("DescribeVpcs")["TotalCount"] == client.ask("DescribeSecurityGroups")["TotalCount"] == 0
    actions = {name: code or PASSED for name, code in sorted(cloud.outcomes().items())}
    found = {"version": ansible.version, "actions": actions}
    if update_golden:
        record_client(NAME, found)
    assert found == tried_clients()[NAME]
