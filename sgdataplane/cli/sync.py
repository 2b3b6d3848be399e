"""`sgdp sync`: it gets this host's part of the policy from a relay, for the agent to enforce.

Owns the arguments and the wording. Must not know streams. What needs the extra `relay` is imported when it runs.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from sgdataplane.cli.relay import EXTRA, add_tls, config_of, tls_of
from sgdataplane.relay.arguments import SYNC_FILE, SyncConfig, read_url
from sgdataplane.terminal.anywhere import extra
from sgdataplane.terminal.arguments import Verbs, reading
from sgdataplane.terminal.output import Exit, say_aside

ABOUT = "The agent enforces it: set `state` in its configuration to DIR/current. It needs no root."


def register(verbs: Verbs) -> None:
    """Add the verb."""
    sync = verbs.add("sync", run, ABOUT)
    relay = "where the relay serves; can be repeated: the next one is tried when one doesn't answer"
    sync.add_argument("--relay", metavar="URL", action="append", type=reading(read_url), help=relay)
    folder = "where to write the policy; nobody else may write there; created if it doesn't exist"
    sync.add_argument("--folder", metavar="DIR", type=Path, help=folder)
    add_tls(sync, "this host, whose common name is the host's name", "relays'")
    crl = "list of certificates that this authority has revoked, in PEM; read again when it is replaced"
    sync.add_argument("--tls-crl", metavar="FILE", type=Path, help=crl)
    socket = "where the agent says what is in force: its status_socket, or its socket (default: the agent's socket)"
    sync.add_argument("--agent-socket", metavar="FILE", type=Path, help=socket)
    accept = "accept the relay's first version, even if it is older than the folder's"
    sync.add_argument("--accept-epoch", action="store_true", help=accept)
    sync.add_config(f"its configuration, which options override (default: {SYNC_FILE})")


def run(arguments: argparse.Namespace) -> int:
    """Follow a relay until SIGTERM or Ctrl-C; what is in force stays so."""
    config = config_of(arguments, SyncConfig, SYNC_FILE, {"relays": "--relay"})
    with extra(EXTRA):
        from sgdataplane.relay.metrics import SYNC_PREFIX, SyncMetrics, serve_metrics, text_of
        from sgdataplane.relay.sync import LOGGER, HostSync, run_sync
    from sgdataplane.daemon.logs import Notifier

    def ready(told: str) -> None:
        say_aside(told)
        sys.stderr.flush()
        Notifier(os.environ).tell("READY=1", f"STATUS={told}")

    tls = tls_of(config)

    async def measure(sync: HostSync) -> None:
        await serve_metrics(text_of(SyncMetrics(sync, tls), SYNC_PREFIX), config.metrics, LOGGER)

    run_sync(
        config.relays,
        tls,
        config.folder,
        config.agent_socket,
        may_go_back=arguments.accept_epoch,
        ready=ready,
        beside=measure,
    )
    return Exit.DONE
