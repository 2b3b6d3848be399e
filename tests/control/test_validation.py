"""What the control plane accepts is what `statefile` accepts of the whole, over random sequences of calls."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from sgdataplane.control.actions import engine
from sgdataplane.control.actions.validation import validate
from sgdataplane.control.calls.answers import ApiError
from sgdataplane.control.hosts.following import state_of
from sgdataplane.errors import StateFileError
from sgdataplane.statefile import load_native
from sgdataplane.statefile.quotas import PROFILES, Quotas
from sgdataplane.store.documents import ResourceKind, Workspace, native
from tests.support.inputs.controlling import Client, Randomly

SMALL = Quotas(
    groups_per_eni=2, rules_per_group=4, rules_per_eni=6, group_remotes=2, members_basic=4, members_classic=3,
    members_advanced=5, prefix_lists=4, entries_per_list=200,
)  # fmt: skip


def whole(workspace: Workspace) -> dict[str, object]:
    return native((kind, body) for kind in ResourceKind for _, body in workspace.all(kind))


def judged(workspace: Workspace, profile: str) -> ApiError | None:
    try:
        validate(workspace, profile)
    except ApiError as error:
        return error
    return None


@pytest.mark.parametrize("shard", range(4))
def test_a_part_is_judged_as_the_whole(monkeypatch: pytest.MonkeyPatch, shard: int) -> None:
    """Both accept it, or both refuse it."""
    monkeypatch.setitem(PROFILES, "small", SMALL)
    verdicts: Counter[str] = Counter()

    def compare(workspace: Workspace, profile: str) -> None:
        try:
            load_native(whole(workspace), profile=profile)
            codes: set[str] = set()
        except StateFileError as error:
            codes = {problem.code for problem in error.problems}
        refusal = judged(workspace, profile)
        verdicts[refusal.code if refusal else "accepted"] += 1
        if refusal:
            assert refusal.code in codes, f"{refusal} against {codes}"
            raise refusal
        assert not codes, f"accepted, but the whole has {codes}: {workspace.changed}"

    monkeypatch.setattr(engine, "validate", compare)
    for seed in range(6):
        chance = random.Random(f"validation-{shard}-{seed}")
        caller = Randomly(Client(profile="small"), chance)
        caller.client.network()
        for _ in range(120):
            caller.step()
    print(verdicts)
    assert verdicts["accepted"] > 150
    assert len(verdicts) > 10


def test_a_store_is_always_a_state() -> None:
    chance = random.Random("states")
    caller = Randomly(Client(), chance)
    caller.client.network()
    answers = Counter(caller.step()[1] for _ in range(300))
    state = state_of(caller.client.engine.documents, "seed")
    assert len(state.network_interfaces) > 3
    assert answers[""] > 50
    assert answers.total() - answers[""] > 50
