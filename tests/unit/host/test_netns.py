from __future__ import annotations

import pytest

from sgdataplane.errors import HostError
from sgdataplane.host import netns


@pytest.mark.parametrize("name", ["lab-i-web1", "lab-ext-198.51.100.7", "a", "x" * 255, "a:b+c"])
def test_name_is_a_path_below_run_netns(name: str) -> None:
    assert netns.path_of(name).parent == netns.RUN_DIR


@pytest.mark.parametrize("name", ["", ".", "..", "../x", "a/b", "-x", ".x", "x" * 256, "a b", "a\n", "ä"])
def test_name_that_is_no_plain_file_name_is_refused(name: str) -> None:
    with pytest.raises(HostError, match="the name must be 1 to 255"):
        netns.path_of(name)


def test_an_absolute_path_is_itself_but_nothing_to_make_or_remove() -> None:
    assert str(netns.path_of("/proc/1/ns/net")) == "/proc/1/ns/net"
    for change in (netns.create, netns.remove):
        with pytest.raises(HostError, match="the name must be 1 to 255"):
            change("/tmp/x")
