"""`sgdp api`: serves the cloud's API, and has its state enforced in a lab or by the agent of this host.

Owns the arguments and the wording. Must not know calls, or how anything is enforced.
"""

from __future__ import annotations

import os
import shlex
import sys
import threading
from contextlib import closing
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from sgdataplane.cli.apidev import read_hostname
from sgdataplane.model.choices import IN_LAB
from sgdataplane.terminal.arguments import Parser, reading
from sgdataplane.terminal.output import Exit, say, say_aside

if TYPE_CHECKING:
    from sgdataplane.cli.apidev import Development
    from sgdataplane.control.access.nonces import Nonces
    from sgdataplane.control.actions.engine import Engine
    from sgdataplane.control.actions.scope import Habits
    from sgdataplane.control.background import Background
    from sgdataplane.control.config import ApiConfig
    from sgdataplane.control.hosts.following import Place
    from sgdataplane.control.http.server import ListenAt
    from sgdataplane.control.http.tokenbuckets import TokenBuckets
    from sgdataplane.store.interface import Store

LISTEN = "127.0.0.1:8080"
UNLIMITED = 1e9  # calls a second
FOLLOW_S = 1.0  # how often the thread that follows looks whether it should end


def add_arguments(parser: Parser) -> None:
    """Add the options of `sgdp api` itself."""
    parser.add_argument("--listen", metavar="ADDRESS:PORT", help=f"where to serve (default: {LISTEN})")
    parser.add_argument("--tls-cert", type=Path, metavar="FILE", help="certificate; without TLS, on loopback only")
    parser.add_argument("--tls-key", type=Path, metavar="FILE", help="its key")
    where = parser.add_mutually_exclusive_group()
    lab = "enforce in the lab of that name (root); it is built if it doesn't exist"
    where.add_argument("--lab", metavar="NAME", help=lab)
    folder = "write the state into DIR; the agent of this host reads DIR/current"
    where.add_argument("--folder", type=Path, metavar="DIR", help=folder)
    socket = "with --folder: where the agent says what is in force, its socket (default) or its status_socket"
    parser.add_argument("--agent-socket", type=Path, metavar="FILE", help=socket)
    v1 = "refuse signatures of version 1 (HMAC-SHA1)"
    parser.add_argument("--no-v1", dest="v1", action="store_false", default=None, help=v1)
    classic = "put groups without a VPC into the classic network, as in old accounts (default: into the default VPC)"
    dev = (
        "serve for development, with TLS on loopback: make a store, a key, a certificate and a default VPC in DIR "
        "(default: a persistent one of yours), and print what clients need; nothing is throttled, and SgdpReset works"
    )
    parser.add_argument("--dev", nargs="?", type=Path, const=True, metavar="DIR", help=dev)
    hostname = (
        "with --dev: a name or IP address by which clients reach the API, besides loopback; its certificate has each, "
        "and its URL the first one. Only then may --listen name an address that other machines reach; may be repeated"
    )
    parser.add_argument(
        "--hostname", dest="hostnames", action="append", default=[], type=reading(read_hostname), metavar="HOST",
        help=hostname,
    )  # fmt: skip
    parser.add_argument("--classic", action="store_true", default=None, help=classic)
    parser.add_choices(("placement", "profile"), IN_LAB)


def run(config: ApiConfig, at: ListenAt, development: Development | None = None) -> int:
    """Serve until SIGTERM or Ctrl-C, and answer what was begun. What is enforced stays so."""
    from sgdataplane.control.access.keys import Keyring
    from sgdataplane.control.access.secrets import SecretBox
    from sgdataplane.control.access.signature import Verifier
    from sgdataplane.control.actions.engine import Engine
    from sgdataplane.control.hosts.claims import ClaimKeeper
    from sgdataplane.control.hosts.following import Following
    from sgdataplane.control.hosts.lags import HostLags
    from sgdataplane.control.hosts.status import HostBoard
    from sgdataplane.control.http.accesslog import AccessLog
    from sgdataplane.control.http.admission import Admission
    from sgdataplane.control.http.api import Api
    from sgdataplane.control.http.metrics import ApiMetrics
    from sgdataplane.control.http.server import ApiServer
    from sgdataplane.control.service.aside import Aside
    from sgdataplane.control.service.dispatch import ApiService
    from sgdataplane.daemon.logs import Notifier
    from sgdataplane.host.memory import trim_heap
    from sgdataplane.store.opening import key_file_of, open_store

    is_dev = development is not None
    key_file, profile = config.key_file or key_file_of(config.store), config.choices.profile
    with closing(open_store(config.store)) as store:
        keyring = Keyring(store, lru_cache(lambda: SecretBox(key_file)))
        engine = Engine(store, profile, rights=keyring, habits=habits(config, is_dev=is_dev))
        trim_heap()  # of the texts that the documents were read from
        verifier = Verifier(keyring.find, is_known=keyring.is_known, nonces=open_nonces(key_file), accepts_v1=config.v1)
        admission = Admission(verifier, keyring.permits, make_unlimited_buckets() if is_dev else None)
        board = HostBoard(store)
        with (
            Following(engine, places(config, is_dev=is_dev), profile) as following,
            take_over(engine) as taking_over,
            ClaimKeeper(engine, board) as claiming,
            Aside(profile) as aside,
        ):
            lags = HostLags(lambda: engine.documents, board)
            metrics = ApiMetrics(lags.look, lambda: engine.is_store_full, config.tls_cert)
            log = AccessLog(say_aside if is_dev else say, metrics, is_quiet=is_dev)
            threads = (*following.threads, taking_over, claiming)
            api = Api(ApiService(engine, store, following, board, threads, heavy=aside), admission, log)
            server = ApiServer(api, at)
            tell_serving(server.url, engine, store, development)
            Notifier(os.environ).tell("READY=1", f"STATUS=serving at {server.url}")  # it listens already
            server.serve_forever()
    if config.lab:
        say_aside(f"the lab {config.lab} stays: sgdp lab down --name {shlex.quote(config.lab)} removes it")
    return Exit.DONE


def habits(config: ApiConfig, *, is_dev: bool) -> Habits:
    """Return how the account behaves."""
    from sgdataplane.control.actions.scope import Habits

    return Habits(config.classic, has_default_group=is_dev, can_reset=is_dev)


def make_unlimited_buckets() -> TokenBuckets:
    """Return token buckets that let everything through."""
    from sgdataplane.control.http.tokenbuckets import TokenBuckets

    return TokenBuckets(UNLIMITED, UNLIMITED)


def tell_serving(url: str, engine: Engine, store: Store, development: Development | None) -> None:
    """Say where the API serves. For development, first make the default VPC, so that clients find one."""
    from sgdataplane.control.actions.networks import default_vpc
    from sgdataplane.store.audit import local_call

    if development is None:
        say_aside(f"serving at {url}; revision {engine.revision}")
    else:
        engine.change(lambda scope: {"VpcId": default_vpc(scope)}, local_call("CreateDefaultVpc"))
        development.tell(url, store)
    sys.stdout.flush()


def open_nonces(key_file: Path) -> Nonces:
    """Return the record of used nonces. It is beside the key file, which there is for any store.

    Raises:
        HostError: The record can't be opened.
    """
    from sgdataplane.control.access.nonces import Nonces
    from sgdataplane.errors import HostError

    folder = key_file.with_name(f"{key_file.name}.nonces")
    try:
        return Nonces(folder)
    except OSError as error:
        raise HostError(f"folder {folder}", error.strerror or str(error)) from error


def places(config: ApiConfig, *, is_dev: bool = False) -> list[Place]:
    """Return where the state is enforced; say so if that is nowhere."""
    if config.lab:
        from sgdataplane.lab.following import FollowingLab
        from sgdataplane.lab.manage import default_record
        from sgdataplane.terminal.arguments import require_root

        require_root("making a lab")
        return [FollowingLab(replace(default_record(config.lab), choices=config.choices))]
    if config.folder:
        from sgdataplane.handover.agentplace import AgentPlace
        from sgdataplane.handover.publishing import Publisher

        return [AgentPlace(Publisher(config.folder.absolute()), config.agent_socket)]
    if is_dev:
        say_aside("note: nothing is enforced; run it as root with --lab NAME to enforce in a lab")
    else:
        say_aside("note: without --lab or --folder, nothing is enforced here; `sgdp relay` serves other hosts")
    return []


def take_over(engine: Engine) -> Background:
    """Return the thread that takes over what other processes commit."""
    from sgdataplane.control.background import Background
    from sgdataplane.store.interface import StoreError

    def follow(ending: threading.Event) -> None:
        while not ending.is_set():
            try:
                engine.follow(timeout=FOLLOW_S)
            except StoreError:  # calls are answered with it; once the store is back, this goes on
                ending.wait(FOLLOW_S)

    return Background("taking over what others commit", follow)
