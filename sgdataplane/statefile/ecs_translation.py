"""The translation of the cloud's answers into sections under native names, and what all kinds of objects need for it.

Owns the translation's state: the answers, the sections, and the VPCs known so far; and tags, in both directions. Must
not know single kinds of objects, or what values mean.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import TypeAlias

from sgdataplane.errors import Where
from sgdataplane.statefile import ecs_names
from sgdataplane.statefile.dump_native import Plain
from sgdataplane.statefile.ecs_answers import EcsAnswers, Item
from sgdataplane.statefile.fields import Fields, Place
from sgdataplane.statefile.problems import Problems
from sgdataplane.statefile.sections import Sections

TAG_KEYS = (("TagKey", "TagValue"), ("Key", "Value"))

Values = dict[str, object]
Names = dict[str, Place]
AnswerFields: TypeAlias = dict[str, Plain]  # what an answer has, under the cloud's keys


class Vpcs:
    """The VPCs known so far; one that is only named gets a record without blocks."""

    def __init__(self, sections: Sections) -> None:
        self.sections = sections
        self.known: set[str] = set()

    def record(self, given: str, item: Item) -> str:
        """Return the id of the VPC that an item names; that of the classic network's record if it names none."""
        vpc_id = given or ecs_names.CLASSIC_VPC
        if vpc_id not in self.known:
            self.known.add(vpc_id)
            values = {"vpc_id": vpc_id} if given else {"vpc_id": vpc_id, "network_type": "classic"}
            self.sections.vpcs.append(item.fields(values, {"vpc_id": "VpcId"}))
        return vpc_id


class Translation:
    """The answers of one input, on their way into sections."""

    def __init__(self, answers: EcsAnswers, sections: Sections, problems: Problems) -> None:
        self.answers = answers
        self.sections = sections
        self.problems = problems
        self.vpcs = Vpcs(sections)

    def refuse_missing(self, where: Where, call: str, argument: str = "", value: str = "") -> None:
        """Note which call's answer is missing; without it, the records can't be checked against each other."""
        message = f"the answer of {call} is missing" + (f" for {value}" if value else "")
        command = f"aliyun ecs {call}" + (f" --{argument} {value}" if argument else "")
        expected = f"the answer of: {command}"
        self.problems.add(where, "InvalidSource.MissingAnswer", message, value=value, expected=expected)
        self.sections.is_complete = False

    def vpc_of(self, item: Item) -> str:
        """Return the id of the VPC that an item names, and make a record of it if there is none."""
        return self.vpcs.record(item.text("VpcId") or item.inner("VpcAttributes").text("VpcId"), item)

    def rules(self) -> Iterator[Fields]:
        """Return the rules of all groups added so far."""
        return (rule for group in self.sections.security_groups for rule in group.children("rules"))


def translate_values(item: Item, names: Mapping[str, str]) -> Values:
    """Return the fields that the item has, under native names; numbers that came as text are numbers again."""
    values: Values = {}
    for name, key in names.items():
        value = item.get(key)
        if value is None:
            continue
        if name in ecs_names.NUMBERS and isinstance(value, str) and re.fullmatch(r"[0-9]{1,9}", value):
            value = int(value)
        values[name] = value
    return values


def translate(item: Item, names: Mapping[str, str]) -> Fields:
    """Return an object all of whose fields are only renamed."""
    return item.fields(translate_values(item, names), names)


def put_elements(values: Values, names: Names, name: str, elements: list[tuple[str, object]]) -> None:
    """Add a list to an object, given the path and value of each element."""
    values[name] = [value for _, value in elements]
    names[name] = tuple(path for path, _ in elements)


def tags(item: Item) -> Values:
    """Return the tags of an object, as text by text."""
    found: Values = {}
    for tag in item.items("Tags", "Tag"):
        for key, value in TAG_KEYS:
            if key in tag.mapping:
                found[str(tag.mapping[key])] = tag.mapping.get(value, "")
    return found


def tag_items(tags: Iterable[tuple[str, str]]) -> list[dict[str, str]]:
    """Return tags under the cloud's keys."""
    return [{"TagKey": key, "TagValue": value} for key, value in tags]
