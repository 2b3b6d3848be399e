"""The API over real sockets, with a fake engine: what is understood, and what is answered."""

from __future__ import annotations

import http.client
import json
import re
import threading
import time
from collections.abc import Callable
from urllib.parse import urlsplit

import pytest

from sgdataplane.control.http.api import ApiLimits
from sgdataplane.control.http.tokenbuckets import TokenBuckets
from tests.http.conftest import Serve, Served
from tests.http.signing import KEY, OTHER_KEY, Reply, Signed, acs3, rfc3986, send, v1

RULE = {
    "RegionId": "cn-hangzhou",
    "SecurityGroupId": "sg-1",
    "Permissions.1.IpProtocol": "TCP",
    "Permissions.1.PortRange": "443/443",
    "Permissions.2.IpProtocol": "TCP",
    "Permissions.2.Description": "from bastion +1 ~*é",
}
PERMISSIONS = [
    {"IpProtocol": "TCP", "PortRange": "443/443"},
    {"IpProtocol": "TCP", "Description": "from bastion +1 ~*é"},
]


@pytest.mark.parametrize(
    "request_of",
    [
        pytest.param(lambda action: acs3(action, RULE), id="header, query"),
        pytest.param(lambda action: acs3(action, RULE, method="GET"), id="header, GET"),
        pytest.param(lambda action: acs3(action, {}, RULE), id="header, form"),
        pytest.param(lambda action: v1(action, RULE), id="v1, query"),
        pytest.param(lambda action: v1(action, RULE, method="GET"), id="v1, GET"),
        pytest.param(lambda action: v1(action, {"on": action}, RULE), id="v1, query and form, with junk"),
    ],
)
def test_each_way_of_signing_is_understood(served: Served, request_of: Callable[[str], Signed]) -> None:
    reply = send(served.url, request_of("AuthorizeSecurityGroup"))
    assert (reply.status, set(reply.body), reply.headers["x-sgdp-revision"]) == (200, {"RequestId"}, "1")
    call = served.engine.calls[0]
    assert (call.action, call.key, call.source) == ("AuthorizeSecurityGroup", "LTAItest", "127.0.0.1")
    assert call.parameters == {"RegionId": "cn-hangzhou", "SecurityGroupId": "sg-1", "Permissions": PERMISSIONS}
    assert call.request_id == reply.body["RequestId"] == reply.headers["x-acs-request-id"]


def test_a_blank_may_be_a_plus_or_percent_20(served: Served) -> None:
    request = acs3("CreateSecurityGroup", {"SecurityGroupName": "a b"})
    assert "a+b" in request.target
    other = acs3("CreateSecurityGroup", {"SecurityGroupName": "a b"})
    in_percent = Signed(other.method, f"/?{rfc3986({'SecurityGroupName': 'a b'})}", other.headers)
    assert [send(served.url, each).status for each in (request, in_percent)] == [200, 200]


def test_an_error_has_the_clouds_form(served: Served) -> None:
    reply = send(served.url, acs3("DeleteSecurityGroup", {"SecurityGroupId": "absent"}))
    assert reply.status == 404
    assert set(reply.body) == {"RequestId", "HostId", "Code", "Message"}
    assert (reply.code, reply.body["HostId"]) == ("InvalidSecurityGroupId.NotFound", "127.0.0.1")
    assert re.fullmatch(r"[0-9A-F]{8}(-[0-9A-F]{4}){3}-[0-9A-F]{12}", reply.body["RequestId"])
    assert "x-sgdp-revision" not in reply.headers


def test_a_bug_is_logged_and_not_shown(served: Served) -> None:
    reply = send(served.url, acs3("CreateSecurityGroup", {"SecurityGroupName": "breaks"}))
    assert (reply.status, reply.code) == (500, "InternalError")
    assert "secret of the inside" not in json.dumps(reply.body)
    assert any("secret of the inside" in line and reply.body["RequestId"] in line for line in served.lines)


def test_a_read_has_no_revision_and_shows_text_of_others_safely(served: Served) -> None:
    reply = send(served.url, acs3("DescribeSecurityGroups", {}))
    assert reply.body["SecurityGroups"]["SecurityGroup"][0]["SecurityGroupName"] == "web \u202e\n"
    assert "x-sgdp-revision" not in reply.headers


@pytest.mark.parametrize(
    ("path", "method", "status", "code"),
    [
        ("/other", "GET", 404, "InvalidAction.NotFound"),
        ("/", "PUT", 405, "UnsupportedHTTPMethod"),
        ("/", "DELETE", 405, "UnsupportedHTTPMethod"),
    ],
)
def test_other_paths_and_methods_are_refused(served: Served, path: str, method: str, status: int, code: str) -> None:
    reply = send(served.url, Signed(method, path, {}))
    assert (reply.status, reply.code) == (status, code)


def test_a_head_request_calls_nothing(served: Served) -> None:
    request = v1("CreateSecurityGroup", {}, method="HEAD")
    connection = http.client.HTTPConnection(urlsplit(served.url).netloc, timeout=20)
    connection.request("HEAD", request.target)
    assert connection.getresponse().status == 405
    connection.close()
    assert served.engine.calls == []


def test_health_and_metrics_are_there(served: Served) -> None:
    send(served.url, acs3("CreateSecurityGroup", {}))
    send(served.url, acs3("Nonsense", {}))
    assert get(served, "/healthz") == (200, "ok\n")
    status, text = get(served, "/metrics")
    assert status == 200
    assert 'sgdataplane_api_requests_total{action="CreateSecurityGroup",code=""} 1.0' in text
    assert 'sgdataplane_api_requests_total{action="",code="InvalidAction.NotFound"} 1.0' in text
    assert "Nonsense" not in text


def get(served: Served, path: str) -> tuple[int, str]:
    connection = http.client.HTTPConnection(urlsplit(served.url).netloc, timeout=20)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


def test_the_log_has_a_line_of_json_for_each_request(served: Served) -> None:
    send(served.url, acs3("CreateSecurityGroup", {}))
    send(served.url, acs3("No\x1b[31mthing", {}, headers={"x-acs-action": "No[31mthing"}))
    lines = [json.loads(line) for line in served.lines]
    assert [(line["action"], line["status"], line["key"]) for line in lines] == [
        ("CreateSecurityGroup", 200, "LTAItest"),
        ("No[31mthing", 404, "LTAItest"),
    ]
    assert lines[0]["revision"] == 1


def test_the_log_says_who_a_refused_request_says_it_is(served: Served) -> None:
    send(served.url, acs3("DeleteVpc", {}, secret="guessed"))
    send(served.url, acs3("a" * 500, {}, key="b" * 500))
    found = [[line[name] for name in ("key", "action", "code")] for line in map(json.loads, served.lines)]
    assert found == [
        ["LTAItest", "DeleteVpc", "SignatureDoesNotMatch"],
        ["b" * 128, "a" * 128, "InvalidAccessKeyId.NotFound"],
    ]


def test_a_key_that_calls_too_often_is_told_when_to_come_again(serve: Serve) -> None:
    served = serve(buckets=TokenBuckets(rate=0.001, burst=2))
    replies = [send(served.url, acs3("CreateSecurityGroup", {})) for _ in range(3)]
    assert [reply.status for reply in replies] == [200, 200, 400]
    assert replies[2].code == "Throttling.User"
    assert int(replies[2].headers["x-acs-retry-after"]) > 1000
    assert send(served.url, acs3("DescribeSecurityGroups", {})).status == 200


def test_what_a_key_may_not_do_is_refused(serve: Serve) -> None:
    served = serve(permits=lambda call: call.action.startswith("Describe"))
    assert send(served.url, acs3("DescribeSecurityGroups", {})).status == 200
    refused = send(served.url, acs3("CreateSecurityGroup", {}))
    assert (refused.status, refused.code) == (403, "Forbidden.RAM")
    assert [call.action for call in served.engine.calls] == ["DescribeSecurityGroups"]


def test_version_1_can_be_switched_off(serve: Serve) -> None:
    served = serve(accepts_v1=False)
    assert send(served.url, acs3("DescribeSecurityGroups", {})).status == 200
    assert send(served.url, v1("DescribeSecurityGroups", {})).code == "UnsupportedSignatureMethod"


def test_a_call_that_takes_too_long_is_answered_and_goes_on(serve: Serve) -> None:
    served = serve(limits=ApiLimits(call_s=0.2))
    reply = send(served.url, acs3("CreateSecurityGroup", {"SecurityGroupName": "blocks"}))
    assert (reply.status, reply.code) == (503, "ServiceUnavailable")
    assert "isn't known" in reply.body["Message"]
    served.engine.is_open.set()
    assert send(served.url, acs3("CreateSecurityGroup", {})).status == 200


def test_a_call_that_found_no_thread_in_time_isnt_done(serve: Serve) -> None:
    served = serve(limits=ApiLimits(calls=1, call_s=0.3))
    first = in_background(served, acs3("CreateSecurityGroup", {"SecurityGroupName": "blocks"}))
    assert served.engine.has_begun.wait(10)
    second = send(served.url, acs3("CreateSecurityGroup", {}))
    assert (second.status, second.code) == (503, "ServiceUnavailable")
    assert "Nothing was done" in second.body["Message"]
    served.engine.is_open.set()
    assert first().status == 503
    assert send(served.url, acs3("CreateSecurityGroup", {"SecurityGroupName": "third"})).status == 200
    assert [call.parameters.get("SecurityGroupName") for call in served.engine.calls] == ["blocks", "third"]


def test_calls_that_wait_hold_none_of_the_threads_of_ordinary_ones(serve: Serve) -> None:
    served = serve(limits=ApiLimits(calls=1, waits=2))
    waiting = [in_background(served, acs3("SgdpWait", {"Revision": "1", "Timeout": "600"})) for _ in range(2)]
    until(lambda: len(served.engine.calls) == 2)
    assert send(served.url, acs3("CreateSecurityGroup", {})).status == 200
    too_many = send(served.url, acs3("SgdpWait", {}))
    assert (too_many.status, too_many.code) == (400, "Throttling.User")
    served.stop()
    assert [wait().body["Enforced"] for wait in waiting] == [False, False]
    assert served.engine.calls[0].parameters == {"Revision": 1, "Timeout": 600}


def test_waits_of_one_key_leave_threads_to_others(serve: Serve) -> None:
    """64 of them left none to anybody."""
    served, limits = serve(), ApiLimits()
    asked = [in_background(served, acs3("SgdpWait", {"Timeout": "600"})) for _ in range(limits.waits)]
    until(lambda: len(served.lines) == limits.waits - limits.waits_of_key)
    until(lambda: len(served.engine.calls) == limits.waits_of_key)
    other = in_background(served, acs3("SgdpWait", {"Timeout": "600"}, key=OTHER_KEY))
    until(lambda: served.engine.calls[-1].key == OTHER_KEY)
    for key in (KEY, OTHER_KEY):
        assert send(served.url, acs3("CreateSecurityGroup", {}, key=key)).status == 200
    served.stop()
    replies = [one() for one in asked]
    assert [reply.code for reply in replies].count("Throttling.User") == limits.waits - limits.waits_of_key
    assert other().body["Enforced"] is False


def test_too_many_requests_at_a_time_are_refused(serve: Serve) -> None:
    served = serve(limits=ApiLimits(calls=1, requests=1))
    first = in_background(served, acs3("CreateSecurityGroup", {"SecurityGroupName": "blocks"}))
    assert served.engine.has_begun.wait(10)
    second = send(served.url, acs3("CreateSecurityGroup", {}))
    assert (second.status, second.code) == (503, "ServiceUnavailable")
    served.engine.is_open.set()
    assert first().status == 200


def test_what_was_begun_is_answered_when_the_server_stops(serve: Serve) -> None:
    served = serve()
    begun = in_background(served, acs3("CreateSecurityGroup", {"SecurityGroupName": "blocks"}))
    assert served.engine.has_begun.wait(10)
    served.server.should_exit = True
    until(lambda: bool(served.server.servers) and not served.server.servers[0].is_serving())
    served.engine.is_open.set()
    assert begun().headers["x-sgdp-revision"] == "1"


def in_background(served: Served, request: Signed) -> Callable[[], Reply]:
    """Sends it in a thread; returns what waits for the reply."""
    found: list[Reply] = []
    thread = threading.Thread(target=lambda: found.append(send(served.url, request)))
    thread.start()

    def reply() -> Reply:
        thread.join(30)
        return found[0]

    return reply


def until(is_true: Callable[[], bool], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not is_true():
        assert time.monotonic() < deadline
        threading.Event().wait(0.005)
