"""When an earlier policy is held, and when that ends."""

from __future__ import annotations

from pathlib import Path

import pytest

from sgdataplane.daemon.hold import PolicyKeeper
from sgdataplane.daemon.policy import Origin, Policy
from sgdataplane.errors import HostError
from sgdataplane.model.state import CloudState
from tests.unit.daemon.test_pastpolicies import ONE, TWO, state_of


class Scene:
    """An agent that enforces TWO, after ONE. `now`: the time of day."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.now = folder, 1000.0
        self.keeper = self.started()
        for state in (ONE, TWO):
            self.enforce(state)

    def started(self) -> PolicyKeeper:
        """The agent is started again."""
        return PolicyKeeper(self.folder, "state.yaml", lambda: self.now)

    def enforce(self, state: CloudState, refusal: str = "") -> Policy:
        """A cycle in which that is the state on disk."""
        policy = self.keeper.choose(Policy(state, Origin.STATE, refusal))
        self.keeper.note(policy)
        return policy


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


def test_it_is_held_until_somebody_resumes(scene: Scene) -> None:
    scene.keeper.begin(1, 0)
    held = scene.enforce(TWO)
    assert (held.state, held.origin) == (ONE, Origin.HELD)
    assert "policy 1 is in force in place of the state on disk" in held.refusal
    assert scene.keeper.resume()
    assert scene.enforce(TWO) == Policy(TWO, Origin.STATE)
    assert scene.keeper.resume() is False


def test_it_ends_when_its_time_is_over_also_over_a_restart(scene: Scene) -> None:
    scene.keeper.begin(1, 60)
    assert scene.keeper.wait_s == 60
    scene.keeper = scene.started()
    assert scene.enforce(TWO).state == ONE
    scene.now += 60
    assert scene.enforce(TWO).state == TWO
    assert scene.enforce(TWO).origin is Origin.STATE
    assert scene.started().hold is None


def test_it_ends_when_the_state_on_disk_is_another_one(scene: Scene) -> None:
    scene.keeper.begin(1, 0)
    assert scene.enforce(state_of(80, 443)).origin is Origin.HELD  # an equal one is the same
    assert scene.enforce(TWO, "it can't be read now").origin is Origin.HELD
    assert scene.enforce(state_of(22)) == Policy(state_of(22), Origin.STATE)
    assert scene.enforce(TWO) == Policy(TWO, Origin.STATE)


def test_another_one_can_be_held_instead_and_the_same_state_is_held_off(scene: Scene) -> None:
    scene.enforce(state_of(22))
    scene.keeper.begin(1, 0)
    assert scene.enforce(state_of(22)).state == ONE
    scene.keeper.begin(2, 0)
    assert scene.enforce(state_of(22)).state == TWO
    assert [entry.change for entry in scene.keeper.past.entries][-2:] == ["back to 1", "back to 2"]


def test_what_isnt_kept_any_more_ends_the_hold_and_the_state_on_disk_is_in_force(scene: Scene) -> None:
    scene.keeper.begin(1, 0)
    hold = scene.keeper.hold
    assert hold is not None
    (scene.folder / "policies" / f"{hold.digest}.yaml").unlink()
    scene.keeper = scene.started()
    assert scene.enforce(TWO) == Policy(TWO, Origin.STATE)


def test_an_unknown_or_changed_policy_is_refused_and_nothing_is_held(scene: Scene) -> None:
    with pytest.raises(HostError, match="1 to 2"):
        scene.keeper.begin(3, 0)
    digest = scene.keeper.past.find(1).digest
    (scene.folder / "policies" / f"{digest}.yaml").write_text("{}", "utf-8")
    with pytest.raises(HostError, match="isn't the policy that was written"):
        scene.keeper.begin(1, 0)
    assert scene.enforce(TWO) == Policy(TWO, Origin.STATE)


@pytest.mark.parametrize("text", ["", "7", "{}", '{"number": 1, "digest": "x", "instead_of": "", "until": Infinity}'])
def test_a_hold_that_cannot_be_read_holds_nothing_and_is_told(scene: Scene, text: str) -> None:
    scene.keeper.begin(1, 0)
    (scene.folder / "hold.json").write_text(text, "utf-8")
    scene.keeper = scene.started()
    assert "nothing is held" in scene.keeper.error
    assert scene.enforce(TWO) == Policy(TWO, Origin.STATE)
