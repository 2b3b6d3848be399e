"""The session of test_sdks.py through the cloud's older Python SDK, which many scripts still use."""

from __future__ import annotations

import json
import sys
from typing import Any

from aliyunsdkcore.acs_exception.exceptions import ServerException
from aliyunsdkcore.client import AcsClient
from aliyunsdkcore.request import RpcRequest
from aliyunsdkecs.request.v20140526.AuthorizeSecurityGroupRequest import AuthorizeSecurityGroupRequest
from aliyunsdkecs.request.v20140526.CreateSecurityGroupRequest import CreateSecurityGroupRequest
from aliyunsdkecs.request.v20140526.DeleteSecurityGroupRequest import DeleteSecurityGroupRequest
from aliyunsdkecs.request.v20140526.DescribeSecurityGroupsRequest import DescribeSecurityGroupsRequest


def do(client: AcsClient, request: RpcRequest) -> dict[str, Any]:
    request.set_endpoint(sys.argv[1])
    request.set_protocol_type("http")
    answer: dict[str, Any] = json.loads(client.do_action_with_exception(request))
    return answer


def refusal(client: AcsClient, request: RpcRequest) -> dict[str, Any]:
    try:
        do(client, request)
    except ServerException as error:
        return {
            "kind": type(error).__name__,
            "code": error.get_error_code(),
            "status": error.get_http_status(),
            "request_id": error.get_request_id(),
            "message": error.get_error_msg(),
        }
    return {}


def absent() -> RpcRequest:
    request = DeleteSecurityGroupRequest()
    request.set_SecurityGroupId("absent")
    return request


def main() -> None:
    client = AcsClient(*sys.argv[2:4], "cn-hangzhou")
    create = CreateSecurityGroupRequest()
    create.set_SecurityGroupName("web + é/~*")
    create.set_ClientToken("t")
    create.set_Tags([{"Key": "a", "Value": "b"}])
    created = do(client, create)["SecurityGroupId"]
    authorize = AuthorizeSecurityGroupRequest()
    authorize.set_SecurityGroupId(created)
    authorize.set_Permissions(
        [
            {"IpProtocol": "TCP", "PortRange": "443/443", "SourceCidrIp": "0.0.0.0/0", "Priority": "1"},
            {"IpProtocol": "TCP", "PortRange": "22/22", "SourceGroupId": "sg-2", "Description": "from bastion +1"},
        ]
    )
    do(client, authorize)
    describe = DescribeSecurityGroupsRequest()
    describe.set_MaxResults(10)
    describe.set_DryRun(False)
    found = do(client, describe)["SecurityGroups"]["SecurityGroup"]
    guessed = AcsClient(sys.argv[2], "guessed", "cn-hangzhou")
    print(
        json.dumps(
            {
                "created": created,
                "found": [group["SecurityGroupName"] for group in found],
                "absent": refusal(client, absent()),
                "guessed": refusal(guessed, absent()),
            }
        )
    )


main()
