"""As drive_today.py, through the cloud's older Python SDK. It keeps an answer's headers to itself."""

from __future__ import annotations

import importlib
import json
import sys
from typing import Any

from aliyunsdkcore.acs_exception.exceptions import ServerException
from aliyunsdkcore.client import AcsClient
from aliyunsdkcore.request import CommonRequest, RpcRequest

ENDPOINT, KEY, SECRET = sys.argv[1:4]
CLIENT = AcsClient(KEY, SECRET, "cn-hangzhou")


def do(action: str, parameters: dict[str, Any]) -> dict[str, Any]:
    if action.startswith("Sgdp"):
        request = CommonRequest(domain=ENDPOINT, version="2014-05-26", action_name=action)
        for name, value in parameters.items():
            request.add_query_param(name, value)
        request.set_protocol_type("http")
        request.set_method("POST")
    else:
        request = made(action, parameters)
        request.set_endpoint(ENDPOINT)
        request.set_protocol_type("http")
    return {"body": json.loads(CLIENT.do_action_with_exception(request)), "revision": None}


def made(action: str, parameters: dict[str, Any]) -> RpcRequest:
    module = importlib.import_module(f"aliyunsdkecs.request.v20140526.{action}Request")
    request = getattr(module, f"{action}Request")()
    for name, value in parameters.items():
        setter = getattr(request, f"set_{name}", None) or getattr(request, f"set_{name}s", None)
        if setter is None:
            request.add_query_param(name, value)
        else:
            setter(value)
    return request


for line in sys.stdin:
    try:
        said = do(**json.loads(line))
    except ServerException as error:
        said = {"refused": error.get_error_code(), "kind": type(error).__name__}
    print(json.dumps(said), flush=True)
