"""How `sgdp log` writes a denied packet: each format is as documented."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import pytest

from sgdataplane.attach.names import WorkloadNames
from sgdataplane.cli.log import FLOW_FIELDS, HEADERS, as_flowlog, as_json, as_text, columns_of
from sgdataplane.model.decision import Decision
from sgdataplane.net.values import Address, Direction, Family, Verdict
from sgdataplane.observe.denied import Denied, Forged, Unlogged
from sgdataplane.observe.headers import Headers
from tests.support.documents.schemas import assert_conforms
from tests.support.inputs.builders import VPC_ID, make_eni, make_group, make_state

STATE = make_state([make_group("sg-a")], [make_eni("eni-a", "10.0.0.1", "sg-a", instance_id="i-a")])
SYN = Headers(Family.IPV4, Address.parse("192.0.2.7"), Address.parse("10.0.0.1"), 6, 4242, 22, tcp_flags=2, length=60)
BY_RULE = Decision(Direction.INGRESS, Verdict.DROP, "rule", "sg-a", "sgr-1", 1)
BY_DEFAULT = Decision(Direction.INGRESS, Verdict.DROP, "default")
OTHER = Decision(Direction.EGRESS, Verdict.DROP, "fence.other")
DENIED = Denied(1_800_000_000.25, "eni-a", "eth0", Direction.INGRESS, SYN, 0x0800, "rule.sg-a.sgr-1", BY_RULE)
REPLY = replace(DENIED, direction=Direction.EGRESS, counter="default.ingress.drop", decision=BY_DEFAULT)
FRAME = replace(
    DENIED,
    direction=Direction.EGRESS,
    headers=Headers(length=46),
    ethertype=0x88CC,
    counter="fence.other",
    decision=OTHER,
)
STRANGE = replace(DENIED, eni_id=None, ifname=None, counter="rule.sg-of-old.sgr-7", decision=None)
MORE = Unlogged(1_800_000_001.0, 4321, "default.ingress.drop", BY_DEFAULT)
FORGED = Forged(1_800_000_001.0, 4321)


@pytest.mark.parametrize("entry", [DENIED, REPLY, FRAME, STRANGE, MORE, FORGED])
def test_json_is_as_its_schema_says(entry: Denied | Unlogged | Forged) -> None:
    assert_conforms("log", json.loads(as_json("i-a", STATE, entry)))


def test_text() -> None:
    columns = re.split(" {2,}", as_text("i-a", STATE, DENIED))
    assert columns[1:] == ["eni-a", "ingress", "tcp", "192.0.2.7:4242 > 10.0.0.1:22", "sgr-1 of sg-a"]
    assert as_text("i-a", STATE, REPLY).endswith("default: no rule matches (ingress rules, of a reply)")
    assert as_text("i-a", STATE, FRAME).endswith("  fence.other: the frame is neither IP nor ARP")
    assert "  0x88cc    - > -  " in as_text("i-a", STATE, FRAME)
    assert "- of i-a" in as_text("i-a", STATE, STRANGE)
    assert "rule.sg-of-old.sgr-7" in as_text("i-a", STATE, STRANGE)
    assert as_text("i-a", STATE, MORE).endswith("i-a: 4,321 more denied and not logged: ingress default")
    assert as_text("i-a", STATE, FORGED).endswith("in the name of sgdataplane's rules by another program, and ignored")


def test_a_container_is_named_beside_its_eni() -> None:
    names = WorkloadNames({}, {}, {"eni-a": "container web"})
    line = as_text("i-a", STATE, DENIED, columns=columns_of([], names), names=names)
    assert re.split(" {2,}", line)[1:3] == ["eni-a (web)", "ingress"]
    assert json.loads(as_json("i-a", STATE, DENIED, names=names))["workload"] == "web"


def test_a_namespace_is_named_by_its_container() -> None:
    names = WorkloadNames({"0123456789ab": "web"})
    line = as_text("attachment oci:0123456789ab", STATE, MORE, names=names)
    assert line.endswith("  container web: 4,321 more denied and not logged: ingress default")


def test_each_column_of_the_text_stands_below_its_header() -> None:
    columns = columns_of([])
    header, line = columns.line(HEADERS), as_text("i-a", STATE, replace(DENIED, eni_id="eni"), columns=columns)
    for title, begins in zip(HEADERS, ("", "eni ", "ingress ", "tcp ", "192.0.2.7:4242 > ", "sgr-1 "), strict=True):
        assert line[header.index(title) :].startswith(begins), title


def test_flowlog_has_the_vendors_fields() -> None:
    entry = json.loads(as_flowlog("i-a", STATE, DENIED) or "")
    assert list(entry) == list(FLOW_FIELDS)
    assert entry == {
        "version": "1",
        "account-id": "-",
        "eni-id": "eni-a",
        "vm-id": "i-a",
        "vswitch-id": "-",
        "vpc-id": VPC_ID,
        "srcaddr": "192.0.2.7",
        "srcport": "4242",
        "dstaddr": "10.0.0.1",
        "dstport": "22",
        "protocol": "6",
        "direction": "in",
        "packets": "1",
        "bytes": "60",
        "start": "1800000000",
        "end": "1800000000",
        "tcp-flags": "2",
        "action": "REJECT",
        "log-status": "OK",
    }
    assert as_flowlog("i-a", STATE, FRAME) is None
    assert as_flowlog("i-a", STATE, FORGED) is None
    skipped = json.loads(as_flowlog("i-a", STATE, MORE) or "")
    assert (skipped["packets"], skipped["log-status"], skipped["eni-id"]) == ("4321", "SKIPDATA", "-")
