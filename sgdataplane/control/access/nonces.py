"""The nonces of signed requests: none is accepted twice, also after a restart, and by any process here.

Owns how they are remembered, and for how long. Must not know how requests are signed.

A nonce counts as long as its request's timestamp could be accepted. It is noted in a file of its quarter of an hour,
before its request is accepted: 8 bytes of the key's digest and 16 of the nonce's. The end of the process loses nothing;
the end of the machine may lose what was noted in the seconds before it, since nothing is synced. Processes that share
the folder share a lock in it, and first read what the others have noted.
"""

from __future__ import annotations

import errno
import fcntl
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path

from sgdataplane.control.calls.answers import UNAVAILABLE, ApiError
from sgdataplane.host.private import make_private_folder, open_lock

LOCK = "lock"
SKEW_S = 15 * 60  # seconds that a timestamp may be off, either way
KEPT_S = 3 * SKEW_S  # seconds for which nonces are kept at least
MAX_NONCES, MAX_NONCES_OF_A_KEY = 1_000_000, 500_000  # some 100 bytes each in memory
OF_KEY, OF_NONCE = 8, 16  # bytes of a record
RECORD = OF_KEY + OF_NONCE
AT_ONCE = 4096 * RECORD


@dataclass
class _Step:
    """The nonces that were signed in one quarter of an hour."""

    file: int | None  # where they are noted; None for nowhere
    seen: float  # when something was noted last (monotonic)
    read: int = 0  # up to which byte of the file `used` is complete
    used: dict[bytes, set[bytes]] = field(default_factory=dict)  # digest of a key -> digests of its nonces

    @property
    def count(self) -> int:
        return self.read // RECORD

    def take_over(self) -> None:
        """Take over the nonces that other processes have noted.

        A record that isn't whole is what a full disk left. The next record is written over it.
        """
        while self.file is not None and len(data := os.pread(self.file, AT_ONCE, self.read)) >= RECORD:
            whole = len(data) - len(data) % RECORD
            for start in range(0, whole, RECORD):
                self._add(data[start : start + RECORD])
            self.read += whole

    def note(self, record: bytes, now: float) -> None:
        """Note a nonce in the file and in memory.

        Raises:
            OSError: The disk doesn't take all of it. The nonce isn't noted then.
        """
        if self.file is not None and os.pwrite(self.file, record, self.read) != RECORD:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self.read += RECORD
        self.seen = max(self.seen, now)
        self._add(record)

    def _add(self, record: bytes) -> None:
        self.used.setdefault(record[:OF_KEY], set()).add(record[OF_KEY:])


class Nonces:
    """The used nonces, for as long as their requests could be sent again. Several threads may use it.

    They are noted in `folder`, which is made if it isn't there, or only in memory if that is None.

    Raises:
        OSError: The folder can't be made.
        HostError: Others can use the folder.
    """

    def __init__(
        self,
        folder: Path | None = None,
        most: int = MAX_NONCES,
        most_of_a_key: int = MAX_NONCES_OF_A_KEY,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._folder, self._most, self._most_of_a_key = folder, most, most_of_a_key
        self._monotonic = monotonic
        self._threads = threading.Lock()
        self._steps: dict[int, _Step] = {}  # by the time of signing
        self._lock: int | None = None
        if folder is not None:
            make_private_folder(folder)
            self._lock = open_lock(folder / LOCK)
            for number in (int(entry.name) for entry in folder.iterdir() if entry.name.isdecimal()):
                self._steps[number] = self._open_step(number)
            with self._hold_lock():
                self._forget(time.time())

    def use(self, key: str, nonce: str, signed_at: float, now: float) -> None:
        """Use a nonce once. `signed_at` and `now` are in seconds since 1970.

        Raises:
            ApiError: The key has used this nonce already, or there are too many nonces.
        """
        of_key = blake2b(key.encode(), digest_size=OF_KEY).digest()
        of_nonce = blake2b(nonce.encode(), digest_size=OF_NONCE).digest()
        try:
            with self._hold_lock():
                self._forget(now)
                for number in range(int((now - SKEW_S) // SKEW_S), int((now + SKEW_S) // SKEW_S) + 1):
                    self._step(number).take_over()
                self._require_unused(of_key, of_nonce)
                self._step(int(signed_at // SKEW_S)).note(of_key + of_nonce, self._monotonic())
        except OSError as error:
            words = f"The nonce of the request can't be noted: {error.strerror or error}"
            raise ApiError("ServiceUnavailable", words, UNAVAILABLE) from error

    def _require_unused(self, of_key: bytes, of_nonce: bytes) -> None:
        of_this_key = [step.used.get(of_key, set()) for step in self._steps.values()]
        if any(of_nonce in used for used in of_this_key):
            raise ApiError("SignatureNonceUsed", "Specified signature nonce was used already.")
        if sum(map(len, of_this_key)) >= self._share():
            words = "Too many requests were signed in the last minutes; nonces can't be kept for more."
            raise ApiError("Throttling.User", words, extra={"x-acs-retry-after": str(SKEW_S * 1000)})

    def _share(self) -> int:
        """Return how many nonces one key may have.

        Once there are as many as fit, all keys have the same share, so that none can use up what others need.
        """
        if sum(step.count for step in self._steps.values()) < self._most:
            return self._most_of_a_key
        keys = {key for step in self._steps.values() for key in step.used}
        return min(self._most_of_a_key, self._most // (len(keys) + 1))

    def _step(self, number: int) -> _Step:
        if number not in self._steps:
            self._steps[number] = self._open_step(number)
        return self._steps[number]

    def _open_step(self, number: int) -> _Step:
        if self._lock is None:
            return _Step(None, self._monotonic())
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        assert self._folder is not None
        return _Step(os.open(self._folder / str(number), flags, 0o600), self._monotonic())

    def _forget(self, now: float) -> None:
        """Forget the steps whose requests are too old by now, in whichever process they were noted.

        A clock that jumped ahead may be put right again. So a step is kept until this process has had it for `KEPT_S`
        by a clock that doesn't jump.
        """
        unused = [number for number, step in self._steps.items() if step.seen < self._monotonic() - KEPT_S]
        for number in [number for number in unused if (number + 2) * SKEW_S < now]:
            step = self._steps.pop(number)
            if step.file is not None and self._folder is not None:
                os.close(step.file)
                (self._folder / str(number)).unlink(missing_ok=True)

    @contextmanager
    def _hold_lock(self) -> Iterator[None]:
        """Lock the nonces against other threads and other processes while the block runs."""
        with self._threads:
            if self._lock is None:
                yield
                return
            fcntl.flock(self._lock, fcntl.LOCK_EX)
            try:
                yield
            finally:
                fcntl.flock(self._lock, fcntl.LOCK_UN)
