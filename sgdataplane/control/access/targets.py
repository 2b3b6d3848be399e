"""What a call is about: the names that policies know its action by, and the resources that it reads or changes.

Owns the kinds of resources, and how an action and its parameters name them. Pure functions. Must not know policies,
HTTP, or what an action does.

The kinds are those of the cloud's catalogue of RAM actions (ECS and VPC: "RAM authorization").
`tests/control/test_targets.py` compares every action with it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from sgdataplane.control.calls.parameters import tables
from sgdataplane.control.calls.products import plain, service_of
from sgdataplane.store.call import Call
from sgdataplane.store.documents import ResourceKind, Workspace, kind_of, name_of, path_of, state_in
from sgdataplane.store.hosts import TAG, find_named_host
from sgdataplane.store.interface import Json

SERVICES = {
    "securitygroup": "ecs",
    "eni": "ecs",
    "instance": "ecs",
    "prefixlist": "ecs",
    "portrangelist": "ecs",
    "keypair": "ecs",
    "disk": "ecs",
    "image": "ecs",
    "vpc": "vpc",
    "vswitch": "vpc",
    "routetable": "vpc",
    "host": "ecs",
}  # kind of resource -> the service that has it
# The first of these that an action's name has says which kind the action is about, as the cloud's catalogue of RAM
# actions has it; "": no kind.
SUBJECTS = {
    "SecurityGroup": "securitygroup",
    "NetworkInterface": "eni",
    "PrefixList": "prefixlist",
    "PortRangeList": "portrangelist",
    "KeyPair": "keypair",
    "Disk": "disk",
    "Image": "image",
    "RouteTable": "routetable",
    "VSwitch": "vswitch",
    "IpAddresses": "eni",
    "Ipv6Addresses": "eni",
    "UserData": "instance",
    "InstanceType": "",
    "Instance": "instance",  # before Vpc: ModifyInstanceVpcAttribute moves an instance
    "Vpc": "vpc",
    "Hosts": "host",
}
CHANGED = {
    ResourceKind.GROUP: "securitygroup",
    ResourceKind.ENI: "eni",
    ResourceKind.INSTANCE: "instance",
    ResourceKind.PREFIX_LIST: "prefixlist",
    ResourceKind.PORT_LIST: "portrangelist",
    ResourceKind.VPC: "vpc",
    ResourceKind.VSWITCH: "vswitch",
    ResourceKind.KEY_PAIR: "keypair",
}  # kind of document -> kind of resource
BY_EXTENSION = "SgdpHost"  # of the parameters named Sgdp*, the one that names a resource; so does a tag
# The parameters that name resources, wherever they stand in a call.
NAMING = {f"{word}Id{plural}": kind for word, kind in SUBJECTS.items() if kind for plural in ("", "s")}
NAMING |= {"KeyPairName": "keypair", "KeyPairNames": "keypair", BY_EXTENSION: "host"}
# But not where another kind is the subject: what a rule refers to, or an instance is made of.
ONLY_OF_SUBJECT = frozenset({"PortRangeListId", "KeyPairName", "ImageId", "DiskId"})
SEPARATOR = ","  # of ids in one text, where an action takes several so
READS = ("Describe", "List")  # what begins so names resources of other kinds only to filter by them
MAKES = ("Create", "Run", "SgdpClone")  # what begins so makes one that has no name yet


@dataclass(frozen=True, slots=True)
class CallTarget:
    """A resource that a call is about."""

    service: str
    kind: str
    name: str  # * if the call names none of the kind


def names_of(action: str) -> tuple[str, ...]:
    """Return the names by which policies know an action, in lower case.

    Actions of ECS that the VPC product has taken over are named by either service.
    """
    service, name = service_of(action), plain(action)
    is_taken_over = service == "ecs" and SERVICES.get(_subject(action)) == "vpc" and f"vpc:{name}" in tables()
    return tuple(f"{one}:{name}".lower() for one in (("ecs", "vpc") if is_taken_over else (service,)))


def resources_of(call: Call) -> tuple[CallTarget, ...]:
    """Return what a call is about: all that its parameters name.

    If the call makes a resource, or names none of its subject's kind, that kind as such is among them.
    """
    service, action, subject = service_of(call.action), plain(call.action), _subject(call.action)
    said = {**call.parameters, **{name: call.extensions[name] for name in (BY_EXTENSION,) if name in call.extensions}}
    found = _find_named(said, subject)
    named = {_resource(kind, name, service) for kind, name in found if kind == subject or not action.startswith(READS)}
    if subject and (action.startswith(MAKES) or all(one.kind != subject for one in named)):
        named.add(_resource(subject, "*", service))
    return tuple(named) or (CallTarget(service, "*", "*"),)


def targets_of_change(workspace: Workspace) -> Iterator[CallTarget]:
    """Yield what a call changes or takes away that was there before, whatever its parameters name.

    So a call on an instance is about the ENIs that it changes, too, and about the hosts that they come from and go to.
    """
    documents = workspace.documents
    for path in sorted(workspace.changed):
        kind, before = kind_of(path), documents.get(path)
        if before is None or kind not in CHANGED:
            continue
        yield _resource(CHANGED[kind], name_of(path))
        enis = [name_of(path)] if kind is ResourceKind.ENI else []
        enis = workspace.enis_of(name_of(path)) if kind is ResourceKind.INSTANCE else enis
        for eni in enis:
            yield from (_resource("host", host) for host in _hosts_moved(workspace, eni))


def _hosts_moved(workspace: Workspace, eni: str) -> set[str]:
    """Return the host that an ENI leaves, and the one that it goes to, if it moves."""
    found = []
    for get in (lambda kind, name: workspace.documents.get(path_of(kind, name)), workspace.get):
        body = get(ResourceKind.ENI, eni)
        instance = get(ResourceKind.INSTANCE, str(state_in(body).get("instance_id", ""))) if body else None
        found.append(find_named_host(body, instance) if body else "")
    before, after = found
    return {before, after} - {""} if before != after else set()


def _subject(action: str) -> str:
    """Return the kind of resource that an action is about; "" if it is about no kind."""
    if service_of(action) not in SERVICES.values():
        return ""
    return next((kind for word, kind in SUBJECTS.items() if word in plain(action)), "")


def _resource(kind: str, name: str, service: str = "*") -> CallTarget:
    """Return a resource. `service` is used for kinds that belong to no service here."""
    return CallTarget(SERVICES.get(kind, service), kind, name)


def _find_named(parameters: Mapping[str, Json], subject: str) -> Iterator[tuple[str, str]]:
    """Yield kind and name of each resource that parameters name."""
    for key, value in parameters.items():
        kind = NAMING.get(key) or _kind_named(key, parameters, subject)
        if kind and (kind == subject or key not in ONLY_OF_SUBJECT):
            yield from ((kind, name) for name in _texts(value))
        for inner in value if isinstance(value, list) else [value]:
            if isinstance(inner, dict):
                yield from _find_named(inner, subject)


def _kind_named(key: str, parameters: Mapping[str, Json], subject: str) -> str:
    """Return the kind of resource that a parameter names whose own name doesn't say so; "" if it names none."""
    if key == "ResourceId":
        return str(parameters.get("ResourceType", "")).lower()
    if key == "HostName":  # elsewhere, what an instance calls itself
        return subject if subject == "host" else ""
    return "host" if key == "Value" and parameters.get("Key") == TAG else ""


def _texts(value: Json) -> list[str]:
    """Return one text or several: a list, the text of a JSON list as DescribeInstances has it, or text with commas.

    No id has a comma.
    """
    if isinstance(value, str) and value.startswith("["):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return [str(value)]
    given = [str(one) for one in value] if isinstance(value, list) else [str(value)]
    return [part for text in given for part in text.split(SEPARATOR)]
