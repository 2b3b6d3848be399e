"""`sgdp api --dev`: an API for development, from nothing; and `sgdp api env`: what its clients need.

Owns the wording, and what is made before the API serves: key, authority, certificate. Must not know calls.

    api --dev    one line of JSON once it serves: {"url", "port", "access_key_id", "access_key_secret", "authority",
                 "authority_pem", "trusted", "region"}
    api env      the variables, as an object
"""

from __future__ import annotations

import argparse
import datetime as dt
import ipaddress
import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from sgdataplane.errors import HostError
from sgdataplane.terminal.output import Exit, print_json, say, say_aside
from sgdataplane.visible import json_text, visible

if TYPE_CHECKING:
    from sgdataplane.control.http.development import ServedEndpoint
    from sgdataplane.store.interface import Store

NAME = "development"
LASTS = dt.timedelta(days=365)  # the certificate's; it is made anew at each start
LOOPBACK = ("127.0.0.1", "::1", "localhost")
LABEL = r"(?!-)[A-Za-z0-9_-]{1,63}(?<!-)"
HOSTNAME, LONGEST_HOSTNAME = re.compile(rf"{LABEL}(\.{LABEL})*"), 253


def read_hostname(text: str) -> str:
    """Return the name or IP address of a host, as `--hostname` takes it.

    Raises:
        ValueError: It is neither, or an address that only listeners have, such as 0.0.0.0.
    """
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        if len(text) <= LONGEST_HOSTNAME and HOSTNAME.fullmatch(text):
            return text
        raise ValueError(f"{visible(text)}: not a host's name or IP address, such as localhost") from None
    if address.is_unspecified or "%" in text:
        raise ValueError(
            f"{text}: clients can't use this address; --listen takes it, and --hostname takes what they use"
        )
    return str(address)


class Development:
    """A folder in which an API for development serves.

    Args:
        folder: The folder.
        hostnames: By what clients reach the API, besides loopback: names and addresses, the first one in its URL.

    Attributes:
        signed: The certificate by which it serves, and its key.
        store: The store's name, as `--store` takes it.

    Raises:
        HostError: The folder can't be written, or others can write there.
    """

    def __init__(self, folder: Path, hostnames: Sequence[str] = ()) -> None:
        from sgdataplane.control.http.development import FILES, STORE, write_trusted
        from sgdataplane.host.private import make_private_folder
        from sgdataplane.lab.hosts.authority import Authority

        self.folder, self._hostnames = folder.absolute(), tuple(hostnames)
        make_private_folder(self.folder, FILES, may_be_read=True)
        try:
            authority = Authority(self.folder, lasts=LASTS)
            self.signed = authority.sign("api", *dict.fromkeys((*LOOPBACK, *self._hostnames)))
            self._authority, self._trusted = authority.certificate, write_trusted(self.folder, authority.certificate)
        except OSError as error:
            raise HostError(f"folder {self.folder}", error.strerror or str(error)) from error
        self.store = str(self.folder / STORE)

    def tell(self, url: str, store: Store) -> None:
        """Write for programs, and print for people, where the API serves and how to use it.

        Args:
            url: Where it listens.
            store: Its open store, which gets an access key unless it has the last time's.
        """
        from sgdataplane.control.http.development import ServedEndpoint, write_endpoint

        key, secret = self._key(store)
        reached = _replace_host(url, self._hostnames[0]) if self._hostnames else url
        endpoint = ServedEndpoint(reached, key, secret, str(self._authority), str(self._trusted))
        write_endpoint(self.folder, endpoint)
        for line in _lines(endpoint, self.folder):
            say_aside(line)
        listening = urlsplit(url)
        if not ipaddress.ip_address(listening.hostname or "").is_loopback:
            say_aside(f"note: other machines can reach it at {listening.netloc}; its key may do everything")
        say(json_text(endpoint.document()))

    def _key(self, store: Store) -> tuple[str, str]:
        """Return the id and secret of the last time's key if the store still has it; else make a new one."""
        from sgdataplane.control.access.keys import create_key, list_keys
        from sgdataplane.control.access.secrets import SecretBox, make_key_file
        from sgdataplane.control.http.development import read_endpoint
        from sgdataplane.store.audit import local_call
        from sgdataplane.store.opening import key_file_of

        key_file = key_file_of(self.store)
        if not key_file.exists():
            make_key_file(key_file)
        try:
            known = read_endpoint(self.folder)
        except ValueError:
            known = None
        alive = {key.id for key in list_keys(store.snapshot().documents) if not key.revoked}
        if known is not None and known.access_key_id in alive:
            return known.access_key_id, known.access_key_secret
        box = SecretBox(key_file)
        made = create_key(store, lambda _: box, local_call("CreateAccessKey"), name=NAME, policy="full")
        return made.id, made.secret


def _replace_host(url: str, host: str) -> str:
    parts = urlsplit(url)
    shown = f"[{host}]" if ":" in host else host
    return parts._replace(netloc=f"{shown}:{parts.port}").geturl()


def _lines(endpoint: ServedEndpoint, folder: Path) -> tuple[str, ...]:
    """Return what people read once the API serves."""
    place = shlex.quote(str(folder))
    return (
        f"serving at {endpoint.url}, for development; everything it made is in {place}",
        f'  shell, Terraform, SDKs:  eval "$(sgdp api env {place})"',
        f"  aliyun, in that shell:   aliyun ecs DescribeSecurityGroups --endpoint {endpoint.address}",
        "  sgdp, in that shell:     sgdp group list",
    )


def run_env(arguments: argparse.Namespace) -> int:
    """Print what a shell exports so that clients find the API.

    Raises:
        HostError: No API has served from the folder.
    """
    from sgdataplane.control.http.development import default_folder, read_endpoint

    folder = arguments.folder or default_folder()
    try:
        endpoint = read_endpoint(folder)
    except (OSError, ValueError) as error:
        raise HostError(f"folder {folder}", f"it can't be read: {error}") from error
    if endpoint is None:
        raise HostError(f"folder {folder}", "no API has used this folder; run `sgdp api --dev` with it first")
    variables = endpoint.environment()
    if arguments.json:
        print_json(variables)
    else:
        for name, value in variables.items():
            say(f"export {name}={shlex.quote(value)}")
    return Exit.DONE
