"use strict";
const assert = require("node:assert/strict");
const { after, before, beforeEach, test } = require("node:test");
const ecs = require("@alicloud/ecs20140526");
const { Emulator } = require("./emulator.js");

const regionId = "cn-hangzhou";
let cloud;

before(async () => (cloud = await Emulator.start()));
beforeEach(() => cloud.reset());
after(() => cloud?.stop());

test("the port is open", async () => {
  const created = await cloud.ecs.createSecurityGroup(
    new ecs.CreateSecurityGroupRequest({ regionId, securityGroupName: "web" }),
  );
  const { securityGroupId } = created.body;
  const rule = { ipProtocol: "tcp", portRange: "443/443", sourceCidrIp: "0.0.0.0/0" };
  await cloud.ecs.authorizeSecurityGroup(
    new ecs.AuthorizeSecurityGroupRequest({
      regionId,
      securityGroupId,
      permissions: [new ecs.AuthorizeSecurityGroupRequestPermissions(rule)],
    }),
  );
  const found = await cloud.ecs.describeSecurityGroupAttribute(
    new ecs.DescribeSecurityGroupAttributeRequest({ regionId, securityGroupId }),
  );
  const ports = found.body.permissions.permission.map((one) => one.portRange);
  assert.deepEqual(ports, ["443/443"]);
});

test("each test begins with no group", async () => {
  const found = await cloud.ecs.describeSecurityGroups(new ecs.DescribeSecurityGroupsRequest({ regionId }));
  assert.equal(found.body.totalCount, 0);
});
