"""The tables of the cloud's actions are what its official SDK says; if a newer SDK says more, the test names it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from tests.support.servers.sdks import SDKS
from tools.ecs_tables import PACKAGE, TABLES, Fields, Sdk, flat, known_actions, requests, responses, text

# Actions of the SDK on what we have, that we don't take: nothing here has queues with a quality of service, or a name
# of a VPC that matters.
NOT_TAKEN = {"DisableNetworkInterfaceQoS", "EnableNetworkInterfaceQoS", "ModifyVSwitchAttribute", "ModifyVpcAttribute"}
OURS = re.compile("SecurityGroup|NetworkInterface|PrefixList|PortRangeList|Vpc|VSwitch|ClassicLink")


@pytest.fixture(scope="module")
def sdk() -> Sdk:
    for package in SDKS.glob(f"python/lib/python3*/site-packages/{PACKAGE}"):
        return Sdk(package)
    pytest.skip(f"the SDK isn't in {SDKS}: `make sdks` installs it, if there is a network")


@pytest.mark.parametrize(("name", "make"), [("requests", requests), ("responses", responses)])
def test_a_table_is_what_the_sdk_says(sdk: Sdk, name: str, make: Callable[..., Mapping[str, Fields]]) -> None:
    written, found = (TABLES / f"{name}.json").read_text(encoding="utf-8"), make(sdk, known_actions())
    assert difference(json.loads(written), found) == [], "run `make ecs-tables`, and read its diff"
    assert written == text(found)


def difference(written: Mapping[str, Fields], found: Mapping[str, Fields]) -> list[str]:
    """A line for each field that is new, or gone, or another."""
    before, after = lines(written), lines(found)
    return [*(f"new: {line}" for line in sorted(after - before)), *(f"gone: {line}" for line in sorted(before - after))]


def lines(table: Mapping[str, Fields]) -> set[str]:
    return {f"{action}: {line}" for action, fields in table.items() for line in flat(fields)}


def test_no_action_on_what_we_have_is_new(sdk: Sdk) -> None:
    assert {action for action in sdk.actions() if OURS.search(action)} - {*known_actions()} == NOT_TAKEN


def test_a_new_field_is_named() -> None:
    old: dict[str, Fields] = {"A": {"Tag": {"fields": {"Key": {"type": "string"}}, "list": True}}}
    new: dict[str, Fields] = {
        "A": {"Tag": {"fields": {"Key": {"type": "string"}, "Scope": {"type": "string"}}, "list": True}}
    }
    assert difference(old, new) == ["new: A: Tag.N.Scope string"]


def test_a_class_of_the_sdk_is_read_as_it_is_written(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "_make_request.py").write_text(SOURCE)
    assert Sdk(tmp_path).fields("MakeRequest") == {
        "DryRun": {"type": "boolean"},
        "Tag": {"fields": {"Key": {"type": "string"}}, "list": True, "required": True},
    }


SOURCE = """\
class MakeRequest(DaraModel):
    def __init__(
        self,
        dry_run: bool = None,
        tag: List[main_models.MakeRequestTag] = None,
    ):
        # Whether it is only tried.
        self.dry_run = dry_run
        # Tags.
        #
        # This parameter is required.
        self.tag = tag

    def to_map(self):
        if self.dry_run is not None:
            result['DryRun'] = self.dry_run

        result['Tag'] = []
        if self.tag is not None:
            for k1 in self.tag:
                result['Tag'].append(k1.to_map() if k1 else None)

class MakeRequestTag(DaraModel):
    def __init__(
        self,
        key: str = None,
    ):
        self.key = key

    def to_map(self):
        if self.key is not None:
            result['Key'] = self.key
"""
