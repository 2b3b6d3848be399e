"""NetlinkKernel: the contract, and what only the real kernel can show."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from sgdataplane.contract.fields import Hook, KeyType
from sgdataplane.errors import ExistsError, HostError
from sgdataplane.host import netns
from sgdataplane.nft.ir import DROP, Chain, goto
from sgdataplane.nft.kernel import NetlinkKernel
from sgdataplane.nft.snapshot import Inventory, MapShape
from sgdataplane.nft.transaction import Kind, Verb
from tests.support.kernel.nft import nft
from tests.support.models.kernel_contract import CREATION, LEAF, MEMBERS, NAME, KernelContract, transaction

pytestmark = pytest.mark.kernel
ROOT = Path(__file__).parents[2]


class TestNetlinkKernel(KernelContract):
    @pytest.fixture
    def kernel(self, namespace: str) -> Iterator[NetlinkKernel]:
        with NetlinkKernel(namespace) as kernel:
            yield kernel


@pytest.fixture
def loaded(namespace: str) -> Iterator[NetlinkKernel]:
    with NetlinkKernel(namespace) as kernel:
        kernel.run(CREATION)
        yield kernel


def test_context_stays_in_its_namespace_whoever_calls_it(namespace: str) -> None:
    with NetlinkKernel(namespace) as kernel:
        thread = threading.Thread(target=kernel.run, args=(CREATION,))
        thread.start()
        thread.join()
        assert kernel.inventory(NAME).exists
    assert f"table inet {NAME}" in nft(namespace, "list tables")
    with netns.inside(namespace):
        assert f"table inet {NAME}" in subprocess.check_output(["nft", "list", "tables"], text=True)
    assert NAME not in subprocess.check_output(["nft", "list", "tables"], text=True)


def test_refused_transaction_leaves_the_listing_byte_for_byte(namespace: str, loaded: NetlinkKernel) -> None:
    nft(namespace, "add table inet other; add chain inet other c; add rule inet other c counter accept")
    before = nft(namespace, "-a list ruleset")
    with pytest.raises(ExistsError):
        loaded.run(
            transaction(
                (Verb.FLUSH, Kind.RULES, LEAF),
                (Verb.ADD, Kind.CHAIN, Chain("new", (), Hook("input", 5))),
                (Verb.FLUSH, Kind.ELEMENTS, MEMBERS),
                (Verb.ADD, Kind.ELEMENTS, MEMBERS),
                (Verb.ADD, Kind.ELEMENTS, replace(MEMBERS, elements=((0x0A000001, DROP),))),
            )
        )
    assert nft(namespace, "-a list ruleset") == before


def test_refused_element_is_shown_out_of_a_long_line(loaded: NetlinkKernel) -> None:
    many = tuple((0x0B000000 + number, goto("leaf-1")) for number in range(400))
    wrong = (*many[:300], (0x0A000001, DROP), *many[300:])
    with pytest.raises(ExistsError) as caught:
        loaded.run(transaction((Verb.ADD, Kind.ELEMENTS, replace(MEMBERS, elements=wrong))))
    assert "10.0.0.1" in caught.value.operation
    assert len(caught.value.operation) < 300


def test_inventory_tells_strangers_from_ours(namespace: str, loaded: NetlinkKernel) -> None:
    before = loaded.inventory(NAME)
    nft(
        namespace,
        f"add set inet {NAME} plain {{ type ipv4_addr; }}",
        f"add map inet {NAME} intervals {{ type ipv4_addr : verdict; flags interval; }}",
        f"add map inet {NAME} services {{ type inet_service : verdict; }}",
        f"add quota inet {NAME} q {{ over 1 mbytes }}",
        f"add chain inet {NAME} hooked {{ type filter hook output priority 7; }}",
        f"add chain inet {NAME} nameless",
        f"add rule inet {NAME} nameless tcp dport {{ 1, 2 }} tcp sport vmap {{ 3 : drop }}",
        f"add table ip {NAME}",
        f"add chain ip {NAME} of-another-family",
        f"add table inet {NAME} {{ flags dormant; }}",
    )
    found = loaded.inventory(NAME)
    assert found == replace(
        before,
        generation=found.generation,
        chains={**before.chains, "hooked": Hook("output", 7), "nameless": None},
        maps={
            **before.maps,
            "intervals": MapShape(None),
            "plain": MapShape(None, KeyType.NOTHING),
            "services": MapShape(None),
        },
        has_flags=True,
        odd=1,  # the quota
    )


def test_generation_grows_with_anyones_commit(namespace: str, loaded: NetlinkKernel) -> None:
    before = loaded.inventory(NAME).generation
    nft(namespace, "add table inet other")
    assert loaded.inventory(NAME).generation == before + 1


def test_flushed_ruleset_is_an_absent_table(namespace: str, loaded: NetlinkKernel) -> None:
    nft(namespace, "flush ruleset")
    found = loaded.inventory(NAME)
    assert found == Inventory(found.generation, exists=False)


def test_map_of_another_type_is_no_stamp(namespace: str, loaded: NetlinkKernel) -> None:
    nft(namespace, f"delete map inet {NAME} applied", f"add map inet {NAME} applied {{ type ipv4_addr : verdict; }}")
    found = loaded.inventory(NAME)
    assert (found.stamp, found.maps["applied"]) == (None, MapShape(KeyType.IPV4))


def test_absent_namespace_is_an_error_of_the_host(lab_name: str) -> None:
    with pytest.raises(HostError, match=lab_name):
        NetlinkKernel(lab_name)


@pytest.mark.parametrize(
    "when",
    [pytest.param("before", id="entering-the-namespace"), pytest.param("after", id="running-a-transaction")],
)
def test_without_privileges_it_says_so(namespace: str, when: str) -> None:
    program = f"""
import os
from sgdataplane.errors import PrivilegeError
from sgdataplane.nft.kernel import NetlinkKernel
from tests.support.models.kernel_contract import CREATION
if {when!r} == "before":
    os.setuid(65534)
try:
    kernel = NetlinkKernel({namespace!r})
    os.setuid(65534)
    kernel.run(CREATION)
except PrivilegeError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("not permitted: this needs CAP_")
    assert done.stdout.endswith("run it as root\n")
