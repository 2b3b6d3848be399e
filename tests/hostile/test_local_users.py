"""A local user without any right: it opens and locks whatever it may open, for as long as it likes.

The user is a process of uid 65534. Folders are as an older version has left them, or as whoever came first made them.
"""

from __future__ import annotations

import fcntl
import json
import os
import selectors
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from sgdataplane.attach import registry as registry_module
from sgdataplane.attach.registry import Registry
from sgdataplane.control.access.nonces import Nonces
from sgdataplane.daemon.control import ControlServer, Loop
from sgdataplane.daemon.provenfile import ProvenFile
from sgdataplane.daemon.source import LastGood
from sgdataplane.errors import HostError, LabError, StateFileError
from sgdataplane.host.files import Survives
from sgdataplane.lab.record import LabFolder
from sgdataplane.relay.sync import lock_folder
from sgdataplane.store.sqlite.file import take_lock
from sgdataplane.trial.record import TrialFolder
from tests.support.scenes.attachbench import WEB, state_of

pytestmark = pytest.mark.kernel
NOBODY = 65534
# Locks all that it can open below a folder, and writes what that was.
LOCKER = """
import fcntl, json, os, sys
os.setgroups([]); os.setgid(65534); os.setuid(65534)
root, told, held, names = sys.argv[1], sys.argv[2], [], []
for place, folders, files in os.walk(root):
    for path in [place, *(os.path.join(place, name) for name in files)]:
        try:
            handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            continue
        held.append(handle); names.append(path)
print(json.dumps(names), flush=True)
sys.stdin.read()
"""


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    """A folder that everybody may enter; pytest's own is root's alone."""
    folder = tmp_path / "run"
    folder.mkdir(mode=0o755)
    opened = [parent for parent in folder.parents if parent.stat().st_uid == os.geteuid() and len(parent.parts) > 2]
    modes = {parent: stat.S_IMODE(parent.stat().st_mode) for parent in opened}
    for parent in opened:
        parent.chmod(modes[parent] | 0o011)
    yield folder
    for parent, mode in modes.items():
        parent.chmod(mode)


@contextmanager
def locking(folder: Path) -> Iterator[list[str]]:
    """While the block runs, a process of another user holds every lock that it can get there; which ones these are."""
    command = [sys.executable, "-S", "-c", LOCKER, str(folder), "-"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        try:
            yield json.loads(process.stdout.readline())
        finally:
            process.communicate()


def bind(folder: Path) -> None:
    with Registry(folder / "attached").lock():
        pass


def start(folder: Path) -> None:
    with selectors.DefaultSelector() as selector:
        ControlServer(folder / "sgdp" / "agent.sock", Loop(selector, time.monotonic, lambda: 0), lambda _: b"").close()


def work_on_a_lab(folder: Path) -> None:
    with LabFolder("demo", folder / "labs").lock():
        pass


def serve(folder: Path) -> None:
    nonces = Nonces(folder / "nonces")
    nonces.use("key", os.urandom(8).hex(), time.time(), time.time())


def follow(folder: Path) -> None:
    with lock_folder(folder / "sync"):
        pass


def store(folder: Path) -> None:
    (folder / "store").mkdir(exist_ok=True)
    take_lock(folder / "store" / "db", fcntl.LOCK_EX, "a store").close()


def change_trials(folder: Path) -> None:
    with TrialFolder(folder / "trials", Survives.THE_WRITER).lock():
        pass


USERS = {
    "bindings": bind,
    "agent": start,
    "lab": work_on_a_lab,
    "nonces": serve,
    "sync": follow,
    "store": store,
    "trials": change_trials,
}


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry_module, "LOCK_S", 0.5)
    monkeypatch.setattr("sgdataplane.lab.record.LOCK_S", 0.5)


@pytest.mark.parametrize("use", USERS.values(), ids=USERS)
@pytest.mark.parametrize("is_new", [True, False], ids=["as we make it", "as an older version made it"])
def test_another_user_can_hold_nothing_that_we_wait_for(
    place: Path, use: Callable[[Path], None], *, is_new: bool
) -> None:
    if is_new:
        use(place)
    else:
        older: dict[object, list[str]] = {bind: ["attached"], work_on_a_lab: ["labs", "labs/demo"], serve: ["nonces"]}
        for name in older.get(use, []):
            (place / name).mkdir(mode=0o755)
        if use is work_on_a_lab:
            (place / "labs/demo/lock").touch(mode=0o600)
    with locking(place) as got:
        assert str(place) in got  # the control: it can lock what everybody may open
        use(place)
        assert not [name for name in got if stat.S_IMODE(os.stat(name).st_mode) == 0o600]


WIDE = {"bindings": (bind, "attached"), "nonces": (serve, "nonces"), "lab": (work_on_a_lab, "labs")}


@pytest.mark.parametrize(("use", "name"), WIDE.values(), ids=WIDE)
def test_a_folder_that_others_can_use_becomes_ours_alone(place: Path, use: Callable[[Path], None], name: str) -> None:
    (place / name).mkdir(mode=0o755)
    (place / name).chmod(0o777)
    use(place)
    assert stat.S_IMODE((place / name).stat().st_mode) == 0o700


@pytest.mark.parametrize(("use", "name"), WIDE.values(), ids=WIDE)
@pytest.mark.parametrize("how", ["another's", "a link"])
def test_a_folder_of_another_user_and_a_link_are_refused(
    place: Path, use: Callable[[Path], None], name: str, how: str
) -> None:
    if how == "a link":
        (place / "elsewhere").mkdir(mode=0o700)
        (place / name).symlink_to(place / "elsewhere")
    else:
        (place / name).mkdir(mode=0o700)
        os.chown(place / name, NOBODY, NOBODY)
    with pytest.raises((HostError, LabError), match=r"belongs to user 65534|a link"):
        use(place)
    (place / name).unlink() if how == "a link" else (place / name).rmdir()
    use(place)  # the control


LOCKS = {
    "bindings": (bind, "attached/lock"),
    "agent": (start, "sgdp/agent.lock"),
    "lab": (work_on_a_lab, "labs/demo/lock"),
    "nonces": (serve, "nonces/lock"),
    "sync": (follow, "sync/.lock"),
    "store": (store, "store/db.lock"),
    "trials": (change_trials, "trials/lock"),
}


@pytest.mark.parametrize(("use", "name"), LOCKS.values(), ids=LOCKS)
def test_a_lock_of_another_user_is_refused(place: Path, use: Callable[[Path], None], name: str) -> None:
    use(place)  # the control
    (place / name).parent.mkdir(parents=True, exist_ok=True)  # a lab without a record leaves its folder
    (place / name).touch()
    os.chown(place / name, NOBODY, NOBODY)
    with pytest.raises((HostError, LabError, StateFileError), match="belongs to"):
        use(place)


@pytest.mark.parametrize(("use", "name"), LOCKS.values(), ids=LOCKS)
def test_a_link_in_place_of_a_lock_is_refused(place: Path, use: Callable[[Path], None], name: str) -> None:
    use(place)
    (place / name).unlink(missing_ok=True)
    (place / name).symlink_to(place / "aim")
    with pytest.raises((HostError, LabError, StateFileError, OSError)):
        use(place)
    assert not (place / "aim").exists()


def test_a_folder_with_more_than_ours_stays_as_it_is_and_is_refused(place: Path) -> None:
    """Others may need it: it may be /run."""
    (place / "attached").mkdir(mode=0o755)
    (place / "attached" / "theirs").touch()
    with pytest.raises(HostError, match=r"other users can use it, and it has files of others \(theirs\)"):
        bind(place)
    assert stat.S_IMODE((place / "attached").stat().st_mode) == 0o755


def test_nobody_else_can_say_what_was_proven(place: Path) -> None:
    folder = place / "var"
    last_good, proven = LastGood(folder), ProvenFile(folder)
    proven.store({})
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    folder.chmod(0o777)
    (folder / "theirs").touch()
    assert dict(proven.load()) == {}
    last_good.store(state_of(WEB))
    assert "other users can use it" in last_good.error
    (folder / "theirs").unlink()
    last_good.store(state_of(WEB))
    assert (last_good.error, stat.S_IMODE(folder.stat().st_mode)) == ("", 0o700)


def test_the_locks_are_the_ones_that_the_source_takes() -> None:
    """A new lock needs a row above."""
    found = subprocess.run(
        ["grep", "-rlE", r"flock\(|wait_for_lock\(", "sgdataplane", "--include=*.py"],
        cwd=Path(__file__).resolve().parents[2],
        capture_output=True,
        text=True,
        check=True,
    )
    assert sorted(found.stdout.split()) == [
        "sgdataplane/attach/registry.py",
        "sgdataplane/control/access/nonces.py",
        "sgdataplane/daemon/control.py",
        "sgdataplane/host/private.py",
        "sgdataplane/lab/keeping.py",  # in the folder of trials, and opened as that one
        "sgdataplane/lab/record.py",
        "sgdataplane/lab/trials.py",  # the same one
        "sgdataplane/relay/sync.py",
        "sgdataplane/store/sqlite/file.py",
        "sgdataplane/trial/record.py",
    ]
