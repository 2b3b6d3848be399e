"""Secrets of access keys at rest: sealed with a key that lies in a file outside the store.

Owns that file, and how secrets are sealed. Must not know keys or stores.

A copy of the store or a backup of it holds no secret. A sealed secret opens only under the name that it was sealed
for, so nobody who can write to the store can give one access key the secret of another.
"""

from __future__ import annotations

import base64
import os
import secrets
import stat
import threading
from contextlib import suppress
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from sgdataplane.errors import Problem, StateFileError, Where
from sgdataplane.host.files import beside_of, make_private, sync_folder

RSA_BITS = 2048
KEY_BYTES, NONCE_BYTES = 32, 12
FORMAT = "1:"  # of a sealed secret: AES-256-GCM, nonce and ciphertext in base64


class SecretBox:
    """Seals and opens secrets with the key in `file`, which must be there.

    Raises:
        StateFileError: The file can't be used.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._cipher = AESGCM(_read(file))

    def seal(self, secret: str, name: str) -> str:
        """Return a secret sealed. It opens only under the same `name`, which says what it is the secret of."""
        nonce = secrets.token_bytes(NONCE_BYTES)
        sealed = nonce + self._cipher.encrypt(nonce, secret.encode(), name.encode())
        return FORMAT + base64.b64encode(sealed).decode("ascii")

    def open(self, sealed: str, name: str) -> str:
        """Return the secret that was sealed under this name.

        Raises:
            StateFileError: It was sealed with another key, for another name, or was changed.
        """
        octets = base64.b64decode(sealed.removeprefix(FORMAT))
        try:
            return self._cipher.decrypt(octets[:NONCE_BYTES], octets[NONCE_BYTES:], name.encode()).decode()
        except InvalidTag:
            expected = "the key file that was there when the access key was made"
            raise _make_refusal(
                self._file, "Wrong", "it doesn't open the secret of an access key", name, expected
            ) from None


def make_key_file(file: Path) -> None:
    """Make the file with a new key, unless it is there. It appears whole, or not at all."""
    beside = beside_of(file, f"{os.getpid()}.{threading.get_native_id()}")
    with open(make_private(beside), "wb") as made:
        made.write(base64.b64encode(secrets.token_bytes(KEY_BYTES)) + b"\n")
        made.flush()
        os.fsync(made.fileno())
    with suppress(FileExistsError):
        os.link(beside, file)
    beside.unlink()
    sync_folder(file.parent)


def _read(file: Path) -> bytes:
    try:
        with open(os.open(file, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK), "rb") as opened:
            _require_private(file, os.fstat(opened.fileno()))
            text = opened.read(1 << 10)
        key = base64.b64decode(text.strip(), validate=True)
    except OSError as error:
        expected = (
            "the key file that the secrets were sealed with; if it is lost, revoke all access keys and create new ones"
        )
        raise _make_refusal(file, "NotReadable", (error.strerror or str(error)).lower(), expected=expected) from error
    except ValueError:
        key = b""
    if len(key) != KEY_BYTES:
        raise _make_refusal(file, "Format", "not a key file", expected=f"{KEY_BYTES} bytes in base64")
    return key


def _require_private(file: Path, found: os.stat_result) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise _make_refusal(file, "Format", "not a file")
    if os.geteuid() not in (0, found.st_uid):
        raise _make_refusal(
            file, "Owner", "it is another user's", str(found.st_uid), "a file of the user who runs this"
        )
    if found.st_mode & 0o077:
        expected = f"a file that only its owner may read: chmod 600 {file}"
        raise _make_refusal(file, "Readable", "others may read it", f"{found.st_mode & 0o777:04o}", expected)


def _make_refusal(file: Path, code: str, message: str, value: str = "", expected: str = "") -> StateFileError:
    return StateFileError((Problem(Where(str(file)), f"InvalidKeyFile.{code}", message, value, expected),))


def make_key_pair() -> tuple[str, str]:
    """Return a new private RSA key in PEM, and its public key as SSH writes it."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=RSA_BITS)
    pem, ssh = serialization.Encoding.PEM, serialization.Encoding.OpenSSH
    private = key.private_bytes(pem, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption())
    return private.decode(), key.public_key().public_bytes(ssh, serialization.PublicFormat.OpenSSH).decode()
