// The session of test_sdks.py through the cloud's official SDK for Node.
"use strict";
const { $OpenApiUtil } = require("@alicloud/openapi-core");
const Ecs = require("@alicloud/ecs20140526");
const [endpoint, key, secret] = process.argv.slice(2);
const client = (secret) =>
  new Ecs.default(new $OpenApiUtil.Config({ accessKeyId: key, accessKeySecret: secret, endpoint, protocol: "http" }));

async function refusal(work) {
  try {
    await work();
    return {};
  } catch (error) {
    const { name, code, statusCode, message, data, retryAfter } = error;
    return { kind: name, code, status: statusCode, request_id: data.RequestId, message, wait: retryAfter };
  }
}

async function main() {
  const ecs = client(secret);
  const created = await ecs.createSecurityGroup(
    new Ecs.CreateSecurityGroupRequest({
      regionId: "cn-hangzhou",
      securityGroupName: "web + é/~*",
      clientToken: "t",
      tag: [new Ecs.CreateSecurityGroupRequestTag({ key: "a", value: "b" })],
    }),
  );
  const rule = (fields) => new Ecs.AuthorizeSecurityGroupRequestPermissions(fields);
  await ecs.authorizeSecurityGroup(
    new Ecs.AuthorizeSecurityGroupRequest({
      regionId: "cn-hangzhou",
      securityGroupId: created.body.securityGroupId,
      permissions: [
        rule({ ipProtocol: "TCP", portRange: "443/443", sourceCidrIp: "0.0.0.0/0", priority: "1" }),
        rule({ ipProtocol: "TCP", portRange: "22/22", sourceGroupId: "sg-2", description: "from bastion +1" }),
      ],
    }),
  );
  const describe = new Ecs.DescribeSecurityGroupsRequest({ regionId: "cn-hangzhou", maxResults: 10, dryRun: false });
  const found = await ecs.describeSecurityGroups(describe);
  const absent = new Ecs.DeleteSecurityGroupRequest({ regionId: "cn-hangzhou", securityGroupId: "absent" });
  const answer = {
    created: created.body.securityGroupId,
    revision: created.headers["x-sgdp-revision"],
    found: found.body.securityGroups.securityGroup.map((group) => group.securityGroupName),
    again: await refusal(() => ecs.describeSecurityGroups(describe)),
    absent: await refusal(() => ecs.deleteSecurityGroup(absent)),
    guessed: await refusal(() => client("guessed").deleteSecurityGroup(absent)),
  };
  console.log(JSON.stringify(answer));
}

main();
