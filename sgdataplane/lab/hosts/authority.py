"""A certificate authority of a lab's own, and the certificates that it signs.

Owns the files. A server's addresses and names are alternative names; a client's user, or the host's name, is the common
name.
Must not know who uses them.
"""

from __future__ import annotations

import datetime as dt
import ipaddress
from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from sgdataplane.host.files import Survives, replace_file
from sgdataplane.host.private import PRIVATE_FILE

DAY = dt.timedelta(days=1)


@dataclass(frozen=True)
class Signed:
    """A certificate and its key, as paths where those who read them find them."""

    certificate: Path
    key: Path


@dataclass
class Authority:
    """An authority that signs for a day, or as long as `lasts` says.

    Attributes:
        certificate: The file of the authority's own certificate.
    """

    folder: Path
    """Where the files are written."""
    seen: Path | None = None
    """Where those who read the files find that folder; None if it is `folder`."""
    lasts: dt.timedelta = DAY
    """How long certificates are valid from now on."""
    _key: ec.EllipticCurvePrivateKey = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        constraints = x509.BasicConstraints(ca=True, path_length=0)
        ends = dt.datetime.now(dt.UTC) + self.lasts
        made = _builder("authority", "authority", self._key, ends=ends).add_extension(constraints, critical=True)
        usage = x509.KeyUsage(
            **dict.fromkeys(("digital_signature", "key_cert_sign", "crl_sign"), True),
            **dict.fromkeys(("content_commitment", "key_encipherment", "data_encipherment", "key_agreement"), False),
            encipher_only=False,
            decipher_only=False,
        )
        made = made.add_extension(usage, critical=True)
        made = made.add_extension(x509.SubjectKeyIdentifier.from_public_key(self._key.public_key()), critical=False)
        self.certificate = self._write("authority.pem", made.sign(self._key, hashes.SHA256()))

    def sign(
        self, name: str, *hosts: str, begins: dt.datetime | None = None, ends: dt.datetime | None = None
    ) -> Signed:
        """Sign for a server at these addresses or names, or for a client of that name; return the files.

        The certificate is valid from a day ago, unless `begins` says otherwise.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        names = [_general_name(host) for host in hosts]
        builder = _builder(name, "authority", key, begins, ends or dt.datetime.now(dt.UTC) + self.lasts)
        issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        builder = builder.add_extension(issuer, critical=False)
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        certificate = self._write(f"{name}.pem", builder.sign(self._key, hashes.SHA256()))
        file = self.folder / f"{name}.key"
        pkcs8, plain = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        text = key.private_bytes(serialization.Encoding.PEM, pkcs8, plain)
        replace_file(file, text, Survives.THE_WRITER, mode=PRIVATE_FILE)
        return Signed(certificate, self._path_inside(file))

    def _write(self, name: str, certificate: x509.Certificate) -> Path:
        """Write a certificate, and return where those who read it find it."""
        file = self.folder / name
        replace_file(file, certificate.public_bytes(serialization.Encoding.PEM), Survives.THE_WRITER)
        return self._path_inside(file)

    def _path_inside(self, file: Path) -> Path:
        return (self.seen or self.folder) / file.name


def _builder(
    subject: str,
    issuer: str,
    key: ec.EllipticCurvePrivateKey,
    begins: dt.datetime | None = None,
    ends: dt.datetime | None = None,
) -> x509.CertificateBuilder:
    """Return what all certificates have in common."""
    now = dt.datetime.now(dt.UTC)
    builder = x509.CertificateBuilder().subject_name(_name(subject)).issuer_name(_name(issuer))
    builder = builder.public_key(key.public_key()).serial_number(x509.random_serial_number())
    return builder.not_valid_before(begins or now - DAY).not_valid_after(ends or now + DAY)


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])
