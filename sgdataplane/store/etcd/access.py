"""The place of a store in etcd: `etcd://HOST:PORT[,HOST:PORT...][/NAME][?ca=FILE[&cert=FILE&key=FILE]]`.

Owns this grammar. Must not know etcd's calls.

NAME: below which keys the store lies, `sgdp` by default. ca, cert, key: for TLS, the authority that signed the members'
certificates, our certificate and its key. Without TLS the members must be on this host's loopback, because anybody on
the way could read and write as well.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qsl

from sgdataplane.errors import Problem, StateFileError, Where

ETCD = "etcd:"
EXPECTED = "etcd://HOST:PORT[,HOST:PORT...][/NAME][?ca=FILE&cert=FILE&key=FILE]"
MEMBER = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+):[0-9]{1,5}")
TEXT = re.compile(r"etcd://(?P<members>[^/?#]+)(?:/(?P<name>[A-Za-z0-9._-]{1,64})?)?(?:\?(?P<query>[^#]*))?")
NAME = "sgdp"
FILES = {"ca": "authority", "cert": "certificate", "key": "key"}


@dataclass(frozen=True, slots=True)
class EtcdAccess:
    """How to reach a store in etcd."""

    members: tuple[str, ...]  # each HOST:PORT
    name: str = NAME  # the first part of the store's keys
    authority: Path | None = None  # the file of the members' authority; None without TLS
    certificate: Path | None = None  # the file of our certificate
    key: Path | None = None  # the file of its key

    @staticmethod
    def of(text: str) -> EtcdAccess:
        """Read the text that names a store in etcd.

        Raises:
            StateFileError: It isn't of this form, or has no TLS where that is needed.
        """
        said = TEXT.fullmatch(text)
        members = tuple(said["members"].split(",")) if said else ()
        if said is None or not all(map(MEMBER.fullmatch, members)):
            raise _make_refusal("Format", "it doesn't say where etcd is", text)
        files = dict(parse_qsl(said["query"] or "", keep_blank_values=True))
        if set(files) not in (set(), {"ca"}, set(FILES)) or not all(files.values()):
            raise _make_refusal("Format", "TLS is given ca, or ca, cert and key", text)
        if not files and not all(map(_is_here, members)):
            raise _make_refusal("Insecure", "without TLS, etcd must be on this host's loopback", text)
        return EtcdAccess(members, said["name"] or NAME, **{FILES[what]: Path(file) for what, file in files.items()})


def _is_here(member: str) -> bool:
    host = member.rpartition(":")[0].strip("[]")
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _make_refusal(code: str, message: str, text: str) -> StateFileError:
    return StateFileError((Problem(Where(), f"InvalidStore.{code}", message, text, EXPECTED),))
