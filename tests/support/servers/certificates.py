"""An authority of a test's own, what it signs, and what it revokes: the lab's, with a list of revoked certificates."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization

from sgdataplane.lab.hosts.authority import Authority, Signed

__all__ = ["Authority", "Signed", "serial_number_of", "write_revoked"]


def serial_number_of(signed: Signed) -> int:
    return x509.load_pem_x509_certificate(signed.certificate.read_bytes()).serial_number


def write_revoked(authority: Authority, file: Path, *revoked: Signed) -> Path:
    """Put the authority's list of revoked certificates in the file's place."""
    now, day = dt.datetime.now(dt.UTC), dt.timedelta(days=1)
    issuer = x509.load_pem_x509_certificate(authority.certificate.read_bytes()).subject
    builder = x509.CertificateRevocationListBuilder(issuer).last_update(now - day).next_update(now + day)
    for signed in revoked:
        entry = x509.RevokedCertificateBuilder().serial_number(serial_number_of(signed)).revocation_date(now - day)
        builder = builder.add_revoked_certificate(entry.build())
    new = file.with_suffix(".new")
    new.write_bytes(builder.sign(authority._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    return new.replace(file)
