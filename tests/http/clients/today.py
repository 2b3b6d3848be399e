"""The session of test_sdks.py through the cloud's official Python SDK."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any

from alibabacloud_ecs20140526 import models as m
from alibabacloud_ecs20140526.client import Client
from alibabacloud_tea_openapi.exceptions import AlibabaCloudException
from alibabacloud_tea_openapi.models import Config


def client(secret: str) -> Client:
    endpoint, key = sys.argv[1:3]
    config = Config(access_key_id=key, access_key_secret=secret, endpoint=endpoint, protocol="http")
    return Client(config)


def refusal(work: Callable[[], object]) -> dict[str, Any]:
    try:
        work()
    except AlibabaCloudException as error:
        return {
            "kind": type(error).__name__,
            "code": error.code,
            "status": error.status_code,
            "request_id": error.data["RequestId"],
            "message": error.message,
            "wait": getattr(error, "retry_after", None),
        }
    return {}


def main() -> None:
    ecs = client(sys.argv[3])
    created = ecs.create_security_group(
        m.CreateSecurityGroupRequest(
            region_id="cn-hangzhou",
            security_group_name="web + é/~*",
            client_token="t",
            tag=[m.CreateSecurityGroupRequestTag(key="a", value="b")],
        )
    )
    rule = m.AuthorizeSecurityGroupRequestPermissions
    ecs.authorize_security_group(
        m.AuthorizeSecurityGroupRequest(
            region_id="cn-hangzhou",
            security_group_id=created.body.security_group_id,
            permissions=[
                rule(ip_protocol="TCP", port_range="443/443", source_cidr_ip="0.0.0.0/0", priority="1"),
                rule(ip_protocol="TCP", port_range="22/22", source_group_id="sg-2", description="from bastion +1"),
            ],
        )
    )
    describe = m.DescribeSecurityGroupsRequest(region_id="cn-hangzhou", max_results=10, dry_run=False)
    found = ecs.describe_security_groups(describe)
    absent = m.DeleteSecurityGroupRequest(region_id="cn-hangzhou", security_group_id="absent")
    print(
        json.dumps(
            {
                "created": created.body.security_group_id,
                "revision": created.headers.get("x-sgdp-revision"),
                "found": [group.security_group_name for group in found.body.security_groups.security_group],
                "again": refusal(lambda: ecs.describe_security_groups(describe)),
                "absent": refusal(lambda: ecs.delete_security_group(absent)),
                "guessed": refusal(lambda: client("guessed").delete_security_group(absent)),
            }
        )
    )


main()
