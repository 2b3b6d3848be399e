"""Capture files that are not what they should be: refused with the place, never with a traceback."""

from __future__ import annotations

import struct
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sgdataplane.errors import LabError
from sgdataplane.lab.replay.capture import Capture, Record
from sgdataplane.lab.replay.packets import Unfit, find_packet
from tests.replay.generator import KINDS, scenes, write_pcap, write_pcapng

PACKETS = [packet for scene in scenes(1) for packet in KINDS["udp_fragments"](scene).packets]
WRITERS = (write_pcap, write_pcapng)


def read(path: Path) -> tuple[list[Record], str]:
    with Capture(path) as capture:
        return list(capture.records()), capture.cut


@pytest.fixture(params=WRITERS, ids=lambda write: write.__name__)
def whole(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    path: Path = request.param(tmp_path / "capture", PACKETS)
    return path


def test_all_records_are_read_in_order_with_their_times(whole: Path) -> None:
    records, cut = read(whole)
    assert cut == ""
    assert [record.number for record in records] == list(range(1, len(PACKETS) + 1))
    assert [round(record.time or 0, 3) for record in records] == [n / 1000 for n in range(len(PACKETS))]
    assert all(record.length == len(record.data) for record in records)


def test_cut_anywhere_it_is_read_to_the_last_whole_record_or_refused(whole: Path, tmp_path: Path) -> None:
    octets, cut_file = whole.read_bytes(), tmp_path / "cut"
    for size in range(len(octets) - 200, len(octets)):
        cut_file.write_bytes(octets[:size])
        records, cut = read(cut_file)
        assert len(records) == len(PACKETS) - 1
        assert f"within packet {len(PACKETS)}, which begins at octet " in cut


@pytest.mark.parametrize("size", [0, 3, 4, 20])
def test_a_file_without_its_header_is_refused(whole: Path, size: int) -> None:
    whole.write_bytes(whole.read_bytes()[:size])
    with pytest.raises(LabError, match=r"it is empty|it begins with|its header, octets 0 to"):
        read(whole)


@pytest.mark.parametrize("text", [b"GIF89a", b"\x1f\x8b\x08\0", b"version: 1\n"])
def test_other_files_are_refused_with_what_is_expected(tmp_path: Path, text: bytes) -> None:
    path = tmp_path / "other"
    path.write_bytes(text)
    with pytest.raises(LabError, match="a pcap or pcapng file is expected"):
        read(path)


def test_no_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none"):
        with pytest.raises(LabError, match="directory"):
            read(path)


def test_a_record_that_is_too_large_to_be_one_is_refused_with_its_place(tmp_path: Path) -> None:
    path = write_pcap(tmp_path / "large", PACKETS)
    octets = bytearray(path.read_bytes())
    octets[24 + 8 : 24 + 12] = struct.pack("<I", 1 << 31)
    path.write_bytes(octets)
    with pytest.raises(LabError, match="packet 1, at octet 24: a record of 2147483648 octets"):
        read(path)


def test_a_block_of_pcapng_that_is_too_large_is_refused_with_its_place(tmp_path: Path) -> None:
    path = write_pcapng(tmp_path / "large", PACKETS)
    octets = bytearray(path.read_bytes())
    octets[28 + 20 + 4 : 28 + 20 + 8] = struct.pack("<I", 0xFFFFFFF0)
    path.write_bytes(octets)
    with pytest.raises(LabError, match="packet 1, at octet 48: "):
        read(path)


@settings(max_examples=150)
@given(seed=st.integers(0, 1 << 32), kind=st.sampled_from(WRITERS), data=st.data())
def test_damaged_files_are_read_or_refused_and_their_packets_are_found_or_left_out(
    seed: int, kind: object, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = (write_pcap if kind is write_pcap else write_pcapng)(
        tmp_path_factory.getbasetemp() / f"d{seed}", PACKETS[:4]
    )
    octets = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 6))):
        octets[data.draw(st.integers(0, len(octets) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(octets)
    try:
        records, _ = read(path)
    except LabError:
        return
    finally:
        path.unlink()
    for record in records:
        with suppress(Unfit):
            find_packet(record.linktype, record.data, record.length)
