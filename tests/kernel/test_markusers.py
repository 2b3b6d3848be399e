"""Rules of others that use the conntrack mark are found among those that don't, and our own are none of them."""

from __future__ import annotations

import pytest

from sgdataplane.enforce import Desired
from sgdataplane.host import netns
from sgdataplane.host.netlink import attribute, nest
from sgdataplane.observe.others import MarkUser, read_mark_users
from tests.support.inputs.builders import make_eni, make_group, make_state
from tests.support.inputs.building import enforce
from tests.support.kernel import rawnft
from tests.support.kernel.nft import nft
from tests.support.kernel.rawnft import In

pytestmark = pytest.mark.kernel

STATE = make_state([make_group("sg-a", ["ingress tcp 22/22 from 0.0.0.0/0"])], [make_eni("eni-a", "10.0.0.1", "sg-a")])
FOREIGN = (
    "add table {0} other",
    "add chain {0} other in {{ type filter hook prerouting priority 0; }}",
    "add rule {0} other in ct state new counter",
    "add rule {0} other in meta mark set 5",
)


def found(namespace: str) -> tuple[MarkUser, ...]:
    with netns.inside(namespace):
        return read_mark_users()


@pytest.mark.parametrize("family", ["inet", "ip", "ip6"])
@pytest.mark.parametrize(
    ("rule", "sets"),
    [
        pytest.param("ct mark set 5", True, id="a value"),
        pytest.param("ct mark set ct mark and 0xff or 0x100", True, id="some bits"),
        pytest.param("ct mark set meta mark", True, id="the packet's mark"),
        pytest.param("ct mark set tcp dport map { 80 : 1, 443 : 2 }", True, id="from a map"),
        pytest.param("ct mark set numgen inc mod 3", True, id="from a generator"),
        pytest.param("tcp dport vmap { 80 : jump sub }", True, id="in a chain that a map leads to"),
        pytest.param("ct mark 5 accept", False, id="reads it"),
        pytest.param("meta mark set ct mark", False, id="reads it into the packet's"),
    ],
)
def test_a_foreign_rule_is_found_by_its_handle(namespace: str, family: str, rule: str, sets: bool) -> None:
    nft(namespace, *(line.format(family) for line in FOREIGN), f"add chain {family} other sub")
    assert found(namespace) == ()
    chain = "sub" if "jump" in rule else "in"
    nft(namespace, f"add rule {family} other in {rule}")
    if chain == "sub":
        nft(namespace, f"add rule {family} other sub ct mark set 7")
    (user,) = found(namespace)
    assert (user.family, user.table, user.chain, user.sets) == (family, "other", chain, sets)
    assert user.text == ("ct mark set" if sets else "ct mark")
    assert f"# handle {user.handle}" in nft(namespace, f"-a list chain {family} other {chain}")
    nft(namespace, f"delete rule {family} other {chain} handle {user.handle}")
    assert found(namespace) == ()


def test_our_tables_are_not_reported_but_one_of_that_name_in_another_family_is(namespace: str) -> None:
    enforce(namespace, Desired(STATE, {"eni-a": "eth0"}))
    assert "ct mark set" in nft(namespace, "list table inet sgdataplane")
    assert found(namespace) == ()
    nft(namespace, "add table ip sgdataplane", "add chain ip sgdataplane c", "add rule ip sgdataplane c ct mark set 1")
    assert [(user.family, user.table) for user in found(namespace)] == [("ip", "sgdataplane")]


def test_rules_of_another_namespace_are_its_own(namespace: str) -> None:
    nft(namespace, "add table ip other", "add chain ip other c", "add rule ip other c ct mark set 1")
    assert len(found(namespace)) == 1
    assert read_mark_users() == ()


@pytest.mark.parametrize("name", [b"\x1b[2J", b"\xff", "\u202e".encode()], ids=ascii)
def test_no_table_hides_behind_its_name(namespace: str, name: bytes) -> None:
    theirs, value = In(name), rawnft.word(1, 8) + nest(2, [attribute(1, bytes(4))])
    marks = [rawnft.expression(b"immediate", value), rawnft.expression(b"ct", rawnft.word(2, 3) + rawnft.word(4, 8))]
    rawnft.must_send(namespace, rawnft.table(name), theirs.chain(b"in"), theirs.rule(b"in", marks))
    (user,) = found(namespace)
    assert (user.chain, user.sets, user.table.isprintable()) == ("in", True, True)
