"""A thread that follows the store and hands each revision to a relay's loop.

Owns what happens when the store is silent, or has forgotten what came next. Must not know hosts.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from functools import partial

from sgdataplane.host.memory import give_back
from sgdataplane.relay.counts import OF_STORE
from sgdataplane.relay.held import without_unknown_kinds
from sgdataplane.relay.server import LOGGER, Relay
from sgdataplane.store.interface import GoneError, Store, StoreError

LOOK_S, RETRY_S = 1.0, 1.0


class Watcher:
    """A thread that follows the store and hands each revision to a relay's loop. Use it as a context manager.

    `failed` is called in the loop with an error that nobody has foreseen. The thread then follows nothing any more.
    """

    def __init__(self, store: Store, relay: Relay, failed: Callable[[Exception], None]) -> None:
        self._store, self._relay, self._documents, self._failed = store, relay, relay.documents, failed
        self._loop = asyncio.get_running_loop()
        self._is_ending = threading.Event()
        self._is_silent = False
        self._thread = threading.Thread(target=self._follow, daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._is_ending.set()

    def _follow(self) -> None:
        try:
            self._follow_on()
        except Exception as error:  # noqa: BLE001  # the process ends with it
            self._loop.call_soon_threadsafe(self._failed, error)

    def _follow_on(self) -> None:
        while not self._is_ending.is_set():
            self._documents.file.require_whole()
            try:
                self._watch()
            except GoneError:
                self._start_anew()
            except StoreError as error:
                self._note_silence(error)

    def _watch(self) -> None:
        """Hand revisions to the relay, for as long as the store's watch yields any."""
        for change in map(without_unknown_kinds, self._store.watch(self._documents.revision, timeout=LOOK_S)):
            documents = self._documents.after(change)
            self._hand(partial(self._relay.take, documents, change))
            self._documents = documents
            self._relay.counts.store_read = time.time()
            if self._is_ending.is_set():
                return
        self._note_answer()

    def _start_anew(self) -> None:
        try:
            with self._store.open_reading() as seen:
                change = self._documents.change_to(seen)
        except StoreError as error:
            self._note_silence(error)
            return
        documents = self._documents.after(change)
        give_back()
        LOGGER.warning(
            "the store doesn't know what came after %s: a snapshot of %s is served instead",
            self._documents.version,
            documents.version,
        )
        self._documents = documents
        self._relay.counts.store_read = time.time()
        self._hand(partial(self._relay.restart, documents, change))

    def _hand(self, call: Callable[[], None]) -> None:
        """Call a function in the relay's loop, and wait until it has returned."""
        done = threading.Event()
        raised: list[Exception] = []

        def do() -> None:
            try:
                call()
            except Exception as error:  # noqa: BLE001  # it is the thread's
                raised.append(error)
            finally:
                done.set()

        self._loop.call_soon_threadsafe(do)
        while not done.wait(LOOK_S) and not self._is_ending.is_set():
            pass
        for error in raised:
            raise error

    def _note_silence(self, error: StoreError) -> None:
        if not self._is_silent:
            LOGGER.warning("the store can't be read; hosts keep what they have: %s", error)
        self._is_silent = True
        self._relay.counts.errors[OF_STORE] += 1
        self._is_ending.wait(RETRY_S)

    def _note_answer(self) -> None:
        self._relay.counts.store_read = time.time()
        if self._is_silent:
            LOGGER.warning("the store can be read again")
        self._is_silent = False
