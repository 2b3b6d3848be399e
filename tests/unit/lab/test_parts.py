from __future__ import annotations

import pytest

from sgdataplane.errors import LabError
from sgdataplane.lab.parts import check_lab_name, external_node, lab_of_mark, namespace_mark, netns_of
from sgdataplane.net.values import Address


@pytest.mark.parametrize("name", ["lab", "a", "9-x_y.z", "x" * 32])
def test_lab_name_is_taken(name: str) -> None:
    assert check_lab_name(name) == name


@pytest.mark.parametrize("name", ["", "-x", ".x", "Lab", "a b", "a/b", "../x", "x" * 33, "ä", "a\n"])
def test_lab_name_is_refused(name: str) -> None:
    with pytest.raises(LabError, match="use 1 to 32 of"):
        check_lab_name(name)


@pytest.mark.parametrize("node", ["a/b", "", "..", "-x", "a b", "x" * 129, "i-\n"])
def test_id_that_can_be_no_file_name_is_refused(node: str) -> None:
    with pytest.raises(LabError, match="a lab makes namespaces of ids"):
        netns_of("lab", node)


def test_external_node_is_a_file_name() -> None:
    assert external_node(Address.parse("198.51.100.7")) == "ext-198.51.100.7"
    assert external_node(Address.parse("2001:db8:ffff::7")) == "ext-2001-db8-ffff--7"


def test_mark_names_the_lab_and_only_ours_does() -> None:
    assert lab_of_mark(namespace_mark("lab-x", "i-1")) == "lab-x"
    for other in ("", "lo", "sgdataplane-lab", "sgdataplane-lab lab=x", "x sgdataplane-lab lab=x node=y"):
        assert lab_of_mark(other) is None
