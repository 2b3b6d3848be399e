"""SgdpDiff, `sgdp diff` and the library's `diff()` tell the same of a change, also at ENIs that aren't there."""

from __future__ import annotations

import json
import time
from pathlib import Path
from threading import Event
from typing import Any, cast

import pytest

from sgdataplane import diff, load
from sgdataplane.analyse.document import difference_as_json
from sgdataplane.cli.main import main
from sgdataplane.control.actions.engine import Engine
from sgdataplane.control.hosts.following import Following
from sgdataplane.control.service.analysis import TOLD_OF_DIFF, HeavyAnswers
from sgdataplane.control.service.dispatch import ApiService
from sgdataplane.store.call import Call
from sgdataplane.store.documents import native
from sgdataplane.store.interface import Json
from tests.support.inputs.controlling import Client, counted_ids
from tests.support.run.memorystore import MemoryStore

OPEN: dict[str, Json] = {"IpProtocol": "TCP", "PortRange": "22/22", "SourceCidrIp": "0.0.0.0/0", "Policy": "accept"}
NARROW: dict[str, Json] = {**OPEN, "PortRange": "80/80", "SourceCidrIp": "192.0.2.0/24"}


class Shop:
    """A group with an ENI, which lets in whoever is in an empty group, and that group."""

    def __init__(self, folder: Path) -> None:
        self.store, self.folder = MemoryStore(), folder
        self.engine = Engine(self.store, "seed", counted_ids())
        self.client = Client(self.engine)
        vpc, switch = self.client.network()
        self.empty, self.db = (self.client.group(vpc) for _ in range(2))
        self.eni = self.client.text(
            "CreateNetworkInterface", "NetworkInterfaceId", VSwitchId=switch, SecurityGroupId=self.db
        )
        members: Json = [{"IpProtocol": "TCP", "PortRange": "5432/5432", "SourceGroupId": self.empty}]
        self.client("AuthorizeSecurityGroup", SecurityGroupId=self.db, Permissions=members)
        self.service = ApiService(
            self.engine, self.store, Following(self.engine, ()), heavy=HeavyAnswers(self.engine.profile)
        )

    def ask(self, group: str, *permissions: dict[str, Json], kind: str = "Permissions") -> dict[str, Any]:
        return self.compute("SgdpDiff", {"SecurityGroupId": group, kind: cast(Json, [*permissions])})

    def compute(self, action: str, asked: dict[str, Json]) -> dict[str, Any]:
        call = Call(action, asked, "request-1", "LTAI-test", "127.0.0.1", time.time())
        return cast("dict[str, Any]", self.service.compute(call, Event()).body)

    def written(self, name: str) -> Path:
        """A file with the state as it is now."""
        path = self.folder / name
        path.write_text(json.dumps(native(self.engine.documents.bodies())), "utf-8")
        return path


def refused_at(address: str) -> dict[str, Json]:
    return {"IpProtocol": "ALL", "PortRange": "-1/-1", "DestCidrIp": f"{address}/32", "Policy": "drop"}


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    return Shop(tmp_path)


def without_ids(value: object) -> object:
    """Rows without the ids of rules, which a rule gets when it is made."""
    if isinstance(value, dict):
        return {key: without_ids(inner) for key, inner in value.items() if key != "security_group_rule_id"}
    return [without_ids(inner) for inner in value] if isinstance(value, list) else value


@pytest.mark.parametrize("rule", [OPEN, NARROW], ids=["to the internet", "to a network"])
@pytest.mark.parametrize("name", ["empty", "db"])
def test_all_three_tell_the_same(
    shop: Shop, rule: dict[str, Json], name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The change is asked about, then made, and both states are compared as files."""
    group = cast(str, getattr(shop, name))
    before = shop.written("old.json")
    told = shop.ask(group, rule)
    if name == "db":
        known = cast("Any", shop.engine.documents.get(f"security_group/{group}"))["state"]["rules"]
        ids: Json = [one["security_group_rule_id"] for one in known]
        shop.client("RevokeSecurityGroup", SecurityGroupId=group, SecurityGroupRuleId=ids)
    shop.client("AuthorizeSecurityGroup", SecurityGroupId=group, Permissions=[rule])
    after = shop.written("new.json")
    assert main(["diff", str(before), str(after), "--json"]) == 0
    by_command = json.loads(capsys.readouterr().out)
    by_library = difference_as_json(diff(before, after))
    assert by_library == {key: by_command[key] for key in by_library}
    for key, (rows, total) in TOLD_OF_DIFF.items():
        assert without_ids(told[rows]) == without_ids(by_command[key])
        assert told[total] == len(told[rows])
    assert (bool(told["Changes"]), bool(told["WouldOpen"])) == (name == "db", name == "empty")
    assert bool(told["OpenedToInternet"] or told["WouldOpenToInternet"]) is (rule is OPEN)


@pytest.mark.parametrize(("address", "is_change"), [("100.100.100.200", False), ("100.100.100.201", True)])
def test_none_of_the_three_tells_a_rule_about_the_metadata_address_which_can_always_be_reached(
    shop: Shop, address: str, is_change: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    """The address beside it is the control."""
    before, rule = shop.written("old.json"), refused_at(address)
    by_api = shop.ask(shop.db, rule, kind="EgressPermissions")["Changes"]
    shop.client("AuthorizeSecurityGroupEgress", SecurityGroupId=shop.db, Permissions=[rule])
    after = shop.written("new.json")
    assert main(["diff", str(before), str(after), "--json"]) == 0
    by_command = json.loads(capsys.readouterr().out)["changes"]
    assert without_ids(by_api) == without_ids(by_command)
    assert difference_as_json(diff(before, after))["changes"] == by_command
    assert bool(by_command) is is_change


@pytest.mark.parametrize(("address", "passes"), [("100.100.100.200", True), ("100.100.100.201", False)])
def test_an_explanation_of_the_api_is_that_of_the_command(
    shop: Shop, address: str, passes: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    """A rule refuses either address; only the metadata address can be reached none the less."""
    shop.client("AuthorizeSecurityGroupEgress", SecurityGroupId=shop.db, Permissions=[refused_at(address)])
    asked: dict[str, Json] = {"NetworkInterfaceId": shop.eni, "Direction": "egress", "DestIp": address, "Port": 80}
    by_api = shop.compute("SgdpExplain", asked)
    state = str(shop.written("state.json"))
    packet = ["--eni", shop.eni, "--direction", "egress", "--protocol", "tcp", "--port", "80", "--remote", address]
    assert main(["explain", state, *packet, "--json"]) == 0
    by_command = json.loads(capsys.readouterr().out)
    assert by_api["Passes"] is passes
    assert [end["verdict"] for end in by_api["Ends"]] == [by_command["verdict"]]


def test_the_library_sees_what_would_open_and_is_false_only_if_nothing_does(shop: Shop) -> None:
    before = load(shop.written("old.json"))
    shop.client("AuthorizeSecurityGroup", SecurityGroupId=shop.empty, Permissions=[OPEN])
    found = diff(before, shop.written("new.json"))
    assert (bool(found), found.is_exposed, found.changes) == (True, True, ())
    assert [one.place.security_group_ids for one in found.would_open] == [(shop.empty,)]
    assert not diff(before, before)
