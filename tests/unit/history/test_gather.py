"""However many ends, ports and ENIs others make up, what is held is bounded."""

from __future__ import annotations

import pytest

from sgdataplane.history import gather
from sgdataplane.history.gather import MAX_BLOCKS, MAX_ENDS, MAX_ROWS, Gatherer, Seen
from sgdataplane.history.rows import ANY, HOUR_S, Fate, FlowKey
from sgdataplane.history.write import PendingRows
from sgdataplane.net.values import TCP, UDP, Address, Direction


def seen(end: str | Address, at: int = HOUR_S, port: int = 22, eni: str = "eni-a", protocol: int = TCP) -> Seen:
    return Seen(at, eni, Direction.INGRESS, end, protocol, port, 60, Fate.DROP, "default", "", "")


def keys(pending: PendingRows) -> list[FlowKey]:
    return [key for bucket in pending.buckets.values() for key in bucket.flows]


def test_equal_packets_are_one_row() -> None:
    gatherer, pending = Gatherer(), PendingRows()
    for at in (HOUR_S + 7, HOUR_S + 3):
        gatherer.note(seen("eni-b", at), pending)
    (bucket,) = pending.buckets.values()
    (count,) = bucket.flows.values()
    assert (count.packets, count.bytes, count.first, count.last) == (2, 120, HOUR_S + 3, HOUR_S + 7)


@pytest.mark.parametrize(("bits", "length"), [(32, 24), (128, 64)])
def test_ends_beyond_a_thousand_are_merged_to_blocks_and_then_to_everything(bits: int, length: int) -> None:
    gatherer, pending = Gatherer(), PendingRows()
    step = 1 << (bits - length)
    for number in range(2 * MAX_ENDS + MAX_BLOCKS):
        gatherer.note(seen(Address(bits, number * step)), pending)
    ends = {key.end for key in keys(pending)}
    blocks = {end for end in ends if end.endswith(f"/{length}")}
    assert len(blocks) == MAX_BLOCKS
    assert len(ends) == MAX_ENDS + MAX_BLOCKS + 1
    assert sum(count.packets for bucket in pending.buckets.values() for count in bucket.flows.values()) == 4000 - 1000
    gatherer.note(seen(Address(bits, 0)), pending)
    assert len(keys(pending)) == len(ends)  # one that was there stays what it is


def test_rows_are_bounded_whatever_ports_are_scanned() -> None:
    gatherer, pending = Gatherer(), PendingRows()
    for number in range(3 * MAX_ROWS):
        gatherer.note(seen(Address(32, number % 50), port=number, protocol=UDP if number % 2 else TCP), pending)
    found = keys(pending)
    assert len(found) == MAX_ROWS + 1
    (rest,) = [key for key in found if key.protocol == ANY]
    assert (rest.end, rest.port) == ("0.0.0.0/0", ANY)


def test_all_enis_together_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gather, "MAX_ALL", 100)
    gatherer, pending = Gatherer(), PendingRows()
    for number in range(500):
        gatherer.note(seen(Address(32, number), eni=f"eni-{number}"), pending)
    assert len({key.end for key in keys(pending)}) <= 51
    gatherer.note(seen(Address(32, 7), at=2 * HOUR_S), pending)  # an hour later they are all free again
    assert "0.0.0.7" in {key.end for key in keys(pending)}
