"""A capture as a stream of records: pcap and pcapng, one record in memory at a time.

Owns both formats (draft-ietf-opsawg-pcap, draft-ietf-opsawg-pcapng), what can be wrong with such a file, and where. It
is given a path. Must not know what is in a frame.

A file that ends in the middle of a record was cut off: the records before that are whole, and count. Everything else
that breaks a format is refused, with its place. (scapy's reader skips packets of unknown interfaces, mistakes the
interfaces of one section for the next one's, and can't read a pipe.)
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, Self

from sgdataplane.errors import LabError
from sgdataplane.lab.replay.octets import CutOffError, DamageError, Octets, name_of

PCAPNG = b"\x0a\x0d\x0d\x0a"
PCAP = {  # byte order, ticks per second
    b"\xa1\xb2\xc3\xd4": (">", 10**6),
    b"\xd4\xc3\xb2\xa1": ("<", 10**6),
    b"\xa1\xb2\x3c\x4d": (">", 10**9),
    b"\x4d\x3c\xb2\xa1": ("<", 10**9),
}
ORDERS = {b"\x1a\x2b\x3c\x4d": ">", b"\x4d\x3c\x2b\x1a": "<"}
LINKTYPE, HAS_FCS = 0xFFFF, 1 << 26  # in a pcap's last word, whose highest four bits give the FCS in 16-bit words
INTERFACE, OBSOLETE_PACKET, SIMPLE_PACKET, PACKET = 1, 2, 3, 6  # the blocks of pcapng that are read here
RESOLUTION, FCS_LENGTH, TIME_OFFSET = 9, 13, 14  # options of an interface
MAX_RECORD = 262_144  # tcpdump's limit for one record
MAX_BLOCK = 16 << 20


@dataclass(frozen=True, slots=True)
class Record:
    """One frame, without the frame check sequence (FCS) if the file says that it has one."""

    number: int
    """Counts from 1."""
    time: float | None
    """In seconds since 1970; None if the file has none."""
    linktype: int
    """How the frame begins (tcpdump.org/linktypes.html)."""
    data: bytes
    length: int
    """The length on the wire in octets, which may be more than the capture kept."""


Frame = tuple[float | None, int, bytes, int]  # a Record without its number


class _Format(Protocol):
    """A format of capture files, which is read record by record."""

    def record(self) -> Frame:
        """Return the next frame. CutOffError at the end of the file, DamageError if it breaks the format."""
        ...


class Capture:
    """An open capture of either format.

    Args:
        path: The file, or `-` for standard input.
        again: Whether the caller will read it more than once, even if it is a pipe.

    Attributes:
        name: What messages call it.
        cut: Where the file was cut off, in words; empty before the last record, and if it wasn't.

    Raises:
        LabError: The file isn't a capture, or can't be opened.
    """

    def __init__(self, path: Path, *, again: bool = False) -> None:
        self.name, self.cut = name_of(path), ""
        try:
            self._octets = Octets(path, is_kept=again)
        except OSError as error:
            raise self._refusal(error.strerror or str(error)) from error
        try:
            self._format: _Format | None = self._open()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the file."""
        self._octets.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def offset(self) -> int:
        """How many octets of the file have been read."""
        return self._octets.taken

    @property
    def size(self) -> int:
        """How many octets the file has; 0 if that isn't known."""
        return self._octets.size

    def _open(self) -> _Format:
        """Recognize the format and read the file's header. LabError if there is none."""
        magic = b""
        try:
            magic = self._octets.read(4)
            if magic == PCAPNG:
                return _PcapNg(self._octets)
            if magic in PCAP:
                return _Pcap(self._octets, *PCAP[magic])
        except CutOffError:
            if magic or self._octets.offset:
                raise self._refusal(f"its header, octets 0 to {self._octets.offset}, is cut off") from None
        except DamageError as error:
            raise self._refusal(f"its header, octets 0 to {self._octets.offset}: {error}") from error
        found = f"it begins with {magic.hex(' ')}" if magic else "it is empty"
        expected = "a pcap or pcapng file is expected, as `tcpdump -w` writes it, or one of these in gzip"
        raise self._refusal(f"{found}; {expected}")

    def records(self) -> Iterator[Record]:
        """Yield all whole records, each time from the beginning.

        LabError, with the place, where no record follows.
        """
        if self._format is None:
            self._octets.rewind()
            self._format, self.cut = self._open(), ""
        found, self._format = self._format, None
        number = 1
        while (record := self._next(found, number)) is not None:
            yield record
            number += 1

    def _next(self, found: _Format, number: int) -> Record | None:
        """Return the next record; None at the end, or where the file was cut off."""
        octets = self._octets
        octets.begin()
        try:
            record = Record(number, *found.record())
            if len(record.data) <= MAX_RECORD:
                return record
            raise DamageError(too_large(len(record.data)))
        except CutOffError:
            if not octets.is_between:
                self.cut = f"the file is cut off within packet {number}, which begins at octet {octets.start}"
            return None
        except DamageError as error:
            raise self._refusal(f"packet {number}, at octet {octets.start}: {error}") from error

    def _refusal(self, why: str) -> LabError:
        return LabError(f"capture {self.name}", why)


def too_large(size: int) -> str:
    """Say that a record is too large to be one."""
    return f"a record of {size} octets; no tool writes more than {MAX_RECORD}"


def strip_fcs(data: bytes, length: int, fcs: int) -> tuple[bytes, int]:
    """Return the frame and its length without an FCS of so many octets."""
    length = max(0, length - fcs)
    return (data[:length] if fcs else data), length


class _Pcap:
    """The pcap format: a header, then record after record. Begins behind the magic number."""

    def __init__(self, octets: Octets, order: str, fractions: int) -> None:
        self._octets, self._fractions = octets, fractions
        self._head = struct.Struct(f"{order}IIII")
        (word,) = struct.unpack(f"{order}I", octets.read(20)[16:])
        self._linktype = word & LINKTYPE
        self._fcs = 2 * (word >> 28) if word & HAS_FCS else 0

    def record(self) -> Frame:
        seconds, fraction, kept, length = self._head.unpack(self._octets.read(self._head.size))
        if kept > MAX_RECORD:
            raise DamageError(too_large(kept))
        frame = strip_fcs(self._octets.read(kept), length, self._fcs)
        return (seconds + fraction / self._fractions, self._linktype, *frame)


@dataclass(frozen=True, slots=True)
class _CaptureInterface:
    """An interface as a pcapng section describes it."""

    linktype: int
    snap_length: int
    ticks: int = 10**6
    """The units of its times per second."""
    offset: int = 0
    """Seconds to add to each time."""
    fcs: int = 0
    """The length of the frame check sequence in octets."""


class _PcapNg:
    """The pcapng format: blocks, in sections with a byte order and interfaces of their own.

    Begins behind the first magic number.
    """

    def __init__(self, octets: Octets) -> None:
        self._octets, self._order = octets, "<"
        self._interfaces: list[_CaptureInterface] = []
        self._begin_section()

    def record(self) -> Frame:
        while True:
            self._octets.begin()
            kind = self._octets.read(4)
            if kind == PCAPNG:
                self._begin_section()
                continue
            (code,) = self._unpack("I", kind)
            (size,) = self._unpack("I", self._octets.read(4))
            body = self._body(size, 12)
            if code == INTERFACE:
                self._interfaces.append(self._describe_interface(body))
            elif code in (PACKET, OBSOLETE_PACKET):
                return self._packet("IIIII" if code == PACKET else "HxxIIII", body)
            elif code == SIMPLE_PACKET:
                return self._simple(body)

    def _begin_section(self) -> None:
        """Read the header of a section, which has a byte order and no interface yet."""
        size, order = self._octets.read(4), self._octets.read(4)
        if order not in ORDERS:
            raise DamageError(f"a section of byte order {order.hex(' ')}")
        self._order = ORDERS[order]
        (whole,) = self._unpack("I", size)
        body = self._body(whole, 16)
        (major,) = self._unpack("H", body)
        if major != 1:
            raise DamageError(f"a section of version {major}; 1 is read here")
        self._interfaces.clear()

    def _body(self, size: int, around: int) -> bytes:
        """Read the body of a block, which its size follows once more.

        `around` is the number of octets of the block that aren't body.
        """
        if size > MAX_BLOCK or size % 4 or size < around:
            raise DamageError(f"a block of {size} octets; a multiple of 4, {around} to {MAX_BLOCK}, is expected")
        body = self._octets.read(size - around)
        (again,) = self._unpack("I", self._octets.read(4))
        if again != size:
            raise DamageError(f"a block that begins as one of {size} octets and ends as one of {again}")
        return body

    def _unpack(self, fields: str, octets: bytes) -> tuple[int, ...]:
        """Return the fields at the beginning of these octets. DamageError if there are too few."""
        try:
            return struct.unpack_from(self._order + fields, octets)
        except struct.error:
            raise DamageError(f"a block too short for what it says it is: {len(octets)} octets") from None

    def _describe_interface(self, body: bytes) -> _CaptureInterface:
        """Return the interface that a block describes."""
        linktype, snap_length = self._unpack("HxxI", body)
        options = dict(self._options(body[8:]))
        (resolution,) = options.get(RESOLUTION, b"\6")[:1] or b"\6"
        ticks = (2 if resolution & 0x80 else 10) ** (resolution & 0x7F)
        (offset,) = self._unpack("q", options.get(TIME_OFFSET, bytes(8)))
        return _CaptureInterface(linktype, snap_length, ticks, offset, *options.get(FCS_LENGTH, b"")[:1])

    def _options(self, octets: bytes) -> Iterator[tuple[int, bytes]]:
        """Yield the code and the value of each option."""
        at = 0
        while at + 4 <= len(octets):
            code, size = self._unpack("HH", octets[at:])
            if code == 0:
                return
            yield code, octets[at + 4 : at + 4 + size]
            at += 4 + size + -size % 4

    def _interface(self, number: int) -> _CaptureInterface:
        if number >= len(self._interfaces):
            raise DamageError(f"it is of interface {number}, and its section describes {len(self._interfaces)}")
        return self._interfaces[number]

    def _packet(self, fields: str, body: bytes) -> Frame:
        number, high, low, kept, length = self._unpack(fields, body)
        interface = self._interface(number)
        time = (high << 32 | low) / interface.ticks + interface.offset
        return self._record(time, interface, body[20:], kept, length)

    def _simple(self, body: bytes) -> Frame:
        (length,) = self._unpack("I", body)
        interface = self._interface(0)
        return self._record(None, interface, body[4:], min(length, interface.snap_length or length), length)

    @staticmethod
    def _record(time: float | None, interface: _CaptureInterface, data: bytes, kept: int, length: int) -> Frame:
        if kept > len(data):
            raise DamageError(f"a packet of {kept} octets in a block that holds {len(data)}")
        return (time, interface.linktype, *strip_fcs(data[:kept], length, interface.fcs))
