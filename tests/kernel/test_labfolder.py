"""A lab that goes takes nothing with it that others have mounted."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from sgdataplane.lab.record import LabFolder

pytestmark = pytest.mark.kernel


@contextmanager
def mounted_elsewhere(folder: Path) -> Iterator[Path]:
    """Another process has mounted something there, in a mount namespace of its own. The file in it, as seen there."""
    script = 'mount -t tmpfs none "$1" && touch "$1/theirs" && echo && exec cat'
    command = ["unshare", "--mount", "--propagation", "private", "sh", "-c", script, "sh", str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"\n"
        yield Path(f"/proc/{process.pid}/root{folder}/theirs")
        assert process.stdin is not None
        process.stdin.close()


def test_what_others_mounted_on_the_folder_of_all_labs_stays(tmp_path: Path) -> None:
    run = tmp_path / "run"
    lab = LabFolder("web", run / "labs")
    with lab.lock():
        pass
    with mounted_elsewhere(run) as theirs:
        lab.remove()
        assert not (run / "labs").exists()
        assert theirs.exists()
        run.rmdir()  # the control: the kernel detaches what is mounted on it elsewhere
        assert not theirs.exists()
