"""Malformed capture files are refused with the place, never with a traceback."""

from __future__ import annotations

import gzip
import os
import struct
import threading
from contextlib import suppress
from dataclasses import dataclass, replace
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


@pytest.mark.parametrize("text", [b"GIF89a", b"version: 1\n", gzip.compress(b"GIF89a", mtime=0)])
def test_other_files_are_refused_with_what_is_expected(tmp_path: Path, text: bytes) -> None:
    path = tmp_path / "other"
    path.write_bytes(text)
    with pytest.raises(LabError, match="a pcap or pcapng file is expected"):
        read(path)


@dataclass(frozen=True)
class Form:
    """How a capture is written. `upper`: the bits of a pcap's last word above the link type."""

    order: str
    is_nano: bool
    linktype: int
    upper: int
    in_gzip: bool

    def pack(self, fields: str, *values: int) -> bytes:
        return struct.pack(self.order + fields, *values)

    def write(self, path: Path, octets: bytes) -> Path:
        path.write_bytes(gzip.compress(octets, 1) if self.in_gzip else octets)
        return path


FORMS = st.builds(
    Form,
    order=st.sampled_from("<>"),
    is_nano=st.booleans(),
    linktype=st.sampled_from([1, 101, 113, 276, 65535]),
    upper=st.integers(0, 0xFFFF),
    in_gzip=st.booleans(),
)
FRAMES = st.lists(st.binary(max_size=60), max_size=5)
HAS_FCS = 0x0400  # of `upper`


@settings(max_examples=150)
@given(form=FORMS, frames=FRAMES)
def test_every_pcap_is_read_whatever_its_form(form: Form, frames: list[bytes], folder: Path) -> None:
    """A pcap is read in each byte order, with each fraction of a second and each length of the FCS, gzipped or not."""
    octets = form.pack("I", 0xA1B23C4D if form.is_nano else 0xA1B2C3D4)
    octets += form.pack("HHIIII", 2, 4, 0, 0, 262_144, form.upper << 16 | form.linktype)
    fcs = bytes(form.upper >> 12 << 1) if form.upper & HAS_FCS else b""
    more = 0 if fcs else 7  # of which the capture kept nothing
    for number, frame in enumerate(frames):
        octets += form.pack("IIII", number, 5, len(frame + fcs), len(frame + fcs) + more) + frame + fcs
    records, cut = read(form.write(folder / "forms", octets))
    assert cut == ""
    assert [(record.data, record.linktype, record.length) for record in records] == [
        (frame, form.linktype, len(frame) + more) for frame in frames
    ]
    assert [record.time for record in records] == [
        n + 5 / (10**9 if form.is_nano else 10**6) for n in range(len(frames))
    ]


SECTIONS = st.lists(
    st.tuples(FORMS, FRAMES, st.lists(st.sampled_from([1, 101, 113]), min_size=1, max_size=3)), min_size=1, max_size=3
)


@settings(max_examples=150)
@given(sections=SECTIONS, unknown=st.booleans(), in_gzip=st.booleans())
def test_every_pcapng_is_read_and_a_packet_of_an_unknown_interface_refused(
    sections: list[tuple[Form, list[bytes], list[int]]], unknown: bool, in_gzip: bool, folder: Path
) -> None:
    """Sections of different byte orders, each with its own interfaces, and other blocks in between."""
    octets, wanted = b"", []
    for form, frames, linktypes in sections:
        octets += block(form, 0x0A0D0D0A, form.pack("IHHq", 0x1A2B3C4D, 1, 0, -1))
        for linktype in linktypes:
            resolution = form.pack("HHBxxxHH", 9, 1, 9 if form.is_nano else 6, 0, 0)
            octets += block(form, 1, form.pack("HHI", linktype, 0, 0) + resolution)
        for number, frame in enumerate(frames):
            size, of = len(frame), number % len(linktypes)
            octets += block(form, 0x0BAD, b"other")
            octets += block(form, 6, form.pack("IIIII", of, 0, number, size, size) + frame)
            octets += block(form, 3, form.pack("I", size) + frame)
            wanted += [(frame, linktypes[of]), (frame, linktypes[0])]
    if unknown:
        form, _, linktypes = sections[-1]
        octets += block(form, 6, form.pack("IIIII", len(linktypes), 0, 0, 1, 1) + b"x")
    path = replace(sections[0][0], in_gzip=in_gzip).write(folder / "sections", octets)
    if unknown:
        place = (
            f"packet {len(wanted) + 1}, at octet \\d+: it is of interface {len(linktypes)}, and its section describes"
        )
        with pytest.raises(LabError, match=place):
            read(path)
        return
    records, cut = read(path)
    assert ([(record.data, record.linktype) for record in records], cut) == (wanted, "")


def block(form: Form, kind: int, body: bytes) -> bytes:
    size = form.pack("I", len(body) + -len(body) % 4 + 12)
    return form.pack("I", kind) + size + body + bytes(-len(body) % 4) + size


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("captures")


@pytest.mark.parametrize("size", [3, 9, 10, 30, -9, -1])
def test_gzip_that_is_cut_off_or_damaged_is_refused(whole: Path, size: int) -> None:
    octets = gzip.compress(whole.read_bytes())
    whole.write_bytes(octets[:size])
    with pytest.raises(LabError, match=r"cut off|begins with 1f"):
        read(whole)
    whole.write_bytes(octets[:-8] + bytes(8))  # its checksum
    with pytest.raises(LabError, match=f"packet {len(PACKETS) + 1}, at octet .*: the gzip stream is damaged"):
        read(whole)


def test_a_pipe_is_read_as_it_comes_and_again_if_that_was_said(whole: Path, tmp_path: Path) -> None:
    for octets in (whole.read_bytes(), gzip.compress(whole.read_bytes())):
        pipe = tmp_path / "pipe"
        os.mkfifo(pipe)
        writer = threading.Thread(target=write_slowly, args=(pipe, octets))
        writer.start()
        with Capture(pipe, again=True) as capture:
            first = list(capture.records())
            assert first == list(capture.records())
            assert (len(first), capture.cut, capture.size) == (len(PACKETS), "", 0)
        writer.join()
        pipe.unlink()


def write_slowly(pipe: Path, octets: bytes) -> None:
    """A pipe that hands over its first octets one by one: no read gets more."""
    with open(pipe, "wb", buffering=0) as file:
        file.writelines(bytes([octet]) for octet in octets[:5])
        file.write(octets[5:])


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
