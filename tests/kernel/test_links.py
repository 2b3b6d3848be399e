"""Interfaces that are looked for by name, and routes beside those of others."""

from __future__ import annotations

import pytest

from sgdataplane.attach import router
from sgdataplane.attach.ends import TAKEN
from sgdataplane.errors import HostError
from sgdataplane.host.links import RTPROT_STATIC, InterfaceAddress, Links, Route
from sgdataplane.net.values import Address, Prefix
from tests.support.inputs.builders import mac_of, make_eni
from tests.support.scenes.labs import run_in

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
        with pytest.raises(HostError, match="no interface has that name"):
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
        with pytest.raises(HostError, match="no interface has that name"):
            links.put_into("one", "none")


@pytest.mark.parametrize(
    ("there", "far"), [("10.0.0.4/32", "169.254.2.3"), ("2001:db8::4/128", "fe80::3")], ids=["ipv4", "ipv6"]
)
def test_a_route_of_ours_comes_before_an_administrators_which_stays(namespace: str, there: str, far: str) -> None:
    """As an ENI comes to a host that sent its packets to another one until then."""
    destination = Prefix.parse(there)
    with Links(namespace) as ours, Links(namespace, RTPROT_STATIC) as theirs:
        ours.add_veth("uplink", namespace, "one", MAC)
        for ifname in ("uplink", "one"):
            ours.set_up(ifname)
        ours.add_address(InterfaceAddress("uplink", Address.parse("169.254.2.1"), 24))
        away, here = Route("uplink", destination, Address.parse(far)), Route("one", destination)
        theirs.add_route(away)
        assert way_to(namespace, there) == "uplink"
        ours.add_route(here, is_first=True)
        ours.add_route(here, is_first=True)  # once
        assert way_to(namespace, there) == "one"
        assert (set(ours.routes()), set(theirs.routes())) == ({here}, {away})
        ours.delete_route(here)
        assert way_to(namespace, there) == "uplink"
        ours.add_route(here, is_first=True)
        theirs.delete_route(away)
        assert way_to(namespace, there) == "one"


def test_a_router_sends_what_is_for_an_eni_that_has_come_to_it(namespace: str) -> None:
    """Although an administrator's route still leads to the host where it was."""
    eni = make_eni("eni-a", "10.0.0.4 2001:db8::4", "sg-a")
    with Links(namespace) as links, Links(namespace, RTPROT_STATIC) as theirs:
        links.add_veth("uplink", namespace, "one", mac_of("eni-a"))
        links.set_up("uplink")
        links.add_address(InterfaceAddress("uplink", Address.parse("169.254.2.1"), 24))
        for address, far in zip(eni.addresses, ("169.254.2.3", "fe80::3"), strict=True):
            theirs.add_route(Route("uplink", Prefix.of(address), Address.parse(far)))
    router.configure_ends(namespace, {"one": eni})
    assert {way_to(namespace, str(address)) for address in eni.addresses} == {"one"}


def test_a_host_end_that_is_a_bridge_s_port_is_released(namespace: str) -> None:
    eni = make_eni("eni-a", "10.0.0.4", "sg-a")
    with Links(namespace) as links:
        links.add_veth("far", namespace, "one", mac_of("eni-a"))
        links.set_up("one")
        links.add_bridge("joint")
        links.put_into("one", "joint")
        assert router.configure_ends(namespace, {"one": eni}) == [("one", TAKEN)]
        end = links.link("one")
        assert end is not None
        assert (end.master, end.is_up) == (0, True)
    assert router.configure_ends(namespace, {"one": eni}) == []


def way_to(namespace: str, there: str) -> str:
    """The interface by which packets leave."""
    words = run_in(namespace, "ip", "route", "get", there.partition("/")[0]).split()
    return words[words.index("dev") + 1]
