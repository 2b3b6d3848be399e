"""The cloud's own Python SDK changes what real packets may do. `make demo-api` runs this beside an API with a lab."""

import os
import subprocess

from alibabacloud_ecs20140526 import models as ecs
from alibabacloud_ecs20140526.client import Client
from alibabacloud_tea_openapi.models import Config, OpenApiRequest, Params
from darabonba.runtime import RuntimeOptions

REGION, LAB = "cn-hangzhou", os.environ["SGDP_LAB"]
client = Client(Config(
    endpoint=os.environ["ECS_ENDPOINT"], protocol="http", access_key_id=os.environ["ECS_KEY"], access_key_secret=os.environ["ECS_SECRET"]
))


def settled() -> None:
    """Wait until packets obey everything that was asked for."""
    wait = Params(action="SgdpWait", version="2014-05-26", protocol="HTTP", pathname="/", method="POST", auth_type="AK",
                  style="RPC", req_body_type="formData", body_type="json")
    client.call_api(wait, OpenApiRequest(query={"Timeout": "60"}), RuntimeOptions())


def try_it(what: str) -> None:
    settled()
    print(f"\n{what}", flush=True)
    subprocess.run(["sgdp", "lab", "probe", "--name", LAB, "--from", "web1", "--to", "db1", "--port", "tcp/5432"])


vpc = client.create_vpc(ecs.CreateVpcRequest(region_id=REGION, cidr_block="10.0.0.0/16")).body.vpc_id
switch = client.create_vswitch(ecs.CreateVSwitchRequest(vpc_id=vpc, cidr_block="10.0.1.0/24", zone_id="a")).body.v_switch_id
group = {}
for name in ("web", "db"):
    created = client.create_security_group(ecs.CreateSecurityGroupRequest(region_id=REGION, vpc_id=vpc, security_group_name=name))
    group[name] = created.body.security_group_id
    client.run_instances(ecs.RunInstancesRequest(
        region_id=REGION, v_switch_id=switch, security_group_id=group[name], instance_name=f"{name}1"))
try_it("Two instances, no rules:")

rule = {"region_id": REGION, "security_group_id": group["db"], "ip_protocol": "tcp", "port_range": "5432/5432", "source_group_id": group["web"]}
client.authorize_security_group(ecs.AuthorizeSecurityGroupRequest(**rule))
try_it("AuthorizeSecurityGroup: db accepts web at 5432:")

client.revoke_security_group(ecs.RevokeSecurityGroupRequest(**rule))
try_it("RevokeSecurityGroup:")
