"""The cloud's answers as found in files: which call each one answers, and whether all pages are there.

Owns the recognition of answers and the walk through their nesting. Is given documents. Must not know what an answer's
objects mean.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial

from sgdataplane.errors import Where
from sgdataplane.policy.findings import Finding, Severity, subject
from sgdataplane.statefile.document import Document
from sgdataplane.statefile.fields import Fields, Place
from sgdataplane.statefile.problems import Problems

SECURITY_GROUPS = "DescribeSecurityGroups"
SECURITY_GROUP = "DescribeSecurityGroupAttribute"
INTERFACES = "DescribeNetworkInterfaces"
INTERFACE = "DescribeNetworkInterfaceAttribute"
INSTANCES = "DescribeInstances"
PREFIX_LIST = "DescribePrefixListAttributes"
PORT_LIST = "DescribePortRangeListEntries"
PORT_LISTS = "DescribePortRangeLists"
VPCS = "DescribeVpcs"
# The keys by which an answer is recognized; the first call whose keys are all there is the one that was answered.
TELLING = (
    (SECURITY_GROUPS, ("SecurityGroups",)),
    (SECURITY_GROUP, ("Permissions", "SecurityGroupId")),
    (INTERFACES, ("NetworkInterfaceSets",)),
    (INSTANCES, ("Instances",)),
    (PREFIX_LIST, ("Entries", "PrefixListId")),
    (PORT_LIST, ("Entries",)),
    (PORT_LISTS, ("PortRangeLists",)),
    (VPCS, ("Vpcs",)),
    (INTERFACE, ("NetworkInterfaceId", "MacAddress")),
)
# Where an answer's objects are: outer key, inner key.
NESTING = {
    SECURITY_GROUPS: ("SecurityGroups", "SecurityGroup"),
    INTERFACES: ("NetworkInterfaceSets", "NetworkInterfaceSet"),
    INSTANCES: ("Instances", "Instance"),
    PORT_LISTS: ("PortRangeLists", "PortRangeList"),
    VPCS: ("Vpcs", "Vpc"),
}


@dataclass(frozen=True, slots=True)
class Item:
    """A mapping in an answer, with its place."""

    file: str
    pointer: str
    mapping: dict[str, object]
    problems: Problems
    """Gets what is wrong with the nesting below the mapping."""

    def get(self, key: str) -> object:
        """Return the value of a key; None if it is absent or empty, which to the cloud is the same."""
        value = self.mapping.get(key)
        return None if value == "" else value

    def text(self, key: str) -> str:
        """Return the text of a key; "" if it is absent or isn't text."""
        value = self.get(key)
        return value if isinstance(value, str) else ""

    def where(self, tail: str = "") -> Where:
        """Return the place of the mapping, or of what is at a path below it."""
        return Where(self.file, 0, f"{self.pointer}/{tail}" if tail else self.pointer)

    def fields(self, values: Mapping[str, object], names: Mapping[str, Place]) -> Fields:
        """Return values read from this mapping, under native names; `names` says where each really stands."""
        return Fields(self.file, self.pointer, values, names)

    def at(self, path: str, value: object) -> Item:
        """Return the mapping at a path below this one; an empty one if the value is no mapping."""
        return Item(self.file, f"{self.pointer}/{path}", value if isinstance(value, dict) else {}, self.problems)

    def inner(self, key: str) -> Item:
        """Return a mapping inside this one; an empty one if it is absent."""
        return self.at(key, self.mapping.get(key))

    def find_list(self, outer: str, inner: str = "") -> tuple[str, list[object]]:
        """Return the path and the elements of a list; no elements if it is absent.

        The cloud's older calls wrap each list in a mapping with one key (`inner`).
        """
        value, path = self.get(outer), outer
        if isinstance(value, dict):
            value, path = value.get(inner), f"{outer}/{inner}"
        if value is None:
            return path, []
        if isinstance(value, list):
            return path, value if self.problems.takes(value, partial(self.where, path)) else []
        self._refuse_type(path, value, "a list")
        return path, []

    def items(self, outer: str, inner: str = "") -> Iterator[Item]:
        """Yield the mappings of such a list; note a problem for everything else in it."""
        path, values = self.find_list(outer, inner)
        for index, value in enumerate(values):
            if isinstance(value, dict):
                yield self.at(f"{path}/{index}", value)
            else:
                self._refuse_type(f"{path}/{index}", value, "an object")

    def elements(self, outer: str, inner: str = "", key: str = "") -> list[tuple[str, object]]:
        """Return the path and value of each element of such a list.

        If `key` is given, the value is that of this key in elements that are mappings.
        """
        path, values = self.find_list(outer, inner)
        return [
            (f"{path}/{index}/{key}", value.get(key)) if key and isinstance(value, dict) else (f"{path}/{index}", value)
            for index, value in enumerate(values)
        ]

    def _refuse_type(self, path: str, value: object, expected: str) -> None:
        message = f"this is not {expected}"
        self.problems.add(self.where(path), "InvalidDocument.WrongType", message, value=value, expected=expected)


@dataclass(frozen=True, slots=True)
class EcsAnswer:
    """One answer of the cloud."""

    call: str
    """The call that it answers; "" if it is none that a state is made of."""
    stem: str
    """Its file's name without suffix, which may say what the answer itself doesn't."""
    item: Item


class EcsAnswers:
    """All answers of an input, by call."""

    def __init__(self, documents: Iterable[Document], problems: Problems) -> None:
        self.by_call: dict[str, list[EcsAnswer]] = defaultdict(list)
        self.findings: list[Finding] = []
        self.problems = problems
        for document in documents:
            for answer in answers_in(document, problems):
                self.add(answer)

    def add(self, answer: EcsAnswer) -> None:
        """Take an answer up; a refused call is a problem, and an answer that no state is made of is ignored."""
        item = answer.item
        if "Code" in item.mapping and "Message" in item.mapping:
            message = f"the cloud refused this call: {item.text('Message')}"
            value, expected = item.text("Code"), "the answer of a call that succeeded"
            self.problems.add(item.where(), "InvalidSource.RefusedCall", message, value=value, expected=expected)
        elif answer.call:
            self.by_call[answer.call].append(answer)
        else:
            self.ignore(answer, "it answers no call that a state is made of")

    def ignore(self, answer: EcsAnswer, why: str) -> None:
        """Note in a finding why an answer is ignored."""
        place = str(answer.item.where())
        about = subject(file=answer.item.file)
        self.findings.append(Finding("IgnoredAnswer", Severity.INFO, f"{place} is ignored: {why}", about))

    def of(self, call: str) -> list[EcsAnswer]:
        """Return the answers of a call."""
        return self.by_call.get(call, [])

    @property
    def are_about_groups_alone(self) -> bool:
        """Whether there are only answers about single groups, and about lists that their rules name."""
        given = {call for call, answers in self.by_call.items() if answers}
        return SECURITY_GROUP in given and given <= {SECURITY_GROUP, PREFIX_LIST, PORT_LIST, PORT_LISTS}

    def objects(self, call: str) -> Iterator[Item]:
        """Yield the objects of every page of a call."""
        for answer in self.of(call):
            yield from answer.item.items(*NESTING[call])

    def check_pages(self) -> bool:
        """Return whether every page is there, as far as TotalCount and NextToken tell.

        A problem is noted for each call with gaps.
        """
        before = self.problems.count
        for call in NESTING:
            answers = self.of(call)
            counts = [answer.item.get("TotalCount") for answer in answers]
            total = max((count for count in counts if isinstance(count, int)), default=0)
            found = sum(1 for _ in self.objects(call))
            if total > found:
                message = f"{call} counts {total} in all, but its pages here hold {found}"
                self.refuse_gap(answers[-1], message, f"every page of {call}")
            self.check_tokens(call, answers)
        for answers in by_group(self.of(SECURITY_GROUP)).values():
            self.check_tokens(SECURITY_GROUP, answers)
        return self.problems.count == before

    def check_tokens(self, call: str, answers: list[EcsAnswer]) -> None:
        """Note a problem if every page has a NextToken: the last page has none."""
        if answers and all(answer.item.text("NextToken") for answer in answers):
            message = f"the last page of {call} is missing"
            self.refuse_gap(answers[-1], message, f"the page of {call} after this NextToken")

    def refuse_gap(self, answer: EcsAnswer, message: str, expected: str) -> None:
        """Note that pages are missing."""
        self.problems.add(answer.item.where(), "InvalidSource.IncompletePages", message, expected=expected)


def by_group(answers: Iterable[EcsAnswer]) -> dict[str, list[EcsAnswer]]:
    """Return the answers about single groups, by group; there may be several pages about one."""
    found: dict[str, list[EcsAnswer]] = defaultdict(list)
    for answer in answers:
        found[answer.item.text("SecurityGroupId")].append(answer)
    return found


def is_ecs(document: Document) -> bool:
    """Return whether the document is an answer, or holds answers under the names of their calls."""
    mapping = document.mapping
    return "RequestId" in mapping or bool(call_of(mapping)) or is_keyed(mapping)


def is_keyed(mapping: dict[str, object]) -> bool:
    """Return whether a mapping holds answers under the names of their calls."""
    return bool(mapping) and all(key.startswith("Describe") for key in mapping)


def answers_in(document: Document, problems: Problems) -> Iterator[EcsAnswer]:
    """Yield the answers in a document."""
    stem, whole = document.source.name.stem, Item(document.file, "", document.mapping, problems)
    if not is_keyed(document.mapping):
        yield EcsAnswer(call_of(document.mapping), stem, whole)
        return
    for call, value in document.mapping.items():
        for item in [whole.inner(call)] if isinstance(value, dict) else whole.items(call):
            yield EcsAnswer(call_of(item.mapping), stem, item)


def call_of(mapping: dict[str, object]) -> str:
    """Return the call that gives an answer with these keys; "" if a state is made of no such answer."""
    return next((call for call, keys in TELLING if all(key in mapping for key in keys)), "")
