"""The scope of an action: the documents, the call, and what is to be made up for it.

Owns how parameters are read, and how pages, filters, regions and times work. Must not know single actions.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypeVar

from sgdataplane.control.access.permissions import matches
from sgdataplane.control.actions.repository import Repository, unknown
from sgdataplane.control.actions.validation import MANAGED
from sgdataplane.control.calls.answers import FORBIDDEN, ApiError
from sgdataplane.statefile.native_objects import (
    NativeEni,
    NativeGroup,
    NativeInstance,
    NativePortList,
    NativePrefixList,
    NativeVpc,
)
from sgdataplane.store import bodies
from sgdataplane.store.call import Call
from sgdataplane.store.documents import Fields, ResourceKind, Workspace
from sgdataplane.store.hosts import TAG
from sgdataplane.store.interface import Body, Json

T = TypeVar("T")
MAX_A_PAGE, A_PAGE = 100, 10
MAX_TEXTS = 100  # of a list of ids, as in the cloud
MAX_TOKEN = 32  # characters of a NextToken
REGION = "cn-sgdataplane"  # of calls that name none


def write_time(seconds: float) -> str:
    """Return a time as the cloud writes it. `seconds` are since 1970."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@dataclass(frozen=True, slots=True)
class Habits:
    """The points in which accounts of the cloud may differ."""

    is_classic: bool = False
    """Whether a group without a VPC is of the classic network, as in old accounts, and not of the default VPC."""
    has_default_group: bool = False
    """Whether an instance without a group gets its VPC's default one, even if the call doesn't ask for that."""
    can_reset: bool = False
    """Whether SgdpReset may take everything away."""


NEW_ACCOUNT = Habits()


@dataclass(frozen=True, slots=True)
class Scope:
    """One action at work."""

    workspace: Workspace
    call: Call
    new_id: Callable[[str], str]  # returns an id that nobody has, with this prefix
    habits: Habits = NEW_ACCOUNT

    # parameters

    def has(self, name: str) -> bool:
        """Whether the call gives a parameter that isn't empty."""
        return self.call.parameters.get(name) not in (None, "", [], {})

    def gives(self, name: str) -> bool:
        """Whether the call gives a parameter, which may be empty: that takes a text away."""
        return name in self.call.parameters

    def text(self, name: str, default: str = "") -> str:
        """Return a parameter as text; the default if it isn't given or is empty."""
        value = self.call.parameters.get(name)
        return default if value is None or value == "" else str(value)

    def require(self, name: str) -> str:
        """Return a parameter that must be given.

        Raises:
            ApiError: It is missing or empty.
        """
        value = self.text(name)
        if not value:
            raise ApiError(f"MissingParameter.{name}", f"The parameter {name} is required.")
        return value

    def number(self, name: str, default: int) -> int:
        """Return a parameter as a whole number; the default if it isn't given.

        Raises:
            ApiError: It is no whole number.
        """
        value = self.call.parameters.get(name)
        if value is None or value == "":
            return default
        if isinstance(value, int | float | str):
            with suppress(ValueError):
                return int(value)
        raise ApiError(f"InvalidParameter.{name}", f"{name} has to be a whole number")

    def flag(self, name: str, *, default: bool = False) -> bool:
        """Return a parameter as a flag; the default if it isn't given."""
        value = self.call.parameters.get(name, default)
        return value if isinstance(value, bool) else str(value).lower() == "true"

    def texts(self, name: str, separator: str = "") -> list[str]:
        """Return a list of at most `MAX_TEXTS` texts.

        It may also be given as JSON text, as DescribeInstances has them. With a separator, each text may be several.

        Raises:
            ApiError: The list is longer, or no list of texts.
        """
        value = self.call.parameters.get(name)
        if isinstance(value, str) and value.startswith("["):
            value = _parse_list(name, value)
        if value is None or value == "":
            return []
        found = [str(entry) for entry in value] if isinstance(value, list) else [str(value)]
        if separator:
            found = [part for text in found for part in text.split(separator)]
        if len(found) > MAX_TEXTS:
            raise ApiError(f"InvalidParameter.{name}", f"{name} has {len(found)} entries, and may have {MAX_TEXTS}")
        return found

    def objects(self, name: str) -> list[Fields]:
        """Return a parameter as a list of objects; entries that are none are left out."""
        value = self.call.parameters.get(name)
        return [entry for entry in value if isinstance(entry, dict)] if isinstance(value, list) else []

    @property
    def region(self) -> str:
        """The region that the call names. Each has everything here."""
        return self.text("RegionId", REGION)

    @property
    def is_dry_run(self) -> bool:
        """Whether the call only asks if it would be accepted."""
        return self.flag("DryRun")

    @property
    def is_console(self) -> bool:
        """Whether the call asks for what the cloud's console does."""
        return self.call.extensions.get("SgdpConsole", "").lower() == "true"

    @property
    def host(self) -> str:
        """The host that the call names as SgdpHost; "" if it names none.

        Raises:
            ApiError: There is no such host.
        """
        return self.find_host(self.call.extensions.get("SgdpHost", ""))

    def find_host(self, name: str) -> str:
        """Return the name of a host that must be there; "" stays "".

        Raises:
            ApiError: There is no such host.
        """
        if name and self.workspace.get(ResourceKind.HOST, name) is None:
            raise unknown(ResourceKind.HOST, name)
        return name

    # documents

    @property
    def vpcs(self) -> Repository[NativeVpc, bodies.VpcAbout]:
        """The VPCs."""
        return Repository(self.workspace, bodies.VPCS)

    @property
    def vswitches(self) -> Repository[bodies.VSwitchState, bodies.VSwitchAbout]:
        """The VSwitches."""
        return Repository(self.workspace, bodies.VSWITCHES)

    @property
    def groups(self) -> Repository[NativeGroup, bodies.GroupAbout]:
        """The security groups."""
        return Repository(self.workspace, bodies.GROUPS)

    @property
    def prefix_lists(self) -> Repository[NativePrefixList, bodies.About]:
        """The prefix lists."""
        return Repository(self.workspace, bodies.PREFIX_LISTS)

    @property
    def port_lists(self) -> Repository[NativePortList, bodies.About]:
        """The port lists."""
        return Repository(self.workspace, bodies.PORT_LISTS)

    @property
    def instances(self) -> Repository[NativeInstance, bodies.InstanceAbout]:
        """The instances."""
        return Repository(self.workspace, bodies.INSTANCES)

    @property
    def enis(self) -> Repository[NativeEni, bodies.EniAbout]:
        """The ENIs."""
        return Repository(self.workspace, bodies.ENIS)

    @property
    def key_pairs(self) -> Repository[Mapping[str, object], bodies.KeyPairAbout]:
        """The key pairs, which are no part of a state."""
        return Repository(self.workspace, bodies.KEY_PAIRS)

    def resources(self, kind: ResourceKind) -> Repository[Mapping[str, object], bodies.About]:
        """Return the documents of a kind that isn't known before the call, with what all kinds have."""
        return Repository(self.workspace, bodies.TypedKind(kind))

    def find_writable(self, group_id: str) -> bodies.TypedDocument[NativeGroup, bodies.GroupAbout]:
        """Return a group that the call's key may change. A managed one is for the managing service alone.

        Raises:
            ApiError: The group isn't there, or is managed by another one.
        """
        group = self.groups.find(group_id)
        if group.state.get("service_managed") and group.about.get("service_key") != self.call.key:
            raise ApiError(MANAGED, f"{group_id} is managed by a cloud service.", FORBIDDEN)
        return group

    def refuse_used(self, kind: ResourceKind, name: str, code: str = "DependencyViolation") -> None:
        """Refuse to delete what other documents use.

        Raises:
            ApiError: Something uses it.
        """
        users = self.workspace.users(kind, name)
        if users:
            some = ", ".join(path.partition("/")[2] for path in users[:5])
            raise ApiError(code, f"There is still something that uses {name}: {some}", FORBIDDEN)

    @property
    def time(self) -> str:
        """The time of the call as the cloud writes it."""
        return write_time(self.call.now)

    def tags(self) -> dict[str, str]:
        """Return the tags that the call gives."""
        return {str(tag.get("Key", "")): str(tag.get("Value", "")) for tag in self.objects("Tag")}

    def instance_tags(self) -> dict[str, str]:
        """Return the tags that the call gives an instance. One of them says its host, as SgdpHost does.

        Raises:
            ApiError: There is no such host, or SgdpHost and the tag name different ones.
        """
        tags = self.tags()
        named, host = self.find_host(tags.get(TAG, "")), self.host
        if host and named not in ("", host):
            raise ApiError("InvalidHost.Mismatch", f"SgdpHost names {host}, and the tag {TAG} names {named}.")
        return {**tags, TAG: host} if host else tags

    def refuse_host_tag(self) -> None:
        """Refuse a tag that names a host where the resource isn't an instance: nothing else has a host by a tag.

        Raises:
            ApiError: There is such a tag.
        """
        if TAG in self.tags():
            words = f"The tag {TAG} is of an instance. For an ENI, give SgdpHost to AttachNetworkInterface."
            raise ApiError("InvalidTagKey.NotSupported", words)

    def is_flagged(self, name: str, *, is_so: bool) -> bool:
        """Whether a flag is as the call asks. It is, if the call doesn't ask."""
        return not self.has(name) or self.flag(name) is is_so

    # answers

    def page(self, found: Sequence[T], shape: Callable[[T], Json], outer: str, inner: str) -> Body:
        """Return one page of an answer, by number or by token.

        A token says where the next page begins.
        """
        more: dict[str, Json] = {}
        if self.is_tokened:
            start, size, more["NextToken"] = self.next_page(len(found))
        else:
            size = min(max(self.number("PageSize", A_PAGE), 1), MAX_A_PAGE)
            number = max(self.number("PageNumber", 1), 1)
            start, more = (number - 1) * size, {"NextToken": "", "PageNumber": number, "PageSize": size}
        shown = [shape(entry) for entry in found[start : start + size]]
        return {"TotalCount": len(found), **more, outer: {inner: shown} if inner else shown}

    @property
    def is_tokened(self) -> bool:
        """Whether pages are asked for by tokens."""
        return self.has("MaxResults") or self.has("NextToken")

    def next_page(self, count: int) -> tuple[int, int, str]:
        """Return where the page that is asked for begins, its length, and the token of the next one.

        Where no page is asked for, that is everything.
        """
        if not self.is_tokened:
            return 0, count, ""
        start, size = _start(self.text("NextToken")), min(max(self.number("MaxResults", A_PAGE), 1), 1000)
        return start, size, _token(start + size) if start + size < count else ""

    def is_tagged(self, document: bodies.AnyDocument) -> bool:
        """Whether a document has all tags that the call asks for. A tag without a value asks for the key."""
        tags = document.tags
        return all(
            str(tag.get("Key", "")) in tags and tag.get("Value") in (None, "", tags[str(tag.get("Key", ""))])
            for tag in self.objects("Tag")
        )


def is_grouped(scope: Scope, document: bodies.AnyDocument) -> bool:
    """Whether a document is in the resource group that the call asks for, if it asks for one."""
    return scope.text("ResourceGroupId") in ("", document.about.get("resource_group_id", ""))


def is_grouped_and_tagged(scope: Scope, document: bodies.AnyDocument) -> bool:
    """Whether a document is in the resource group, and has all tags, that the call asks for."""
    return is_grouped(scope, document) and scope.is_tagged(document)


def is_like(text: str, pattern: str) -> bool:
    """Whether a name fits a pattern with `*` for anything. Every name fits an empty one.

    Nothing of a pattern stays in memory. A name that is no text, which only a foreign writer can have put into the
    store, is compared as it looks.
    """
    return not pattern or matches(pattern, str(text))


def is_among(text: str, wanted: Sequence[str]) -> bool:
    """Whether a text is one of those that are wanted. Every text is, if none are named."""
    return not wanted or text in wanted


def _token(start: int) -> str:
    return base64.urlsafe_b64encode(str(start).encode()).decode()


def _parse_list(name: str, text: str) -> list[Json]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, list) or any(isinstance(entry, (list, dict)) for entry in found):
        raise ApiError(f"InvalidParameter.{name}", f"{name} isn't a list of texts as JSON has it")
    return found


def _start(token: str) -> int:
    try:
        if len(token) > MAX_TOKEN:
            raise ValueError
        return max(0, int(base64.urlsafe_b64decode(token.encode()).decode())) if token else 0
    except ValueError:
        raise ApiError("InvalidParameter.NextToken", "the token isn't one of ours") from None
