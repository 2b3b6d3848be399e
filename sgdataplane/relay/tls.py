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
    """Files in PEM: our certificate and its key, the authority that signs the others' certificates, and perhaps the
    authority's list of those that it has revoked (RFC 5280, section 5)."""

    certificate: Path
    key: Path
    authority: Path
    revoked: Path | None = None


@dataclass(frozen=True, slots=True)
class Peer:
    """Who opened a stream. `serial`: of its certificate (`plain_serial`). `issued`, `ends`: when that was issued and
    when it ends, in seconds since 1970."""

    host: str
    serial: str
    issued: float = math.inf
    ends: float = math.inf


def relay_context(files: TlsFiles) -> ssl.SSLContext:
    """Of a relay: whoever shows no certificate of the authority gets no stream. EndpointError."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_TICKET
    context.num_tickets = 0  # a stream lives long, and what resumes one would outlive a revocation
    return _loaded(context, files)


def host_context(files: TlsFiles) -> ssl.SSLContext:
    """Of a host: the relay's certificate must be the authority's, and name the host of its URL. EndpointError."""
    return _loaded(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), files)


def _loaded(context: ssl.SSLContext, files: TlsFiles) -> ssl.SSLContext:
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
    """The context of a host's connections, made anew when the list of revoked certificates is replaced."""

    def __init__(self, files: TlsFiles) -> None:
        self._files = files
        self._seen, self._context = self._look(), host_context(files)

    @property
    def is_replaced(self) -> bool:
        """Whether there is another list than the one that `context` has checked by."""
        return self._look() != self._seen

    def context(self) -> ssl.SSLContext:
        """Return the context for the next connection. EndpointError if the list can't be read."""
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
    """Whose certificate it is, as `getpeercert()` has it. ValueError if it names no host, or several."""
    names = [value for part in certificate.get("subject", ()) for key, value in part if key == "commonName"]
    if len(names) != 1 or not is_host_name(names[0]):
        raise ValueError(f"the certificate's common name is no host's: {visible(', '.join(names))[:80]}")
    issued = float(ssl.cert_time_to_seconds(certificate["notBefore"]))
    return Peer(names[0], plain_serial(str(certificate.get("serialNumber", ""))), issued, end_of(certificate))
