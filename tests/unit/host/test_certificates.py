"""When certificates end, compared with what another library reads in the same files."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from sgdataplane.host.certificates import _end, ends_in
from tests.support.servers.certificates import Authority

KEY = ec.generate_private_key(ec.SECP256R1())
BEGIN = datetime(1960, 1, 1)  # noqa: DTZ001  # in UTC, without saying so


def signed(end: datetime, name: str = "n", key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey = KEY) -> bytes:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(subject).public_key(key.public_key())
    builder = builder.serial_number(x509.random_serial_number()).not_valid_before(BEGIN).not_valid_after(end)
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.DER)


@pytest.mark.parametrize("year", [1961, 1999, 2000, 2049, 2050, 2500, 9999])
def test_both_forms_of_a_time_are_read(year: int) -> None:
    """From 2050 on, a certificate writes it in another way."""
    end = datetime(year, 2, 3, 4, 5, 6)  # noqa: DTZ001
    assert _end(signed(end)) == end.replace(tzinfo=UTC).timestamp()


@given(st.binary(max_size=40), st.integers(0, 700))
def test_what_is_no_certificate_is_refused_and_raises_nothing_else(noise: bytes, at: int) -> None:
    whole = signed(datetime(2030, 1, 1))  # noqa: DTZ001
    for data in (noise, whole[: min(at, len(whole) - 1)]):
        with pytest.raises(ValueError):  # noqa: PT011  # also Python's own
            _end(data)


def test_all_of_a_file_are_read_in_order(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    own = authority.sign("host-1").certificate
    both = tmp_path / "both.pem"
    large = rsa.generate_private_key(65537, 2048)
    later = x509.load_der_x509_certificate(signed(datetime(2040, 1, 1), "n" * 60, large))  # noqa: DTZ001
    text = f"some words\n{own.read_text('ascii')}\n{later.public_bytes(serialization.Encoding.PEM).decode()}"
    both.write_text(text, "ascii")
    end, last = ends_in(both)
    assert end == x509.load_pem_x509_certificate(own.read_bytes()).not_valid_after_utc.timestamp()
    assert last == datetime(2040, 1, 1, tzinfo=UTC).timestamp()
    assert abs(end - (datetime.now(UTC) + timedelta(days=1)).timestamp()) < 600


def test_a_file_without_one_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no certificate"):
        ends_in(Authority(tmp_path).sign("host-1").key)
    with pytest.raises(FileNotFoundError):
        ends_in(tmp_path / "none.pem")
