// The session of test_sdks.py through pop-core, the older client for Node: GET, and POST with a form.
"use strict";
const { RPCClient } = require("@alicloud/pop-core");
const [endpoint, key, secret] = process.argv.slice(2);
const client = (secret) =>
  new RPCClient({
    accessKeyId: key,
    accessKeySecret: secret,
    endpoint: `http://${endpoint}`,
    apiVersion: "2014-05-26",
  });

async function refusal(work) {
  try {
    await work();
    return {};
  } catch (error) {
    const { code, data, message } = error;
    return { kind: error.constructor.name, code, request_id: data.RequestId, message };
  }
}

async function main() {
  const pop = client(secret);
  const post = { method: "POST" };
  const fields = { RegionId: "cn-hangzhou", SecurityGroupName: "web + é/~*", ClientToken: "t" };
  const created = await pop.request("CreateSecurityGroup", { ...fields, "Tag.1.Key": "a", "Tag.1.Value": "b" }, post);
  const rules = [
    { IpProtocol: "TCP", PortRange: "443/443", SourceCidrIp: "0.0.0.0/0", Priority: "1" },
    { IpProtocol: "TCP", PortRange: "22/22", SourceGroupId: "sg-2", Description: "from bastion +1" },
  ];
  const where = { RegionId: "cn-hangzhou", SecurityGroupId: created.SecurityGroupId };
  await pop.request("AuthorizeSecurityGroup", { ...where, Permissions: rules }, post);
  const asked = { RegionId: "cn-hangzhou", MaxResults: 10, DryRun: false };
  const found = await pop.request("DescribeSecurityGroups", asked, { method: "GET" });
  const absent = { RegionId: "cn-hangzhou", SecurityGroupId: "absent" };
  const answer = {
    created: created.SecurityGroupId,
    found: found.SecurityGroups.SecurityGroup.map((group) => group.SecurityGroupName),
    absent: await refusal(() => pop.request("DeleteSecurityGroup", absent, post)),
    guessed: await refusal(() => client("guessed").request("DeleteSecurityGroup", absent, post)),
  };
  console.log(JSON.stringify(answer));
}

main();
