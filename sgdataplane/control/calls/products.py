"""The cloud's products that the API speaks for: the version of each one's API, and how its actions are named.

Owns this table. One endpoint serves all of them, as a request's version says which product it means. An action of ECS
goes by its plain name; one of another product as RAM names it, such as vpc:TagResources. Must not know what an action
does.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

ECS_VERSION = "2014-05-26"
ACCOUNT = "1000000000000001"  # the only one


@dataclass(frozen=True, slots=True)
class Product:
    """A product of the cloud."""

    service: str  # its name in RAM
    code: str  # its name in the Location service, and in clients' endpoint settings
    version: str  # the version of its API


PRODUCTS = (
    Product("ecs", "ecs", ECS_VERSION),
    Product("vpc", "vpc", "2016-04-28"),
    Product("resourcemanager", "resourcemanager", "2020-03-31"),
    Product("sts", "sts", "2015-04-01"),
    Product("location", "location", "2015-06-12"),
    Product("bssopenapi", "bssopenapi", "2017-12-14"),
)
BY_VERSION: Mapping[str, Product] = {product.version: product for product in PRODUCTS}
SERVICES = tuple(product.service for product in PRODUCTS)


def qualify_action(action: str, version: str) -> str:
    """Return the name by which an action of that version is known here; "" if no product has such a version."""
    product = BY_VERSION.get(version)
    if product is None:
        return ""
    return action if product.service == "ecs" else f"{product.service}:{action}"


def service_of(action: str) -> str:
    """Return the service of an action that is named as `qualified` names it."""
    service, _, name = action.rpartition(":")
    return service if name and service else "ecs"


def plain(action: str) -> str:
    """Return an action's name without its service, as requests have it."""
    return action.rpartition(":")[2]


def versions() -> Iterator[str]:
    """Yield every version that is served, that of ECS first."""
    return (product.version for product in PRODUCTS)
