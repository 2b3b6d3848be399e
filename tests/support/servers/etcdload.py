"""Writers and watchers of a store that go on while it is hurt, and what they must have seen.

Owns their threads, each with a store of its own, as processes have. Must not know what hurts the store.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager

from sgdataplane.store.interface import ConflictError, Store, StoreError, Token, Write
from sgdataplane.store.opening import open_store
from tests.support.servers.etcdserver import DEADLINE_S, until
from tests.support.servers.storewriting import FOREVER


class Load:
    """`answered`: (writer, number) -> revision, for each commit, once its outcome is known. `seen`: of each watcher."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.answered: dict[tuple[str, int], int] = {}
        self.unknown = 0  # commits that nobody answered at first
        self.seen: list[list[int]] = []
        self._is_ending = threading.Event()
        self._last: int | None = None

    def progress(self) -> None:
        """Returns once every writer has committed anew."""
        before = dict(self._counts())
        until(lambda: all(count > before[name] for name, count in self._counts()), "all writers to go on")

    def _counts(self) -> list[tuple[str, int]]:
        names = [name for name, _ in list(self.answered)]
        return [(name, names.count(name)) for name in "abc"]

    @contextmanager
    def running(self) -> Iterator[None]:
        """3 writers and 6 watchers. Leaving it checks all."""
        with ThreadPoolExecutor(9) as pool:
            watchers = [pool.submit(self._watch) for _ in range(6)]
            writers = [pool.submit(self._write, name) for name in "abc"]
            try:
                yield
            finally:
                self._is_ending.set()
                _join(writers)
                self._last = max(self.answered.values(), default=0)
            self.seen = _join(watchers)
        self._check()

    def _write(self, name: str) -> None:
        with closing(open_store(self.text)) as store:
            for number in itertools.count():
                if self._is_ending.is_set():
                    return
                self.answered[name, number] = self._commit(store, name, number)

    def _commit(self, store: Store, name: str, number: int) -> int:
        token = f"{name}-{number}"
        write = Write({}, {f"doc/{name}": {"n": number}}, audit={"token": token}, token=Token(token, "", {}, FOREVER))
        while True:
            try:
                answered = store.find_answer(token)
                return answered.revision if answered else store.commit(write)
            except ConflictError:
                continue
            except StoreError:
                self.unknown += 1
                self._is_ending.wait(0.05)

    def _watch(self) -> list[int]:
        seen: list[int] = []
        with closing(open_store(self.text)) as store:
            while self._last is None or len(seen) < self._last:
                try:
                    seen.extend(change.revision for change in store.watch(seen[-1] if seen else 0, timeout=0.5))
                except StoreError:
                    self._is_ending.wait(0.05)
        return seen

    def _check(self) -> None:
        with closing(open_store(self.text)) as store:
            events = store.events(limit=1_000_000)
            written = {str(event.record["token"]): event.revision for event in events}
            documents = store.snapshot().documents
        everything = list(range(1, len(events) + 1))
        assert [event.revision for event in events] == everything
        assert len(written) == len(events), "something was written twice"
        assert {f"{name}-{number}": revision for (name, number), revision in self.answered.items()} == written
        assert self.seen == [everything] * 6
        last = {f"doc/{name}": {"n": max(n for who, n in self.answered if who == name)} for name in "abc"}
        assert documents == last


def _join(futures: list[Future]) -> list:  # type: ignore[type-arg]
    return [one.result(DEADLINE_S * 2) for one in futures]
