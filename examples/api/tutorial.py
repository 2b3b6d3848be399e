"""The cloud's own Python SDK changes what real packets may do. `make demo-api` runs this beside an API with a lab."""

import os
import subprocess

from alibabacloud_ecs20140526 import models as ecs
from alibabacloud_ecs20140526.client import Client
from alibabacloud_tea_openapi.models import Config, OpenApiRequest, Params
from darabonba.runtime import RuntimeOptions

REGION, LAB = "cn-hangzhou", os.environ["SGDP_LAB"]
KEY, SECRET = os.environ["ECS_KEY"], os.environ["ECS_SECRET"]
ENDPOINT = os.environ["ECS_ENDPOINT"]
client = Client(Config(endpoint=ENDPOINT, protocol="http", access_key_id=KEY, access_key_secret=SECRET))
WAIT = Params(
    action="SgdpWait", version="2014-05-26", protocol="HTTP", pathname="/", method="POST", auth_type="AK", style="RPC",
    req_body_type="formData", body_type="json",
)  # fmt: skip


def try_it(what: str) -> None:
    """Wait until packets obey all that was asked for, and send some."""
    client.call_api(WAIT, OpenApiRequest(query={"Timeout": "60"}), RuntimeOptions())
    print(f"\n{what}", flush=True)
    probe = ["sgdp", "lab", "probe", "--name", LAB, "--from", "web1", "--to", "db1", "--port", "tcp/5432"]
    subprocess.run(probe, check=True)


vpc = client.create_vpc(ecs.CreateVpcRequest(region_id=REGION, cidr_block="10.0.0.0/16")).body.vpc_id
wanted = ecs.CreateVSwitchRequest(vpc_id=vpc, cidr_block="10.0.1.0/24", zone_id="a")
switch = client.create_vswitch(wanted).body.v_switch_id
group = {}
for name in ("web", "db"):
    wanted = ecs.CreateSecurityGroupRequest(region_id=REGION, vpc_id=vpc, security_group_name=name)
    group[name] = client.create_security_group(wanted).body.security_group_id
    instance = {"v_switch_id": switch, "security_group_id": group[name], "instance_name": f"{name}1"}
    client.run_instances(ecs.RunInstancesRequest(region_id=REGION, **instance))
try_it("Two instances, no rules:")

rule = {"ip_protocol": "tcp", "port_range": "5432/5432", "source_group_id": group["web"]}
rule |= {"region_id": REGION, "security_group_id": group["db"]}
client.authorize_security_group(ecs.AuthorizeSecurityGroupRequest(**rule))
try_it("AuthorizeSecurityGroup: db accepts web at 5432:")

client.revoke_security_group(ecs.RevokeSecurityGroupRequest(**rule))
try_it("RevokeSecurityGroup:")
