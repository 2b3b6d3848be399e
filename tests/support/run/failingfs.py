"""`python -m tests.support.run.failingfs FOLDER`: a file system (FUSE) of one folder in memory, whose changes fail.

    with failing(folder) as disk:
        disk.fail(errno.EDQUOT, [WRITE])        from here on, each write fails with that error
        disk.fail(0, [])                        and from here on, none

Owns the messages of the kernel's protocol (linux/fuse.h), mounting, and starting and ending the process. Must not know
who uses the folder. The process reads on stdin, a line each time, which error is due and for what.
"""

from __future__ import annotations

import ctypes
import errno
import os
import select
import stat
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
DEVICE = "/dev/fuse"
LOOKUP, FORGET, GETATTR, SETATTR, UNLINK, RENAME, OPEN, READ, WRITE = 1, 2, 3, 4, 10, 12, 14, 15, 16
RELEASE, FSYNC, FLUSH, INIT, OPENDIR, READDIR, RELEASEDIR, CREATE = 18, 20, 25, 26, 27, 28, 29, 35
INTERRUPT, BATCH_FORGET, RENAME2 = 36, 42, 45
CHANGES = (CREATE, WRITE, RENAME, RENAME2, UNLINK)
SILENT = (FORGET, BATCH_FORGET, INTERRUPT)  # the kernel expects no answer
IN, OUT = struct.Struct("<IIQQIIIHH"), struct.Struct("<IiQ")  # headers
INIT_OUT, ATTR, ENTRY = struct.Struct("<IIIIHHIIHHI28x"), struct.Struct("<6Q10I"), struct.Struct("<4Q2I")
SETATTR_IN, WRITE_IN = struct.Struct("<I4xQQQ36xI"), struct.Struct("<QQI20x")
OF_MODE, OF_SIZE = 1, 8  # FATTR_*
FOLDER, MOST = 1, 1 << 17  # the root's number; bytes of a message
MS_NOSUID, MS_NODEV = 2, 4


@dataclass
class File:
    mode: int
    data: bytearray = field(default_factory=bytearray)
    changed: int = 0
    links: int = 1


class FileSystem:
    """One folder. A file that has no name any more stays for those that have it open."""

    def __init__(self) -> None:
        self._files = {FOLDER: File(stat.S_IFDIR | 0o700)}
        self._names: dict[bytes, int] = {}
        self._error, self._failing = 0, frozenset[int]()
        self._answers: dict[int, Callable[[int, bytes], bytes]] = {
            INIT: lambda *_: INIT_OUT.pack(7, 31, MOST, 0, 16, 12, MOST // 2, 1, 0, 0, 0),
            LOOKUP: lambda _, body: self._entry(self._named(body)),
            GETATTR: lambda number, _: self._attributes(number),
            SETATTR: self._set,
            UNLINK: self._unlink,
            RENAME: lambda _, body: self._rename(body[8:]),
            RENAME2: lambda _, body: self._rename(body[16:]),
            OPEN: lambda *_: bytes(16),
            OPENDIR: lambda *_: bytes(16),
            READ: self._read,
            WRITE: self._write,
            READDIR: self._list,
            CREATE: self._create,
            **dict.fromkeys((RELEASE, RELEASEDIR, FSYNC, FLUSH), lambda *_: b""),
        }

    def fail(self, error: int, failing: Collection[int]) -> None:
        self._error, self._failing = error, frozenset(failing)

    def answer(self, message: bytes) -> bytes | None:
        _, code, unique, number, *_ = IN.unpack_from(message)
        if code in SILENT:
            return None
        error, said = 0, b""
        try:
            if code in self._failing:
                raise OSError(self._error, "as asked")
            if code not in self._answers:
                raise OSError(errno.ENOSYS, "not here")
            said = self._answers[code](number, message[IN.size :])
        except OSError as problem:
            error = problem.errno or errno.EIO
        return OUT.pack(OUT.size + len(said), -error, unique) + said

    def _named(self, body: bytes) -> int:
        name = body.partition(b"\0")[0]
        if name not in self._names:
            raise FileNotFoundError(errno.ENOENT, "no such file")
        return self._names[name]

    def _attributes(self, number: int, head: bytes = bytes(16)) -> bytes:
        """Nobody may keep them: they are asked for each time."""
        file = self._files[number]
        times = [file.changed // 10**9] * 3 + [file.changed % 10**9] * 3
        return head + ATTR.pack(number, len(file.data), 0, *times, file.mode, file.links, 0, 0, 0, 4096, 0)

    def _entry(self, number: int) -> bytes:
        return self._attributes(number, ENTRY.pack(number, 0, 0, 0, 0, 0))

    def _touch(self, *numbers: int) -> None:
        for number in numbers:
            self._files[number].changed = time.time_ns()

    def _set(self, number: int, body: bytes) -> bytes:
        valid, _, size, _, mode = SETATTR_IN.unpack_from(body)
        file = self._files[number]
        if valid & OF_MODE:
            file.mode = stat.S_IFMT(file.mode) | stat.S_IMODE(mode)
        if valid & OF_SIZE:
            file.data = file.data[:size].ljust(size, b"\0")
        self._touch(number)
        return self._attributes(number)

    def _create(self, _: int, body: bytes) -> bytes:
        (mode,) = struct.unpack_from("<I", body, 4)
        number = max(self._files) + 1
        self._files[number] = File(mode)
        self._names[body[16:].partition(b"\0")[0]] = number
        self._touch(FOLDER, number)
        return self._entry(number) + bytes(16)

    def _unlink(self, _: int, body: bytes) -> bytes:
        self._files[self._named(body)].links = 0
        del self._names[body.partition(b"\0")[0]]
        self._touch(FOLDER)
        return b""

    def _rename(self, body: bytes) -> bytes:
        old, new, *_ = body.split(b"\0")
        number = self._named(old)
        if new in self._names:
            self._files[self._names[new]].links = 0
        self._names[new] = number
        del self._names[old]
        self._touch(FOLDER)
        return b""

    def _read(self, number: int, body: bytes) -> bytes:
        _, offset, size = WRITE_IN.unpack_from(body)
        return bytes(self._files[number].data[offset : offset + size])

    def _write(self, number: int, body: bytes) -> bytes:
        _, offset, size = WRITE_IN.unpack_from(body)
        file = self._files[number]
        file.data[offset : offset + size] = body[WRITE_IN.size : WRITE_IN.size + size]
        self._touch(number)
        return struct.pack("<I4x", size)

    def _list(self, _: int, body: bytes) -> bytes:
        _, offset, _ = WRITE_IN.unpack_from(body)
        entries = list(enumerate(self._names.items(), 1))[offset:]
        heads = ((struct.pack("<QQII", number, place, len(name), 0), name) for place, (name, number) in entries)
        return b"".join(head + name + bytes(-len(name) % 8) for head, name in heads)


class Disk:
    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def fail(self, error: int, failing: Collection[int]) -> None:
        """Returns when it does."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(error, *failing, file=self._process.stdin, flush=True)
        assert self._process.stdout.readline() == "ready\n"


@contextmanager
def failing(folder: Path) -> Iterator[Disk]:
    """Mount one there."""
    command = [sys.executable, "-m", "tests.support.run.failingfs", str(folder)]
    process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield Disk(process)
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)
        process.kill()
        process.communicate()


def main() -> None:
    device = os.open(DEVICE, os.O_RDWR)
    options = f"fd={device},rootmode=40000,user_id=0,group_id=0".encode()
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(b"failing", sys.argv[1].encode(), b"fuse", MS_NOSUID | MS_NODEV, options):
        raise OSError(ctypes.get_errno(), "mount")
    try:
        serve(device, FileSystem())
    except OSError as error:
        if error.errno != errno.ENODEV:  # it has been unmounted
            raise


def serve(device: int, files: FileSystem) -> None:
    print("ready", flush=True)
    while True:
        for ready in select.select([device, 0], [], [])[0]:
            if ready == device:
                answer = files.answer(os.read(device, MOST))
                if answer is not None:
                    os.write(device, answer)
                continue
            line = os.read(0, 200).decode()
            if not line:
                return
            error, *failing = map(int, line.split())
            files.fail(error, failing)
            print("ready", flush=True)


if __name__ == "__main__":
    main()
