"""Strangers come and are removed while packets pass: no denied packet is received, and no allowed one is lost but where
the table has to be replaced.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sgdataplane.enforce import Desired, Settings
from sgdataplane.nft import delta
from tests.hostile.chance import Chance
from tests.support.inputs.builders import make_eni, make_group, make_state
from tests.support.inputs.building import enforce, table_of
from tests.support.kernel import rawnft
from tests.support.probes.flood import DenseFlood, wait_until
from tests.support.scenes.pair import HERE, Pair, desired_at, made_pair

pytestmark = pytest.mark.kernel
EACH, SEED = 12, 31
ROUNDS = pytest.mark.parametrize("rounds", [8, pytest.param(30, marks=pytest.mark.slow)])
PLAIN = Settings(adoption_window=0)
INSTANCE = HERE["instance"][0]


@pytest.fixture
def pair(make_lab_name: Callable[[], str], placement: str) -> Iterator[Pair]:
    with made_pair(make_lab_name, placement) as pair:
        yield pair


def desired_in(pair: Pair) -> Desired:
    rules = ["ingress udp 5000/5000 from 0.0.0.0/0", "egress all to 0.0.0.0/0"]
    enis = [make_eni("eni-a", " ".join(HERE["instance"]), "sg-a")]
    return desired_at(pair, make_state([make_group("sg-a", rules)], enis))


def flooded(pair: Pair, folder: Path, rounds: int) -> DenseFlood:
    """What is sent while strangers come, which an apply removes each time."""
    desired = desired_in(pair)
    names = tuple(chain.name.encode() for chain in table_of(desired).chains)
    chance = Chance(SEED, names)
    print(f"seed {SEED}")
    enforce(pair["policy"], desired, settings=PLAIN)
    flood = DenseFlood(folder, pair["peer"], pair["instance"], [(INSTANCE, 5000)], [(INSTANCE, 6000)])
    with flood:
        for _ in range(rounds):
            # a name may be taken, by us or by chance twice
            assert len(rawnft.send_what_fits(pair["policy"], chance.idle(EACH))) > EACH // 2
            report = enforce(pair["policy"], desired, desired, PLAIN)
            assert (report.is_full_resync, report.leftover) == (True, "")
        sent = flood.denied.sent
        wait_until(lambda: flood.denied.sent > sent)
    print(f"allowed {flood.allowed}, denied {flood.denied}")
    return flood


@ROUNDS
def test_strangers_are_removed_and_no_packet_is_lost_or_let_in(pair: Pair, tmp_path: Path, rounds: int) -> None:
    flood = flooded(pair, tmp_path, rounds)
    assert flood.allowed.received == flood.allowed.sent
    assert flood.denied.received == 0
    assert min(flood.allowed.sent, flood.denied.sent) > 100 * rounds


@ROUNDS
def test_a_table_that_is_replaced_lets_nothing_in(
    pair: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rounds: int
) -> None:
    monkeypatch.setattr(delta, "MAX_FOREIGN_OBJECTS", 1)
    flood = flooded(pair, tmp_path, rounds)
    assert flood.denied.received == 0
    assert flood.allowed.received > 0.9 * flood.allowed.sent
    assert min(flood.allowed.sent, flood.denied.sent) > 100 * rounds
