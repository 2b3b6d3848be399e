"""The store in a file: several processes, their sudden end, a full disk, and files that are no store."""

from __future__ import annotations

import os
import random
import sqlite3
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from pathlib import Path

import pytest

from sgdataplane.errors import StateFileError
from sgdataplane.store.audit import local_call
from sgdataplane.store.interface import Body, Snapshot, Token, UnavailableError, Write
from sgdataplane.store.sqlite.backup import restore
from sgdataplane.store.sqlite.store import SqliteStore
from tests.support.servers.storelife import SEED, Life, answers, writer
from tests.support.servers.storewriting import COUNTER, FOREVER, GUARD, count_up

DEADLINE_S = 60.0


# several processes


def test_no_update_of_4_processes_is_lost(tmp_path: Path) -> None:
    """They also make the file at once."""
    processes = [writer(str(tmp_path / "store"), name, 25) for name in "abcd"]
    answered = [revision for process in processes for revision in answers(process).values()]
    assert sorted(answered) == list(range(1, 101))
    with closing(SqliteStore(tmp_path / "store")) as store:
        assert store.snapshot().documents[COUNTER] == {"n": 100}
        assert len(store.events()) == 100


def test_a_watch_sees_what_other_processes_commit(tmp_path: Path, sqlite: SqliteStore) -> None:
    process = writer(str(tmp_path / "store"), "other", 20)
    seen = []
    for change in sqlite.watch(0, timeout=DEADLINE_S):
        seen.append(change.puts["a/other"]["n"])
        if len(seen) == 20:
            break
    assert seen == list(range(1, 21))
    assert len(answers(process)) == 20


def test_a_watch_that_waits_costs_little(sqlite: SqliteStore) -> None:
    """It doesn't look again and again without a pause: below 50 looks a second, with a margin for none at all."""
    looks: list[int] = []
    connect = sqlite._file.connect

    class Counted:
        def __init__(self) -> None:
            self.db = connect()

        def execute(self, text: str, parameters: object = ()) -> sqlite3.Cursor:
            looks.append(1)
            return self.db.execute(text, parameters)  # type: ignore[arg-type]

        def close(self) -> None:
            self.db.close()

    sqlite._readers.append(Counted())  # type: ignore[arg-type]
    assert list(sqlite.watch(0, timeout=0.5)) == []
    assert 0 < len(looks) < 120


def test_a_document_may_be_larger_than_in_etcd(sqlite: SqliteStore) -> None:
    body: Body = {"text": "x" * (8 << 20)}
    sqlite.commit(Write({}, {"kind/large": body}))
    assert sqlite.snapshot().documents["kind/large"] == body == next(sqlite.watch(0)).puts["kind/large"]


# sudden ends


def require_undamaged(file: str) -> None:
    with closing(sqlite3.connect(file)) as db:
        assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


@pytest.mark.parametrize("turns", [10, pytest.param(100, marks=pytest.mark.slow)])
def test_killed_writers_leave_every_answered_commit_once_and_none_in_half(turns: int, tmp_path: Path) -> None:
    """Two writers a turn."""
    life = Life(str(tmp_path / "store"))
    for turn in range(turns):
        life.live(turn)
        life.check()
        require_undamaged(life.store)
    assert sum(map(len, life.answered.values())) > turns, "they wrote too little to tell anything"


@pytest.mark.parametrize("step", [19_001, pytest.param(997, marks=pytest.mark.slow)])
def test_a_torn_write_leaves_nothing_of_its_commit(step: int, tmp_path: Path) -> None:
    """At every place in the log, in the midst of a page as well."""
    for turn, largest in enumerate(range(60_000, 160_000, step)):
        life = Life(str(tmp_path / f"store{turn}"))
        life.tear(turn, largest)
        life.check()
        require_undamaged(life.store)
        assert life.answered[f"{turn}-0"], "a control: some were written"


def test_a_process_that_is_killed_while_it_makes_the_store_leaves_none_or_a_whole_one(tmp_path: Path) -> None:
    chance, path = random.Random(SEED), tmp_path / "store"
    for _ in range(5):
        process = writer(str(path), "a", 0)
        with suppress(subprocess.TimeoutExpired):
            process.wait(chance.uniform(0.05, 0.15))
        process.kill()
        process.communicate()
        with closing(SqliteStore(path)) as store:
            assert store.snapshot().revision == 0
        path.unlink()


# the disk


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """One of 1 MB, in the mount namespace of the tests."""
    folder = tmp_path / "disk"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "disk", folder], check=True)
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


def _fill(store: SqliteStore, body: Body, answered: list[int]) -> None:
    for number in range(10_000):
        write = Write({GUARD: number}, {f"kind/{number}": body}, token=Token(f"t{number}", "", {}, FOREVER))
        answered.append(store.commit(write))


@pytest.mark.kernel
@pytest.mark.parametrize("size", [100, 20_000, 300_000])
def test_a_full_disk_refuses_commits_whole_until_there_is_room(disk: Path, size: int) -> None:
    filler = disk / "filler"
    filler.write_bytes(bytes(100_000))
    with closing(SqliteStore(disk / "store")) as store:
        body: Body = {"text": "x" * size}
        answered: list[int] = []
        with pytest.raises(UnavailableError, match=r"full|disk I/O"):
            _fill(store, body, answered)
        assert answered, "a control: some were written"
        for seen in (store.snapshot(), _read_anew(disk / "store")):
            assert (seen.revision, len(seen.documents)) == (len(answered), len(answered))
            assert seen.guards == {GUARD: len(answered)}
        assert store.find_answer(f"t{len(answered)}") is None
        assert len(list(store.watch(0, timeout=0))) == len(store.events(limit=10_000)) == len(answered)
        filler.unlink()
        subprocess.run(["mount", "-o", "remount,size=4m", disk], check=True)
        assert store.commit(Write({GUARD: len(answered)}, {"kind/more": body})) == len(answered) + 1
    assert _read_anew(disk / "store").revision == len(answered) + 1


def _read_anew(path: Path) -> Snapshot:
    with closing(SqliteStore(path)) as store:
        return store.snapshot()


@pytest.mark.kernel
def test_a_full_disk_makes_no_store(disk: Path) -> None:
    with suppress(OSError), open(disk / "filler", "wb", buffering=0) as file:
        while True:
            file.write(bytes(512))
    with pytest.raises(UnavailableError):
        SqliteStore(disk / "store")
    assert {path.name for path in disk.iterdir()} <= {"filler", "store.lock"}


# the file


def test_only_its_owner_may_read_it(tmp_path: Path, sqlite: SqliteStore) -> None:
    count_up(sqlite, "a", 1)
    assert {path.name: oct(path.stat().st_mode & 0o777) for path in tmp_path.iterdir()} == dict.fromkeys(
        ("store", "store-wal", "store-shm", "store.lock"), "0o600"
    )


def test_a_service_s_store_is_the_service_s_if_root_makes_and_uses_it(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root, to give a folder away")
    folder = tmp_path / "service"
    folder.mkdir()
    os.chown(folder, 12345, 23456)
    with closing(SqliteStore(folder / "store")) as store:
        count_up(store, "a", 1)
        owners = {file.name: (file.stat().st_uid, file.stat().st_gid) for file in folder.iterdir()}
    assert owners == dict.fromkeys(("store", "store-wal", "store-shm", "store.lock"), (12345, 23456))


def test_every_commit_is_on_disk_before_it_is_answered(sqlite: SqliteStore) -> None:
    assert sqlite._writer.execute("PRAGMA synchronous").fetchone() == (2,)  # FULL
    assert sqlite._writer.execute("PRAGMA journal_mode").fetchone() == ("wal",)


@pytest.mark.parametrize(
    ("content", "code"),
    [
        pytest.param(b"", "InvalidStore.Format", id="empty"),
        pytest.param(b"vpcs: []\n" * 1000, "InvalidStore.Format", id="a-state"),
        pytest.param(b"SQLite format 3\0" + bytes(5000), "InvalidStore.Format", id="nearly-sqlite"),
    ],
)
def test_a_file_that_is_no_store_is_refused_and_stays(tmp_path: Path, content: bytes, code: str) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    with pytest.raises(StateFileError, match=code):
        SqliteStore(path)
    assert path.read_bytes() == content


def test_another_program_s_database_is_refused(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "file")) as db:
        db.execute("CREATE TABLE documents (path)")
    with pytest.raises(StateFileError, match=r"InvalidStore\.Format"):
        SqliteStore(tmp_path / "file")


def test_a_store_of_another_version_is_refused(tmp_path: Path, sqlite: SqliteStore) -> None:
    sqlite._writer.execute("PRAGMA user_version = 3")
    with pytest.raises(StateFileError, match=r"InvalidStore\.Version.*\n.*\n  value:    3\n  expected: version 2"):
        SqliteStore(tmp_path / "store")


def make_old(path: Path) -> None:
    """A store as version 1 made it, with one revision."""
    with closing(SqliteStore(path)) as store:
        count_up(store, "a", 3)
    with closing(sqlite3.connect(path)) as db:
        db.executescript("DROP TABLE summaries; PRAGMA user_version = 1;")


def test_a_store_of_the_version_before_becomes_one_of_this_version(tmp_path: Path) -> None:
    make_old(tmp_path / "store")
    with closing(SqliteStore(tmp_path / "store")) as store, closing(SqliteStore(tmp_path / "store")) as other:
        assert store.snapshot().revision == 1
        store.put_summary("r1", {"n": 1})
        assert other.summaries() == {"r1": {"n": 1}}
        count_up(other, "a", 2)
        assert store.snapshot().revision == 2


def test_a_copy_of_the_version_before_is_put_back(tmp_path: Path) -> None:
    make_old(tmp_path / "copy")
    restore(tmp_path / "copy", tmp_path / "store", local_call("RestoreStore"))
    with closing(sqlite3.connect(tmp_path / "copy")) as db:
        assert db.execute("PRAGMA user_version").fetchone() == (1,)  # the copy itself stays
    with closing(SqliteStore(tmp_path / "store")) as store:
        assert store.snapshot().revision == 2  # and the new epoch
        assert store.summaries() == {}


def test_many_renew_a_store_at_the_same_time(tmp_path: Path) -> None:
    make_old(tmp_path / "store")
    with ThreadPoolExecutor(8) as threads:
        stores = list(threads.map(lambda _: SqliteStore(tmp_path / "store"), range(8)))
    for number, store in enumerate(stores):
        store.put_summary(f"r{number}", {})
    assert len(stores[0].summaries()) == 8
    for store in stores:
        store.close()


def test_a_store_that_must_be_there_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(StateFileError, match=r"InvalidStore\.NotFound"):
        SqliteStore(tmp_path / "store", create=False)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["a b", "q?mode=ro", "50%25", "ü#x", "-x"])
def test_names_of_files_may_be_odd(tmp_path: Path, name: str) -> None:
    with closing(SqliteStore(tmp_path / name)) as store:
        assert store.commit(Write({})) == 1
    assert (tmp_path / name).exists()


def test_a_link_to_a_store_is_that_store(tmp_path: Path, sqlite: SqliteStore) -> None:
    (tmp_path / "elsewhere").mkdir()
    link = tmp_path / "elsewhere" / "link"
    link.symlink_to(tmp_path / "store")
    sqlite.commit(Write({}))
    with closing(SqliteStore(link)) as same:
        assert same.commit(Write({})) == 2
    assert sqlite.snapshot().revision == 2
    assert [file.name for file in link.parent.iterdir()] == ["link"]


@pytest.mark.parametrize("how", ["removed", "replaced"])
def test_a_store_whose_file_is_gone_takes_nothing(tmp_path: Path, sqlite: SqliteStore, how: str) -> None:
    path = tmp_path / "store"
    assert sqlite.commit(Write({})) == 1  # control
    path.rename(tmp_path / "moved")
    if how == "replaced":
        path.touch()
    with pytest.raises(UnavailableError, match="moved or removed"):
        sqlite.commit(Write({}))
