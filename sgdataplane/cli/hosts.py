"""`sgdp hosts` and `sgdp wait`: the hosts that relays serve, and whether a revision is in force there.

Owns the arguments, the wording and the documents of `--json`:

    hosts          {"revision", "epoch", "hosts": [{"host", "created": time or null if it was never added, "revoked",
                   "status": of the store's revision, "connected", "relay", "enforced": {"epoch", "revision"} or null,
                   "age": seconds since it was heard, or null, "failed": [{"eni", "why"}], "error", "enis": [ids]}]}
    hosts add      {"host", "revoked"}
    hosts revoke   {"host", "revoked", "refused_serials"}
    hosts forget   {"host", "released": [ENI ids], "instances": [ids of those whose tag still names it]}
    wait           {"revision", "epoch", "enforced": [hosts], "lagging": [hosts], "failed": [{"host", "why"}],
                   "unknown": [hosts]}

Must not know how a host gets its part, or when it counts as done.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any, cast

from sgdataplane.cli.apistore import config_of
from sgdataplane.errors import Problem, StateFileError, Where
from sgdataplane.model.words import first_of, pluralize
from sgdataplane.terminal.arguments import Parser, Run, Summary, Verbs
from sgdataplane.terminal.output import (
    Exit,
    iso_time,
    local_time,
    print_json,
    render_table,
    say,
    say_aside,
    say_block,
    schema_hint,
)

if TYPE_CHECKING:
    from sgdataplane.control.hosts.waits import HostItem
    from sgdataplane.store.documents import Documents
    from sgdataplane.store.interface import Store

STORE_HELP = "sqlite:FILE, FILE or etcd://HOST:PORT[,HOST:PORT...][/NAME][?ca=FILE&cert=FILE&key=FILE]"
CONFIG_HELP = "the API's configuration, read unless --store is given (default: /etc/sgdataplane/api.toml)"
ACTIONS = {
    "add": Summary(
        "allow a host to connect and claim ENIs, also one that was revoked",
        "sgdp hosts add web1 --store FILE",
    ),
    "revoke": Summary("disconnect a host; what it enforces stays in force, and its ENIs stay bound to it"),
    "forget": Summary("forget a host, and release its ENIs for other hosts"),
}
HEADERS = ("HOST", "STATUS", "ENFORCED", "AGE", "RELAY", "ENIS", "WHAT IS WRONG")
WAIT_S, MAX_WAIT_S = 60, 3_600
SHOWN = 5  # hosts in one line


def register(verbs: Verbs) -> None:
    """Add both verbs and their own verbs."""
    hosts = _with_store(verbs.add("hosts", run_list, "The documents of hosts are in the API's store."))
    actions = Verbs.below(hosts, ACTIONS, are_needed=False)
    issued = "accept certificates that were issued before it was revoked, too"
    _add(actions, "add", run_add).add_argument("--accept-issued", action="store_true", help=issued)
    serial = "only for the certificate of that serial number, as `openssl x509 -noout -serial` shows it"
    _add(actions, "revoke", run_revoke).add_argument("--serial", default="", metavar="HEX", help=serial)
    forget = _add(actions, "forget", run_forget)
    forget.add_argument("enis", nargs="*", metavar="ENI", help="release these only, and keep the host")
    wait = _with_store(verbs.add("wait", run_wait, "Exit code 1 if it isn't in force at all of them."))
    wait.add_argument("--revision", type=_number, metavar="N", help="of the store (default: its last one)")
    wait.add_argument("--epoch", type=_number, metavar="E", help="that the revision is of (default: the store's)")
    wait.add_argument("--vpc", default="", metavar="ID", help="only what concerns that VPC, at hosts with ENIs in it")
    timeout_help = f"for how long at most (default: {WAIT_S})"
    wait.add_argument("--timeout", type=_number, default=WAIT_S, metavar="S", help=timeout_help)


def _with_store(parser: Parser) -> Parser:
    """Add the options that name the store, and `--json`."""
    parser.add_argument("--store", metavar="STORE", help=STORE_HELP)
    parser.add_config(CONFIG_HELP)
    parser.add_json(schema_hint(parser))
    return parser


def _add(verbs: Verbs, name: str, run: Run) -> Parser:
    """Add a verb on one host. Options that are given before the verb count, too."""
    parser = verbs.add(name, run)
    parser.add_argument("host", metavar="HOST", help="its name, which its certificate has as common name")
    parser.add_argument("--store", default=argparse.SUPPRESS, metavar="STORE", help=STORE_HELP)
    parser.add_argument("--config", type=Path, default=argparse.SUPPRESS, metavar="FILE", help=CONFIG_HELP)
    parser.add_json(schema_hint(parser))
    return parser


def _number(text: str) -> int:
    """Return a number as an option takes it. ArgumentTypeError if it is none."""
    if not text.isascii() or not text.isdigit() or len(text) > 18:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0 up")
    return int(text)


@contextmanager
def open_named_store(arguments: argparse.Namespace, *, create: bool = False) -> Iterator[Store]:
    """Open the store that is meant."""
    from sgdataplane.store.opening import open_store

    with closing(open_store(config_of(arguments).store, create=create)) as store:
        yield store


# hosts


def run_list(arguments: argparse.Namespace) -> int:
    """Print the hosts."""
    from sgdataplane.control.hosts.status import words_in
    from sgdataplane.control.hosts.waits import items
    from sgdataplane.store.documents import Documents

    with open_named_store(arguments) as store:
        documents, now = Documents.of(store.snapshot()), time.time()
        found = items(documents, words_in(store.summaries(), now))
    if arguments.json:
        hosts = [_describe_host(item, documents, now) for item in found]
        print_json({"revision": documents.revision, "epoch": documents.version.epoch, "hosts": hosts})
    elif found:
        say_block(render_table(HEADERS, (_cells(item, documents, now) for item in found)))
    else:
        say("no host yet; run `sgdp hosts add` to add one")
    return Exit.DONE


def _describe_host(item: HostItem, documents: Documents, now: float) -> dict[str, Any]:
    word, stored = item.word, item.stored
    enforced = word.enforced if word else None
    is_known = enforced is not None and enforced.revision >= 0
    return {
        "host": item.name,
        "created": iso_time(stored.created) if stored else None,
        "revoked": bool(stored and stored.is_revoked),
        "status": _status(item, documents, now),
        "connected": bool(word and word.is_connected),
        "relay": word.relay if word else "",
        "enforced": {"epoch": enforced.epoch, "revision": enforced.revision} if enforced and is_known else None,
        "age": _age(item, now),
        "failed": [{"eni": eni, "why": why} for eni, why in word.failed] if word else [],
        "error": word.error if word else "",
        "enis": [*item.enis],
    }


def _status(item: HostItem, documents: Documents, now: float) -> str:
    """Return a host's status, in words of the document."""
    from sgdataplane.control.hosts.status import standing_of

    return standing_of(item.word, documents.version, now).value.lower()


def _age(item: HostItem, now: float) -> float | None:
    """Return how many seconds ago the host was heard; None for never."""
    return round(max(0.0, now - item.word.heard), 1) if item.word else None


def _cells(item: HostItem, documents: Documents, now: float) -> tuple[str, ...]:
    word, age = item.word, _age(item, now)
    enforced = str(word.enforced) if word and word.enforced.revision >= 0 else "-"
    relay = word.relay if word and word.is_connected else "-"
    wrong = "; ".join(filter(None, (_standing_word(item), word.why if word else "")))
    heard = "never" if age is None else f"{age:.0f} s"
    return item.name, _status(item, documents, now), enforced, heard, relay, str(len(item.enis)), wrong or "-"


def _standing_word(item: HostItem) -> str:
    if item.stored is None:
        return "never added"
    return "revoked" if item.stored.is_revoked else ""


def run_add(arguments: argparse.Namespace) -> int:
    """Add a host. Exit 5 if a host can't have that name."""
    from sgdataplane.control.hosts.status import words_in
    from sgdataplane.store.audit import local_call
    from sgdataplane.store.hosts import add_host
    from sgdataplane.store.refusals import NEVER

    with open_named_store(arguments, create=True) as store:
        words = words_in(store.summaries(), time.time())
        claimed = [eni for word in words.values() for eni in word.claims]
        call = local_call("AddHost")
        host, refusal = add_host(store, call, arguments.host, claimed, accepts_issued=arguments.accept_issued)
    if arguments.json:
        print_json({"host": host.name, "revoked": host.is_revoked})
        return Exit.DONE
    later = "" if refusal.issued_until == NEVER else f" and that was issued after {local_time(refusal.issued_until)}"
    say(f"{host.name} may connect, with a certificate whose common name is {host.name}{later}")
    return Exit.DONE


def run_revoke(arguments: argparse.Namespace) -> int:
    """Revoke a host; one that is revoked already stays so. Exit 5 if there is no such host."""
    from sgdataplane.store.audit import local_call
    from sgdataplane.store.hosts import revoke_host, serial_of

    with open_named_store(arguments) as store:
        host, refusal = revoke_host(store, local_call("RevokeHost"), arguments.host, arguments.serial)
    if arguments.json:
        serials = sorted(filter(None, map(serial_of, refusal.serials)))
        print_json({"host": host.name, "revoked": host.is_revoked, "refused_serials": serials})
    elif arguments.serial:
        say(f"{host.name} may no longer connect with that certificate")
    else:
        say(f"{host.name} may no longer connect; what it enforces stays in force, and its ENIs stay bound to it")
    return Exit.DONE


def run_forget(arguments: argparse.Namespace) -> int:
    """Release what a host has, and forget the host.

    Exit 5 if there is no such host, or it hasn't one of the ENIs.
    """
    from sgdataplane.store.audit import local_call
    from sgdataplane.store.hosts import Forgotten, forget_host, release_enis

    call, name = local_call("ForgetHost"), arguments.host
    with open_named_store(arguments) as store:
        if arguments.enis:
            forgotten = Forgotten(release_enis(store, call, name, arguments.enis), ())
        else:
            forgotten = forget_host(store, call, name)
    if arguments.json:
        print_json({"host": name, "released": forgotten.released, "instances": forgotten.instances})
        return Exit.DONE
    released = pluralize(len(forgotten.released), "ENI")
    say(f"{released} of {name} released" if arguments.enis else f"{name} is forgotten, and {released} released")
    if forgotten.instances:
        tagged = first_of(forgotten.instances, SHOWN)
        say_aside(f"note: the tag sgdp:host of {tagged} still names it; TagResources names another one")
    return Exit.DONE


# wait


def run_wait(arguments: argparse.Namespace) -> int:
    """Wait until a revision is in force.

    Exit 1 if it isn't in force at all hosts, 5 if there is no such revision or VPC, or no host at all.
    """
    from sgdataplane.control.actions.engine import Engine
    from sgdataplane.control.calls.answers import ApiError
    from sgdataplane.control.hosts.following import Following
    from sgdataplane.control.hosts.waits import items
    from sgdataplane.control.service.analysis import HeavyAnswers
    from sgdataplane.control.service.dispatch import ApiService

    if arguments.timeout > MAX_WAIT_S:
        arguments.parser.error(f"--timeout is 0 to {MAX_WAIT_S} seconds")
    with open_named_store(arguments) as store:
        engine = Engine(store)
        if not items(engine.documents, {}):
            expected = "a host that `sgdp hosts add` adds; an API that enforces itself answers SgdpWait"
            raise StateFileError((Problem(Where(), "InvalidHost.NotFound", "there is no host", expected=expected),))
        service = ApiService(engine, store, Following(engine, ()), heavy=HeavyAnswers(engine.profile))
        try:
            answer = service.wait(_call(arguments), Event())
        except ApiError as error:
            raise StateFileError((Problem(Where(), error.code, error.message),)) from error
    return _tell(cast("dict[str, Any]", answer.body), arguments)


def _call(arguments: argparse.Namespace) -> Any:  # noqa: ANN401  # control is imported when it is used
    """Return the call that SgdpWait would get."""
    from dataclasses import replace

    from sgdataplane.store.audit import local_call

    given = {"Revision": arguments.revision, "Epoch": arguments.epoch, "VpcId": arguments.vpc}
    asked = {name: value for name, value in given.items() if value not in (None, "")}
    return replace(local_call("SgdpWait"), parameters={**asked, "Timeout": arguments.timeout})


def _tell(answer: dict[str, Any], arguments: argparse.Namespace) -> int:
    """Print the answer, and return the exit code."""
    failed = [{"host": one["Host"], "why": one["Message"]} for one in answer["Failed"]]
    is_done = not (answer["Lagging"] or failed or answer["Unknown"])
    if arguments.json:
        hosts = {"enforced": answer["Enforced"], "lagging": answer["Lagging"], "failed": failed}
        version = {"revision": answer["Revision"], "epoch": answer["Epoch"]}
        print_json({**version, **hosts, "unknown": answer["Unknown"]})
    else:
        for line in _lines(answer, arguments.vpc):
            say(line)
    return Exit.DONE if is_done else Exit.NO


def _lines(answer: dict[str, Any], vpc_id: str) -> Iterator[str]:
    enforced, lagging, failed, unknown = (answer[name] for name in ("Enforced", "Lagging", "Failed", "Unknown"))
    count = len(enforced) + len(lagging) + len(failed) + len(unknown)
    if not count:
        yield f"no host has an ENI of {vpc_id}" if vpc_id else "all hosts are revoked, and have no ENI"
        return
    told = f"{len(enforced):,} of {pluralize(count, 'host')}" if len(enforced) < count else pluralize(count, "host")
    yield f"revision {answer['Revision']} is in force at {told}"
    if lagging:
        yield f"not yet at {first_of(lagging, SHOWN)}"
    yield from (f"failed at {one['Host']}: {one['Message']}" for one in failed[:SHOWN])
    if len(failed) > SHOWN:
        yield f"failed at {len(failed) - SHOWN:,} more"
    if unknown:
        yield f"unknown at {first_of(unknown, SHOWN)}: no report for 15 s"
