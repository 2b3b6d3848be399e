"""A capture file as a stream of records: pcap and pcapng, one record in memory at a time.

Owns what can be wrong with such a file, and where. Is given a path. Must not know what is in a frame.
A file that ends in the middle of a record was cut off: what came before it is whole, and counts. Whatever else isn't as
the formats have it is refused, with its place.
"""

from __future__ import annotations

import logging
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Self

from scapy.error import Scapy_Exception
from scapy.utils import RawPcapNgReader, RawPcapReader

from sgdataplane.errors import LabError

PCAPNG = b"\x0a\x0d\x0d\x0a"
PCAP = (b"\xa1\xb2\xc3\xd4", b"\xd4\xc3\xb2\xa1", b"\xa1\xb2\x3c\x4d", b"\x4d\x3c\xb2\xa1")
MAX_RECORD = 262_144  # tcpdump's own limit of what one record holds
MAX_BLOCK = 16 << 20
SECRETS, PROCESSES = 10, 0x80000001  # blocks that scapy would read more into than we want

logging.getLogger("scapy.runtime").setLevel(logging.CRITICAL)  # what it warns of, we refuse in our own words


@dataclass(frozen=True, slots=True)
class Record:
    """One frame. `number` counts from 1; `time` in seconds, None if the file doesn't say; `length` on the wire."""

    number: int
    time: float | None
    linktype: int
    data: bytes
    length: int


class Capture:
    """An open capture. LabError if it is none; `cut` says, after the last record, where it ended too early."""

    def __init__(self, path: Path) -> None:
        self.path, self.cut = path, ""
        try:
            self._file = _Counted(open(path, "rb"))  # noqa: SIM115  # closed with the capture
        except OSError as error:
            raise self._refusal(error.strerror or str(error)) from error
        try:
            self._reader = self._open()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def offset(self) -> int:
        """How many octets have been read."""
        return self._file.offset

    def _open(self) -> Any:  # noqa: ANN401  # untyped upstream
        magic = self._file.read(4)
        self._file.rewind()
        if magic != PCAPNG and magic not in PCAP:
            found = f"it begins with {magic.hex(' ')}" if magic else "it is empty"
            raise self._refusal(f"{found}; a pcap or pcapng file is expected, as `tcpdump -w` writes it")
        try:
            if magic != PCAPNG:
                return RawPcapReader(self._file)
            reader = _PcapNg(self._file)
        except (Scapy_Exception, struct.error, EOFError, ValueError, LookupError) as error:
            raise self._refusal(f"its header, octets 0 to {self._file.offset}, is damaged or cut off") from error
        for kind in (SECRETS, PROCESSES):
            reader.blocktypes.pop(kind, None)
        return reader

    def records(self) -> Iterator[Record]:
        """All whole records. LabError, with the place, where what follows isn't a record."""
        number = 0
        while (found := self._next(number + 1)) is not None:
            number += 1
            data, meta = found
            yield Record(number, self._time_of(meta), self._linktype_of(meta), data, meta.wirelen)

    def _next(self, number: int) -> tuple[bytes, Any] | None:
        self._file.begin()
        try:
            data, meta = next(self._reader)
        except StopIteration:
            self._judge_end(number)
            return None
        except (Scapy_Exception, struct.error, ValueError, LookupError, OSError) as error:
            raise self._damage(number, str(error)) from error
        held = getattr(meta, "caplen", len(data))
        if held > MAX_RECORD:
            raise self._damage(number, f"a record of {held} octets; no tool writes more than {MAX_RECORD}")
        if self._file.is_short:
            self._judge_end(number)
            return None
        return data, meta

    def _judge_end(self, number: int) -> None:
        """The file's end between two records, within one, or no end at all."""
        start = self._file.start
        if self._file.offset == start:
            return
        if not self._file.is_short:
            raise self._damage(number, "what stands there is no block of a pcapng file")
        self.cut = f"the file is cut off within packet {number}, which begins at octet {start}"

    def _damage(self, number: int, why: str) -> LabError:
        return self._refusal(f"packet {number}, at octet {self._file.start}: {why}")

    def _refusal(self, why: str) -> LabError:
        return LabError(f"capture {self.path}", why)

    def _linktype_of(self, meta: Any) -> int:  # noqa: ANN401  # untyped upstream
        return int(meta.linktype if hasattr(meta, "linktype") else self._reader.linktype)

    def _time_of(self, meta: Any) -> float | None:  # noqa: ANN401  # untyped upstream
        if hasattr(meta, "sec"):
            return float(meta.sec + meta.usec / (1e9 if self._reader.nano else 1e6))
        if meta.tshigh is None or not meta.tsresol:
            return None
        return float(((meta.tshigh << 32) + meta.tslow) / meta.tsresol)


class _Counted:
    """A file that knows how far it has been read, and whether it ended too early since the last `begin`."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.name = str(getattr(file, "name", ""))
        self.offset = self.start = 0
        self.is_short = False

    def read(self, size: int) -> bytes:
        if size > MAX_BLOCK:
            raise ValueError(f"a block of {size} octets; at most {MAX_BLOCK} are expected")
        data = self._file.read(size)
        self.offset += len(data)
        self.is_short |= len(data) < size
        return data

    def begin(self) -> None:
        self.start, self.is_short = self.offset, False

    def rewind(self) -> None:
        self._file.seek(0)
        self.offset = 0
        self.begin()

    def close(self) -> None:
        self._file.close()


class _PcapNg(RawPcapNgReader):  # type: ignore[misc]  # untyped upstream
    """Says where each block begins: several may come before a packet's."""

    def _read_block(self, size: int = MAX_RECORD) -> Any:  # noqa: ANN401  # untyped upstream
        self.f.begin()
        return super()._read_block(size)
