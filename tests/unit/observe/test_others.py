"""Rules of other programs that use the conntrack mark, and flowtables, read from messages. On real kernels:
tests/kernel/test_markusers.py and test_carried.py."""

from __future__ import annotations

import pytest

from sgdataplane.host.netlink import attribute, nest
from sgdataplane.model.options import Placement
from sgdataplane.observe.others import (
    EXPRESSION_DATA,
    EXPRESSION_NAME,
    FLOWTABLE_FLAGS,
    FLOWTABLE_HOOK,
    RULE_CHAIN,
    RULE_EXPRESSIONS,
    RULE_HANDLE,
    RULE_TABLE,
    XT_INFO,
    XT_NAME,
    XT_REVISION,
    Flowtable,
    MarkUser,
    parse_flowtable,
    parse_rule,
)

READS_CT_MARK = "2000010007000100637400001400020008000100000000010800020000000003"
WRITES_META_MARK = "24000100090001006d657461000000001400020008000200000000030800030000000001"
WRITES_CT_MARK = "2000010007000100637400001400020008000400000000010800020000000003"
ORS = (
    "4c0001000c00010062697477697365003c000200080001000000000108000200000000010800030000000004080006000000000"
    "00c00040008000100faffffff0c0005000800010005000000"
)
READS_CT_STATE = "2000010007000100637400001400020008000100000000010800020000000000"
COUNTS = "2c0001000c000100636f756e746572001c0002000c00010000000000000000000c00020000000000000000"
XT_CONNMARK = "00400001000b0001007461726765740000300002000d000100434f4e4e4d41524b0000000008000200000000021400030"
XT_MARK = "00340001000b000100746172676574000024000200090001004d41524b0000000008000200000000020c00030001000000ffffffff"
XT_CONNMARK_MATCH = (
    "400001000a0001006d61746368000000300002000d000100636f6e6e6d61726b0000000008000200000000011400030005000000"
    "ffffffff0000000000000000"
)


def read(*expressions: str) -> MarkUser | None:
    rule = {RULE_TABLE: b"t\0", RULE_CHAIN: b"c\0", RULE_HANDLE: bytes(7) + b"\5"}
    return parse_rule(2, {**rule, RULE_EXPRESSIONS: bytes.fromhex("".join(expressions))})


@pytest.mark.parametrize(
    ("expressions", "sets", "text"),
    [
        pytest.param((READS_CT_MARK, WRITES_META_MARK), False, "ct mark", id="meta mark set ct mark"),
        pytest.param((READS_CT_MARK, ORS, WRITES_CT_MARK), True, "ct mark set", id="ct mark set ct mark or 5"),
        pytest.param((COUNTS, XT_CONNMARK + "005000000ffffffffffffffff00000000"), True, "-j CONNMARK --set-mark"),
        pytest.param((COUNTS, XT_CONNMARK + "000000000ffffffffffffffff00000100"), True, "-j CONNMARK --save-mark"),
        pytest.param((COUNTS, XT_CONNMARK + "000000000ffffffffffffffff00000200"), False, "-j CONNMARK --restore-mark"),
        pytest.param((XT_CONNMARK_MATCH, COUNTS, XT_MARK), False, "-m connmark", id="-m connmark -j MARK"),
    ],
)
def test_a_rule_that_uses_the_mark(expressions: tuple[str, ...], sets: bool, text: str) -> None:
    assert read(*expressions) == MarkUser("ip", "t", "c", 5, sets, text)


@pytest.mark.parametrize(
    "expressions", [(), (READS_CT_STATE, WRITES_META_MARK), (COUNTS, XT_MARK)], ids=["none", "ct state", "-j MARK"]
)
def test_a_rule_that_does_not(expressions: tuple[str, ...]) -> None:
    assert read(*expressions) is None


@pytest.mark.parametrize(
    ("revision", "info", "sets", "text"),
    [
        (1, bytes(12) + b"\2\0\0\0", False, "-j CONNMARK --restore-mark"),
        (1, bytes(12) + b"\1\2\2\2", True, "-j CONNMARK --save-mark"),
        (9, bytes(14) + b"\2\0", True, "-j CONNMARK"),
    ],
    ids=["old, reads", "old, sets", "unknown: may set"],
)
def test_connmark_of_another_revision(revision: int, info: bytes, sets: bool, text: str) -> None:
    data = (
        attribute(XT_NAME, b"CONNMARK\0"),
        attribute(XT_REVISION, revision.to_bytes(4, "big")),
        attribute(XT_INFO, info),
    )
    expression = nest(1, (attribute(EXPRESSION_NAME, b"target\0"), nest(EXPRESSION_DATA, data)))
    assert read(expression.hex()) == MarkUser("ip", "t", "c", 5, sets, text)


def test_complaints_name_the_rule() -> None:
    assert MarkUser("ip", "mangle", "OUTPUT", 4, True, "-j CONNMARK --save-mark").warning == (
        "rule 4 of chain ip mangle OUTPUT sets the conntrack mark (-j CONNMARK --save-mark), which is where the policy "
        "notes what it has accepted: sessions may pass unjudged, or be judged at each packet"
    )
    assert MarkUser("inet", "t", "c", 7, False, "ct mark").warning == (
        "rule 7 of chain inet t c reads the conntrack mark (ct mark): what it finds there is the policy's"
    )


TWO_DEVICES = "080001000000000008000200000000001400030008000100696e3000070001006c6f0000"
ONE_DEVICE = "080001000000000008000200000000000c00030008000100696e3000"
MESSAGE = {1: b"theirs\0", 2: b"f\0", 5: bytes(7) + b"\2", 4: bytes(4), FLOWTABLE_FLAGS: bytes(4)}


@pytest.mark.parametrize(
    ("family", "hook", "flags", "found"),
    [
        pytest.param(1, TWO_DEVICES, 0, Flowtable("inet", "theirs", "f", ("in0", "lo"), False), id="in order"),
        pytest.param(2, ONE_DEVICE, 2, Flowtable("ip", "theirs", "f", ("in0",), False), id="that counts"),
        pytest.param(10, ONE_DEVICE, 3, Flowtable("ip6", "theirs", "f", ("in0",), True), id="in hardware"),
        pytest.param(99, "", 0, Flowtable("99", "theirs", "f", (), False), id="without a device"),
    ],
)
def test_a_message_becomes_a_flowtable(family: int, hook: str, flags: int, found: Flowtable) -> None:
    message = {**MESSAGE, FLOWTABLE_HOOK: bytes.fromhex(hook), FLOWTABLE_FLAGS: flags.to_bytes(4, "big")}
    assert parse_flowtable(family, message) == found


def test_the_complaint_says_what_comes_of_it_there() -> None:
    found = Flowtable("inet", "theirs", "f", ("eth0", "eth1"), is_in_hardware=False)
    inside, outside = (found.warning(placement) for placement in (Placement.INSTANCE, Placement.HOST))
    assert inside.startswith("flowtable inet theirs f (eth0, eth1) carries sessions past the policy: the fence drops")
    assert "neither counted nor logged" in outside
    assert "hardware" not in inside + outside
    hard = Flowtable("inet", "theirs", "f", (), is_in_hardware=True).warning(Placement.HOST)
    assert hard.startswith("flowtable inet theirs f (no device) carries sessions past the policy, some in hardware")
