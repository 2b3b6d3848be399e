"""Anything in a valid answer of another cloud, replaced by rubbish: the state is refused, with the place and what would
be right, or it accepts nothing that the answer as it was doesn't accept."""

from __future__ import annotations

import copy
import json
import random
from collections import Counter
from collections.abc import Callable, Iterator, Mapping

import pytest

from sgdataplane.errors import StateFileError
from sgdataplane.model.state import CloudState
from sgdataplane.net.values import Verdict
from sgdataplane.statefile.load import LoadOptions, load_sources
from sgdataplane.statefile.memory import Memory
from sgdataplane.statefile.problems import Problems
from sgdataplane.statefile.source import SourceText
from tests.property.test_other_clouds import CLOUDS, SEED, decision_of
from tests.support.models import otherclouds
from tests.support.models.otherclouds import LISTS, Json
from tests.support.run.amounts import few_or_many

MANY, FEW, PACKETS = 700, 240, 40
RUBBISH: tuple[object, ...] = (
    "rubbish", "22-80", "-5", "99999999", -7, 70000, 99999999, 3.5, True, False, {}, {"a": 1}, [], ["rubbish"],
    None, "",
)  # fmt: skip
# What may be absent, and then means that a rule doesn't ask for it.
OPTIONAL = {
    "protocol", "port_range_min", "port_range_max", "remote_ip_prefix", "remote_group_id", "remote_address_group_id",
    "IP Protocol", "IP Range", "Port Range", "Remote Security Group", "Remote Address Group",
}  # fmt: skip
ANY = ("", None, "-1", "0")
Files = Mapping[str, object]


def terraform(answers: Json) -> Files:
    """Answers of AWS as Terraform's provider has them in its state."""
    groups = [
        {"id": group["GroupId"], "name": group["GroupId"], "vpc_id": group["VpcId"],
         "ingress": list(map(block, group["IpPermissions"])), "egress": list(map(block, group["IpPermissionsEgress"]))}
        for group in answers["SecurityGroups"]
    ]  # fmt: skip
    interfaces = [
        {"id": each["NetworkInterfaceId"], "private_ip": each["PrivateIpAddresses"][0]["PrivateIpAddress"],
         "ipv6_addresses": [found["Ipv6Address"] for found in each["Ipv6Addresses"]],
         "security_groups": [found["GroupId"] for found in each["Groups"]]}
        for each in answers["NetworkInterfaces"]
    ]  # fmt: skip
    lists = [
        {
            "id": name,
            "name": name,
            "address_family": family,
            "max_entries": 9,
            "entry": [{"cidr": each} for each in all_of],
        }
        for name, (family, all_of) in LISTS.items()
    ]
    kinds = {"aws_security_group": groups, "aws_network_interface": interfaces, "aws_ec2_managed_prefix_list": lists}
    resources = [
        {"address": f"{kind}.x{number}", "mode": "managed", "type": kind, "values": values}
        for kind, found in kinds.items()
        for number, values in enumerate(found)
    ]
    return {"state": {"format_version": "1.0", "values": {"root_module": {"resources": resources}}}}


def block(permission: Json) -> Json:
    return {
        "protocol": permission["IpProtocol"], "from_port": permission.get("FromPort", 0),
        "to_port": permission.get("ToPort", 0), "self": False, "description": "",
        "cidr_blocks": [each["CidrIp"] for each in permission["IpRanges"]],
        "ipv6_cidr_blocks": [each["CidrIpv6"] for each in permission["Ipv6Ranges"]],
        "security_groups": [each["GroupId"] for each in permission["UserIdGroupPairs"]],
        "prefix_list_ids": [each["PrefixListId"] for each in permission["PrefixListIds"]],
    }  # fmt: skip


WRITTEN: dict[str, tuple[str, Callable[[Json], Files]]] = {
    "aws": ("aws", lambda answers: {"all": answers}),
    "terraform": ("aws", terraform),
    "openstack's api": ("openstack", lambda answers: {"all": answers}),
    "openstack's client": ("openstack", otherclouds.openstack_rows),
}


def nodes(value: object, path: tuple[object, ...] = ()) -> Iterator[tuple[object, ...]]:
    """The place of everything in a document."""
    if path:
        yield path
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, each in inner:
        yield from nodes(each, (*path, key))


def replaced(files: Files, path: tuple[object, ...], rubbish: object) -> Files:
    changed = copy.deepcopy(dict(files))
    at: object = changed
    for key in path[:-1]:
        at = at[key]  # type: ignore[index]
    at[path[-1]] = rubbish  # type: ignore[index]
    return changed


def read(files: Files) -> CloudState:
    sources = tuple(SourceText(f"{name}.json", json.dumps(content)) for name, content in files.items())
    return load_sources(sources, LoadOptions("seed", "refuse"), Problems(), Memory()).state


def read_or_none(files: Files) -> CloudState | None:
    try:
        return read(files)
    except StateFileError:
        return None


def readable(make: Callable[..., Json], write: Callable[[Json], Files], chance: random.Random) -> tuple[Json, Files]:
    """Random answers that can be said exactly."""
    while True:
        answers = make(chance)
        if read_or_none(write(answers)) is not None:
            return answers, write(answers)


@few_or_many("changes", FEW, MANY)
@pytest.mark.parametrize("way", WRITTEN)
def test_rubbish_is_refused_or_opens_nothing(way: str, changes: int) -> None:
    cloud, write = WRITTEN[way]
    make, accepts = CLOUDS[cloud]
    seed = SEED + 3
    chance, seen = random.Random(seed), Counter[str]()
    answers, files = readable(make, write, chance)
    for number in range(changes):
        if number % 20 == 0:
            answers, files = readable(make, write, chance)
        places = [path for path in nodes(dict(files)) if len(path) > 1]
        path, rubbish = chance.choice(places), chance.choice(RUBBISH)
        if path[-1] in OPTIONAL and rubbish in ANY:
            continue
        state = read_or_none(replaced(files, path, rubbish))
        if state is None:
            seen["refused"] += 1
            continue
        seen["read"] += 1
        known = [(eni.network_interface_id, [str(a) for a in eni.addresses]) for eni in state.network_interfaces
                 if eni.network_interface_id in {"eni-1", "eni-2", "eni-3", "port-1", "port-2", "port-3"}]  # fmt: skip
        for _ in range(PACKETS if known else 0):
            asked = otherclouds.asked_of(*chance.choice(known), chance)
            if decision_of(state, asked).verdict is Verdict.ACCEPT:
                assert accepts(answers, asked), (seed, number, path, rubbish, asked)
                seen["accepted"] += 1
    print(seed, seen)
    assert min(seen["refused"], seen["read"], seen["accepted"]) > changes // 17


@pytest.mark.parametrize(
    ("way", "keys"),
    [
        pytest.param("aws", ("FromPort", "ToPort", "IpProtocol"), id="aws"),
        pytest.param("terraform", ("from_port", "to_port", "protocol", "self"), id="terraform"),
        pytest.param("openstack's api", ("port_range_min", "port_range_max", "direction", "ethertype"), id="api"),
        pytest.param("openstack's client", ("Port Range", "Direction", "Ethertype", "IP Protocol"), id="client"),
    ],
)
def test_a_field_of_a_rule_that_cannot_be_read_is_named(way: str, keys: tuple[str, ...]) -> None:
    """With its place, its value and what would be right."""
    cloud, write = WRITTEN[way]
    make, _ = CLOUDS[cloud]
    chance, seen = random.Random(SEED + 4), Counter[object]()
    while min(seen[key] for key in keys) < 3:
        _, files = readable(make, write, chance)
        for path in nodes(dict(files)):
            if path[-1] not in keys or not is_asked_for(files, path):
                continue
            with pytest.raises(StateFileError) as error:
                read(replaced(files, path, "rubbish"))
            (problem,) = error.value.problems
            assert problem.where.pointer.endswith("/".join(map(str, path[1:]))), (path, problem)
            assert (problem.value, bool(problem.expected)) == ("rubbish", True)
            seen[path[-1]] += 1


def is_asked_for(files: Files, path: tuple[object, ...]) -> bool:
    """Whether the field is there, and its rule has a far end and, if the field is about ports, ports."""
    rule: object = files
    for key in path[:-1]:
        rule = rule[key]  # type: ignore[index]
    assert isinstance(rule, dict)
    protocol = next((rule[key] for key in ("IpProtocol", "protocol", "IP Protocol") if key in rule), None)
    is_far = (
        "ethertype" in rule or "Ethertype" in rule or any(isinstance(each, list) and each for each in rule.values())
    )
    has_ports = protocol in ("tcp", "udp") or path[-1] in ("IpProtocol", "protocol", "direction", "Direction")
    return is_far and has_ports and rule[path[-1]] not in (None, "")
