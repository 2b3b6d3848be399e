"""The ends of certificates, and who may read their keys.

Owns as much of X.509 as that takes: RFC 5280, section 4.1. Its input is files of our own, in PEM. Must not know TLS.

Python's `ssl` says this of a peer's certificate only, and hosts have no other library that reads certificates.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from sgdataplane.errors import EndpointError

PEM = re.compile(r"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", re.DOTALL)
VERSION, UTC_TIME = 0xA0, 0x17  # tags


def require_private(key: Path) -> None:
    """Refuse a certificate's key that everybody on this machine can read or change.

    Raises:
        EndpointError: The key is refused.
    """
    with suppress(OSError):  # who opens it says what is wrong
        mode = key.stat().st_mode
        if mode & 0o006:
            what = "read" if mode & 0o004 else "change"
            words = f"everybody on this machine can {what} this key (mode {mode & 0o777:04o}); it must be 0600 or 0640"
            raise EndpointError(str(key), words)


def ends_in(file: Path) -> list[float]:
    """Return when each certificate of a file ends, in seconds since 1970, in the file's order.

    Raises:
        OSError: The file can't be read.
        ValueError: It has no certificate, or something else.
    """
    found = [_end(ssl.PEM_cert_to_DER_cert(text)) for text in PEM.findall(file.read_text("latin-1"))]
    if not found:
        raise ValueError("no certificate is in it")
    return found


def _end(der: bytes) -> float:
    try:
        (_, certificate), *_ = _elements(der)
        (_, signed), *_ = _elements(certificate)
        fields = [content for tag, content in _elements(signed) if tag != VERSION]
        _, (tag, text) = _elements(fields[3])  # after serial number, algorithm and issuer
    except IndexError:
        raise ValueError("not a certificate") from None
    digits = text.decode("ascii")
    if tag == UTC_TIME:
        digits = ("20" if digits < "50" else "19") + digits
    return datetime.strptime(digits, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC).timestamp()


def _elements(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield tag and content of each element of a sequence in DER.

    Raises:
        IndexError: The sequence is cut off.
    """
    at = 0
    while at < len(data):
        tag, size, at = data[at], data[at + 1], at + 2
        if size > 0x7F:
            octets = size & 0x7F
            size, at = int.from_bytes(data[at : at + octets], "big"), at + octets
        if at + size > len(data):
            raise IndexError
        yield tag, data[at : at + size]
        at += size
