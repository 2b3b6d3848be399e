"""Runs `sgdp`, or a line of Python, as on a system that isn't Linux: what only Linux or Unix has is gone.

Run as a script: for each line of its input, a JSON object with `folder` and `words`, which are `sgdp ARGUMENT...` or
`python CODE`, it forks and runs that in the folder, and prints the exit code. What was printed is in the files OUTPUT
and ERRORS there. It can't imitate everything: paths are those of Linux, and asyncio keeps its loop for Unix.
"""

from __future__ import annotations

import gc
import importlib.abc
import json
import os
import signal
import socket
import sys
from collections.abc import Callable
from types import ModuleType

OUTPUT, ERRORS = "printed", "complaints"
# What each call needs, so that it is imported once. A verb's own modules are imported by each call.
PRELOADED = ("sgdataplane.cli.main", "sgdataplane.statefile", "sgdataplane.policy", "sgdataplane.analyse")
PACKAGES = ("fcntl", "grp", "inotify_simple", "nftables", "pty", "pwd", "pyroute2", "resource", "scapy", "termios")
# From the standard library, what Windows or macOS lacks.
GONE: dict[ModuleType, tuple[str, ...]] = {
    os: ("chown", "fchmod", "fchown", "fork", "getgid", "geteuid", "getlogin", "getuid", "killpg", "lchown", "mkfifo",
         "memfd_create", "pidfd_open", "register_at_fork", "sched_getaffinity", "setns", "setuid", "statvfs", "sync",
         "uname", "unshare", "O_CLOEXEC", "O_DIRECTORY", "O_NOFOLLOW", "O_NONBLOCK", "O_PATH", "O_TMPFILE"),
    signal: ("ITIMER_REAL", "SIGALRM", "SIGHUP", "SIGKILL", "SIGUSR1", "pthread_sigmask", "setitimer", "sigwait"),
    socket: tuple(name for name in dir(socket) if name.startswith((
        "AF_NETLINK", "AF_PACKET", "AF_UNIX", "CMSG_", "IPV6_RECVPKTINFO", "MSG_DONTWAIT", "NETLINK_", "PF_", "SCM_",
        "SOCK_CLOEXEC", "SOCK_NONBLOCK", "SO_BINDTODEVICE", "SO_MARK", "SO_PEERCRED",
    ))),
}  # fmt: skip


class Refuse(importlib.abc.MetaPathFinder):
    """Finds none of the packages."""

    def find_spec(self, fullname: str, *_: object) -> None:
        if fullname.partition(".")[0] in PACKAGES:
            raise ModuleNotFoundError(f"No module named {fullname!r}", name=fullname)


def leave_linux() -> None:
    """Take away all of it, before anything of ours is imported."""
    assert not [name for name in sys.modules if name.startswith("sgdataplane")]
    for name in [name for name in sys.modules if name.partition(".")[0] in PACKAGES]:
        del sys.modules[name]
    sys.meta_path.insert(0, Refuse())
    for module, names in GONE.items():
        for name in names:
            if hasattr(module, name):
                delattr(module, name)
    os.linesep = "\r\n"
    for known in (os.supports_dir_fd, os.supports_fd):
        known.clear()
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(encoding="cp1252", errors="strict", newline="\r\n")  # type: ignore[union-attr]  # they are files


def next_call(fork: Callable[[], int]) -> list[str]:
    """Returns in each process that is to run a call; ends the one that forks when its input does."""
    for line in sys.stdin:
        call = json.loads(line)
        child = fork()
        if child == 0:
            os.chdir(call["folder"])
            for number, name in ((1, OUTPUT), (2, ERRORS)):
                os.dup2(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
            return list(call["words"])
        os.write(1, b"%d\n" % os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    sys.exit(0)


def main() -> int:
    fork = os.fork
    leave_linux()
    for name in PRELOADED:
        importlib.import_module(name)
    gc.freeze()  # so that no collection of a child's copies it
    kind, *words = next_call(fork)
    if kind == "python":
        exec(words[0], {})  # a line of a test
        return 0
    from sgdataplane.cli.main import main as run  # noqa: PLC0415

    sys.argv = ["sgdp", *words]
    return run(words)


if __name__ == "__main__":
    sys.exit(main())
