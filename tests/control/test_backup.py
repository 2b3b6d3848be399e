"""Copies of a store that is in use, and a store put back from one."""

from __future__ import annotations

import base64
import errno
import os
import random
import shutil
import sqlite3
import subprocess
import threading
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest

from sgdataplane.control.access.keys import Keyring, create_key
from sgdataplane.control.access.secrets import SecretBox, make_key_file
from sgdataplane.control.calls.answers import ApiError
from sgdataplane.errors import StateFileError
from sgdataplane.store.audit import local_call
from sgdataplane.store.history import EPOCH, epoch_in, prune_audit
from sgdataplane.store.interface import Snapshot, UnavailableError, Write
from sgdataplane.store.sqlite import backup, file
from sgdataplane.store.sqlite.backup import DIGEST, back_up
from sgdataplane.store.sqlite.store import SqliteStore
from tests.support.servers.storewriting import COUNTER, PARTS, count_up

SEED = int(os.environ.get("SGDP_TEST_SEED", "1"))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A store with ten revisions, which nobody uses."""
    with closing(SqliteStore(tmp_path / "store")) as store:
        for number in range(1, 11):
            count_up(store, "a", number)
    return tmp_path / "store"


def read(path: Path) -> Snapshot:
    with closing(SqliteStore(path, create=False)) as store:
        return store.snapshot()


def restore(copy: Path, store: Path) -> tuple[int, Path | None]:
    version, former = backup.restore(copy, store, local_call("RestoreStore"))
    return version.revision, former


def names(folder: Path) -> set[str]:
    return {file.name for file in folder.iterdir()}


def test_a_store_comes_back_as_it_was(path: Path, tmp_path: Path) -> None:
    before, copy = read(path), tmp_path / "copy"
    assert back_up(path, copy) == 10
    with closing(SqliteStore(path)) as store:
        count_up(store, "a", 11)
    assert restore(copy, path) == (11, tmp_path / "store.before-restore")
    after = read(path)
    assert {**before.documents, EPOCH: after.documents[EPOCH]} == after.documents
    assert after.guards == {**before.guards, "store": 11}
    with closing(SqliteStore(path)) as store:
        assert [event.record.get("action") for event in store.events()[9:]] == [None, "RestoreStore"]
        assert len(list(store.watch(0, timeout=0))) == 11
        assert store.find_answer("a-10") is not None
        assert store.find_answer("a-11") is None
        assert count_up(store, "a", 11) == 12
    assert read(tmp_path / "store.before-restore").revision == 11


def test_a_store_comes_back_where_none_is(path: Path, tmp_path: Path) -> None:
    back_up(path, tmp_path / "copy")
    other = tmp_path / "other"
    assert restore(tmp_path / "copy", other) == (11, None)
    assert {**read(path).documents, EPOCH: read(other).documents[EPOCH]} == read(other).documents
    assert other.stat().st_mode & 0o777 == 0o600


def test_each_restore_begins_a_later_epoch(path: Path, tmp_path: Path) -> None:
    """Also of the same copy, at once, and over a store that is damaged."""
    back_up(path, tmp_path / "copy")
    epochs = [0]
    for harm in (False, False, True, False):
        if harm:
            path.write_bytes(b"SQLite format 3\0" + b"damaged" * 500)
        assert restore(tmp_path / "copy", path)[0] == 11
        epochs.append(epoch_in(read(path).documents[EPOCH]))
    assert epochs[:3] == sorted(set(epochs[:3]))
    assert epochs[-1] >= epochs[1]
    assert names(tmp_path) == {"copy", "store", "store.lock", "store.before-restore"}


def test_a_pruned_store_is_whole(path: Path, tmp_path: Path) -> None:
    """And one that has lost a record besides isn't."""
    with closing(SqliteStore(path)) as store:
        prune_audit(store, local_call("PruneAudit"), 4)
    assert back_up(path, tmp_path / "copy") == 11
    assert restore(tmp_path / "copy", tmp_path / "other")[0] == 12
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("DELETE FROM audit WHERE revision = 5")
    with pytest.raises(StateFileError, match=r"audit records are missing(.|\n)*6 of 7"):
        back_up(path, tmp_path / "copy2")


def test_a_copy_is_one_private_file(path: Path, tmp_path: Path) -> None:
    before = names(tmp_path)
    with closing(SqliteStore(path)):
        back_up(path, tmp_path / "copy")
    assert names(tmp_path) - before == {"copy"}
    assert (tmp_path / "copy").stat().st_mode & 0o777 == 0o600


def test_copies_that_are_made_while_others_write_are_whole(path: Path, tmp_path: Path) -> None:
    is_over = threading.Event()

    def write() -> None:
        with closing(SqliteStore(path)) as store:
            number = 0
            while not is_over.is_set():
                number += 1
                count_up(store, "b", number)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        revisions = [back_up(path, tmp_path / f"copy{number}") for number in range(10)]
    finally:
        is_over.set()
        writer.join()
    assert revisions == sorted(revisions)
    assert read(path).revision > 10, "a control: somebody wrote"
    for number, revision in enumerate(revisions):
        restore(tmp_path / f"copy{number}", tmp_path / f"back{number}")
        seen = read(tmp_path / f"back{number}")
        assert seen.revision == revision + 1
        assert seen.documents[COUNTER] == {"n": revision}
        of_b = {str(seen.documents.get(f"{part}/b", {"n": 0})["n"]) for part in PARTS}
        assert of_b == {str(revision - 10)}


def test_a_copy_never_replaces_a_file(path: Path, tmp_path: Path) -> None:
    (tmp_path / "copy").write_text("mine")
    before = names(tmp_path)
    for target in (tmp_path / "copy", path):
        with pytest.raises(StateFileError, match=r"InvalidStore\.Exists"):
            back_up(path, target)
    assert (tmp_path / "copy").read_text() == "mine"
    assert names(tmp_path) == before
    assert read(path).revision == 10


def test_what_is_no_store_is_not_copied(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("text" * 500)
    for source, code in ((tmp_path / "text", "Format"), (tmp_path / "none", "NotFound")):
        with pytest.raises(StateFileError, match=rf"InvalidStore\.{code}"):
            back_up(source, tmp_path / "copy")
        with pytest.raises(StateFileError, match=rf"InvalidStore\.{code}"):
            restore(source, tmp_path / "store")
    assert not {"copy", "store"} & names(tmp_path)


def test_a_store_that_is_in_use_is_not_replaced(path: Path, tmp_path: Path) -> None:
    back_up(path, tmp_path / "copy")
    with closing(SqliteStore(path)) as store:
        count_up(store, "a", 11)
        before = names(tmp_path)
        with pytest.raises(StateFileError, match=r"InvalidStore\.InUse(.|\n)*stop `sgdp api` first"):
            restore(tmp_path / "copy", path)
        assert count_up(store, "a", 12) == 12
        assert names(tmp_path) == before
    assert restore(tmp_path / "copy", path)[0] == 11  # control


def test_a_store_that_another_program_reads_is_not_replaced(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file, "BUSY_S", 0.1)  # how long it waits for that program
    back_up(path, tmp_path / "copy")
    with closing(SqliteStore(path)) as store, closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN")
        other.execute("SELECT count(*) FROM audit").fetchone()
        count_up(store, "a", 11)
        store.close()
        with pytest.raises(StateFileError, match=r"InvalidStore\.InUse"):
            restore(tmp_path / "copy", path)
    assert read(path).revision == 11


def test_a_store_is_copied_and_replaced_through_a_link(path: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(path)
    back_up(link, tmp_path / "copy")
    with closing(SqliteStore(path)), pytest.raises(StateFileError, match=r"InvalidStore\.InUse"):
        restore(tmp_path / "copy", link)
    assert restore(tmp_path / "copy", link) == (11, tmp_path / "store.before-restore")
    assert link.is_symlink()
    assert read(path).revision == 11


def test_a_store_is_not_opened_while_it_is_restored(
    path: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    back_up(path, tmp_path / "copy")
    tried = []

    def replace(made: Path, target: Path) -> Path:
        with pytest.raises(StateFileError, match=r"InvalidStore\.InUse"):
            SqliteStore(path)
        tried.append(made)
        made.rename(target)
        return target

    monkeypatch.setattr(Path, "replace", replace)
    restore(tmp_path / "copy", path)
    assert tried


@pytest.mark.parametrize("step", ["make", "copy", "keep", "replace"])
def test_a_restore_that_fails_half_way_leaves_the_store_as_it_was(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    back_up(path, tmp_path / "copy")
    before, files = read(path), names(tmp_path)

    def fail(*_: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    places = {"make": backup, "copy": backup, "keep": os, "replace": Path}
    names_of = {"make": "make_private", "copy": "_revision_of", "keep": "link", "replace": "replace"}
    with monkeypatch.context() as broken:
        broken.setattr(places[step], names_of[step], fail)
        with pytest.raises(UnavailableError):
            restore(tmp_path / "copy", path)
    assert read(path) == before
    assert names(tmp_path) - files <= {"store.before-restore"}
    assert restore(tmp_path / "copy", path)[0] == 11  # control


def _damage(path: Path) -> None:
    with open(path, "r+b") as file:
        for page in range(1, path.stat().st_size // 4096):
            file.seek(page * 4096)
            file.write(b"\xff" * 64)


def _lose_a_record(path: Path) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("DELETE FROM audit WHERE revision = 5")


def _cut(path: Path) -> None:
    with open(path, "r+b") as file:
        file.truncate(path.stat().st_size // 2)


@pytest.mark.parametrize("harm", [_damage, _lose_a_record, _cut])
def test_a_copy_that_is_not_whole_is_refused_and_nothing_changes(path: Path, tmp_path: Path, harm: object) -> None:
    copy = tmp_path / "copy"
    back_up(path, copy)
    assert callable(harm)
    harm(copy)
    before, files = read(path), names(tmp_path)
    with pytest.raises(StateFileError, match=r"InvalidStore\.Damaged"):
        restore(copy, path)
    assert read(path) == before
    assert names(tmp_path) == files


def test_a_damaged_store_can_be_replaced_and_is_kept(path: Path, tmp_path: Path) -> None:
    back_up(path, tmp_path / "copy")
    _damage(path)
    with pytest.raises(StateFileError, match=r"InvalidStore\.Damaged"):
        back_up(path, tmp_path / "copy2")
    damaged = path.read_bytes()
    _, former = restore(tmp_path / "copy", path)
    assert read(path).revision == 11
    assert former is not None
    assert former.read_bytes() == damaged


def test_what_a_killed_store_has_only_in_its_log_is_kept(path: Path, tmp_path: Path) -> None:
    """A process that is killed leaves the file and its log; the former store then has both."""
    back_up(path, tmp_path / "copy")
    with closing(SqliteStore(path)) as store:
        count_up(store, "a", 11)
        killed = tmp_path / "killed"
        for ending in ("", "-wal"):
            shutil.copy(f"{path}{ending}", f"{killed}{ending}")
    _, former = restore(tmp_path / "copy", killed)
    assert EPOCH in read(killed).documents
    assert former is not None
    assert read(former).revision == 11


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "disk", folder], check=True)
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


@pytest.mark.kernel
def test_a_full_disk_refuses_both_whole(path: Path, tmp_path: Path, disk: Path) -> None:
    small = disk / "store"
    with closing(SqliteStore(small)) as store:
        store.commit(Write({}, {"kind/id": {"n": 1}}))
    back_up(path, tmp_path / "copy")
    with suppress(OSError), open(disk / "filler", "wb", buffering=0) as file:
        while True:
            file.write(bytes(512))
    before = names(disk)
    with pytest.raises(UnavailableError):
        restore(tmp_path / "copy", small)
    with pytest.raises(UnavailableError):
        back_up(path, disk / "copy")
    (disk / "filler").unlink()
    assert names(disk) == before - {"filler"}
    assert read(small).documents == {"kind/id": {"n": 1}}
    assert restore(tmp_path / "copy", small)[0] == 11  # control


def test_a_copy_with_a_flipped_bit_is_refused_or_says_the_same(path: Path, tmp_path: Path) -> None:
    """SQLite's own check sees damaged pages, but no letter that became another one."""
    print(f"seed {SEED}")
    chance, copy, store = random.Random(SEED), tmp_path / "copy", tmp_path / "other"
    back_up(path, copy)
    whole, flipped = copy.read_bytes(), tmp_path / "flipped"
    told = set()
    for _ in range(150):
        bit = chance.randrange(len(whole) * 8)
        flipped.write_bytes(whole[: bit // 8] + bytes([whole[bit // 8] ^ 1 << bit % 8]) + whole[bit // 8 + 1 :])
        try:
            restore(flipped, store)
        except StateFileError:
            told.add("refused")
        else:
            told.add("restored")
            assert {**read(store).documents, EPOCH: None} == {**read(path).documents, EPOCH: None}
            assert events(store) == events(path)
        store.unlink(missing_ok=True)
    assert told == {"refused", "restored"}


def events(path: Path) -> list[object]:
    with closing(SqliteStore(path, create=False)) as store:
        return [one.record for one in store.events() if one.record.get("action") != "RestoreStore"]


def test_a_letter_that_became_another_one_is_noticed(path: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    back_up(path, copy)
    with closing(sqlite3.connect(copy, isolation_level=None)) as db:
        db.execute("UPDATE documents SET body = replace(body, '1', '2')")
    with pytest.raises(StateFileError, match=r"InvalidStore\.Damaged"):
        restore(copy, path)
    copy.unlink()
    back_up(path, copy)
    assert restore(copy, path)[0] == 11  # control


def test_a_copy_of_an_earlier_version_which_has_no_digest_comes_back(path: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    back_up(path, copy)
    with closing(sqlite3.connect(copy, isolation_level=None)) as db:
        db.execute(f"DROP TABLE {DIGEST}")
    assert restore(copy, path)[0] == 11


def test_a_copy_has_no_secret_and_opens_only_with_the_key_file(path: Path, tmp_path: Path) -> None:
    """Sealed secrets are in it, but not the file that opens them."""
    make_key_file(tmp_path / "own")
    make_key_file(tmp_path / "other")
    with closing(SqliteStore(path)) as store:
        made = create_key(store, lambda _: SecretBox(tmp_path / "own"), local_call("x"), name="", policy="full")
        key, secret = made.id, made.secret
    back_up(path, tmp_path / "copy")
    octets = (tmp_path / "copy").read_bytes()
    assert key.encode() in octets
    assert secret.encode() not in octets
    assert base64.b64encode(secret.encode()) not in octets
    restore(tmp_path / "copy", tmp_path / "back")
    with closing(SqliteStore(tmp_path / "back")) as store:
        found = Keyring(store, lambda: SecretBox(tmp_path / "own")).find(key)
        assert (found and found.secret) == secret
        with pytest.raises((ApiError, StateFileError)):
            Keyring(store, lambda: SecretBox(tmp_path / "other")).find(key)
