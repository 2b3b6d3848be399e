"""What a cache keeps from one build to the next, and that it never shows."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sgdataplane.enforce import Cache, Desired, Settings, build
from sgdataplane.model.options import Placement
from sgdataplane.nft.outline import Outline
from tests.support.inputs.builders import make_eni, make_group, make_state

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


def known_of(desired: Desired) -> Cache:
    """A cache of a later process."""
    before = Cache()
    known = before.summaries([before.build(desired, SETTINGS)])
    assert known is not None
    return Cache(known)


def test_what_is_known_is_built_when_its_table_is_asked_for() -> None:
    desired = desired_of(1)
    cache, alone = known_of(desired), build(desired, SETTINGS)
    later = cache.build(desired, SETTINGS)
    assert later.summary == alone.summary
    assert later.outline.digest == Outline.of(alone.table).digest
    cache.forget_others([])
    other = cache.build(desired_of(9), SETTINGS)
    assert other.proof is not None
    assert other.proof.profiles == 1, "nothing was built that it could have started from"
    assert later.table == alone.table
    assert later.is_proven


@pytest.mark.parametrize("where", list(Placement))
def test_an_outline_is_that_of_the_table(where: Placement) -> None:
    interfaces = {"eni-1": "eth0", "eni-2": "eth1"}
    made = build(Desired(STATE, interfaces, placement=where, uplinks=("up0",) if where.is_outside else ()))
    mine, whole = made.outline, Outline.of(made.table)
    fields = ("name", "family", "digest", "ifnames", "expiring")
    assert [getattr(mine, field) for field in fields] == [getattr(whole, field) for field in fields]
    assert mine.table() is made.table


def test_another_state_or_no_proof_is_not_what_is_known() -> None:
    cache = known_of(desired_of(1))
    more = replace(STATE, security_groups=tuple(replace(g, rules=()) for g in STATE.security_groups))
    for desired, settings in (
        (desired_of(1), Settings(prove=False)),
        (desired_of(1), Settings(time_scale=0.5)),
        (desired_of(2), SETTINGS),
        (Desired(more, {"eni-1": "eth0"}), SETTINGS),
    ):
        assert cache.build(desired, settings).summary == build(desired, settings).summary


def test_a_table_that_turns_out_otherwise_is_not_enforced_and_nothing_is_known_any_more() -> None:
    desired = desired_of(1)
    known = {inputs: replace(each, digest="0" * 32) for inputs, each in known_of(desired).known.items()}
    cache = Cache(known)
    with pytest.raises(RuntimeError, match="another table"):
        cache.build(desired, SETTINGS).table  # noqa: B018
    assert cache.build(desired, SETTINGS).table == build(desired, SETTINGS).table


def test_summaries_are_told_again_only_if_they_changed() -> None:
    cache = Cache()
    first, second = (cache.build(desired_of(number), SETTINGS) for number in (1, 2))
    assert cache.summaries([first]) is not None
    assert cache.summaries([first.on(replace(STATE))]) is None
    both = cache.summaries([first, second])
    assert both is not None
    assert len(both) == 2
    assert cache.summaries([cache.build(desired_of(3), Settings(prove=False))]) == {}


def test_what_was_built_with_other_settings_or_for_other_enis_is_not_of_these() -> None:
    made = build(desired_of(1), Settings(time_scale=0.5, prove=False))
    assert made.is_of(desired_of(1), Settings(time_scale=0.5, prove=False))
    assert not made.is_of(desired_of(1), Settings(time_scale=1.0, prove=False))
    assert not made.is_of(desired_of(1), Settings(time_scale=0.5, prove=True))
    assert not made.is_of(desired_of(2), Settings(time_scale=0.5, prove=False))
