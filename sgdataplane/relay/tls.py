"""TLS between relay and host: both show a certificate of the same authority, and a host's names the host.

Owns the contexts, and what a certificate says of its host. Must not know messages.
"""

from __future__ import annotations

import math
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sgdataplane.errors import EndpointError
from sgdataplane.host.certificates import require_private
from sgdataplane.store.hosts import is_host_name
from sgdataplane.store.refusals import plain_serial
from sgdataplane.visible import visible


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """The PEM files of one side."""

    certificate: Path  # our own
    key: Path  # the key of our certificate
    authority: Path  # signs the other side's certificates
    revoked: Path | None = None  # the authority's list of revoked certificates (RFC 5280, section 5)


@dataclass(frozen=True, slots=True)
class Peer:
    """The host that has opened a stream, by its certificate."""

    host: str
    serial: str  # the certificate's number (`plain_serial`)
    issued: float = math.inf  # when the certificate was issued, in seconds since 1970
    ends: float = math.inf  # when it ends, in seconds since 1970


def relay_context(files: TlsFiles) -> ssl.SSLContext:
    """Return a relay's context. A peer without a certificate of the authority gets no stream.

    Raises:
        EndpointError: A file can't be used.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_TICKET
    context.num_tickets = 0  # a stream lives long, and what resumes one would outlive a revocation
    return _load(context, files)


def host_context(files: TlsFiles) -> ssl.SSLContext:
    """Return a host's context. The relay's certificate must be the authority's and name the host of its URL.

    Raises:
        EndpointError: A file can't be used.
    """
    return _load(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), files)


def _load(context: ssl.SSLContext, files: TlsFiles) -> ssl.SSLContext:
    require_private(files.key)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.verify_mode = ssl.CERT_REQUIRED
    what = files.certificate, files.key
    try:
        context.load_cert_chain(*what, password="")  # one that needs a password is refused, and asks nobody
        for file in filter(None, (files.authority, files.revoked)):
            what = file, file
            context.load_verify_locations(file)
    except (OSError, ssl.SSLError) as error:
        raise EndpointError(", ".join(dict.fromkeys(map(str, what))), f"not usable for TLS: {error}") from error
    if files.revoked:
        context.verify_flags |= ssl.VerifyFlags.VERIFY_CRL_CHECK_LEAF
    return context


def end_of(certificate: Mapping[str, Any]) -> float:
    """Return when a peer's certificate ends, in seconds since 1970."""
    return float(ssl.cert_time_to_seconds(certificate["notAfter"]))


class HostTls:
    """The TLS context of a host's connections. It is made anew when the list of revoked certificates is replaced."""

    def __init__(self, files: TlsFiles) -> None:
        self._files = files
        self._seen, self._context = self._look(), host_context(files)

    @property
    def is_replaced(self) -> bool:
        """Whether there is another list than the one that `context` has checked by."""
        return self._look() != self._seen

    def context(self) -> ssl.SSLContext:
        """Return the context for the next connection.

        Raises:
            EndpointError: The list of revoked certificates can't be read.
        """
        seen = self._look()
        if seen != self._seen:
            self._context, self._seen = host_context(self._files), seen
        return self._context

    def _look(self) -> tuple[int, int, int] | None:
        if self._files.revoked is None:
            return None
        try:
            found = self._files.revoked.stat()
        except OSError:
            return None
        return found.st_ino, found.st_size, found.st_mtime_ns


def peer_in(certificate: dict[str, Any]) -> Peer:
    """Return whose certificate it is. The certificate is what `getpeercert()` returns.

    Raises:
        ValueError: It names no host, or several.
    """
    names = [value for part in certificate.get("subject", ()) for key, value in part if key == "commonName"]
    if len(names) != 1 or not is_host_name(names[0]):
        raise ValueError(f"the certificate's common name is not a host's: {visible(', '.join(names))[:80]}")
    issued = float(ssl.cert_time_to_seconds(certificate["notBefore"]))
    return Peer(names[0], plain_serial(str(certificate.get("serialNumber", ""))), issued, end_of(certificate))
