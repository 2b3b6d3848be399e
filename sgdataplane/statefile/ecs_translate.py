"""What every part of the translation of the cloud's answers needs.

Owns Translation and the renaming of fields. Must not know any one kind of answer.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from sgdataplane.errors import Where
from sgdataplane.statefile.ecs_answers import Answers, Item
from sgdataplane.statefile.ecs_names import CLASSIC_VPC, NUMBERS
from sgdataplane.statefile.fields import Fields
from sgdataplane.statefile.problems import Problems
from sgdataplane.statefile.sections import Sections


class Translation:
    """One input's answers on their way into sections."""

    def __init__(self, answers: Answers, sections: Sections, problems: Problems) -> None:
        self.answers = answers
        self.sections = sections
        self.problems = problems
        self.vpcs = Vpcs(sections)

    def refuse_missing(self, where: Where, call: str, argument: str = "", value: str = "") -> None:
        """Name the call whose answer isn't there; without it, checks of records against each other mean nothing."""
        message = f"the answer of {call} is missing" + (f" for {value}" if value else "")
        command = f"aliyun ecs {call}" + (f" --{argument} {value}" if argument else "")
        expected = f"the answer of: {command}"
        self.problems.add(where, "InvalidSource.MissingAnswer", message, value=value, expected=expected)
        self.sections.is_complete = False

    def vpc_of(self, item: Item) -> str:
        """The object's VPC; the classic one if the object names none."""
        return self.vpcs.record(item.text("VpcId") or item.inner("VpcAttributes").text("VpcId"), item)


class Vpcs:
    """The VPCs known so far; one that is only named gets a record without blocks."""

    def __init__(self, sections: Sections) -> None:
        self.sections = sections
        self.known: set[str] = set()

    def record(self, given: str, item: Item) -> str:
        vpc_id = given or CLASSIC_VPC
        if vpc_id not in self.known:
            self.known.add(vpc_id)
            values = {"vpc_id": vpc_id} if given else {"vpc_id": vpc_id, "network_type": "classic"}
            self.sections.vpcs.append(Fields(item.file, item.pointer, values, {"vpc_id": "VpcId"}))
        return vpc_id


def translated(item: Item, names: Mapping[str, str]) -> dict[str, object]:
    """The fields that the item has, under native names; numbers that came as text are numbers again."""
    values: dict[str, object] = {}
    for name, key in names.items():
        value = item.get(key)
        if value is None:
            continue
        if name in NUMBERS and isinstance(value, str) and re.fullmatch(r"[0-9]{1,9}", value):
            value = int(value)
        values[name] = value
    return values
