// As drive_today.py, through the cloud's official SDK for Node.
"use strict";
const readline = require("readline");
const $dara = require("@darabonba/typescript");
const { $OpenApiUtil } = require("@alicloud/openapi-core");
const Ecs = require("@alicloud/ecs20140526");
const [endpoint, key, secret] = process.argv.slice(2);
// By itself it gives an answer up after 10 s, which a machine that others keep busy may take.
const PATIENCE = { readTimeout: 60_000, connectTimeout: 60_000 };
const config = { accessKeyId: key, accessKeySecret: secret, endpoint, protocol: "http", ...PATIENCE };
const ecs = new Ecs.default(new $OpenApiUtil.Config(config));
const GENERIC = {
  version: "2014-05-26", protocol: "HTTP", pathname: "/", method: "POST", authType: "AK",
  style: "RPC", reqBodyType: "formData", bodyType: "json",
};

// The SDK has assignIpv6Addresses() and AssignIpv6addressesRequest: names differ in case.
function find(names, name) {
  return names.find((one) => one.toLowerCase() === name.toLowerCase());
}

async function ask({ action, parameters }) {
  if (action.startsWith("Sgdp")) {
    const params = new $OpenApiUtil.Params({ ...GENERIC, action });
    const query = Object.fromEntries(Object.entries(parameters).map(([name, value]) => [name, String(value)]));
    const { body } = await ecs.callApi(params, new $OpenApiUtil.OpenApiRequest({ query }), new $dara.RuntimeOptions({}));
    return { body, revision: null };
  }
  const kind = Ecs[find(Object.keys(Ecs), `${action}Request`)];
  const request = $dara.cast({ RegionId: "cn-hangzhou", ...parameters }, new kind({}));
  const method = find(Object.getOwnPropertyNames(Ecs.default.prototype), action);
  const { body, headers } = await ecs[method](request);
  return { body: body.toMap(), revision: headers["x-sgdp-revision"] };
}

async function main() {
  for await (const line of readline.createInterface({ input: process.stdin })) {
    let said;
    try {
      said = await ask(JSON.parse(line));
    } catch (error) {
      said = { refused: error.code ?? String(error), kind: error.name };
    }
    console.log(JSON.stringify(said));
  }
}

main();
