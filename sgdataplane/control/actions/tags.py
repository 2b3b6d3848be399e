"""Tags, by the cloud's newer calls and its older ones; resource groups.

Owns these actions. Must not know HTTP or the store.
"""

from __future__ import annotations

from sgdataplane.control.actions.interfaces import MODE_TAGS, mode_of
from sgdataplane.control.actions.rules import DONE
from sgdataplane.control.actions.scope import Scope
from sgdataplane.control.calls.answers import ApiError
from sgdataplane.control.calls.products import service_of
from sgdataplane.statefile.native_objects import NativeEni
from sgdataplane.store.documents import ResourceKind
from sgdataplane.store.interface import Body, Json

# The cloud's word for a kind of resources, in lower case.
RESOURCES = {
    "securitygroup": ResourceKind.GROUP,
    "instance": ResourceKind.INSTANCE,
    "eni": ResourceKind.ENI,
    "prefixlist": ResourceKind.PREFIX_LIST,
    "portrangelist": ResourceKind.PORT_LIST,
    "keypair": ResourceKind.KEY_PAIR,
}
# The same of the VPC product.
OF_VPCS = {"vpc": ResourceKind.VPC, "vswitch": ResourceKind.VSWITCH}
MAX_TAGS = 20


def tag(scope: Scope) -> Body:
    """Answer TagResources and AddTags. One tag of an instance names its host."""
    kind = _kind(scope)
    if kind is not ResourceKind.INSTANCE:
        scope.refuse_host_tag()
    tags = scope.instance_tags() if kind is ResourceKind.INSTANCE else scope.tags()
    for name in scope.texts("ResourceId"):
        _write(scope, kind, name, {**scope.resources(kind).find(name).tags, **tags})
    return DONE


def untag(scope: Scope) -> Body:
    """Answer UntagResources and RemoveTags: remove some keys, or all."""
    kind = _kind(scope)
    keys = {*scope.texts("TagKey"), *scope.tags()}
    for name in scope.texts("ResourceId"):
        old = scope.resources(kind).find(name).tags
        everything = scope.flag("All") and not keys
        _write(scope, kind, name, {key: value for key, value in old.items() if key not in keys and not everything})
    return DONE


def _write(scope: Scope, kind: ResourceKind, name: str, tags: dict[str, str]) -> None:
    if len(tags) > MAX_TAGS:
        raise ApiError("InvalidTagCount", f"{name} would have more than {MAX_TAGS} tags")
    if kind is ResourceKind.GROUP:
        scope.find_writable(name)
        scope.groups.change(name, {"tags": tags})
    elif kind is ResourceKind.ENI:
        _write_eni(scope, name, tags)
    else:
        scope.resources(kind).change(name, about={"tags": tags})


def _write_eni(scope: Scope, name: str, tags: dict[str, str]) -> None:
    """Set an ENI's tags. Two of them give its mode; without them it keeps the one that it was imported with."""
    eni = scope.enis.find(name)
    state: NativeEni = {**eni.state}
    if not MODE_TAGS.isdisjoint({*tags, *eni.tags}):
        state.pop("mode", None)
        state.pop("audit_until", None)
        state |= mode_of(tags)
    scope.enis.put(name, state, {**eni.about, "tags": tags})


def _kind(scope: Scope) -> ResourceKind:
    given = scope.require("ResourceType")
    known = RESOURCES if service_of(scope.call.action) == "ecs" else OF_VPCS
    kind = known.get(given.lower())
    if kind is None:
        raise ApiError("InvalidResourceType.NotFound", f"{given} isn't one of {', '.join(known)}.", 404)
    return kind


def list_resources(scope: Scope) -> Body:
    """Answer ListTagResources."""
    kind, ids, wanted = _kind(scope), scope.texts("ResourceId"), _read_wanted(scope)
    found: list[Json] = [
        {"ResourceId": one.id, "ResourceType": scope.text("ResourceType"), "TagKey": key, "TagValue": value}
        for one in scope.resources(kind).among(ids)
        for key, value in sorted(one.tags.items())
        if wanted is None or (key in wanted and (not wanted[key] or value in wanted[key]))
    ]
    return scope.page(found, lambda item: item, "TagResources", "TagResource")


def _read_wanted(scope: Scope) -> dict[str, set[str]] | None:
    """Return the tag keys that a call asks for, each with the values that are wanted; None if it asks for no tag.

    An empty set of values stands for any.
    """
    found: dict[str, set[str]] = {}
    for tag in scope.objects("Tag"):
        found.setdefault(str(tag.get("Key", "")), set()).update(filter(None, [str(tag.get("Value") or "")]))
    for asked in scope.objects("TagFilter"):
        values = asked.get("TagValues")
        found.setdefault(str(asked.get("TagKey", "")), set()).update(values if isinstance(values, list) else [])
    return found or None


def join_resource_group(scope: Scope) -> Body:
    """Answer JoinResourceGroup, and MoveResourceGroup of the VPC product: a name by which the resource can be found."""
    kind, name = _kind(scope), scope.require("ResourceId")
    if kind is ResourceKind.GROUP:
        scope.find_writable(name)
    key = "NewResourceGroupId" if scope.has("NewResourceGroupId") else "ResourceGroupId"
    scope.resources(kind).change(name, about={"resource_group_id": scope.require(key)})
    return DONE


def describe(scope: Scope) -> Body:
    """Answer DescribeTags with each tag, and how many resources have it."""
    kinds = [RESOURCES.get(scope.text("ResourceType").lower())] if scope.has("ResourceType") else [*RESOURCES.values()]
    counts: dict[tuple[str, str], dict[str, int]] = {}
    for kind in (kind for kind in kinds if kind is not None):
        for one in scope.resources(kind).among(filter(None, [scope.text("ResourceId")])):
            for pair in one.tags.items():
                counter = counts.setdefault(pair, {})
                word = {
                    ResourceKind.GROUP: "Securitygroup",
                    ResourceKind.INSTANCE: "Instance",
                    ResourceKind.ENI: "Eni",
                }.get(kind, "")
                counter[word] = counter.get(word, 0) + 1
    found: list[Json] = [
        {"TagKey": key, "TagValue": value, "ResourceTypeCount": counter}
        for (key, value), counter in sorted(counts.items())
    ]
    return scope.page(found, lambda item: item, "Tags", "Tag")


def describe_resources(scope: Scope) -> Body:
    """Answer DescribeResourceByTags."""
    words = [scope.text("ResourceType").lower()] if scope.has("ResourceType") else [*RESOURCES]
    found: list[Json] = [
        {"ResourceId": one.id, "ResourceType": word, "RegionId": scope.region}
        for word in words
        if word in RESOURCES
        for one in scope.resources(RESOURCES[word]).all()
        if scope.is_tagged(one)
    ]
    return scope.page(found, lambda item: item, "Resources", "Resource")
