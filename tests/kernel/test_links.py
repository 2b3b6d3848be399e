"""Interfaces that are looked for by name."""

from __future__ import annotations

import pytest

from sgdataplane.errors import HostError
from sgdataplane.host.links import Links
from tests.support.labs import run_in

pytestmark = pytest.mark.kernel
MAC = "02:00:00:00:00:07"


def test_interface_is_found_by_its_name_alone(namespace: str) -> None:
    with Links(namespace) as links:
        links.add_veth("one", namespace, "other", MAC)
        there = {link.ifname: link for link in links.links()}
        assert links.link("other") == there["other"]
        assert links.index_of("other") == there["other"].index
        assert links.link("none") is None
        assert links.link("longer-than-any-can-be") is None
        with pytest.raises(HostError, match="none of that name"):
            links.index_of("none")


def test_alternative_names_do_not_count(namespace: str) -> None:
    """Root of a namespace may give them to any interface, if the kernel has them."""
    with Links(namespace) as links:
        links.add_veth("one", namespace, "other", MAC)
        run_in(namespace, "ip", "link", "property", "add", "dev", "one", "altname", "eth9")
        assert links.link("one") is not None
        assert links.link("eth9") is None


def test_an_interface_becomes_a_bridges_port_and_is_released(namespace: str) -> None:
    with Links(namespace) as links:
        links.add_bridge("joint")
        links.add_veth("one", namespace, "other", MAC)
        links.put_into("one", "joint")
        there = {link.ifname: link for link in links.links()}
        assert (there["joint"].kind, there["joint"].is_up) == ("bridge", True)
        assert (there["one"].master, there["other"].master) == (there["joint"].index, 0)
        links.release("one")
        assert {link.master for link in links.links()} == {0}
        with pytest.raises(HostError, match="none of that name"):
            links.put_into("one", "none")
