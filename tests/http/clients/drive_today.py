"""Does what it reads, a line of JSON each, through the cloud's official Python SDK: {"action", "parameters"} becomes
the SDK's own request, and its answer a line: {"body", "revision"} or {"refused", "kind"}. Actions of ours go the SDK's
generic way."""

from __future__ import annotations

import json
import re
import sys
from typing import Any

from alibabacloud_ecs20140526 import models
from alibabacloud_ecs20140526.client import Client
from alibabacloud_tea_openapi.exceptions import AlibabaCloudException
from alibabacloud_tea_openapi.models import Config, OpenApiRequest, Params
from darabonba.runtime import RuntimeOptions

ENDPOINT, KEY, SECRET = sys.argv[1:4]
ECS = Client(Config(access_key_id=KEY, access_key_secret=SECRET, endpoint=ENDPOINT, protocol="http"))


def do(action: str, parameters: dict[str, Any]) -> dict[str, Any]:
    if action.startswith("Sgdp"):
        params = Params(
            action=action, version="2014-05-26", protocol="HTTP", pathname="/", method="POST", auth_type="AK",
            style="RPC", req_body_type="formData", body_type="json",
        )  # fmt: skip
        asked = OpenApiRequest(query={name: str(value) for name, value in parameters.items()})
        answer = ECS.call_api(params, asked, RuntimeOptions())
        return {"body": answer["body"], "revision": answer["headers"].get("x-sgdp-revision")}
    request = getattr(models, f"{action}Request")().from_map({"RegionId": "cn-hangzhou", **parameters})
    method = re.sub(r"(?<!^)(?=[A-Z])", "_", action.replace("VSwitch", "Vswitch")).lower()
    found = getattr(ECS, method)(request)
    return {"body": found.body.to_map(), "revision": found.headers.get("x-sgdp-revision")}


for line in sys.stdin:
    try:
        said = do(**json.loads(line))
    except AlibabaCloudException as error:
        said = {"refused": error.code, "kind": type(error).__name__}
    print(json.dumps(said), flush=True)
