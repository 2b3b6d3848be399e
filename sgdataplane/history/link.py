"""The messages between the agent and the process that records history.

Owns the form of these messages. Is given a socket between the two. Must not know what is done with them.

    agent -> recorder   Orders, pickled into a file without a name whose descriptor is sent: so nobody waits for the
                        other. The state's records are sent once: of a change, only what it has changed
    recorder -> agent   its status, as JSON, and at first at once; PROCESS: its number in commits

Only the agent and its own child have the socket.
"""

from __future__ import annotations

import io
import json
import os
import pickle
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, fields
from typing import Any

from sgdataplane.history.place import RecordedPlace
from sgdataplane.model.options import Options
from sgdataplane.model.state import CloudState
from sgdataplane.nft.counters import Counted

MAX_STATUS, PROCESS = 1 << 16, "process"
NAMES = tuple(each.name for each in fields(CloudState))
Records = Mapping[str, tuple[object, ...]]


@dataclass(slots=True)
class Orders:
    """The changes since the last orders; None where nothing of that kind has changed."""

    fresh: tuple[object, ...] = ()
    """Records that weren't sent before."""
    records: Mapping[str, tuple[int, ...]] | None = None
    """The state's records, by its fields. A number stands for the record that was sent at that place.

    The field "" has the place of the first fresh record.
    """
    options: Options | None = None
    places: Sequence[RecordedPlace] | None = None
    removed: list[tuple[int, Mapping[str, Counted]]] = field(default_factory=list)
    """The last values of counters that were removed, by the namespace's cookie."""


class StateSender:
    """The agent's end: it makes orders that bring a state to the recorder."""

    def __init__(self) -> None:
        self._numbers: dict[int, int] = {}
        self._sent: list[object] = []  # they stay, so that their numbers do

    def orders(self, state: CloudState, options: Options) -> Orders:
        """Return orders that bring this state. Records that were sent before aren't sent again."""
        found = {name: getattr(state, name) for name in NAMES}
        if len(self._sent) > 2 * sum(map(len, found.values())) + 1000:
            self._numbers, self._sent = {}, []
        start = len(self._sent)
        records = {name: tuple(map(self._number, some)) for name, some in found.items()}
        return Orders(tuple(self._sent[start:]), {**records, "": (start,)}, options)

    def _number(self, record: object) -> int:
        number = self._numbers.get(id(record))
        if number is None:
            number = self._numbers[id(record)] = len(self._sent)
            self._sent.append(record)
        return number


class StateReceiver:
    """The recorder's end: it makes states of orders again."""

    def __init__(self) -> None:
        self._known: list[object] = []

    def state(self, orders: Orders) -> CloudState | None:
        """Return the state that orders bring; None if they bring none."""
        if orders.records is None:
            return None
        (start,) = orders.records[""]
        self._known[start:] = orders.fresh
        found: dict[str, Any] = {name: tuple(self._known[n] for n in orders.records[name]) for name in NAMES}
        return CloudState(**found)


def send_orders(link: socket.socket, orders: Orders) -> None:
    """Send orders and don't wait.

    Raises:
        BlockingIOError: The other end doesn't keep up.
        OSError: The other end has ended.
    """
    with open(os.memfd_create("orders"), "w+b") as file:
        pickle.dump(orders, file, pickle.HIGHEST_PROTOCOL)
        file.flush()
        file.seek(0)
        socket.send_fds(link, [b"o"], [file.fileno()])


def receive_orders(link: socket.socket) -> Iterator[Orders | None]:
    """Yield the orders that have come, and None if the other end has closed."""
    while True:
        try:
            data, descriptors, _, _ = socket.recv_fds(link, 16, 1)
        except BlockingIOError:
            return
        except OSError:
            data, descriptors = b"", []
        if not data:
            yield None
            return
        for descriptor in descriptors:
            with open(descriptor, "rb") as file:
                yield loads(file.read())


def loads(data: bytes) -> Any:  # noqa: ANN401  # what was sent
    """Return what another process of sgdataplane has pickled."""
    return _Unpickler(io.BytesIO(data)).load()


class _Unpickler(pickle.Unpickler):
    """A reader of the agent's own bytes; nevertheless, it makes nothing but sgdataplane's values."""

    def find_class(self, module: str, name: str) -> object:
        """Return a class of sgdataplane, or a harmless one. UnpicklingError for any other."""
        if module.startswith("sgdataplane.") or (module, name) in _HARMLESS:
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"{module}.{name}")


_HARMLESS = {("types", "MappingProxyType"), ("pathlib", "PosixPath"), ("builtins", "frozenset")}


def send_status(link: socket.socket, status: Mapping[str, object]) -> None:
    """Send a status; it is lost if nobody takes it."""
    with suppress(OSError):
        link.send(json.dumps(status).encode()[:MAX_STATUS], socket.MSG_DONTWAIT)


def receive_status(link: socket.socket) -> tuple[dict[str, Any] | None, bool]:
    """Return the newest status that has come, if any, and whether the other end has closed."""
    found: dict[str, Any] | None = None
    while True:
        try:
            data = link.recv(MAX_STATUS)
        except BlockingIOError:
            return found, False
        except OSError:
            return found, True
        if not data:
            return found, True
        with suppress(ValueError):
            found = json.loads(data)
