"""One namespace can't starve the others: what is read of it is bounded."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from sgdataplane.enforce import enforce
from sgdataplane.errors import HostError
from sgdataplane.host import labels
from sgdataplane.host.events import number_of
from sgdataplane.host.labels import labels_of
from sgdataplane.host.nfnetlink import Nfnetlink
from tests.hostile.scene import PLAIN, SSH, WEB, must_obey, policy
from tests.support import assault, rawnft

pytestmark = pytest.mark.kernel
CROWD = 30_000
READ_MOST = 1 << 20  # of a small table, and of a thousand others; a crowd has some 3 MB


class Meter:
    """Bytes that the kernel has told over nfnetlink."""

    def __init__(self) -> None:
        self.read = 0


@contextmanager
def metered() -> Iterator[Meter]:
    meter, receive = Meter(), Nfnetlink._receive

    def counting(door: Nfnetlink) -> Iterator[tuple[int, int, bytes]]:
        for kind, flags, payload in receive(door):
            meter.read += len(payload)
            yield kind, flags, payload

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Nfnetlink, "_receive", counting)
        yield meter


CROWDS: dict[str, Callable[[int], list[rawnft.Message]]] = {
    "elements": assault.elements,
    "counters": assault.counters,
    "chains": assault.chains,
}


@pytest.mark.parametrize("crowd", CROWDS)
def test_a_table_that_is_not_ours_any_more_is_replaced_and_not_read(namespace: str, crowd: str) -> None:
    before, after = policy(SSH), policy(SSH, WEB)
    enforce(namespace, before, None, PLAIN)
    rawnft.must_send(namespace, *CROWDS[crowd](CROWD))
    with metered() as meter:
        report = enforce(namespace, after, before, PLAIN)
    print(f"{meter.read} bytes read")
    assert (report.is_refill, report.leftover) == (True, "")
    assert 0 < meter.read < READ_MOST
    assert not must_obey(namespace, after).changed


def test_a_namespace_with_very_many_interfaces_is_not_looked_at(
    namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In each cycle, where interfaces to be bound are looked for."""
    number = number_of(namespace)
    there = len(labels_of(number))
    monkeypatch.setattr(labels, "MOST", there)
    assert len(labels_of(number)) == there
    monkeypatch.setattr(labels, "MOST", there - 1)
    with pytest.raises(HostError, match=f"more than {there - 1} interfaces"):
        labels_of(number)
