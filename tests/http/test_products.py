"""One endpoint for several of the cloud's products, and in the form that the client reads."""

from __future__ import annotations

import http.client
import json
import re
import threading
from collections.abc import Callable
from urllib.parse import urlsplit
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sgdataplane.control.http import api
from sgdataplane.control.http.api import asks_for_xml
from sgdataplane.control.http.xmltext import REPLACEMENT, UNWRITABLE, xml_text
from sgdataplane.store.interface import Json
from tests.http.conftest import Served
from tests.http.signing import Signed, acs3, send, v1

AGENT = "Terraform/1.9"


def of(version: str, action: str) -> Signed:
    return acs3(action, {}, headers={"x-acs-version": version})


def sent(url: str, request: Signed, **headers: str) -> tuple[int, str, bytes]:
    """Status, type and body of the answer."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=20)
    try:
        connection.request(request.method, request.target, request.body, {**request.headers, **headers})
        answer = connection.getresponse()
        return answer.status, answer.getheader("content-type", ""), answer.read()
    finally:
        connection.close()


@pytest.mark.parametrize(
    ("version", "action", "name"),
    [
        ("2014-05-26", "DescribeVpcs", "DescribeVpcs"),
        ("2016-04-28", "DescribeVpcs", "vpc:DescribeVpcs"),
        ("2015-04-01", "GetCallerIdentity", "sts:GetCallerIdentity"),
        ("2020-03-31", "ListResourceGroups", "resourcemanager:ListResourceGroups"),
        ("2017-12-14", "QueryAvailableInstances", "bssopenapi:QueryAvailableInstances"),
    ],
)
def test_a_version_says_which_product_an_action_is_of(served: Served, version: str, action: str, name: str) -> None:
    assert send(served.url, of(version, action)).status == 200
    assert served.engine.calls[-1].action == name


@pytest.mark.parametrize(
    ("version", "action"),
    [("2016-04-28", "CreateSecurityGroup"), ("2014-05-26", "GetCallerIdentity"), ("2015-05-01", "CreateRole")],
)
def test_an_action_of_another_product_is_refused_and_the_log_names_its_client(
    served: Served, version: str, action: str
) -> None:
    status, _, body = sent(served.url, of(version, action), **{"user-agent": AGENT})
    assert (status, json.loads(body)["Code"]) == (404, "InvalidAction.NotFound")
    line = json.loads(served.lines[-1])
    assert (line["action"], line["version"], line["client"]) == (action, version, AGENT)


def test_a_client_s_name_is_made_safe_and_cut_in_the_log(served: Served) -> None:
    connection = http.client.HTTPConnection(urlsplit(served.url).netloc, timeout=20)
    request = of("2014-05-26", "DescribeRegions")
    connection.putrequest(request.method, request.target, skip_host=True)
    for name, value in {**request.headers, "content-length": "0"}.items():
        connection.putheader(name, value)
    connection.putheader("user-agent", b"x\xc2\x9b31m" + b"y" * 1000)
    connection.endheaders()
    assert connection.getresponse().status == 200
    connection.close()
    assert len(json.loads(served.lines[-1])["client"]) == 128
    assert "\x9b" not in served.lines[-1]


def test_a_client_that_asks_for_xml_gets_it(served: Served) -> None:
    status, kind, body = sent(served.url, v1("DescribeSecurityGroups", {}, common={"Format": "XML"}))
    assert (status, kind) == (200, "text/xml;charset=utf-8")
    root = ET.fromstring(body)
    assert root.tag == "DescribeSecurityGroupsResponse"
    assert root.findtext("SecurityGroups/SecurityGroup/SecurityGroupName") == "web \u202e\n"
    assert root.findtext("TotalCount") == "1"
    assert root.findtext("RequestId")


@pytest.mark.parametrize("place", ["query", "form"])
def test_an_error_is_xml_too_whoever_signed_it(served: Served, place: str) -> None:
    query, form = ({"Format": "xml"}, None) if place == "query" else ({}, {"Format": "xml"})
    status, _, body = sent(served.url, acs3("DescribeSecurityGroups", query, form, secret="wrong"))
    root = ET.fromstring(body)
    assert (status, root.tag, root.findtext("Code")) == (400, "Error", "SignatureDoesNotMatch")


def test_lists_are_elements_that_repeat_and_odd_characters_do_no_harm() -> None:
    body: dict[str, Json] = {"A": {"B": [{"C": True}, {"C": None}]}, "D": ["1", "2"], "E": "</E>\x00\ud800", "1 <": 0}
    root = ET.fromstring(xml_text("X", body))
    assert [one.findtext("C") for one in root.findall("A/B")] == ["true", ""]
    assert [one.text for one in root.findall("D")] == ["1", "2"]
    assert root.findtext("E") == "</E>\ufffd\ufffd"
    assert root.findtext("Value") == "0"


@given(st.text() | st.text(st.sampled_from("\r\n\t\x7f\x85\x9b\u061c\u200f\u202e\u2066\ufeff\x00\ud800<&é")))
def test_xml_is_ascii_that_no_terminal_obeys_and_a_parser_reads_again(text: str) -> None:
    written = xml_text("X", {"A": text})
    assert not re.search(rb"[^\t\n\x20-\x7e]", written)
    assert ET.fromstring(written).findtext("A") == UNWRITABLE.sub(REPLACEMENT, text)


@pytest.mark.parametrize(
    ("text", "is_asked"),
    [
        *((text, True) for text in (b"Format=XML", b"Format=xml&A=1", b"A=1&Format=Xml", b"XFormat=1&Format=XML")),
        *((text, False) for text in (b"", b"Format=", b"Format=JSON", b"AFormat=XML", b"A=Format=XML", b"Format=XMLS")),
        *((text, False) for text in (b"format=XML", b"Format=JSON&Format=XML")),
        pytest.param(b"aFormat=XML" * 90_000 + b"&Format=XML", False, id="decoys"),
    ],
)
def test_a_client_asks_for_xml_by_the_first_parameter_of_that_name(text: bytes, is_asked: bool) -> None:
    assert asks_for_xml(text) == is_asked


@pytest.mark.parametrize("form", ["JSON", "XML"])
@pytest.mark.parametrize(("action", "threads"), [("DescribeSecurityGroups", "call"), ("SgdpDiff", "heavy")])
def test_an_answer_is_written_in_the_thread_of_its_call(
    served: Served, monkeypatch: pytest.MonkeyPatch, form: str, action: str, threads: str
) -> None:
    """The event loop would let all other clients wait for a large one."""
    served.engine.is_open.set()
    seen: list[str] = []
    for name in ("json_text", "xml_text"):
        write = getattr(api, name)

        def noted(*parts: object, write: Callable[..., object] = write, **more: object) -> object:
            seen.append(threading.current_thread().name)
            return write(*parts, **more)

        monkeypatch.setattr(api, name, noted)
    parameters = {"SecurityGroupId": "sg-1"} if action == "SgdpDiff" else {}
    status, _, _ = sent(served.url, v1(action, parameters, common={"Format": form}))
    assert status == 200
    assert [name.partition("_")[0] for name in seen] == [threads]
