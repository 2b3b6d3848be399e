"""Generated states that are written in either format and read again are equal, and no input makes the loader crash."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from sgdataplane.analyse.review import review
from sgdataplane.errors import StateFileError
from sgdataplane.model.state import (
    CloudState,
    ConnectionTracking,
    Eni,
    EniType,
    GroupRef,
    NetworkType,
    NicType,
    PrefixListRef,
    SecurityGroup,
    SecurityGroupRule,
)
from sgdataplane.net.values import Prefix
from sgdataplane.statefile import dump_ecs, dump_native, load
from sgdataplane.statefile.dump_native import sections
from sgdataplane.statefile.keys import INNER_KEYS, KEYS, TOP_KEYS
from sgdataplane.statefile.records import TIMEOUTS
from tests.support.inputs.gen import states
from tests.support.run.amounts import holds_for

TEXT = st.text(st.characters(codec="utf-8"), max_size=12)
FEW, MANY = 40, 150


def read(files: Mapping[str, str]) -> CloudState:
    """What the loader makes of a folder of these files."""
    with tempfile.TemporaryDirectory() as folder:
        for name, text in files.items():
            (Path(folder) / name).write_text(text, encoding="utf-8")
        return load(Path(folder), profile="unlimited").state


@st.composite
def loadable(draw: st.DrawFn) -> CloudState:
    """A generated state without what validation refuses, and with all kinds of text where people may write."""
    state = draw(states())
    is_classic = state.vpcs[0].network_type is NetworkType.CLASSIC
    groups = tuple(as_valid_group(group, is_classic) for group in state.security_groups)
    enis = tuple(as_valid_eni(eni, is_classic) for eni in state.network_interfaces)
    tags = draw(st.dictionaries(st.text(st.characters(codec="utf-8"), min_size=1, max_size=8), TEXT, max_size=3))
    managed = draw(st.booleans())
    named = tuple(
        replace(group, security_group_name=draw(TEXT), description=draw(TEXT), tags=tuple(sorted(tags.items())),
                service_managed=managed)
        for group in groups
    )  # fmt: skip
    tracking = draw(
        st.builds(ConnectionTracking, **{name: st.sampled_from(values) for name, values in TIMEOUTS.items()})
    )
    return replace(
        state,
        vpcs=tuple(replace(vpc, cidr_blocks=draw(vpc_blocks())) for vpc in state.vpcs),
        security_groups=named,
        prefix_lists=tuple(replace(entry, prefix_list_name=draw(TEXT)) for entry in state.prefix_lists),
        port_lists=tuple(replace(entry, description=draw(TEXT)) for entry in state.port_lists),
        instances=tuple(replace(entry, instance_name=draw(TEXT)) for entry in state.instances),
        network_interfaces=tuple(replace(eni, connection_tracking=tracking) for eni in enis),
    )


@st.composite
def vpc_blocks(draw: st.DrawFn) -> tuple[Prefix, ...]:
    """Blocks around all generated addresses, and others beside them, in some of the families."""
    found: set[Prefix] = set()
    for first, *others in (
        ("10.9.0.0/16", "10.0.0.0/8", "192.168.0.0/16"),
        ("2001:db8:9::/48", "2001:db8::/32", "fd00::/8"),
    ):
        if draw(st.booleans()):
            found |= {Prefix.parse(block) for block in (first, *draw(st.lists(st.sampled_from(others))))}
    return tuple(sorted(found))


def as_valid_group(group: SecurityGroup, is_classic: bool) -> SecurityGroup:
    return replace(
        group, rules=tuple(as_valid_rule(rule, is_classic) for rule in group.rules if fits(rule, is_classic))
    )


def fits(rule: SecurityGroupRule, is_classic: bool) -> bool:
    """The classic network has no prefix lists."""
    return not (is_classic and isinstance(rule.remote, PrefixListRef))


def as_valid_rule(rule: SecurityGroupRule, is_classic: bool) -> SecurityGroupRule:
    """Only rules of the classic network without a group as remote may be of nic type internet."""
    is_internet = is_classic and not isinstance(rule.remote, GroupRef) and rule.nic_type is NicType.INTERNET
    return replace(rule, nic_type=NicType.INTERNET if is_internet else NicType.INTRANET)


def as_valid_eni(eni: Eni, is_classic: bool) -> Eni:
    """A classic instance has one ENI of each nic type."""
    is_internet = is_classic and eni.type is EniType.SECONDARY
    return replace(
        eni,
        nic_type=NicType.INTERNET if is_internet else NicType.INTRANET,
        ipv6_addresses=tuple(sorted(eni.ipv6_addresses)),
        private_ip_addresses=(*eni.private_ip_addresses[:1], *sorted(eni.private_ip_addresses[1:])),
    )


@holds_for(loadable(), few=FEW, many=MANY)
def test_a_state_written_natively_is_read_back_equal(state: CloudState) -> None:
    text = dump_native(state)
    assert read({"state.yaml": text}) == state
    assert dump_native(read({"state.yaml": text})) == text


@holds_for(loadable(), few=FEW, many=MANY)
def test_a_state_written_as_answers_is_read_back_equal(state: CloudState) -> None:
    files = dump_ecs(state)
    assert read(files) == state
    assert dump_ecs(read(files)) == files


@holds_for(loadable(), few=FEW // 2, many=MANY // 3)
def test_native_to_answers_to_native_is_the_same_text(state: CloudState) -> None:
    text = dump_native(state)
    assert dump_native(read(dump_ecs(read({"state.yaml": text})))) == text


@holds_for(loadable(), st.data(), few=FEW, many=MANY)
def test_what_people_write_twice_survives_the_way_to_answers_and_back(state: CloudState, data: st.DataObject) -> None:
    """A list has one of its values twice: it is refused, or both formats give the same state."""
    document: dict[str, list[dict[str, Any]]] = dict(sections(state))
    lists: dict[str, list[dict[str, Any]]] = {}
    for entry in (entry for objects in document.values() for entry in objects):
        for name in filter(lambda name: is_texts(entry[name]), entry):
            lists.setdefault(name, []).append(entry)
    name = data.draw(st.sampled_from(sorted(lists)))
    entry = data.draw(st.sampled_from(lists[name]))
    values = entry[name]
    entry[name] = data.draw(st.permutations([*values, data.draw(st.sampled_from(values))]))
    try:
        found = read({"state.json": json.dumps({"version": 1, **document})})
    except StateFileError:
        return
    assert read(dump_ecs(found)) == found


def is_texts(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(element, str) for element in value)


@holds_for(loadable(), few=FEW // 2, many=MANY // 3)
def test_every_state_can_be_reviewed_and_its_findings_name_what_is_there(state: CloudState) -> None:
    for finding in review(state):
        ids = dict(finding.subject)
        if eni_id := ids.get("network_interface_id"):
            assert eni_id in state.eni
            continue
        group = state.group[ids["security_group_id"]]
        rule_id = ids.get("security_group_rule_id")
        assert rule_id is None or rule_id in {rule.security_group_rule_id for rule in group.rules}


def falls_over(data: bytes, name: str) -> None:
    """Load any bytes: they give a state or a refusal that can be printed, and no other exception."""
    error: StateFileError | None = None
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_bytes(data)
        try:
            load(path)
        except StateFileError as caught:
            error = caught
    if error is not None:
        assert error.problems
        assert all(problem.code and problem.message and problem.where.file for problem in error.problems[:100])
        assert str(error)


NAMES = st.sampled_from(["s.yaml", "s.json", "s"])


@holds_for(st.binary(max_size=200), NAMES, few=FEW, many=MANY)
def test_no_bytes_make_the_loader_fall_over(data: bytes, name: str) -> None:
    falls_over(data, name)


@holds_for(loadable(), st.data(), few=FEW, many=MANY)
def test_no_damage_to_a_state_makes_the_loader_fall_over(state: CloudState, data: st.DataObject) -> None:
    """A slice of a good document replaced by a few bytes."""
    is_native = data.draw(st.booleans())
    files = {"s.yaml": dump_native(state)} if is_native else dump_ecs(state)
    name = data.draw(st.sampled_from(sorted(files)))
    text = files[name].encode()
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, min(len(text), start + 40)))
    junk = data.draw(st.binary(max_size=6) | st.sampled_from([b"{", b"]", b'"', b"\n", b": ", b"- ", b"null", b"\x00"]))
    falls_over(text[:start] + junk + text[end:], name)


WORDS = sorted({*TOP_KEYS, *(word for words in (*KEYS.values(), *INNER_KEYS.values()) for word in words)})
ATOMS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=5),
    st.sampled_from(
        ["vpc-a", "sg-a", "eni-a", "10.0.0.0/8", "::/0", "22/22", "-1/-1", "tcp", "all", "ingress", "egress"]
    ),
)
TREES = st.recursive(
    ATOMS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(WORDS), inner, max_size=5),
    max_leaves=25,
)


@holds_for(st.dictionaries(st.sampled_from(tuple(TOP_KEYS)), TREES, min_size=1), few=FEW * 2, many=MANY * 2)
def test_no_tree_of_known_keys_makes_the_loader_fall_over(tree: dict[str, object]) -> None:
    falls_over(json.dumps(tree).encode(), "s.json")


ANSWER_WORDS = (
    "RequestId", "SecurityGroups", "SecurityGroup", "SecurityGroupId", "Permissions", "Permission", "Entries", "Entry",
    "NetworkInterfaceSets", "NetworkInterfaceSet", "NetworkInterfaceId", "MacAddress", "Instances", "Instance", "VpcId",
    "PortRangeLists", "Vpcs", "Vpc", "PrefixListId", "TotalCount", "NextToken", "Tags", "Tag", "TagKey",
    "PrivateIpSets", "ConnectionTrackingConfiguration", "InstanceNetworkType", "InnerIpAddress", "IpAddress",
    "Direction", "SourceGroupId", "PrivateIpAddress", "Policy", "Priority", "SourcePrefixListId", "PortRangeListId",
)  # fmt: skip
ANSWER_TREES = st.recursive(
    ATOMS | st.sampled_from(["classic", "Accept"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(ANSWER_WORDS), inner, max_size=6),
    max_leaves=25,
)
CALLS = st.sampled_from(["DescribeSecurityGroups", "DescribeX", "DescribeY"])
GROUPS = {"RequestId": "R", "SecurityGroups": {"SecurityGroup": []}}


@holds_for(
    st.dictionaries(CALLS, st.dictionaries(st.sampled_from(ANSWER_WORDS), ANSWER_TREES), max_size=3),
    few=FEW * 2,
    many=MANY * 2,
)
def test_no_tree_of_the_answers_keys_makes_the_loader_fall_over(tree: dict[str, object]) -> None:
    falls_over(json.dumps({**tree, "DescribeZ": GROUPS}).encode(), "s.json")


KINDS = (
    "vpc",
    "vswitch",
    "security_group",
    "security_group_rule",
    "instance",
    "ecs_network_interface",
    "ecs_prefix_list",
)
ATTRIBUTES = (
    "id", "vpc_id", "cidr_block", "secondary_cidr_blocks", "tags", "security_group_id", "source_security_group_id",
    "type", "priority", "entry", "cidr", "security_groups", "primary_ip_address", "private_ips", "vswitch_id",
    "ipv6_addresses",
)  # fmt: skip
VALUES = st.recursive(
    ATOMS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(ATTRIBUTES), inner, max_size=4),
    max_leaves=8,
)
INSTANCES = ATOMS | st.dictionaries(st.just("attributes"), st.dictionaries(st.sampled_from(ATTRIBUTES), VALUES))
RESOURCES = st.fixed_dictionaries(
    {
        "type": ATOMS | st.sampled_from([f"alicloud_{kind}" for kind in KINDS]),
        "instances": ATOMS | st.lists(INSTANCES, max_size=2),
    }
)


@holds_for(ATOMS | st.lists(ATOMS | RESOURCES, max_size=5), few=FEW * 2, many=MANY * 2)
def test_no_terraform_state_makes_the_loader_fall_over(resources: object) -> None:
    falls_over(json.dumps({"version": 4, "resources": resources}).encode(), "s.tfstate")
