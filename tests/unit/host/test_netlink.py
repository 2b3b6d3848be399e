"""Messages, attributes, and names that others choose."""

from __future__ import annotations

import pytest

from sgdataplane.host.netlink import (
    attribute,
    list_attributes,
    messages,
    nest,
    parse_attributes,
    request,
    text_of,
)


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        (b"eth0\0", "eth0"),
        (b"\xc3\xa9t\xc3\xa9\0", "\u00e9t\u00e9"),
        (b"\xff\0", "\\xff"),
        (b"x\ny\0", "x\\ny"),
        (b"\x1b[2J", "\\x1b[2J"),
        ("\u202egnp.exe".encode(), "\\u202egnp.exe"),
    ],
)
def test_a_name_is_shown_on_one_line_and_does_nothing_to_a_terminal(name: bytes, shown: str) -> None:
    assert text_of(name) == shown


def test_attributes_are_read_back() -> None:
    data = attribute(1, b"abc") + nest(2, [attribute(1, b"x")]) + attribute(1, b"")
    assert list(list_attributes(data)) == [(1, b"abc"), (2, attribute(1, b"x")), (1, b"")]
    assert parse_attributes(data)[1] == b""


@pytest.mark.parametrize("length", range(4))
def test_what_is_no_attribute_is_refused_and_not_read_for_ever(length: int) -> None:
    with pytest.raises(OSError, match="an attribute of"):
        list(list_attributes(bytes([length, 0, 1, 0, 0, 0, 0, 0])))


def test_messages_are_read_back() -> None:
    two = request(20, 4, b"abcdefgh", 7) + request(21, 0, b"", 8)
    assert messages(two) == [(20, 5, 7, b"abcdefgh"), (21, 1, 8, b"")]
    assert messages(two[:-1]) == [(20, 5, 7, b"abcdefgh")]  # the kernel sends whole ones


@pytest.mark.parametrize("length", [0, 15])
def test_what_is_no_message_is_refused_and_not_read_for_ever(length: int) -> None:
    with pytest.raises(OSError, match="a message of"):
        messages(bytes([length]) + bytes(31))
