"""TLS between relay and host: both show a certificate of the same authority, and a host's names the host.

Owns the contexts, and what a certificate says of its host. Must not know messages.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sgdataplane.control.hosts import is_host_name
from sgdataplane.errors import EndpointError
from sgdataplane.visible import visible


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """In PEM: our certificate and its key, and the authority that signs the others'."""

    certificate: Path
    key: Path
    authority: Path


@dataclass(frozen=True, slots=True)
class Peer:
    """Who opened a stream. `serial`: of its certificate (`plain_serial`)."""

    host: str
    serial: str


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
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.verify_mode = ssl.CERT_REQUIRED
    what = files.certificate, files.key
    try:
        context.load_cert_chain(*what, password="")  # one that needs a password is refused, and asks nobody
        what = (files.authority,) * 2
        context.load_verify_locations(files.authority)
    except (OSError, ssl.SSLError) as error:
        raise EndpointError(", ".join(dict.fromkeys(map(str, what))), f"not usable for TLS: {error}") from error
    return context


def peer_in(certificate: dict[str, Any]) -> Peer:
    """Whose certificate it is, as `getpeercert()` has it. ValueError if it names no host, or several."""
    names = [value for part in certificate.get("subject", ()) for key, value in part if key == "commonName"]
    if len(names) != 1 or not is_host_name(names[0]):
        raise ValueError(f"the certificate's common name is no host's: {visible(', '.join(names))[:80]}")
    return Peer(names[0], plain_serial(str(certificate.get("serialNumber", ""))))


def plain_serial(text: str) -> str:
    """A certificate's serial number in hexadecimal, however people and programs spell it: 0A:1b is A1B."""
    return text.replace(":", "").upper().lstrip("0")
