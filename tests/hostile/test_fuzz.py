"""Anything at all in our tables: after each batch the namespace obeys exactly, and no name was passed on.

Seeds are printed. `slow`: a million names.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from sgdataplane.contract.names import recognize
from sgdataplane.contract.tables import TABLE
from sgdataplane.enforce import Desired, Settings, remove
from sgdataplane.enforce.fence import fence_of
from sgdataplane.host.netlink import list_attributes
from sgdataplane.host.nfnetlink import BatchMessage as Sent
from sgdataplane.host.nfnetlink import Nfnetlink
from sgdataplane.model.options import Placement
from sgdataplane.nft import snapshot
from tests.hostile.chance import Chance
from tests.hostile.scene import OURS, PLAIN, must_obey, policy, surplus
from tests.support.inputs.building import enforce, table_of
from tests.support.kernel import rawnft
from tests.support.kernel.nft import nft
from tests.support.kernel.rawnft import INET, NETDEV, In
from tests.support.scenes.attachbench import Bench
from tests.support.scenes.attachhost import HOST, state_of

pytestmark = pytest.mark.kernel
ROOT = Path(__file__).parents[2]
FEW = 10  # batches: with both settings of each kind; the rest is slow
SEED = int(os.environ.get("SGDP_TEST_SEED", "20260801"))
COPIED = {(8, 2), (5, 3), (20, 2)}  # the names in DELRULE, DELCHAIN, DELOBJ: what goes by name goes by what was told


class Spy:
    """All that is asked of nftables, but for the names of what is to go."""

    def __init__(self) -> None:
        self.names: set[bytes] = set()
        self.batches = 0

    def passed_on(self, chance: Chance) -> set[bytes]:
        """Of the names that it gave. Short ones may as well be numbers; a chain that has one such as ours is opened by
        it, before its table goes."""
        return {name for name in self.names & chance.names if len(name) > 4 and recognize(name) is None}

    def watch(self, patched: pytest.MonkeyPatch) -> None:
        commit = Nfnetlink.commit

        def committed(door: Nfnetlink, subsystem: int, messages: Sequence[Sent], *rest: object, **more: object) -> None:
            self.batches += 1
            for message in messages:
                self.names |= set(_texts(message))
            commit(door, subsystem, messages, *rest, **more)  # type: ignore[arg-type]

        patched.setattr(Nfnetlink, "commit", committed)


def _texts(message: Sent) -> Iterator[bytes]:
    for kind, value in list_attributes(message.attributes):
        if (message.kind & 0xFF, kind) not in COPIED:
            yield value.rstrip(b"\0")


@pytest.fixture
def spy(monkeypatch: pytest.MonkeyPatch) -> Spy:
    found = Spy()
    found.watch(monkeypatch)
    return found


def names_of(desired: Desired) -> tuple[bytes, ...]:
    table, fence = table_of(desired), fence_of(desired, ("eth0",), 1)
    names = {
        name
        for one in (table, fence)
        for name in (*one.chain, *one.map, *one.counter, *(entry.name for entry in one.timeouts))
    }
    return tuple(sorted(name.encode() for name in names))


@pytest.mark.parametrize("number", [n if n < FEW else pytest.param(n, marks=pytest.mark.slow) for n in range(25)])
@pytest.mark.parametrize("where", [Placement.INSTANCE, Placement.HOST], ids=["instance", "host"])
def test_whatever_is_made_in_our_tables_is_gone_and_all_of_ours_is_there(
    namespace: str, spy: Spy, where: Placement, number: int
) -> None:
    """In each placement 10 times 100 objects, less what the kernel refuses (slow: 25 times)."""
    seed = SEED + number
    print(f"seed {seed}")
    desired = policy(placement=where)
    chance = Chance(seed, names_of(desired))
    settings = Settings(adoption_window=30.0 * (number % 2), resync=number % 5 == 0)
    enforce(namespace, desired, settings=settings)
    theirs = In(chance.name(100))
    rawnft.must_send(namespace, rawnft.table(theirs.table), theirs.chain(chance.name()))
    made = rawnft.send_what_fits(namespace, chance.batch(100))
    assert len(made) > 60
    before = rawnft.names_in(namespace, theirs.table)
    report = enforce(namespace, desired, desired, settings)
    assert report.leftover == ""
    assert list(surplus(namespace, desired)) == []
    assert not enforce(namespace, desired, None, replace(settings, resync=False)).changed
    assert rawnft.names_in(namespace, theirs.table) == before
    assert spy.batches > 3
    assert spy.passed_on(chance) == set()


@pytest.mark.parametrize("number", range(5))
def test_our_tables_go_whatever_is_in_them(namespace: str, spy: Spy, number: int) -> None:
    seed = SEED + 1000 + number
    print(f"seed {seed}")
    chance = Chance(seed, names_of(policy()))
    enforce(namespace, policy(), settings=PLAIN)
    rawnft.send_what_fits(namespace, chance.batch(100))
    remove(namespace)
    assert spy.passed_on(chance) == set()
    for family in (INET, NETDEV):
        assert not any(rawnft.names_in(namespace, OURS, family).values())
    assert nft(namespace, "list tables") == ""


def test_a_workload_in_host_placement(bench: Bench, spy: Spy) -> None:
    """Whatever it makes under our tables' names is removed in it."""
    for number in range(3):
        seed = SEED + 2000 + number
        print(f"seed {seed}")
        chance = Chance(seed, (b"ingress", b"egress", b"adopting"))
        rawnft.must_send(bench.place, *(rawnft.table(OURS, family) for family in (INET, NETDEV)))
        rawnft.send_what_fits(bench.place, chance.batch(60))
        found = bench.apply(state_of(8080), *HOST)
        assert found == {"eni-a": "in force", "eni-b": "in force", "exit": "0"}
        assert nft(bench.place, "list tables") == ""
        assert spy.passed_on(chance) == set()


def test_libnftables_is_not_even_loaded(namespace: str) -> None:
    program = """
import sys
from pathlib import Path
from tests.hostile.scene import PLAIN, policy
from tests.support.inputs.building import enforce
enforce(sys.argv[1], policy(), None, PLAIN)
print("libnftables" in Path("/proc/self/maps").read_text("ascii", "replace"), "nftables" in sys.modules)
"""
    command = [sys.executable, "-c", program, namespace]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]


# crowds


def crowd(namespace: str, count: int, start: int = 0) -> None:
    """So many counters in our table."""
    there = In(OURS)
    made = [there.object(b'x\ninclude "/%d"' % number, rawnft.COUNTER) for number in range(start, start + count)]
    for first in range(0, count, 5_000):
        rawnft.must_send(namespace, *made[first : first + 5_000])


def test_a_table_with_too_much_in_it_is_made_anew(namespace: str, monkeypatch: pytest.MonkeyPatch) -> None:
    enforce(namespace, policy(), settings=PLAIN)
    monkeypatch.setattr(snapshot, "MAX_OBJECTS", 300)
    crowd(namespace, 400)
    report = enforce(namespace, policy(), policy(), PLAIN)
    assert (report.is_full_resync, report.leftover) == (True, "")
    assert list(surplus(namespace, policy())) == []


def test_beside_a_crowd_in_anothers_table_ours_is_made_anew(namespace: str, monkeypatch: pytest.MonkeyPatch) -> None:
    enforce(namespace, policy(), settings=PLAIN)
    monkeypatch.setattr(snapshot, "MAX_PASSED", 50)
    there = In(b"other")
    rawnft.must_send(namespace, rawnft.table(b"other"), *(there.chain(b"x;%d" % number) for number in range(60)))
    rawnft.must_send(namespace, In(OURS).chain(b"x\ny"))
    assert not any("missing" in line for line in surplus(namespace, policy()))
    report = enforce(namespace, policy(), policy(), PLAIN)
    assert (report.is_full_resync, report.leftover) == (True, "")
    assert list(surplus(namespace, policy())) == []
    assert not enforce(namespace, policy(), None, PLAIN).changed


def test_a_crowd_among_elements_is_too_much_as_well(namespace: str, monkeypatch: pytest.MonkeyPatch) -> None:
    enforce(namespace, policy(), settings=PLAIN)
    monkeypatch.setattr(snapshot, "MAX_INTERFACES", 50)
    keys = [b"x%d" % number for number in range(60)]
    lasting = rawnft.verdict(2, -5) + rawnft.lasting(60_000)
    rawnft.must_send(
        namespace, In(OURS).elements(b"adopting", [rawnft.element(key.ljust(16, b"\0"), lasting) for key in keys])
    )
    assert enforce(namespace, policy(), policy(), PLAIN).is_full_resync
    assert list(surplus(namespace, policy())) == []


@pytest.mark.slow
def test_a_million_names(namespace: str) -> None:
    """In 50 batches, and each has to go."""
    desired, took = policy(), []
    enforce(namespace, desired, settings=PLAIN)
    for number in range(50):
        crowd(namespace, 20_000, number * 20_000)
        started = time.monotonic()
        assert enforce(namespace, desired, desired, PLAIN).leftover == ""
        took.append(time.monotonic() - started)
        assert list(surplus(namespace, desired)) == []
    print(f"20,000 strangers removed in {min(took):.2f} to {max(took):.2f} s")


@pytest.mark.slow
def test_a_million_names_at_once(namespace: str) -> None:
    desired = policy()
    enforce(namespace, desired, settings=PLAIN)
    crowd(namespace, 1_000_000)
    started = time.monotonic()
    assert enforce(namespace, desired, desired, PLAIN).leftover == ""
    print(f"a million strangers removed in {time.monotonic() - started:.2f} s")
    assert list(surplus(namespace, desired)) == []
    must_obey(namespace, desired)


@pytest.mark.slow
def test_a_million_names_in_anothers_table(namespace: str) -> None:
    desired, there = policy(), In(b"other")
    rawnft.must_send(namespace, rawnft.table(b"other"))
    for first in range(0, 1_000_000, 5_000):
        rawnft.must_send(namespace, *(there.chain(b'x\ninclude "/%d"' % (first + n)) for n in range(5_000)))
    started = time.monotonic()
    enforce(namespace, desired, settings=PLAIN)
    print(f"beside a million chains of another table in {time.monotonic() - started:.2f} s; our table is {TABLE}")
    assert list(surplus(namespace, desired)) == []
