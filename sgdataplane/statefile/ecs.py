"""The cloud's own answers (state-format.md, section B) -> Sections, under native names.

Owns how answers are joined into objects, and what happens where an answer is missing. Is given documents. Must not know
what values mean: the readers of the native format check them, so both formats obey the same rules.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from sgdataplane.errors import Where
from sgdataplane.model.ids import is_id
from sgdataplane.model.modes import Mode, mode_of_tags, unreadable_tags
from sgdataplane.net.values import Direction
from sgdataplane.policy.findings import Finding, Severity, subject
from sgdataplane.statefile import ecs_answers as calls
from sgdataplane.statefile import ecs_names as names_of
from sgdataplane.statefile.document import Document
from sgdataplane.statefile.ecs_answers import EcsAnswer, EcsAnswers, Item, by_group
from sgdataplane.statefile.fields import Fields, Place
from sgdataplane.statefile.problems import Problems
from sgdataplane.statefile.sections import Sections

TAG_KEYS = (("TagKey", "TagValue"), ("Key", "Value"))
GROUP_REMOTES = ("source_security_group_id", "dest_security_group_id")
# Remotes that win over a prefix list, which is then ignored.
STRONGER = ("cidr_ip", "ipv6_cidr_ip", *GROUP_REMOTES)
ENI_LISTS = {**names_of.ENI_LISTS, "allowed_address_pairs": (names_of.ALLOWED_PAIRS, "", "")}
# A classic instance's two interfaces: nic type, where its answer has the address, type.
CLASSIC_INTERFACES = (("intranet", "InnerIpAddress", "primary"), ("internet", "PublicIpAddress", "secondary"))

Values = dict[str, object]
Names = dict[str, Place]


def add_ecs(documents: list[Document], sections: Sections, problems: Problems) -> list[Finding]:
    """Add all objects of the answers to `sections`; the findings say which answers were ignored."""
    answers = EcsAnswers(documents, problems)
    translation = Translation(answers, sections, problems)
    if answers.are_about_groups_alone:
        add_groups_alone(translation)
        return answers.findings
    if not answers.of(calls.SECURITY_GROUPS):
        translation.refuse_missing(Where(documents[0].file), calls.SECURITY_GROUPS)
        return answers.findings
    sections.is_complete = answers.check_pages()
    add_vpcs(translation)
    add_groups(translation)
    add_prefix_lists(translation)
    add_port_lists(translation)
    add_interfaces(translation)
    add_instances(translation)
    return answers.findings


class Vpcs:
    """The VPCs known so far; one that is only named gets a record without blocks."""

    def __init__(self, sections: Sections) -> None:
        self.sections = sections
        self.known: set[str] = set()

    def record(self, given: str, item: Item) -> str:
        """Return the id of the VPC that an item names; that of the classic network's record if it names none."""
        vpc_id = given or names_of.CLASSIC_VPC
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


def translated(item: Item, names: Mapping[str, str]) -> Values:
    """Return the fields that the item has, under native names; numbers that came as text are numbers again."""
    values: Values = {}
    for name, key in names.items():
        value = item.get(key)
        if value is None:
            continue
        if name in names_of.NUMBERS and isinstance(value, str) and re.fullmatch(r"[0-9]{1,9}", value):
            value = int(value)
        values[name] = value
    return values


def renamed(item: Item, names: Mapping[str, str]) -> Fields:
    """Return an object all of whose fields are only renamed."""
    return item.fields(translated(item, names), names)


def put_elements(values: Values, names: Names, name: str, elements: list[tuple[str, object]]) -> None:
    """Add a list to an object, given the path and value of each element."""
    values[name] = [value for _, value in elements]
    names[name] = tuple(path for path, _ in elements)


def add_vpcs(translation: Translation) -> None:
    """Add VPCs from DescribeVpcs, which is optional: the other answers name VPCs by id."""
    for item in translation.answers.objects(calls.VPCS):
        blocks = [(key, value) for key in names_of.VPC_BLOCKS if (value := item.get(key)) is not None]
        for keys in names_of.VPC_BLOCK_LISTS:
            blocks += item.elements(*keys)
        values, names = translated(item, names_of.VPC), Names(names_of.VPC)
        put_elements(values, names, "cidr_blocks", blocks)
        translation.sections.vpcs.append(item.fields(values, names))
        translation.vpcs.known.add(item.text("VpcId"))


def add_groups(translation: Translation) -> None:
    """Add the groups with their rules.

    The list of groups has their types, managed flags and tags. The answer about each group has its inner policy and
    rules.
    """
    attributes = by_group(translation.answers.of(calls.SECURITY_GROUP))
    listed: set[str] = set()
    for item in translation.answers.objects(calls.SECURITY_GROUPS):
        group_id = item.text("SecurityGroupId")
        listed.add(group_id)
        if group_id in attributes:
            translation.sections.security_groups.append(group_fields(item, attributes[group_id], translation))
        else:
            where = item.where("SecurityGroupId")
            translation.refuse_missing(where, calls.SECURITY_GROUP, "SecurityGroupId", group_id)
    for group_id, answers in attributes.items():
        if group_id not in listed:
            where = answers[0].item.where("SecurityGroupId")
            translation.refuse_missing(where, calls.SECURITY_GROUPS, "SecurityGroupId", group_id)
    remotes = {rule.text_of(name) for rule in translation.rules() for name in GROUP_REMOTES} - {""}
    translation.sections.unknown_groups |= remotes - listed


def add_groups_alone(translation: Translation) -> None:
    """Add groups from the answers about single groups, where the list of groups is missing, and ENIs with it.

    Such an answer doesn't say a group's type, so a finding says which type was assumed.
    """
    attributes = by_group(translation.answers.of(calls.SECURITY_GROUP))
    for group_id, answers in attributes.items():
        translation.sections.security_groups.append(group_fields(answers[0].item, answers, translation))
        message = (
            "the answer doesn't say the group's type: it is taken for a basic one, which accepts egress by default"
        )
        about = subject(security_group_id=group_id)
        translation.answers.findings.append(Finding("AssumedBasic", Severity.WARNING, message, about))
    remotes = {rule.text_of(name) for rule in translation.rules() for name in GROUP_REMOTES} - {""}
    translation.sections.unknown_groups |= remotes - attributes.keys()
    add_prefix_lists(translation)
    add_port_lists(translation)


def group_fields(item: Item, answers: list[EcsAnswer], translation: Translation) -> Fields:
    """Return a group, from its item in the list and the answers about it alone."""
    values = translated(item, names_of.GROUP)
    values["vpc_id"] = translation.vpc_of(item)
    values["tags"] = tags(item)
    names: Names = {**names_of.GROUP, "vpc_id": "VpcId", "tags": "Tags"}
    for answer in answers:
        if answer.item.get("InnerAccessPolicy") is not None:
            values["inner_access_policy"] = answer.item.get("InnerAccessPolicy")
            names["inner_access_policy"] = answer.item.where("InnerAccessPolicy")
    permissions = (permission for answer in answers for permission in answer.item.items("Permissions", "Permission"))
    values["rules"] = tuple(rule_fields(permission, translation.problems) for permission in permissions)
    names["rules"] = answers[0].item.where("Permissions")
    return item.fields(values, names)


def tags(item: Item) -> Values:
    """Return the tags of an object, as text by text."""
    found: Values = {}
    for tag in item.items("Tags", "Tag"):
        for key, value in TAG_KEYS:
            if key in tag.mapping:
                found[str(tag.mapping[key])] = tag.mapping.get(value, "")
    return found


def rule_fields(item: Item, problems: Problems) -> Fields:
    """Return a permission under native names, which depend on its direction: Source is the remote on ingress only."""
    is_egress = item.text("Direction").lower() == Direction.EGRESS.value
    direction = Direction.EGRESS if is_egress else Direction.INGRESS
    for key in names_of.MISPLACED[direction]:
        if item.get(key) is not None:
            message, value = f"{key} means nothing in an {direction.value} rule", item.get(key)
            problems.add(item.where(key), "InvalidDocument.MisplacedKey", message, value=value, expected="empty")
    if item.get("Policy") is None:
        message = "the permission has no Policy"
        problems.add(item.where(), "MissingParameter.Policy", message, expected="Accept or Drop")
    return renamed(item, names_of.RULE[direction])


def add_prefix_lists(translation: Translation) -> None:
    """Add the prefix lists; a problem for each that a rule uses and no answer is about."""
    for answer in translation.answers.of(calls.PREFIX_LIST):
        item = answer.item
        values = {**translated(item, names_of.PREFIX_LIST), "entries": entries(item, names_of.PREFIX_ENTRY)}
        fields = item.fields(values, {**names_of.PREFIX_LIST, "entries": "Entries"})
        translation.sections.prefix_lists.append(fields)
    refuse_unknown(translation, "prefix_list_id", translation.sections.prefix_lists, calls.PREFIX_LIST)


def add_port_lists(translation: Translation) -> None:
    """Add the port lists; a problem for each that a rule uses and no answer is about.

    There is an answer for each list's entries. DescribePortRangeLists has the names and sizes of all lists.
    """
    described = {item.text("PortRangeListId"): item for item in translation.answers.objects(calls.PORT_LISTS)}
    for answer in translation.answers.of(calls.PORT_LIST):
        list_id = port_list_id(answer)
        if list_id:
            add_port_list(list_id, answer.item, described.get(list_id), translation)
        else:
            why = f"it doesn't say which list it is about; name the file {calls.PORT_LIST}-<id>.json"
            translation.answers.ignore(answer, why)
    refuse_unknown(translation, "port_list_id", translation.sections.port_lists, calls.PORT_LIST)


def port_list_id(answer: EcsAnswer) -> str:
    """Return the id of the list that the answer is about; "" if nothing says it.

    The cloud leaves the id out, so it may follow the call in the file's name.
    """
    given = answer.item.text("PortRangeListId")
    tail = answer.stem.removeprefix(calls.PORT_LIST)
    return given or (tail[1:] if tail != answer.stem and tail[:1] in "-_." and is_id(tail[1:]) else "")


def add_port_list(list_id: str, item: Item, described: Item | None, translation: Translation) -> None:
    """Add one port list; if its size isn't known, a finding says that the number of its entries stands in for it."""
    found = entries(item, names_of.PORT_ENTRY)
    values: Values = {"port_list_id": list_id, "entries": found}
    names: Names = {"port_list_id": "PortRangeListId", "entries": "Entries"}
    if described is not None:
        values |= translated(described, names_of.PORT_LIST)
        names |= {name: described.where(key) for name, key in names_of.PORT_LIST.items()}
    else:
        values["max_entries"] = max(1, len(found))
        message = f"the size of {list_id} is unknown, so the number of its entries is taken: {len(found)}"
        about = subject(port_list_id=list_id)
        translation.answers.findings.append(Finding("AssumedMaxEntries", Severity.INFO, message, about))
    translation.sections.port_lists.append(item.fields(values, names))


def entries(item: Item, names: Mapping[str, str]) -> tuple[Fields, ...]:
    """Return the entries of a list."""
    return tuple(renamed(entry, names) for entry in item.items("Entries", "Entry"))


def refuse_unknown(translation: Translation, name: str, lists: list[Fields], call: str) -> None:
    """Name the call to make for every list that a rule uses and that no answer is about."""
    argument = "PrefixListId" if call == calls.PREFIX_LIST else "PortRangeListId"
    known = {fields.text_of(name) for fields in lists}
    for rule in translation.rules():
        value = rule.text_of(name)
        is_ignored = name == "prefix_list_id" and any(stronger in rule.values for stronger in STRONGER)
        if value and value not in known and not is_ignored:
            known.add(value)
            translation.refuse_missing(rule.where(name), call, argument, value)


def add_interfaces(translation: Translation) -> None:
    """Add every ENI of the list, and those that only the answers about single ENIs have.

    The answers about single ENIs add to what the list says.
    """
    single = {answer.item.text("NetworkInterfaceId"): answer.item for answer in translation.answers.of(calls.INTERFACE)}
    for item in translation.answers.objects(calls.INTERFACES):
        more = single.pop(item.text("NetworkInterfaceId"), item)
        translation.sections.network_interfaces.append(eni_fields(item, more, translation))
    for item in single.values():
        translation.sections.network_interfaces.append(eni_fields(item, item, translation))


def eni_fields(item: Item, more: Item, translation: Translation) -> Fields:
    """Return an ENI, from its item in the list and the answer about it alone (`more`)."""
    values = translated(item, names_of.ENI)
    names: Names = {**names_of.ENI, "vpc_id": "VpcId", "instance_id": "InstanceId"}
    values["vpc_id"] = translation.vpc_of(item)
    instance_id = item.get("InstanceId") or item.inner("Attachment").get("InstanceId")
    if instance_id is not None:
        values["instance_id"] = instance_id
    for name, keys in ENI_LISTS.items():
        elements = item.elements(*keys)
        if name == "private_ip_addresses":
            elements = with_primary(item, elements)
        if elements:
            put_elements(values, names, name, elements)
    for source in (item, more):
        if source.get(names_of.TRACKING) is not None:
            values["connection_tracking"] = (renamed(source.inner(names_of.TRACKING), names_of.TRACKING_NAMES),)
    add_mode(tags(item), values, translation.answers.findings)
    return item.fields(values, names)


def add_mode(found: Mapping[str, object], values: Values, findings: list[Finding]) -> None:
    """Add an ENI's mode, which its tags say.

    Tags may hold anything, so a tag that can't be read isn't refused: the ENI is in mode enforce, and a finding says
    why.
    """
    texts = {key: value for key, value in found.items() if isinstance(value, str)}
    mode, until = mode_of_tags(texts)
    if mode is not Mode.ENFORCE:
        values |= {"mode": mode.value} | ({"audit_until": until} if until else {})
    about = subject(network_interface_id=str(values.get("network_interface_id", "")))
    for tag in unreadable_tags(texts):
        message = f"tag {tag} can't be read, so the ENI is in mode enforce: {texts[tag]}"
        findings.append(Finding("UnreadableMode", Severity.WARNING, message, about))


def with_primary(item: Item, elements: list[tuple[str, object]]) -> list[tuple[str, object]]:
    """Return the elements with the primary address first.

    The answer also gives this address apart from the others. Older answers give nothing else.
    """
    primary = item.get("PrivateIpAddress")
    if primary is None:
        return elements
    first = next((element for element in elements if element[1] == primary), ("PrivateIpAddress", primary))
    return [first, *(element for element in elements if element is not first)]


def add_instances(translation: Translation) -> None:
    """Add the instances listed, and those that only ENIs name, because DescribeInstances is optional."""
    with_enis = {fields.text_of("instance_id") for fields in translation.sections.network_interfaces}
    known = {""}
    for item in translation.answers.objects(calls.INSTANCES):
        known.add(item.text("InstanceId"))
        translation.sections.instances.append(renamed(item, names_of.INSTANCE))
        if item.text("InstanceId") in with_enis:
            continue
        if item.text("InstanceNetworkType").lower() == "classic":
            translation.sections.network_interfaces += classic_interfaces(item, translation)
        elif not translation.answers.of(calls.INTERFACES):
            translation.refuse_missing(item.where(), calls.INTERFACES)
    for fields in translation.sections.network_interfaces:
        instance_id = fields.text_of("instance_id")
        if instance_id not in known:
            known.add(instance_id)
            implied = Fields(fields.file, fields.pointer, {"instance_id": instance_id}, {"instance_id": "InstanceId"})
            translation.sections.instances.append(implied)


def classic_interfaces(item: Item, translation: Translation) -> Iterator[Fields]:
    """Yield the interfaces of a classic instance, which the cloud doesn't list as ENIs.

    There are up to two, with ids made from the instance's, and both are in the instance's groups.
    """
    groups = item.elements("SecurityGroupIds", "SecurityGroupId")
    for nic_type, key, eni_type in CLASSIC_INTERFACES:
        addresses = item.elements(key, "IpAddress")
        if not addresses:
            continue
        values: Values = {
            "network_interface_id": f"{item.text('InstanceId')}-{nic_type}",
            "instance_id": item.get("InstanceId"),
            "vpc_id": translation.vpcs.record("", item),
            "type": eni_type,
            "nic_type": nic_type,
        }
        names: Names = {}
        put_elements(values, names, "private_ip_addresses", addresses)
        put_elements(values, names, "security_group_ids", groups)
        yield item.fields(values, names)
