// Serves the cloud's API to one file of tests: a process of its own, on a free port, with nothing stored.
"use strict";
const { spawn } = require("node:child_process");
const { once } = require("node:events");
const { mkdtemp, rm } = require("node:fs/promises");
const { tmpdir } = require("node:os");
const { join } = require("node:path");
const { createInterface } = require("node:readline");
const { default: Client } = require("@alicloud/ecs20140526");
const { $OpenApiUtil } = require("@alicloud/openapi-core");

const RESET = {
  action: "SgdpReset", version: "2014-05-26", protocol: "HTTPS", pathname: "/", method: "POST",
  authType: "AK", style: "RPC", reqBodyType: "formData", bodyType: "json",
};

class Emulator {
  // Starts it, and returns it when it serves. The first line that it prints says how to call it.
  static async start() {
    const folder = await mkdtemp(join(tmpdir(), "sgdp-"));
    const server = spawn("sgdp", ["api", "--dev", folder, "--listen", ":0"], { stdio: ["ignore", "pipe", "pipe"] });
    const closed = once(server, "close");
    let log = "";
    server.stderr.setEncoding("utf8").on("data", (text) => (log += text));
    const [line] = await Promise.race([
      once(createInterface({ input: server.stdout }), "line"),
      closed.then(() => Promise.reject(new Error(`sgdp api doesn't start:\n${log}`))),
    ]);
    const { url, access_key_id, access_key_secret, authority_pem } = JSON.parse(line);
    const config = {
      endpoint: new URL(url).host,
      accessKeyId: access_key_id,
      accessKeySecret: access_key_secret,
      ca: authority_pem,
      protocol: "HTTPS",
      readTimeout: 60_000, // of an answer; a machine that runs many tests may be slow
    };
    return new Emulator(new Client(new $OpenApiUtil.Config(config)), { folder, server, closed });
  }

  constructor(ecs, run) {
    Object.assign(this, { ecs, ...run });
  }

  // Removes everything but the key, and makes a new default VPC. The SDK doesn't know this action by name.
  reset() {
    return this.ecs.callApi(new $OpenApiUtil.Params(RESET), new $OpenApiUtil.OpenApiRequest({}), {});
  }

  async stop() {
    this.server.kill();
    await this.closed;
    await rm(this.folder, { recursive: true });
  }
}

module.exports = { Emulator };
