"""`sgdp relay`: tells many hosts what each gets of the store.

Owns the arguments and the wording. Must not know streams. What needs the extra `relay` is imported when it runs.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from sgdataplane.cli.arguments import Parser, Verbs, read_for, reading
from sgdataplane.cli.output import Exit, say_aside
from sgdataplane.errors import ExtraError

if TYPE_CHECKING:
    from sgdataplane.relay.tls import TlsFiles

EXTRA = "relay"
STORE_HELP = "sqlite:FILE, FILE or etcd://HOST:PORT,...: pydoc sgdataplane.control.etcdaccess"
NAME = re.compile(r"[A-Za-z0-9._:-]{1,100}")
MOST_SNAPSHOTS = 100_000
ABOUT = "Hosts connect by `sgdp sync`. Each shows a certificate of the authority, whose common name is the host's name."


def register(verbs: Verbs) -> None:
    """Adds the verb."""
    relay = verbs.add("relay", run, ABOUT)
    relay.add_argument("--store", metavar="STORE", required=True, help=f"the store that is followed: {STORE_HELP}")
    relay.add_argument("--listen", metavar="ADDRESS:PORT", required=True, help="where hosts connect to")
    add_tls(relay, "the relay", "hosts'")
    pace = "so many hosts a second get all that they need, when many connect at once; the others wait (default: 200)"
    relay.add_argument("--snapshots", metavar="N", type=reading(_pace), default=200.0, help=pace)
    name = "what this relay is called in the store, of which there is only one (default: this machine's name and PORT)"
    relay.add_argument("--name", metavar="N", type=reading(_name), help=name)


def add_tls(parser: Parser, who: str, others: str) -> None:
    """The three files of TLS. `who`: whose certificate; `others`: whose certificates are checked."""
    parser.add_argument("--tls-cert", type=Path, metavar="FILE", required=True, help=f"certificate of {who}, in PEM")
    parser.add_argument("--tls-key", type=Path, metavar="FILE", required=True, help="its key")
    words = f"the authority that signed the {others} certificates"
    parser.add_argument("--tls-ca", type=Path, metavar="FILE", required=True, help=words)


def tls_of(arguments: argparse.Namespace) -> TlsFiles:
    from sgdataplane.relay.tls import TlsFiles

    return TlsFiles(arguments.tls_cert, arguments.tls_key, arguments.tls_ca)


def _pace(text: str) -> float:
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= MOST_SNAPSHOTS:
        raise ValueError(f"{text!r} is not a number from 1 to {MOST_SNAPSHOTS}")
    return float(text)


def _name(text: str) -> str:
    if not NAME.fullmatch(text):
        raise ValueError(f"{text!r} is not a relay's name: letters, digits and any of . _ : -, at most 100")
    return text


@contextmanager
def extra() -> Iterator[None]:
    """A package that isn't there while the block imports becomes an ExtraError."""
    try:
        yield
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package == "sgdataplane":
            raise
        raise ExtraError(package, EXTRA) from error


def run(arguments: argparse.Namespace) -> int:
    """Serves until SIGTERM or Ctrl-C."""
    with extra():
        from sgdataplane.relay.serving import Serving, door_at, run_relay
    from sgdataplane.control.stores import open_store
    from sgdataplane.daemon.logs import Notifier

    door = read_for(arguments, lambda: door_at(arguments.listen))

    def ready(url: str, revision: int) -> None:
        say_aside(f"serving at {url}; revision {revision}")
        sys.stderr.flush()
        Notifier(os.environ).tell("READY=1", f"STATUS=serving at {url}")

    how = Serving(door, tls_of(arguments), arguments.snapshots, arguments.name or "")
    with closing(open_store(arguments.store, create=False)) as store:
        run_relay(store, how, ready)
    return Exit.DONE
