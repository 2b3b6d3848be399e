"""Nonces are used once: by any process that shares the folder, after restarts, and beside a full disk."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path

import pytest

from sgdataplane.control.access.nonces import KEPT_S, RECORD, SKEW_S, Nonces
from sgdataplane.control.calls.answers import ApiError

NOW = 1_800_000_000.0  # long after today: a new Nonces forgets by the real clock


def refusal(nonces: Nonces, name: str, *, key: str = "one", signed: float = NOW, now: float = NOW) -> str:
    """The code with which a nonce is refused, or ""."""
    try:
        nonces.use(key, name, signed, now)
    except ApiError as error:
        return error.code
    return ""


@pytest.fixture(params=["memory", "folder"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path | None:
    return tmp_path / "nonces" if request.param == "folder" else None


def test_they_are_forgotten_in_time_and_never_too_many(folder: Path | None) -> None:
    clock = [0.0]
    nonces = Nonces(folder, most=4, most_of_a_key=3, monotonic=lambda: clock[0])
    assert [refusal(nonces, name) for name in "abc"] == ["", "", ""]
    assert refusal(nonces, "d") == "Throttling.User"
    assert refusal(nonces, "a") == "SignatureNonceUsed"
    assert refusal(nonces, "a", key="two") == ""
    assert refusal(nonces, "b", key="two") == "Throttling.User"
    assert refusal(nonces, "a", key="three") == "", "two keys can't use up what a third one needs"
    later = NOW + 3 * SKEW_S
    assert refusal(nonces, "d", signed=later, now=later) == "Throttling.User"
    clock[0] += 1.01 * KEPT_S
    assert refusal(nonces, "d", signed=later, now=later) == ""


@pytest.mark.parametrize("jump", [3 * SKEW_S, 86_400.0, 10 * 365 * 86_400.0])
def test_a_replay_is_refused_after_the_clock_has_jumped_and_was_put_right(folder: Path | None, jump: float) -> None:
    nonces = Nonces(folder)
    assert refusal(nonces, "a") == ""
    assert refusal(nonces, "b", signed=NOW + jump, now=NOW + jump) == ""
    assert refusal(nonces, "a", now=NOW + 60) == "SignatureNonceUsed"
    assert refusal(nonces, "c", now=NOW + 60) == ""


def test_one_of_the_last_second_of_a_step_is_known_as_long_as_its_signature_may_be_used(folder: Path | None) -> None:
    """A step's nonces are forgotten together, and the last one is the youngest."""
    clock = [0.0]
    nonces = Nonces(folder, monotonic=lambda: clock[0])
    signed = (NOW // SKEW_S + 1) * SKEW_S - 1
    assert refusal(nonces, "a", signed=signed, now=signed) == ""
    clock[0] += 1.01 * KEPT_S
    assert refusal(nonces, "a", signed=signed, now=signed + SKEW_S - 1) == "SignatureNonceUsed"
    assert refusal(nonces, "a", signed=signed, now=signed + SKEW_S + 2) == "", "nobody takes the signature any more"


@pytest.mark.parametrize("signed", [NOW - SKEW_S, NOW, NOW + SKEW_S])
def test_a_new_process_knows_those_of_the_former(tmp_path: Path, signed: float) -> None:
    assert refusal(Nonces(tmp_path), "a", signed=signed) == ""
    again = Nonces(tmp_path)
    assert refusal(again, "a", signed=signed) == "SignatureNonceUsed"
    assert refusal(again, "a", signed=signed, now=signed + SKEW_S) == "SignatureNonceUsed"
    assert refusal(again, "b", signed=signed) == ""


def test_processes_that_share_the_folder_know_of_each_other(tmp_path: Path) -> None:
    one, two = Nonces(tmp_path), Nonces(tmp_path)
    for number in range(100):
        first, second = (one, two) if number % 3 else (two, one)
        assert refusal(first, f"n{number}") == ""
        assert refusal(second, f"n{number}") == "SignatureNonceUsed"
    assert refusal(two, "n1", signed=NOW + SKEW_S) == "SignatureNonceUsed", "the same nonce at another time"


def test_of_many_that_use_one_at_a_time_one_may(tmp_path: Path) -> None:
    """Threads of two processes, side by side."""
    told = Counter[str]()
    these = [Nonces(tmp_path), Nonces(tmp_path)]

    def use(nonces: Nonces) -> None:
        told.update(refusal(nonces, f"n{number}") for number in range(200))

    threads = [threading.Thread(target=use, args=(nonces,)) for nonces in these * 4]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert told[""] == 200
    assert told["SignatureNonceUsed"] == 7 * 200


def test_what_a_killed_process_noted_is_there(tmp_path: Path) -> None:
    script = (
        "import os, sys, signal\nfrom pathlib import Path\nfrom sgdataplane.control.access.nonces import Nonces\n"
        f"Nonces(Path(sys.argv[1])).use('one', 'a', {NOW}, {NOW})\nos.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=False)
    assert done.returncode == -9
    assert refusal(Nonces(tmp_path), "a") == "SignatureNonceUsed"


def test_what_a_full_disk_left_is_written_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A request whose nonce can't be noted is refused, and can be sent again once there is room."""
    nonces, write = Nonces(tmp_path), os.pwrite
    assert refusal(nonces, "a") == ""
    monkeypatch.setattr(os, "pwrite", lambda file, data, at: write(file, data[:7], at))
    assert refusal(nonces, "b") == "ServiceUnavailable"

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(os, "pwrite", full)
    assert refusal(nonces, "b") == "ServiceUnavailable"
    monkeypatch.setattr(os, "pwrite", write)
    assert [refusal(nonces, name) for name in ("b", "c", "b")] == ["", "", "SignatureNonceUsed"]
    assert [refusal(Nonces(tmp_path), name) for name in "abc"] == ["SignatureNonceUsed"] * 3
    assert max(file.stat().st_size for file in tmp_path.iterdir()) == 3 * RECORD


def test_a_refusal_says_why_and_when_to_come_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nonces = Nonces(tmp_path, most=1, most_of_a_key=1)

    def caught(name: str) -> ApiError:
        with pytest.raises(ApiError) as raised:
            nonces.use("one", name, NOW, NOW)
        return raised.value

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", lambda *_: RECORD - 1)
        error = caught("a")
    assert (error.status, error.message) == (
        503,
        f"The nonce of the request can't be noted: {os.strerror(errno.ENOSPC)}",
    )
    nonces.use("one", "a", NOW, NOW)
    error = caught("a")
    assert (error.status, error.message) == (400, "Specified signature nonce was used already.")
    error = caught("b")
    assert error.message == "Too many requests were signed in the last minutes; nonces can't be kept for more."
    assert error.extra == {"x-acs-retry-after": "900000"}


def test_a_record_that_was_written_in_part_by_another_process_is_no_nonce_yet(tmp_path: Path) -> None:
    one, two = Nonces(tmp_path), Nonces(tmp_path)
    assert refusal(one, "a") == ""
    (file,) = [file for file in tmp_path.iterdir() if file.name.isdecimal() and file.stat().st_size]
    whole = file.read_bytes()
    with file.open("ab") as out:
        out.write(b"x" * (RECORD // 2))
    assert refusal(two, "a") == "SignatureNonceUsed"
    assert refusal(two, "b") == ""
    assert file.read_bytes()[: len(whole)] == whole
    assert file.stat().st_size == 2 * RECORD, "the half is written over"
    assert refusal(one, "b") == "SignatureNonceUsed"


def test_files_of_old_requests_are_removed(tmp_path: Path) -> None:
    refusal(Nonces(tmp_path), "a", signed=1_000.0, now=1_000.0)
    assert any(file.stat().st_size for file in tmp_path.iterdir())
    clock = [0.0]
    nonces = Nonces(tmp_path, monotonic=lambda: clock[0])
    for day in range(3):
        now, clock[0] = NOW + day * 86_400, clock[0] + 86_400
        assert refusal(nonces, "a", signed=now, now=now) == ""
        assert len(list(tmp_path.iterdir())) == 4  # the lock among them
    assert all(file.stat().st_mode & 0o077 == 0 for file in (tmp_path, *tmp_path.iterdir()) if file != tmp_path)
