"""Which names of namespaces the agent follows."""

from __future__ import annotations

import pytest

from sgdataplane.attach.again import follows_names
from sgdataplane.attach.registry import Binding, Means
from sgdataplane.host.identity import Identity

WHERE = Identity(1, 2)


def binding(named: str, path: str, means: Means = Means.ATTACH) -> Binding:
    return Binding("eni-a", "eth0", named, path, WHERE, means=means)


@pytest.mark.parametrize(
    ("bound", "changed", "is_followed"),
    [
        (binding("netns web", "/run/netns/web"), {"web", "db"}, True),
        (binding("netns web", "/run/netns/web"), {"db"}, False),
        (binding("netns /srv/web", "/srv/web"), {"db"}, True),  # a path from elsewhere may lead to any name
        (binding("pid 17", "/proc/17/ns/net"), {"web"}, False),
        (binding("netns web", "/run/netns/web", Means.ALIAS), {"web"}, False),  # bound anew as its interface is found
    ],
)
def test_a_name_matters_if_an_eni_was_attached_by_it(bound: Binding, changed: set[str], is_followed: bool) -> None:
    assert follows_names([bound], changed) == is_followed
    assert not follows_names([], changed)
