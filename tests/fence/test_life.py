"""The fence through changes: of addresses under traffic, of interfaces that go and come, and at the hands of others."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from sgdataplane.contract.tables import NETDEV, TABLE
from sgdataplane.enforce import ApplyReport, Desired, Settings, remove
from sgdataplane.host.links import InterfaceAddress, Links
from sgdataplane.model.state import CloudState
from sgdataplane.net.values import Address
from sgdataplane.nft.kernel import NetlinkKernel
from tests.support.inputs.builders import mac_of, make_eni, make_group, make_state
from tests.support.inputs.building import enforce
from tests.support.kernel.nft import nft
from tests.support.probes.flood import Flood, wait_for_packets
from tests.support.scenes.pair import HERE, Pair, desired_at

pytestmark = pytest.mark.kernel

QUICK = Settings(time_scale=0.03, adoption_window=0)
BASES = {"instance": "egress.eth0", "host": "ingress.eni-a"}
BASE = BASES["instance"]


def state(*more: str) -> CloudState:
    """UDP 5000 to 5199 may leave, 6000 to 6007 may not; `more` are addresses of the ENI."""
    group = make_group("sg-a", [f"egress udp 6000/7000 to {far} drop" for far in ("0.0.0.0/0", "::/0")])
    eni = make_eni("eni-a", " ".join((*HERE["instance"], *more)), "sg-a")
    return make_state([group], [eni])


ONE, TWO = state(), state("10.0.0.77", "2001:db8::77")


def apply(pair: Pair, wanted: CloudState = ONE, previous: CloudState | None = None, **settings: object) -> ApplyReport:
    chosen = replace(QUICK, **settings)  # type: ignore[arg-type]  # fields by name
    former = None if previous is None else desired_at(pair, previous)
    report = enforce(pair["policy"], desired_at(pair, wanted), former, chosen)
    assert report.leftover == ""
    return report


def tables(pair: Pair) -> set[str]:
    return set(nft(pair["policy"], "-t list tables").splitlines())


def secret_of(pair: Pair) -> tuple[int, int]:
    """As the two tables have it."""
    with NetlinkKernel(pair["instance"]) as kernel:
        stamps = [kernel.inventory(TABLE, family).stamp for family in ("inet", NETDEV)]
    assert stamps[0] is not None
    assert stamps[1] is not None
    return stamps[0].secret, stamps[1].secret


def flood(folder: Path, pair: Pair, family: int) -> Flood:
    allowed, denied = (
        [(HERE["peer"][family], port) for port in ports] for ports in (range(5000, 5200), range(6000, 6008))
    )
    return Flood(folder, pair["instance"], pair["peer"], allowed, denied)


def test_changes_of_the_fence_lose_and_leak_nothing(either_pair: Pair, tmp_path: Path) -> None:
    """Own addresses change, all is written anew, somebody else commits, the fence goes and comes back."""
    pair = either_pair
    apply(pair)
    with flood(tmp_path, pair, 0) as first, flood(tmp_path, pair, 1) as second:
        for turn in range(5):
            assert apply(pair, TWO if turn % 2 else ONE, resync=turn % 4 == 0).fenced != ()
            nft(pair["policy"], f"add table inet theirs{turn}")
            apply(pair, TWO if turn % 2 else ONE)
            wait_for_packets([first, second], 60)
    for running in (first, second):
        assert running.allowed.received == running.allowed.sent > 300
        assert (running.denied.received, running.denied.sent > 300) == (0, True)


def test_first_fence_goes_up_behind_packets_that_are_marked(either_pair: Pair, tmp_path: Path) -> None:
    """What runs when the fence comes, with the policy or after it, loses nothing."""
    pair = either_pair
    for has_policy in (False, True):
        remove(pair["policy"])
        if has_policy:
            apply(pair, fence=False)
        with flood(tmp_path, pair, 0) as running:
            apply(pair)
            wait_for_packets([running], 500)
        assert running.allowed.received == running.allowed.sent


def test_applying_twice_does_nothing_and_the_secret_stays(pair: Pair) -> None:
    apply(pair)
    first = secret_of(pair)
    assert first[0] == first[1] != 0
    assert not apply(pair).changed
    assert not apply(pair, TWO, ONE).is_full_resync
    assert not apply(pair, TWO).changed
    assert apply(pair, TWO, resync=True).is_full_resync
    assert secret_of(pair) == first


def test_each_namespace_has_a_secret_of_its_own(pair: Pair) -> None:
    apply(pair)
    first = secret_of(pair)
    remove(pair["instance"])
    apply(pair)
    assert secret_of(pair) != first


@pytest.mark.parametrize(
    "harm",
    [
        pytest.param("delete table netdev sgdataplane", id="deleted"),
        pytest.param("flush table netdev sgdataplane", id="emptied"),
        pytest.param("insert rule netdev sgdataplane {base} accept", id="opened"),
        pytest.param("delete table inet sgdataplane", id="policy-deleted"),
    ],
)
def test_what_somebody_did_to_it_is_put_right(either_pair: Pair, placement: str, harm: str) -> None:
    pair, base = either_pair, BASES[placement]
    apply(pair)
    good = nft(pair["policy"], f"-s list chain netdev sgdataplane {base}")
    nft(pair["policy"], harm.format(base=base))
    assert apply(pair).changed
    assert nft(pair["policy"], f"-s list chain netdev sgdataplane {base}") == good
    assert not apply(pair).changed


def test_fence_is_taken_away_where_it_is_not_wanted_and_all_by_remove(pair: Pair) -> None:
    apply(pair)
    assert tables(pair) == {"table inet sgdataplane", "table netdev sgdataplane"}
    assert apply(pair, fence=False).fenced == ()
    assert tables(pair) == {"table inet sgdataplane"}
    assert "meta mark set" not in nft(pair["instance"], "list table inet sgdataplane")
    apply(pair)
    assert remove(pair["instance"])
    assert tables(pair) == set()
    assert not remove(pair["instance"])


def test_interface_that_comes_back_is_fenced_by_the_next_apply(pair: Pair) -> None:
    apply(pair)
    good = nft(pair["instance"], f"list chain netdev sgdataplane {BASE}")
    with Links(pair["instance"]) as links:
        links.delete_link("eth0")
    apply(pair)
    with Links(pair["peer"]) as links:
        links.add_veth("eth0", pair["instance"], "eth0", mac_of("eni-a"))
    assert apply(pair).fenced == ("eth0",)
    for role in HERE:
        with Links(pair[role]) as links:
            links.add_address(InterfaceAddress("eth0", Address.parse(HERE[role][0]), 24))
            links.set_up("eth0")
    assert apply(pair).changed is False
    assert 'device "eth0"' in good
    assert nft(pair["instance"], f"list chain netdev sgdataplane {BASE}") == good


def test_interface_that_is_not_there_yet_is_not_fenced_and_said_so(namespace: str) -> None:
    report = enforce(namespace, Desired(ONE, {"eni-a": "eth0"}), settings=QUICK)
    assert report.fenced == ()
    with NetlinkKernel(namespace) as kernel:
        assert not kernel.inventory(TABLE, NETDEV).exists
        assert kernel.inventory(TABLE).exists
