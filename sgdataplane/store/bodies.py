"""The bodies of documents with their types, by kind: what is in `state`, and what is beside it in `about`.

Owns the types of `about`, and of the state of VSwitches, which no native format has; and the one place where a body
gets its types. Must not know actions.

Nothing is checked there, because only the actions write these documents. Another program may have put any value into
the store: where a description compares or cuts a text, it takes `str()` of it, so that everything can still be
described (tests/control/test_foreign_documents.py). No field is required: older versions wrote fewer, and the same type
fits a change of some fields.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, TypedDict, TypeVar

from sgdataplane.statefile.native_objects import (
    NativeEni,
    NativeGroup,
    NativeInstance,
    NativePortList,
    NativePrefixList,
    NativeVpc,
)
from sgdataplane.store.documents import Fields, ResourceKind
from sgdataplane.store.interface import Body


class About(TypedDict, total=False):
    """What the API keeps of every resource."""

    created: str  # as the cloud writes times
    tags: dict[str, str]  # but those of a group, which are part of its state
    resource_group_id: str


class VpcAbout(About, total=False):
    """What the API keeps of a VPC and its route table."""

    name: str
    description: str
    is_default: bool
    user_cidrs: list[str]
    ipv6_isp: str
    has_dns_hostname: bool
    table_name: str
    table_description: str


class VSwitchState(TypedDict, total=False):
    """The blocks of a VSwitch."""

    vpc_id: str
    cidr_block: str
    ipv6_cidr_block: str


class Reservation(TypedDict, total=False):
    """A block of a VSwitch that is kept for delegated prefixes."""

    block: str
    type: str
    name: str
    description: str
    created: str


class VSwitchAbout(About, total=False):
    """What the API keeps of a VSwitch."""

    name: str
    description: str
    zone_id: str
    is_default: bool
    reservations: dict[str, Reservation]


class GroupAbout(About, total=False):
    """What the API keeps of a security group, and of its rules by their ids."""

    service_key: str  # the access key of the service that manages it
    is_default: bool
    cloned_from: str
    rule_times: dict[str, str]  # when each rule was made
    rule_texts: dict[str, dict[str, str]]  # blocks as they were given, where the rule has them in another form


class InstanceAbout(About, total=False):
    """What the API keeps of an instance."""

    status: str
    host_name: str
    description: str
    instance_type: str
    image_id: str
    zone_id: str
    asked: Fields  # what is described again as it was asked for
    disks: list[Fields]  # the same of its disks


class EniGrant(TypedDict, total=False):
    """A permission for another account to use an ENI."""

    account: int
    permission: str


class EniAbout(About, total=False):
    """What the API keeps of an ENI."""

    name: str
    description: str
    vswitch_id: str
    zone_id: str
    host: str  # the host that claimed it, or that a call named for it
    delete_on_release: bool
    source_dest_check: bool
    kind: str  # in place of "Secondary"
    traffic_mode: str
    queues: int
    queue_pairs: int
    network_card: int
    trunk: str
    grants: dict[str, EniGrant]


class KeyPairAbout(About, total=False):
    """What the API keeps of a key pair."""

    key_pair_id: str
    public: str
    fingerprint: str


S = TypeVar("S", bound=Mapping[str, object])
A = TypeVar("A", bound=About)
S_co = TypeVar("S_co", bound=Mapping[str, object], covariant=True)
A_co = TypeVar("A_co", bound=About, covariant=True)
NO_TAGS: Mapping[str, str] = {}


class TypedDocument(NamedTuple, Generic[S_co, A_co]):
    """A document whose fields have types. Nobody may change them: other threads read them, too."""

    id: str
    state: S_co
    about: A_co

    @property
    def tags(self) -> Mapping[str, str]:
        """Its tags. Those of a group are part of its state, all others are beside it."""
        found: Any = self.state.get("tags", self.about.get("tags", NO_TAGS))
        tags: Mapping[str, str] = found
        return tags


AnyDocument = TypedDocument[Mapping[str, object], About]


@dataclass(frozen=True, slots=True)
class TypedKind(Generic[S, A]):
    """A kind of documents with the types of their fields."""

    kind: ResourceKind

    def read(self, name: str, body: Body) -> TypedDocument[S, A]:
        """Return a document of this kind with its types. Nothing of it is checked."""
        fields: Any = body  # a cast would cost a call, for each document of a list
        return TypedDocument(name, fields.get("state", {}), fields.get("about", {}))

    def state_in(self, body: Body) -> S:
        """Return the state of a document of this kind with its types."""
        fields: Any = body
        state: S = fields.get("state", {})
        return state


VPCS: TypedKind[NativeVpc, VpcAbout] = TypedKind(ResourceKind.VPC)
VSWITCHES: TypedKind[VSwitchState, VSwitchAbout] = TypedKind(ResourceKind.VSWITCH)
GROUPS: TypedKind[NativeGroup, GroupAbout] = TypedKind(ResourceKind.GROUP)
PREFIX_LISTS: TypedKind[NativePrefixList, About] = TypedKind(ResourceKind.PREFIX_LIST)
PORT_LISTS: TypedKind[NativePortList, About] = TypedKind(ResourceKind.PORT_LIST)
INSTANCES: TypedKind[NativeInstance, InstanceAbout] = TypedKind(ResourceKind.INSTANCE)
ENIS: TypedKind[NativeEni, EniAbout] = TypedKind(ResourceKind.ENI)
KEY_PAIRS: TypedKind[Mapping[str, object], KeyPairAbout] = TypedKind(ResourceKind.KEY_PAIR)
