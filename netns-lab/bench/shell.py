"""A shell in a network namespace, on its own copy of the peers' tree: what it writes vanishes with it.

Owns that process, and the time its commands take. Must not know what they do.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path

from bench.errors import BenchError
from sgdataplane.host import netns

DEADLINE_S = 120.0
# An overlay on the tree, in a mount namespace of the shell's own. Arguments: the tree.
ENTER = """
mount -t tmpfs tmpfs /mnt
mkdir /mnt/upper /mnt/work /mnt/root
mount -t overlay overlay -o "lowerdir=$1,upperdir=/mnt/upper,workdir=/mnt/work" /mnt/root
cd /mnt/root
mount -t proc proc proc
mount -t sysfs sysfs sys
mount --rbind /dev dev
mount -t tmpfs tmpfs run
exec env -i LANG=C.UTF-8 PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root chroot . sh
"""
END = "end-of-command"


class Shell:
    """One shell runs all commands one by one, so that no command pays for entering the namespace."""

    def __init__(self, namespace: str, tree: Path) -> None:
        """BenchError if the shell can't be started there."""
        self._process = subprocess.Popen(
            ["unshare", "--mount", "--propagation", "private", "sh", "-euc", ENTER, "sh", str(tree)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=lambda: netns.enter(namespace),  # noqa: PLW1509  # no threads here
        )
        try:
            self.run("true")
        except BenchError:
            self.close()
            raise

    def close(self) -> None:
        """End the shell, and what it left running."""
        with suppress(ProcessLookupError):  # it may have ended already
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.communicate()

    def run(self, command: str) -> str:
        """Run a command to its end and return what it printed. BenchError, with that, if it fails or takes too long."""
        stdin = self._process.stdin
        assert stdin is not None
        try:
            stdin.write(f"{{ {command}\n}} </dev/null; echo {END} $?\n".encode())
            stdin.flush()
        except BrokenPipeError as error:
            raise BenchError(f"the shell is gone before: {command}") from error
        output, _, code = self._read(command).rpartition(END)
        if code.strip() != "0":
            raise BenchError(f"{_short(command)}: {_short(output) or 'failed'} (exit code {code.strip()})")
        return output

    def write(self, path: str, text: str) -> None:
        """Write a file in the shell's own copy of the tree."""
        root = Path(f"/proc/{self._process.pid}/root")
        target = root / path.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")

    def _read(self, command: str) -> str:
        stdout, deadline, found = self._process.stdout, time.monotonic() + DEADLINE_S, b""
        assert stdout is not None
        while not (END.encode() in found and found.endswith(b"\n")):
            is_ready = select.select([stdout], [], [], max(0.0, deadline - time.monotonic()))[0]
            chunk = os.read(stdout.fileno(), 65536) if is_ready else b""
            if not chunk:
                self._process.kill()
                what = f"took more than {DEADLINE_S:.0f} s" if not is_ready else "the shell ended"
                raise BenchError(f"{_short(command)}: {what}: {_short(found.decode(errors='replace'))}")
            found += chunk
        return found.decode(errors="replace")


def _short(text: str) -> str:
    """The text on one line, with its end cut off."""
    words = " ".join(text.split())
    return words if len(words) <= 200 else f"{words[:200]} ..."
