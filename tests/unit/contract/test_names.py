"""Which names we use, and which names from the kernel are kept."""

from __future__ import annotations

import pytest

from sgdataplane.contract import names
from sgdataplane.errors import InternalError

OURS = ["ingress", "rule.sg-a.sgr_1", "eni-ingress.eth0-6c59fb066358", "members.4294967295", "_x", "a" * 127]
THEIRS = ["", "x\ny", "x;y", 'x"', "x y", "x*", "$x", "@x", "#x", "1x", "-x", "x\\", "x{", "\u00e9", "a" * 128, "x\0y"]
INTERFACES = ["eth0", "veth12.5", "a_b-c", "0", "a" * 15]
ODD_INTERFACES = ["", "eth0:1", "a b", 'a"', "a;b", "-a", ".", "a\\", "\u00e9", "a" * 16, "*", "a*b", "a\n"]


@pytest.mark.parametrize("name", OURS)
def test_names_as_we_make_them_are_said_and_kept(name: str) -> None:
    assert names.check_name(name) == name
    assert names.recognize(name.encode() + b"\0") == name


@pytest.mark.parametrize("name", THEIRS)
def test_no_other_is_said_or_kept(name: str) -> None:
    with pytest.raises(InternalError, match="not a name of ours"):
        names.check_name(name)
    assert names.recognize(name.encode() + b"\0") is None


@pytest.mark.parametrize("name", INTERFACES)
def test_interfaces_that_we_bind_are_said_and_kept(name: str) -> None:
    assert names.check_interface(name) == name
    assert names.interface(name.encode().ljust(16, b"\0")) == name


@pytest.mark.parametrize("name", ODD_INTERFACES)
def test_no_other_interface_is_said_or_kept(name: str) -> None:
    with pytest.raises(InternalError, match="not an interface"):
        names.check_interface(name)
    assert names.interface(name.encode().ljust(16, b"\0")) is None


def test_all_that_begin_so_are_said_but_never_kept() -> None:
    assert names.check_interface("up*") == "up*"
    assert names.interface(b"up*") is None


@pytest.mark.parametrize("name", [b"\xff\xfe", b"x\xff", b"\xe2\x80\xae"])
def test_what_is_no_ascii_is_not_kept(name: bytes) -> None:
    assert names.recognize(name) is None
    assert names.interface(name) is None


@pytest.mark.parametrize("ids", [("sg-a", "sgr-1"), ("x\ny", 'a"b'), ("\u00e9" * 90,), ("a" * 300, "b"), ("",)])
def test_whatever_an_id_is_its_name_can_be_said(ids: tuple[str, ...]) -> None:
    assert names.check_name(names.identifier("rule", *ids))
