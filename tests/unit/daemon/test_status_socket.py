"""The status socket: who may ask there, what is told, and where it is."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from sgdataplane.daemon import control
from sgdataplane.daemon.control import Request, StatusServer, spell_answer, spell_request
from tests.unit.daemon.control_bench import Bench


class StatusBench(Bench):
    """The status socket, in a folder of root's whose group may connect."""

    def __init__(self, folder: Path) -> None:
        folder.chmod(0o750)
        super().__init__(folder / "agent.sock")
        self.server.close()
        self.path, self.owner = folder / "status.sock", os.geteuid()
        self.status = StatusServer(self.loop, lambda: spell_answer(status={}), lambda: self.owner)


@pytest.fixture
def told(tmp_path: Path) -> Iterator[StatusBench]:
    bench = StatusBench(tmp_path)
    assert bench.status.follow(str(bench.path)) == ""
    yield bench
    bench.status.close()
    bench.selector.close()


ANSWERED = (Request.STATUS, Request.ROLLBACK)  # by what they are asked with


@pytest.mark.parametrize(
    ("asked", "answer"),
    [
        (spell_request(Request.STATUS), b'{"ok":true,"status":{}}\n'),
        (spell_request(Request.STATUS, after=6), b'{"ok":true,"status":{}}\n'),
        *((spell_request(request), b"only the status") for request in Request if request not in ANSWERED),
        (spell_request(Request.ROLLBACK, policy=1), b"only the status"),
        (spell_request(Request.STATUS, "eni-a"), b"only the status"),
        (b"nonsense\n", b"not JSON"),
    ],
)
def test_at_the_status_socket_only_the_status_is_told(told: StatusBench, asked: bytes, answer: bytes) -> None:
    with told.connect() as client:
        client.send(asked)
        assert answer in told.read(client)


@pytest.mark.parametrize(("owner", "may"), [(0, True), (1, False)])
def test_only_the_owner_of_the_state_is_told(
    told: StatusBench, monkeypatch: pytest.MonkeyPatch, owner: int, may: bool
) -> None:
    class Credentials:
        size = control.CREDENTIALS.size

        def unpack(self, _: bytes) -> tuple[int, int, int]:
            return 1, os.geteuid() + 1, 1

    monkeypatch.setattr(control, "CREDENTIALS", Credentials())
    told.owner = os.geteuid() + 1 + owner
    with told.connect() as client:
        client.send(spell_request(Request.STATUS))
        assert (b"only root and the owner of the state may ask" not in told.read(client)) == may


def test_the_status_socket_is_where_the_configuration_says(told: StatusBench, tmp_path: Path) -> None:
    assert stat.S_IMODE(told.path.stat().st_mode) == 0o660
    again = str(tmp_path / "again.sock")
    assert told.status.follow(again) == told.status.follow(again) == ""
    assert [path.name for path in tmp_path.glob("*.sock")] == ["again.sock"]
    assert told.status.follow("") == ""
    assert (list(tmp_path.glob("*.sock")), told.status.wait_s) == ([], None)


@pytest.mark.parametrize("mode", [0o770, 0o757, None])
def test_the_status_socket_is_in_no_folder_where_others_could_put_theirs(
    told: StatusBench, tmp_path: Path, mode: int | None
) -> None:
    folder = tmp_path / "others"
    if mode is not None:
        folder.mkdir()
        folder.chmod(mode)
    assert told.status.follow(str(folder / "status.sock")).startswith(str(folder))
    folder.mkdir(exist_ok=True)
    folder.chmod(0o755)
    assert told.status.follow(str(folder / "status.sock")) == "", "it is tried again"
