"""Names that are a program for libnftables' parser: root of a namespace gives them to objects in our tables there, and
to interfaces; root of the machine must not run them.

The parser reads a file that it is told to include. So a canary stands for every harm: it must never be opened.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sgdataplane.contract.tables import ADOPTING, TABLE
from sgdataplane.enforce import Settings, remove
from sgdataplane.errors import SgDataplaneError
from sgdataplane.host.netlink import attribute, nest
from tests.hostile.scene import OURS, PLAIN, Canary, must_obey, policy
from tests.support.inputs.building import enforce
from tests.support.kernel import rawnft
from tests.support.kernel.nft import nft
from tests.support.kernel.rawnft import INET, NETDEV, In, Message
from tests.support.scenes.attachbench import Bench
from tests.support.scenes.attachhost import HOST, state_of

pytestmark = pytest.mark.kernel
Attack = Callable[[bytes], tuple[Message, ...]]

POSTROUTING, INGRESS, EGRESS = 4, 0, 1
T, FENCE = In(OURS), In(OURS, NETDEV)
TIMES = attribute(1, b"\0\2") + attribute(2, b"\6") + nest(3, [])
ATTACKS: dict[str, Attack] = {
    "counter": lambda name: (T.object(name, rawnft.COUNTER),),
    "quota": lambda name: (T.object(name, rawnft.QUOTA, attribute(1, bytes(8))),),
    "timeout": lambda name: (T.object(name, rawnft.CT_TIMEOUT, TIMES),),
    "chain": lambda name: (T.chain(name),),
    "base-chain": lambda name: (T.base_chain(name, POSTROUTING, 7),),
    "map": lambda name: (T.verdict_map(name, rawnft.KEYS["mark"]),),
    "set": lambda name: (T.set(name, rawnft.KEYS["ipv4"]),),
    "chain-and-a-rule-to-it": lambda name: (T.chain(name), T.rule(b"ingress", [rawnft.immediate(-3, name)])),
    "map-to-a-chain": lambda name: (
        T.chain(name),
        T.verdict_map(b"plain", rawnft.KEYS["mark"]),
        T.elements(b"plain", [rawnft.element(b"\1\2\3\4", rawnft.verdict(2, -4, name))]),
    ),
    "fence-counter": lambda name: (FENCE.object(name, rawnft.COUNTER),),
    "fence-chain": lambda name: (FENCE.chain(name),),
    "fence-base-chain": lambda name: (FENCE.base_chain(name, EGRESS, 7, b"eth0"),),
    "fence-map": lambda name: (FENCE.verdict_map(name, rawnft.KEYS["mark"]),),
}
BREAKS: dict[str, Callable[[Path], bytes]] = {
    "line": lambda path: b'x\ninclude "%s"' % bytes(path),
    "semicolon": lambda path: b'x;include "%s";' % bytes(path),
}


def harm(canary: Canary, work: Callable[[], object]) -> str:
    """What the work did that it must not have done, or ""."""
    try:
        work()
    except (SgDataplaneError, UnicodeDecodeError) as error:
        if canary.text in str(error):
            return f"the file's content came back in an error: {error}"
    return "the file was opened" if canary.was_opened else ""


@pytest.mark.parametrize("line", BREAKS)
@pytest.mark.parametrize("attack", ATTACKS)
def test_a_name_is_never_run(namespace: str, canary: Canary, attack: str, line: str) -> None:
    desired = policy()
    enforce(namespace, desired, settings=PLAIN)
    rawnft.must_send(namespace, *ATTACKS[attack](BREAKS[line](canary.path)))
    assert harm(canary, lambda: enforce(namespace, desired, desired, PLAIN)) == ""
    must_obey(namespace, desired)


@pytest.mark.parametrize("attack", ATTACKS)
def test_no_name_is_run_where_our_tables_go(namespace: str, canary: Canary, attack: str) -> None:
    enforce(namespace, policy(), settings=PLAIN)
    rawnft.must_send(namespace, *ATTACKS[attack](BREAKS["line"](canary.path)))
    assert harm(canary, lambda: remove(namespace)) == ""
    assert nft(namespace, "list tables") == ""


@pytest.mark.parametrize("attack", ["base-chain", "counter"])
def test_a_table_of_ours_before_we_come(namespace: str, canary: Canary, attack: str) -> None:
    rawnft.must_send(namespace, rawnft.table(OURS), *_elsewhere(ATTACKS[attack](BREAKS["line"](canary.path))))
    assert harm(canary, lambda: enforce(namespace, policy(), settings=PLAIN)) == ""
    must_obey(namespace, policy())


def _elsewhere(messages: tuple[Message, ...]) -> Iterator[Message]:
    return (message for message in messages if message.family == INET)


def test_the_key_of_an_element_is_never_run(namespace: str) -> None:
    """A full resync puts back what the adoption windows have left, by the names of interfaces: 16 octets, all of which
    a program may take, if it is for a file in the root directory."""
    desired, settings = policy(), Settings(adoption_window=30)
    enforce(namespace, desired, settings=settings)
    lasting = rawnft.verdict(2, -5) + rawnft.lasting(60_000)
    rawnft.must_send(namespace, T.elements(ADOPTING.encode(), [rawnft.element(b'a"};include"/c";', lasting)]))
    enforce(namespace, desired, desired, settings)
    assert rawnft.keys_of(namespace, OURS, ADOPTING.encode()) == {b"eth0".ljust(16, b"\0")}


@pytest.mark.parametrize(
    "name", [b"\xff\xfe", b"\x1b[2J", b'"', b"a" * 255], ids=["no-utf8", "escape", "quote", "long"]
)
def test_odd_tables_of_others_stay_and_harm_nothing(namespace: str, canary: Canary, name: bytes) -> None:
    theirs = In(name)
    rawnft.must_send(namespace, rawnft.table(name), theirs.chain(name), theirs.object(name, rawnft.COUNTER))
    before = rawnft.names_in(namespace, name)
    assert harm(canary, lambda: must_obey(namespace, policy())) == ""
    must_obey(namespace, policy())
    assert rawnft.names_in(namespace, name) == before


@pytest.mark.parametrize("attack", ["base-chain", "counter", "chain-and-a-rule-to-it"])
def test_host_placement_runs_no_name_of_the_workloads(bench: Bench, canary: Canary, attack: str) -> None:
    """It removes instance placement's tables in the workload, be they ours or not."""
    ingress = T.base_chain(b"ingress", POSTROUTING, 5)
    messages = ATTACKS[attack](BREAKS["line"](canary.path))
    rawnft.must_send(bench.place, rawnft.table(OURS), ingress, *messages)
    assert harm(canary, lambda: _must_apply(bench)) == ""
    assert nft(bench.place, "list tables") == ""


def _must_apply(bench: Bench) -> None:
    found = bench.apply(state_of(8080), *HOST)
    assert found == {"eni-a": "in force", "eni-b": "in force", "exit": "0"}


def test_only_tables_of_ours_are_touched(namespace: str) -> None:
    theirs = In(b"other")
    rawnft.must_send(namespace, rawnft.table(b"other"), theirs.chain(b"x\ny"), theirs.object(b"a;b", rawnft.COUNTER))
    must_obey(namespace, policy())
    remove(namespace)
    assert rawnft.names_in(namespace, b"other")["chain"] == {b"x\ny"}
    assert TABLE not in nft(namespace, "list tables")
