"""A place for development: a folder with all that an API needs, and the settings by which clients find it.

Owns the folder's files, and the environment of clients. Must not know how certificates are made, or how the API is
served.

    store.db, store.db.key   the store, and the key that seals its secrets
    authority.pem            of the certificate; made anew each time the API starts
    trusted.pem              this system's authorities and ours: clients trust one file or the other
    dev.json                 the endpoint and the access key, for their owner alone
"""

from __future__ import annotations

import json
import os
import ssl
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.parse import urlsplit

from sgdataplane.control.calls.products import ACCOUNT, PRODUCTS
from sgdataplane.host.files import Survives, replace_file
from sgdataplane.host.private import PRIVATE_FILE

FILE, STORE, TRUSTED = "dev.json", "store.db", "trusted.pem"
# All that may be in a folder which is tightened, so that others can't use it any more.
FILES = frozenset({FILE, STORE, TRUSTED, "authority.pem", "api.pem", "api.key"}) | {
    f"{STORE}{end}" for end in ("-wal", "-shm", ".lock", ".key", ".key.nonces")
}
REGION = "cn-hangzhou"  # any would do
SERVED = tuple(product.code for product in PRODUCTS)
# Products that clients ask for what ECS and VPC need, such as roles and keys. We don't have them, and say so: else
# these calls would leave the machine.
NOT_SERVED = ("ram", "kms", "slb", "cms", "alidns")
SYSTEM_AUTHORITIES = Path("/etc/ssl/certs/ca-certificates.crt")  # Debian's


@dataclass(frozen=True, slots=True)
class ServedEndpoint:
    """The endpoint of an API for development, and a key for it."""

    url: str
    access_key_id: str
    access_key_secret: str
    authority: str  # the file of the certificate's authority
    trusted: str  # the file of this system's authorities and that one
    region: str = REGION

    @property
    def address(self) -> str:
        """HOST:PORT."""
        return urlsplit(self.url).netloc

    def document(self) -> dict[str, object]:
        """Return the fields of the JSON line that tells a program about the endpoint.

        Raises:
            OSError: The authority's file can't be read.
        """
        pem = Path(self.authority).read_text("ascii")
        return {**asdict(self), "port": urlsplit(self.url).port, "authority_pem": pem}

    def environment(self) -> dict[str, str]:
        """Return the variables by which clients find the API: our own commands, SDKs, Terraform, the cloud's CLI."""
        key, secret = self.access_key_id, self.access_key_secret
        return {
            "SGDP_API": self.url,
            "ALIBABA_CLOUD_ACCESS_KEY_ID": key,
            "ALIBABA_CLOUD_ACCESS_KEY_SECRET": secret,
            "ALIBABA_CLOUD_REGION_ID": self.region,
            "ALICLOUD_ACCESS_KEY": key,
            "ALICLOUD_SECRET_KEY": secret,
            "ALICLOUD_REGION": self.region,
            "ALICLOUD_ACCOUNT_ID": ACCOUNT,
            "ALIBABA_CLOUD_ACCOUNT_TYPE": "Domestic",
            "ALIBABA_CLOUD_ENDPOINT": self.address,  # the cloud's command line, whichever product it calls
            **{f"ALIBABA_CLOUD_ENDPOINT_{code.upper()}": self.address for code in (*SERVED, *NOT_SERVED)},
            "SSL_CERT_FILE": self.trusted,  # Go, OpenSSL
            "REQUESTS_CA_BUNDLE": self.trusted,  # Python's requests
            "ALIBABA_CLOUD_CA_BUNDLE": self.trusted,  # the older SDK for Python, which has requests of its own
            "NODE_EXTRA_CA_CERTS": self.authority,
        }


def default_folder(environment: Mapping[str, str] = os.environ) -> Path:
    """Return the folder where none is named: it is this user's, and is kept."""
    base = environment.get("XDG_STATE_HOME") or Path(environment.get("HOME") or "/") / ".local" / "state"
    return Path(base) / "sgdataplane" / "dev"


def read_endpoint(folder: Path) -> ServedEndpoint | None:
    """Return the endpoint that the folder's file describes; None if no API has served from it.

    Raises:
        ValueError: The file is none of ours, or another user's.
        OSError: It can't be read.
    """
    try:
        with open(folder / FILE, encoding="utf-8") as file:
            owner, text = os.fstat(file.fileno()).st_uid, file.read()
    except FileNotFoundError:
        return None
    if owner != os.geteuid():
        raise ValueError(f"it belongs to user {owner}; expected user {os.geteuid()}")
    found = json.loads(text)
    if not isinstance(found, dict) or not all(isinstance(value, str) for value in found.values()):
        raise ValueError("not an object of texts")
    try:
        return ServedEndpoint(**found)
    except TypeError as error:
        raise ValueError(str(error)) from None


def write_endpoint(folder: Path, endpoint: ServedEndpoint) -> None:
    """Write what clients need, for the owner alone.

    Raises:
        OSError: It can't be written.
    """
    text = json.dumps(asdict(endpoint), indent=1) + "\n"
    replace_file(folder / FILE, text.encode(), Survives.THE_MACHINE, mode=PRIVATE_FILE)


def write_trusted(folder: Path, authority: Path) -> Path:
    """Write the file of authorities that clients trust: this system's, and that of the API.

    Raises:
        OSError: It can't be written.
    """
    known = [Path(ssl.get_default_verify_paths().cafile or ""), SYSTEM_AUTHORITIES]
    system = next((file.read_text("latin-1") for file in known if file.is_file()), "")
    trusted = folder / TRUSTED
    text = f"{system}\n{authority.read_text('latin-1')}"
    replace_file(trusted, text.encode("latin-1"), Survives.THE_MACHINE)
    return trusted
