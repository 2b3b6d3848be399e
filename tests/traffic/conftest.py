"""Fixtures of labs: probes that are cheap, and several hosts whose lab serves all tests of a module."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from sgdataplane.lab.hosts.hostslab import hosts_lab, start_all
from sgdataplane.lab.hosts.portforwarder import forward_port
from sgdataplane.model.options import Placement
from tests.support.probes.probers import forked_probers  # noqa: F401  # a fixture
from tests.support.scenes.hostscloud import Cloud
from tests.support.scenes.hostsscene import PLACES, Scene
from tests.support.servers.sdks import Driver, driver


@pytest.fixture
def scene(whole: Scene) -> Scene:
    """With everything up, whatever the test before has left."""
    start_all(whole.lab.components)
    return whole


@pytest.fixture(scope="module")
def whole(placement: str) -> Iterator[Scene]:
    with hosts_lab(len(PLACES), Placement(placement)) as lab:
        cloud = Cloud(lab)
        made = Scene(lab, cloud, {name: cloud.group() for name in PLACES})
        for name, group in made.groups.items():
            cloud.instance(name, group, made.host(name))
        cloud.start()
        cloud.settle()
        yield made


@pytest.fixture
def sdk(scene: Scene) -> Iterator[Driver]:
    """The cloud's official Python SDK, at the one address behind which all APIs are."""
    lab = scene.lab
    with (
        forward_port("127.0.0.1", 0, lab.sandbox.namespace.netns, lab.api_targets) as port,
        driver("drive_today.py", f"127.0.0.1:{port}", *lab.key, lab.authority_file) as made,
    ):
        yield made
