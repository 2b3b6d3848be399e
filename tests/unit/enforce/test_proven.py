"""What a cache keeps from one build to the next, and that it never shows."""

from __future__ import annotations

from sgdataplane.enforce import Cache, Desired, Settings, build
from tests.support.builders import make_eni, make_group, make_state

SETTINGS = Settings()
GROUPS = [make_group(f"sg-{number}", [f"ingress tcp {number}/{number} from 0.0.0.0/0"]) for number in range(1, 9)]
ENIS = [make_eni(f"eni-{number}", f"10.0.0.{number}", f"sg-{1 + number % 8}") for number in range(1, 17)]
STATE = make_state(GROUPS, ENIS)


def desired_of(number: int) -> Desired:
    return Desired(STATE, {f"eni-{number}": "eth0"})


def test_new_eni_starts_from_one_with_the_same_groups() -> None:
    cache = Cache()
    for number in (1, 2):
        cache.build(desired_of(number), SETTINGS)
    made = cache.build(desired_of(9), SETTINGS)
    alone = build(desired_of(9), SETTINGS)
    assert made.table == alone.table
    assert made.proof is not None
    assert alone.proof is not None
    assert (made.proof.profiles, alone.proof.profiles) == (0, 1)


def test_groups_that_no_eni_is_in_any_more_are_forgotten() -> None:
    cache = Cache()
    made = [cache.build(desired_of(number), SETTINGS) for number in range(1, 9)]
    cache.forget_others(made[:1])
    kept, forgotten = (cache.build(desired_of(number), SETTINGS).proof for number in (9, 10))
    assert kept is not None
    assert forgotten is not None
    assert (kept.profiles, forgotten.profiles) == (0, 1)
