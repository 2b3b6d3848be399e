"""Nobody but root and one user may be able to change a state that root enforces. As root: owners are real ones."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from sgdataplane.errors import Problem, StateFileError
from sgdataplane.statefile import Memory, SoleOwner, load, load_owned
from tests.support.inputs.generations import write_generation
from tests.support.run.users import ALICE, BOB
from tests.support.scenes.attachbench import state_of

pytestmark = pytest.mark.kernel  # needs root
STATE = state_of(443)
SECRET = "password: hunter2\n"


def owned(folder: Path, user: int) -> None:
    """Everything in it, and itself."""
    for path in (folder, *folder.rglob("*")):
        os.lchown(path, user, user)


@pytest.fixture
def alices(tmp_path: Path) -> Path:
    """A folder with a link to a generation, all Alice's; in a folder of root's, where root has a secret, too."""
    folder = tmp_path / "alices"
    (folder / "generations").mkdir(parents=True)
    write_generation(folder / "generations/1", STATE)
    (folder / "current").symlink_to("generations/1")
    owned(folder, ALICE)
    (tmp_path / "roots").mkdir()
    (tmp_path / "roots/secret.yaml").write_text(SECRET, "utf-8")
    return folder


def refused(path: Path) -> Problem:
    """The only problem, which shows nothing that root alone may read."""
    owner = SoleOwner()
    with pytest.raises(StateFileError) as raised:
        load_owned(path, owner, profile="seed", memory=Memory())
    assert owner.user in (0, ALICE)
    assert (owner.user == 0) == (raised.value.problems[0].code in ("InvalidSource.Owner", "InvalidSource.Writable"))
    assert "hunter2" not in str(raised.value)
    (problem,) = raised.value.problems
    return problem


def test_what_is_one_users_is_read_and_it_is_known_whose_it_is(alices: Path) -> None:
    owner = SoleOwner()
    assert load_owned(alices / "current", owner, profile="seed", memory=Memory()).state == STATE
    assert owner.user == ALICE


def test_what_is_roots_is_read(tmp_path: Path) -> None:
    write_generation(tmp_path / "roots", STATE)
    owner = SoleOwner()
    assert load_owned(tmp_path / "roots", owner, profile="seed", memory=Memory()).state == STATE
    assert owner.user == 0


def test_a_link_may_lead_back_through_roots_folders(alices: Path) -> None:
    (alices / "current").unlink()
    (alices / "current").symlink_to(alices / "generations/1")
    os.lchown(alices / "current", ALICE, ALICE)
    assert load_owned(alices / "current", SoleOwner(), profile="seed", memory=Memory()).state == STATE


@pytest.mark.parametrize("place", ["", "generations", "generations/1", "generations/1/a.yaml"])
@pytest.mark.parametrize("mode", [0o775, 0o757])
def test_what_others_can_write_is_refused(alices: Path, place: str, mode: int) -> None:
    (alices / place).chmod(mode)
    problem = refused(alices / "current")
    assert problem.code == "InvalidSource.Writable"
    assert problem.expected.startswith("chmod go-w ")
    assert load(alices / "current").state == STATE, "of `sgdp check`, which enforces nothing"


def test_a_sticky_folder_may_be_on_the_way_but_hold_no_state(alices: Path) -> None:
    alices.chmod(0o1777)
    assert load_owned(alices / "current", SoleOwner(), profile="seed", memory=Memory()).state == STATE
    (alices / "generations/1").chmod(0o1777)
    assert refused(alices / "current").code == "InvalidSource.Writable"


@pytest.mark.parametrize("user", [0, BOB])
@pytest.mark.parametrize("place", ["generations/1", "generations/1/b.yaml"])
def test_what_is_anothers_below_a_users_folder_is_refused(alices: Path, place: str, user: int) -> None:
    os.chown(alices / place, user, 0)
    assert refused(alices / "current").code == "InvalidSource.Owner"


def test_two_users_on_the_way_are_refused(alices: Path) -> None:
    os.chown(alices / "generations", BOB, BOB)
    problem = refused(alices / "current")
    assert (problem.code, problem.where.file) == ("InvalidSource.Owner", str(alices / "generations"))
    assert problem.value == f"user {BOB}"


@pytest.mark.parametrize("target", ["../roots", "../roots/secret.yaml"])
def test_a_users_link_does_not_lead_to_what_root_alone_may_read(alices: Path, target: str) -> None:
    (alices / "current").unlink()
    (alices / "current").symlink_to(target)
    os.lchown(alices / "current", ALICE, ALICE)
    assert refused(alices / "current").code == "InvalidSource.Owner"


@pytest.mark.parametrize("make", [Path.symlink_to, Path.hardlink_to])
def test_nor_does_a_link_in_the_folder(alices: Path, make: Callable[[Path, Path], None]) -> None:
    make(alices / "generations/1/c.yaml", alices.parent / "roots/secret.yaml")
    assert refused(alices / "current").code == "InvalidSource.Owner"


def test_links_that_lead_nowhere_or_round_in_circles_end(alices: Path) -> None:
    (alices / "round").symlink_to("round")
    assert refused(alices / "round").code == "InvalidSource.Unreadable"
    assert refused(alices / "none/state.yaml").code == "InvalidSource.NotFound"
