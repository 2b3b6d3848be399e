"""The catalogue that clients read before they ask for anything: regions, zones, types of instances, images, disks.

Owns how tables/catalogue.json is read. Nothing of it means anything to a policy: it is a small declared catalogue, with
names as the cloud has them, so that clients find what they look for. Instances may have types and images that aren't in
it. `docs/reference/api-catalogue.md` is generated from it. Must not know actions.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources


@dataclass(frozen=True, slots=True)
class Region:
    """A region of the cloud."""

    region: str  # its id
    name: str  # its name, for people
    zones: str  # the last letter of each zone's id

    @property
    def zone_ids(self) -> tuple[str, ...]:
        """The ids of its zones. If the region's id ends in a number, they have no second hyphen: ap-southeast-1a."""
        middle = "" if self.region[-1].isdigit() else "-"
        return tuple(f"{self.region}{middle}{letter}" for letter in self.zones)


@dataclass(frozen=True, slots=True)
class InstanceType:
    """A type of instances. Here, nothing limits how many addresses an ENI has."""

    instance_type: str
    family: str
    cpu: int
    memory_gib: int
    enis: int
    ipv4_an_eni: int  # how many addresses an ENI may have in the cloud
    ipv6_an_eni: int  # how many addresses an ENI may have in the cloud


@dataclass(frozen=True, slots=True)
class Image:
    """An image, from which instances can be made."""

    image: str
    family: str
    platform: str
    os_name: str
    size_gib: int
    created: str


@dataclass(frozen=True, slots=True)
class DiskCategory:
    """A kind of disks, by the cloud's name."""

    category: str


@dataclass(frozen=True, slots=True)
class ResourceGroup:
    """A resource group, in which resources may be."""

    resource_group: str
    name: str
    display_name: str


@dataclass(frozen=True, slots=True)
class Catalogue:
    """The whole catalogue: each entry by its id, in the order of the file."""

    regions: Mapping[str, Region]
    instance_types: Mapping[str, InstanceType]
    images: Mapping[str, Image]
    disk_categories: Mapping[str, DiskCategory]
    resource_groups: Mapping[str, ResourceGroup]


@lru_cache(maxsize=1)
def catalogue() -> Catalogue:
    """Return the catalogue; it is read once."""
    file = resources.files("sgdataplane.control.calls") / "tables" / "catalogue.json"
    found = json.loads(file.read_text("utf-8"))
    return Catalogue(
        {row["region"]: Region(**row) for row in found["regions"]},
        {row["instance_type"]: InstanceType(**row) for row in found["instance_types"]},
        {row["image"]: Image(**row) for row in found["images"]},
        {row["category"]: DiskCategory(**row) for row in found["disk_categories"]},
        {row["resource_group"]: ResourceGroup(**row) for row in found["resource_groups"]},
    )
