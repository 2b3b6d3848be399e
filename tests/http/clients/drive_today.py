"""Does what it reads, a line of JSON each, through the cloud's official Python SDK: {"action", "parameters"} becomes
the SDK's own request, and its answer a line: {"body", "revision"} or {"refused", "kind"}. Actions and parameters of
ours go the SDK's generic way.

    drive_today.py ENDPOINT KEY SECRET [AUTHORITY]

With AUTHORITY, the file of a certificate's authority, it speaks TLS, and does what a user does whose programs must go
on: the SDK's own retries are on, and a call whose outcome nobody knows is made again as it was, so with the same
ClientToken. `again` is then how many requests were sent again so far."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

from alibabacloud_ecs20140526 import models
from alibabacloud_ecs20140526.client import Client
from alibabacloud_tea_openapi.exceptions import AlibabaCloudException
from alibabacloud_tea_openapi.models import Config, OpenApiRequest, Params
from darabonba.exceptions import UnretryableException
from darabonba.policy.retry import FullJitterBackoffPolicy, RetryCondition, RetryOptions, RetryPolicyContext
from darabonba.runtime import RuntimeOptions

ENDPOINT, KEY, SECRET, *AUTHORITY = sys.argv[1:]
PROTOCOL = "https" if AUTHORITY else "http"
ATTEMPTS, UNKNOWN_S = 60, 60.0
# What the SDK calls no answer at all, an answer of 500 and more, and one that says when to come again.
AGAIN = ("RetryError", "ServerException", "ThrottlingException")


class Counted(FullJitterBackoffPolicy):  # type: ignore[misc]  # its package isn't in our environment
    """Up to 0.2 s, then twice as much each time, to 1 s. `count`: how often it was asked."""

    count = 0

    def __init__(self) -> None:
        super().__init__({"policy": "FullJitter", "period": 100, "cap": 1000})  # ms

    def get_delay_time(self, ctx: RetryPolicyContext) -> int:
        self.count += 1
        return int(super().get_delay_time(ctx))


BACKOFF = Counted()
RETRIES = RetryOptions(
    retryable=True,
    retry_condition=[RetryCondition(max_attempts=ATTEMPTS, exception=list(AGAIN), backoff=BACKOFF)],
)
OPTIONS = {"ca": AUTHORITY[0], "retry_options": RETRIES} if AUTHORITY else {}
METHODS = {name.replace("_", ""): name for name in dir(Client)}  # the SDK has assign_ipv_6addresses
ECS = Client(Config(access_key_id=KEY, access_key_secret=SECRET, endpoint=ENDPOINT, protocol=PROTOCOL, **OPTIONS))


def do(action: str, parameters: dict[str, Any]) -> dict[str, Any]:
    if any(name.startswith("Sgdp") for name in (action, *parameters)):
        params = Params(
            action=action, version="2014-05-26", protocol=PROTOCOL.upper(), pathname="/", method="POST", auth_type="AK",
            style="RPC", req_body_type="formData", body_type="json",
        )  # fmt: skip
        asked = OpenApiRequest(query=dict(flat(parameters)))
        answer = known(lambda: ECS.call_api(params, asked, RuntimeOptions()))
        return {"body": answer["body"], "revision": answer["headers"].get("x-sgdp-revision")}
    request = getattr(models, f"{action}Request")().from_map({"RegionId": "cn-hangzhou", **parameters})
    found = known(lambda: getattr(ECS, METHODS[action.lower()])(request))
    return {"body": found.body.to_map(), "revision": found.headers.get("x-sgdp-revision")}


def known(call: Callable[[], Any]) -> Any:  # noqa: ANN401  # as the SDK has it
    """Its answer. The SDK itself doesn't try again what it can't read, such as half an answer."""
    deadline = time.monotonic() + UNKNOWN_S
    while True:
        try:
            return call()
        except (UnretryableException, ValueError):
            if not AUTHORITY or time.monotonic() > deadline:
                raise
            BACKOFF.count += 1
            time.sleep(0.1)


def flat(parameters: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for name, value in parameters.items():
        if isinstance(value, list):
            yield from ((f"{name}.{number}", str(part)) for number, part in enumerate(value, 1))
        else:
            yield name, str(value)


for line in sys.stdin:
    try:
        said = do(**json.loads(line))
    except AlibabaCloudException as error:
        said = {"refused": error.code, "kind": type(error).__name__}
    print(json.dumps({**said, "again": BACKOFF.count}), flush=True)
