"""Named network namespaces: make, enter, list and remove them, and find the processes in one.

Owns the files under /run/netns, kept the way `ip netns` keeps them. Its input is names. Functions that only enter or
look at a namespace also take an absolute path (of a process's namespace, or of one that is held open). Must not know
labs, clouds or policy. `setns` is per thread: everything here acts on the calling thread only.

A service that systemd protects has a mount namespace of its own: it sees the machine's mounts, but the machine doesn't
see its. A name bound there would be invisible outside, and end with the service. So names are made and removed in the
machine's mount namespace.
"""

from __future__ import annotations

import ctypes
import os
import re
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

from sgdataplane.errors import HostError

RUN_DIR = Path("/run/netns")
OWN_NETNS = "/proc/thread-self/ns/net"
CLONE_FS = 0x00000200  # linux/sched.h
CLONE_NEWNS = 0x00020000
CLONE_NEWNET = 0x40000000
MS_BIND, MS_REC, MS_SLAVE, MS_SHARED = 0x1000, 0x4000, 0x80000, 0x100000  # linux/mount.h
MNT_DETACH = 2
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:+-]{0,254}")  # a file name, and no option to any tool


def path_of(name: str) -> Path:
    """Return where the namespace of that name is bound; a path stays as it is.

    Raises:
        HostError: That can't be a name.
    """
    return Path(name) if name.startswith("/") else _place_of(name)


def _place_of(name: str) -> Path:
    """Return what `path_of` does, but never a path outside /run/netns: for code that makes or removes files.

    Raises:
        HostError: That can't be a name.
    """
    if not NAME.fullmatch(name):
        raise HostError(f"namespace {name!r}", "the name must be 1 to 255 letters, digits and any of _ . : + -")
    return RUN_DIR / name


def list_names() -> tuple[str, ...]:
    """Return all names under /run/netns, sorted, including files that no namespace is bound to."""
    try:
        return tuple(sorted(os.listdir(RUN_DIR)))
    except FileNotFoundError:
        return ()


def list_bound_names() -> dict[str, int]:
    """Return the names under /run/netns that have a namespace behind them, sorted, with its inode."""
    device = os.stat(OWN_NETNS).st_dev
    found = {}
    for name in list_names():
        try:
            status = os.stat(f"{RUN_DIR}/{name}")
        except OSError:  # it has gone meanwhile
            continue
        if status.st_dev == device:
            found[name] = status.st_ino
    return found


def exists(name: str) -> bool:
    """Whether the name is taken."""
    return path_of(name).exists()


def inode_of(name: str) -> int:
    """Return the inode of the namespace behind the name; 0 if there is none."""
    try:
        return os.stat(path_of(name)).st_ino
    except OSError:
        return 0


def is_same(name: str, inode: int) -> bool:
    """Whether the namespace behind the name still has that inode."""
    return inode != 0 and inode_of(name) == inode


def is_bound(name: str) -> bool:
    """Whether a namespace is bound to the name. A crash between the two steps of `create` leaves a bare file."""
    try:
        return os.stat(path_of(name)).st_dev == os.stat(OWN_NETNS).st_dev
    except FileNotFoundError:
        return False


def create(name: str) -> None:
    """Make a namespace with nothing but a downed loopback in it.

    Raises:
        HostError: The name is taken.
    """
    path = _place_of(name)
    _where_all_see_it(lambda: _create(name, path))


def _create(name: str, path: Path) -> None:
    _share_run_dir()
    try:
        os.close(os.open(path, os.O_RDONLY | os.O_CREAT | os.O_EXCL, 0))
    except FileExistsError as error:
        raise HostError(f"namespace {name}", "the name is taken") from error
    with _come_back():
        enter_nowhere()
        _mount(OWN_NETNS, str(path), MS_BIND)


def remove(name: str) -> None:
    """Unbind the name and delete it; no error if it is gone. The kernel frees the namespace once nothing uses it."""
    path = _place_of(name)
    _where_all_see_it(lambda: _remove(name, path))


def _remove(name: str, path: Path) -> None:
    if is_bound(name):
        _call("umount2", os.fsencode(path), MNT_DETACH)
    path.unlink(missing_ok=True)


def enter(name: str) -> None:
    """Move the calling thread into the namespace for good."""
    try:
        fd = os.open(path_of(name), os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError as error:
        raise HostError(f"namespace {name}", "no network namespace has that name") from error
    try:
        _call("setns", fd, CLONE_NEWNET)
    finally:
        os.close(fd)


def enter_nowhere() -> None:
    """Move the calling thread into a new namespace without a name, for good."""
    _call("unshare", CLONE_NEWNET)


@contextmanager
def inside(name: str) -> Iterator[None]:
    """Run the block with the calling thread in the namespace. Sockets opened there stay bound to it afterwards."""
    with _come_back():
        enter(name)
        yield


@contextmanager
def nowhere() -> Iterator[None]:
    """Run the block with the calling thread in a new namespace without a name. Sockets opened there keep it alive."""
    with _come_back():
        enter_nowhere()
        yield


def enter_with_sysfs(name: str) -> None:
    """Move the calling thread into the namespace for good, for commands.

    /sys, in a mount namespace of its own, shows that namespace's interfaces.
    """
    enter(name)
    _call("unshare", CLONE_NEWNS)
    _mount("none", "/", MS_SLAVE | MS_REC)
    _mount("sgdataplane", "/sys", 0, "sysfs")


def pids_in(names: Iterable[str]) -> tuple[int, ...]:
    """Return the processes that run in any of these namespaces, except this process.

    A name that somebody bound to the machine's or to our own namespace is ignored, since those processes aren't a
    lab's.
    """
    never = {_identity(OWN_NETNS), _identity("/proc/1/ns/net"), None}
    wanted = {_identity(str(path_of(name))) for name in names if is_bound(name)} - never
    candidates = sorted(int(entry) for entry in os.listdir("/proc") if entry.isdigit()) if wanted else ()
    return tuple(p for p in candidates if p != os.getpid() and _identity(f"/proc/{p}/ns/net") in wanted)


@contextmanager
def open_fd(name: str) -> Iterator[int]:
    """Yield an open file descriptor of the namespace, as netlink wants it."""
    fd = os.open(path_of(name), os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield fd
    finally:
        os.close(fd)


def _identity(path: str) -> tuple[int, int] | None:
    try:
        found = os.stat(path)
    except OSError:  # the process ended meanwhile
        return None
    return found.st_dev, found.st_ino


@contextmanager
def _come_back() -> Iterator[None]:
    """Return the calling thread to its namespace after the block, whatever that does."""
    home = os.open(OWN_NETNS, os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield
    finally:
        try:
            _call("setns", home, CLONE_NEWNET)
        finally:
            os.close(home)


def _where_all_see_it(work: Callable[[], None]) -> None:
    """Run `work` in the mount namespace of process 1 if we see its mounts and it doesn't see ours; else here.

    A thread that ends does it, since a thread can't come back.

    Raises:
        HostError: We may not go there.
    """
    if not _groups("self", "master") & _groups("1", "shared"):
        work()
        return
    with ThreadPoolExecutor(1) as pool:
        pool.submit(_join_machine, work).result()


def _join_machine(work: Callable[[], None]) -> None:
    _call("unshare", CLONE_FS)  # a thread that shares its root with others is refused
    root = os.open("/proc/1/root", os.O_PATH | os.O_CLOEXEC)
    try:
        with open("/proc/1/ns/mnt", "rb") as machine:
            _call("setns", machine.fileno(), CLONE_NEWNS)
        if not os.path.samestat(os.stat("/"), os.fstat(root)):  # process 1 is in a chroot
            os.fchdir(root)
            os.chroot(".")
    finally:
        os.close(root)
    work()


def _groups(process: str, kind: str) -> frozenset[str]:
    """Return the peer groups of the mount that holds RUN_DIR for that process.

    They are those that it shares, or with `master` those that it is a slave of.
    """
    try:
        rows = [line.split() for line in Path(f"/proc/{process}/mountinfo").read_text("utf-8", "replace").splitlines()]
    except OSError:  # process 1 may be hidden from us, and then its namespace is, too
        return frozenset()
    held = [row for row in rows if RUN_DIR.is_relative_to(row[4])]  # proc(5): the fifth is where it is mounted
    topmost = max(held, key=lambda row: (len(row[4]), held.index(row)), default=[])
    return frozenset(entry.removeprefix(f"{kind}:") for entry in topmost if entry.startswith(f"{kind}:"))


def _share_run_dir() -> None:
    """Make /run/netns a shared mount, so that names made here are seen in every mount namespace (iproute2's way)."""
    RUN_DIR.mkdir(mode=0o755, exist_ok=True)
    try:
        _mount("", str(RUN_DIR), MS_SHARED | MS_REC)
    except HostError:  # it is no mount point yet
        _mount(str(RUN_DIR), str(RUN_DIR), MS_BIND | MS_REC)
        _mount("", str(RUN_DIR), MS_SHARED | MS_REC)


def _mount(source: str, target: str, flags: int, fstype: str = "none") -> None:
    _call("mount", os.fsencode(source), os.fsencode(target), os.fsencode(fstype), ctypes.c_ulong(flags), None)


@lru_cache(maxsize=1)
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _call(function: str, *arguments: object) -> None:
    """Call a function of libc, as os.setns and os.unshare need Python 3.12 or newer.

    Raises:
        HostError: It fails; the error has the kernel's words.
    """
    if getattr(_libc(), function)(*arguments) < 0:
        code = ctypes.get_errno()
        raise HostError(f"{function} {_first_text(arguments)}".strip(), os.strerror(code)) from OSError(code, function)


def _first_text(arguments: tuple[object, ...]) -> str:
    return next((os.fsdecode(a) for a in arguments[1:] + arguments[:1] if isinstance(a, bytes) and a), "")
