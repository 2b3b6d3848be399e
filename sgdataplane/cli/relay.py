"""`sgdp relay`: it distributes to each host its part of the store.

Owns the arguments and the wording. Must not know streams. What needs the extra `relay` is imported when it runs.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping
from contextlib import closing
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from sgdataplane.relay.arguments import (
    RELAY_FILE,
    MissingError,
    RelayConfig,
    SyncConfig,
    read_name,
    read_pace,
)
from sgdataplane.terminal.anywhere import extra
from sgdataplane.terminal.arguments import Parser, Verbs, read_for, reading
from sgdataplane.terminal.output import Exit, say_aside

if TYPE_CHECKING:
    from sgdataplane.relay.tls import TlsFiles

C = TypeVar("C", bound=RelayConfig | SyncConfig)
EXTRA = "relay"
STORE_HELP = "sqlite:FILE, FILE or etcd://HOST:PORT[,HOST:PORT...][/NAME][?ca=FILE&cert=FILE&key=FILE]"
ABOUT = "Hosts connect by `sgdp sync`. Each shows a certificate of the authority, whose common name is the host's name."


def register(verbs: Verbs) -> None:
    """Add the verb."""
    relay = verbs.add("relay", run, ABOUT)
    relay.add_argument("--store", metavar="STORE", help=f"the store that is followed: {STORE_HELP}")
    relay.add_argument("--listen", metavar="ADDRESS:PORT", help="where hosts connect to")
    add_tls(relay, "the relay", "hosts'")
    pace = "when many hosts connect at once, how many a second get all that they need; the others wait (default: 200)"
    relay.add_argument("--snapshots", metavar="N", type=reading(read_pace), help=pace)
    name = "this relay's name in the store, which no other relay may have (default: this machine's name and PORT)"
    relay.add_argument("--name", metavar="N", type=reading(read_name), help=name)
    relay.add_config(f"its configuration, which options override (default: {RELAY_FILE})")


def add_tls(parser: Parser, who: str, others: str) -> None:
    """Add the options for the three files of TLS.

    Args:
        parser: The verb's.
        who: Whose certificate it is.
        others: Whose certificates are checked.
    """
    parser.add_argument("--tls-cert", type=Path, metavar="FILE", help=f"certificate of {who}, in PEM")
    parser.add_argument("--tls-key", type=Path, metavar="FILE", help="its key")
    words = f"the authority that signed the {others} certificates"
    parser.add_argument("--tls-ca", type=Path, metavar="FILE", help=words)


def config_of(arguments: argparse.Namespace, kind: type[C], default: Path, options: Mapping[str, str]) -> C:
    """Return what the options and the configuration say; a usage error if something isn't said.

    Args:
        arguments: The verb's.
        kind: The type of configuration.
        default: The file that is read unless `--config` names one.
        options: Key -> option, for those whose name isn't the key's. A key may have no option.

    Raises:
        ConfigError: The configuration is wrong.
    """
    from sgdataplane.relay.config import load_config

    names = {field.name: options.get(field.name, f"--{field.name.replace('_', '-')}") for field in fields(kind)}
    given = {key: getattr(arguments, name[2:].replace("-", "_"), None) for key, name in names.items()}
    chosen = {key: value for key, value in given.items() if value is not None}
    file = arguments.config or default
    try:
        return load_config(kind, file, must_exist=arguments.config is not None, chosen=chosen)
    except MissingError as error:
        missing, parser = ", ".join(names[key] for key in error.keys), arguments.parser
        assert isinstance(parser, Parser)
        parser.error(f"needed, here or in {file}: {missing}")


def tls_of(config: RelayConfig | SyncConfig) -> TlsFiles:
    """Return the files of TLS that a configuration names."""
    from sgdataplane.relay.tls import TlsFiles

    revoked = config.tls_crl if isinstance(config, SyncConfig) else None
    return TlsFiles(config.tls_cert, config.tls_key, config.tls_ca, revoked)


def run(arguments: argparse.Namespace) -> int:
    """Serve until SIGTERM or Ctrl-C."""
    config = config_of(arguments, RelayConfig, RELAY_FILE, {})
    with extra(EXTRA):
        from sgdataplane.relay.listener import Serving, endpoint_at, run_relay
    from sgdataplane.daemon.logs import Notifier
    from sgdataplane.host import memory
    from sgdataplane.store.opening import open_store

    memory.use_one_heap()
    endpoint = read_for(arguments, lambda: endpoint_at(config.listen))

    def ready(url: str, revision: int) -> None:
        say_aside(f"serving at {url}; revision {revision}")
        sys.stderr.flush()
        Notifier(os.environ).tell("READY=1", f"STATUS=serving at {url}")

    how = Serving(endpoint, tls_of(config), config.snapshots, config.name, config.metrics)
    with closing(open_store(config.store, create=False, private=False)) as store:
        run_relay(store, how, ready)
    return Exit.DONE
