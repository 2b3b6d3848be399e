"""`sgdp sync`: gets this host's part of the policy from a relay, for the agent to enforce.

Owns the arguments and the wording. Must not know streams. What needs the extra `relay` is imported when it runs.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from urllib.parse import urlsplit

from sgdataplane.cli.arguments import Verbs, reading
from sgdataplane.cli.output import Exit, say_aside
from sgdataplane.cli.relay import add_tls, extra, tls_of

SOCKET = Path("/run/sgdataplane/agent.sock")
ABOUT = "The agent enforces it: set `state` in its configuration to DIR/current. It needs no root."


def register(verbs: Verbs) -> None:
    """Adds the verb."""
    sync = verbs.add("sync", run, ABOUT)
    relay = "where the relay serves; can be repeated: the next one is tried when one doesn't answer"
    sync.add_argument("--relay", metavar="URL", action="append", required=True, type=reading(_url), help=relay)
    folder = "where the policy is written, which nobody else may; made if it isn't there"
    sync.add_argument("--folder", metavar="DIR", type=Path, required=True, help=folder)
    add_tls(sync, "this host, whose common name is the host's name", "relays'")
    socket = f"where the agent says what is in force: its status_socket, or its socket (default: {SOCKET})"
    sync.add_argument("--agent-socket", metavar="FILE", type=Path, default=SOCKET, help=socket)
    accept = "take what the relay has at first, also if it is older than what the folder has"
    sync.add_argument("--accept-epoch", action="store_true", help=accept)


def _url(text: str) -> str:
    """A relay's URL. Without TLS, whoever reads along could change what is enforced."""
    try:
        parts = urlsplit(text)
        is_right = parts.scheme == "wss" and parts.hostname and parts.port and not (parts.query or parts.fragment)
        is_right = is_right and not parts.username and parts.path in ("", "/")
    except ValueError:
        is_right = False
    if not is_right:
        raise ValueError(f"{text!r} is not the URL of a relay: wss://HOST:PORT (TLS is always used)")
    return text


def run(arguments: argparse.Namespace) -> int:
    """Follows until SIGTERM or Ctrl-C; what is in force stays so."""
    with extra():
        from sgdataplane.relay.sync import run_sync
    from sgdataplane.daemon.logs import Notifier

    def ready(told: str) -> None:
        say_aside(told)
        sys.stderr.flush()
        Notifier(os.environ).tell("READY=1", f"STATUS={told}")

    run_sync(
        arguments.relay,
        tls_of(arguments),
        arguments.folder,
        arguments.agent_socket,
        may_go_back=arguments.accept_epoch,
        ready=ready,
    )
    return Exit.DONE
