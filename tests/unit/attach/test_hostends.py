"""Where a host end counts as moved by us: only in a router, and only under our name for it."""

from __future__ import annotations

import pytest

from sgdataplane.attach.registry import Binding, EndNumbers, HostEnd
from sgdataplane.attach.router import make_hosted
from sgdataplane.host.identity import Identity

WANTED = "sgdp-vpc-wanted-by-a-test"  # a namespace that isn't there, so no name is taken in it
HOME = Identity(4026531833, 3)
NUMBERS = EndNumbers(7, 2, 0, "02:00:00:00:00:01", "eni-b")
END = HostEnd("sgdp-vpc-before", "eni-b", "veth7", "/proc/thread-self/ns/net", HOME, NUMBERS)
BOUND = Binding("eni-b", "eth0", "namespace q", "/run/netns/q", Identity(4026532000, 3), host_end=END)


@pytest.mark.parametrize(
    ("where", "router"),
    [
        pytest.param(("sgdp-vpc-other", "eni-b"), "sgdp-vpc-other", id="in-another-router"),
        pytest.param(("elsewhere", "eni-b"), WANTED, id="in-no-router"),
        pytest.param(("sgdp-vpc-other", "renamed"), WANTED, id="under-another-name"),
    ],
)
def test_an_end_is_ours_in_a_router_under_our_name(where: tuple[str, str], router: str) -> None:
    entry = make_hosted(BOUND, where, WANTED)
    assert (entry.end.router, entry.end.numbers) == (router, None)
    assert (entry.end.home_ifname, entry.end.home) == ("veth7", HOME), "it returns where it came from"
