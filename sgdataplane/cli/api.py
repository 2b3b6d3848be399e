"""`sgdp api`: the access keys, the audit and the backups of the control plane's store.

Owns the arguments, the wording and the documents of `--json`:

    keys create    {"access_key_id", "access_key_secret"}; with --sts also {"security_token", "expiration"}
    keys list      {"access_keys": [{"access_key_id", "name", "policy": a name or a policy, "created", "revoked": time
                   or null, "ends": time of a temporary key, or null}]}
    keys revoke    {"access_key_id", "revoked": time}
    env            the variables that a shell exports, by name
    audit          an object a line: {"revision", "time", "request_id", "key", "action", "source", "changed"}
                   with --prune-before: {"pruned": how many records, "up_to", "sha256": of what they were, "revision"}
    import         {"revision", "imported": section of the state -> how many objects}
    backup         {"file", "revision"}
    restore        {"file", "revision", "epoch", "former": where the store is that was there before, or null}
    restored       {"revision", "epoch"}

Must not know how a store keeps things, or how secrets are sealed. Whatever needs the extra `api` is imported when it is
used (`extra`).
"""

from __future__ import annotations

import argparse
import json
import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sgdataplane.cli import apiserve
from sgdataplane.cli.apidev import run_env
from sgdataplane.cli.apistore import config_of, run_audit, run_backup, run_restore, run_restored
from sgdataplane.collection import no_collection
from sgdataplane.errors import Problem, StateFileError, Where
from sgdataplane.model import words
from sgdataplane.terminal.anywhere import extra
from sgdataplane.terminal.arguments import Parser, Run, Summary, Verbs, load_state, read_for
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
    whole_seconds,
)

if TYPE_CHECKING:
    from sgdataplane.cli.apidev import Development
    from sgdataplane.control.access.keys import StoredKey
    from sgdataplane.control.access.permissions import AccessPolicy
    from sgdataplane.control.access.secrets import SecretBox

EXTRA = "api"
STORE_HELP = "sqlite:FILE, FILE or etcd://HOST:PORT[,HOST:PORT...][/NAME][?ca=FILE&cert=FILE&key=FILE]"
CONFIG_HELP = "the API's configuration, read unless --store is given (default: /etc/sgdataplane/api.toml)"
KEY_FILE_HELP = (
    "the key that encrypts the secrets; created with the first access key (default: the store's file and .key)"
)
SERVES = "Other commands manage the store: its access keys, its audit, its backups."
ACTIONS = {
    "keys": Summary("create, list and revoke the access keys with which programs sign calls"),
    "import": Summary(
        "put a state's VPCs, groups, instances and ENIs into the store, all or nothing",
        "sgdp api import state.yaml --store FILE",
    ),
    "env": Summary(
        "print the variables with which clients find the API that `sgdp api --dev` serves",
        'eval "$(sgdp api env)"',
    ),
    "audit": Summary(
        "show who changed what, and when: one record for each change, without gaps",
        "sgdp api audit --store FILE --since 1200 --json",
    ),
    "backup": Summary("copy the store to a file, even while it is in use"),
    "restore": Summary("restore the store from a backup; nothing may use the store meanwhile"),
    "restored": Summary("tell followers that the store was restored by other means, such as etcd's own"),
}
KEY_ACTIONS = {
    "create": Summary(
        "create an access key and show its secret, this one time",
        "sgdp api keys create --policy read-only --store FILE",
    ),
    "list": Summary("list the access keys"),
    "revoke": Summary("revoke an access key: the next call that it signs is refused"),
}
KEY_HEADERS = ("ACCESS KEY ID", "NAME", "POLICY", "CREATED", "ENDS", "REVOKED")
NOUNS = {
    "vpcs": "VPC",
    "prefix_lists": "prefix list",
    "port_lists": "port list",
    "security_groups": "security group",
    "instances": "instance",
    "network_interfaces": "ENI",
}
NOT_WITH_DEV = ("store", "config", "key_file", "tls_cert", "tls_key")
LONGEST_NAME = 128
STS_HOURS, MAX_STS_HOURS = 1.0, 24 * 365


def register(verbs: Verbs) -> None:
    """Add the verb and its own verbs."""
    api = verbs.add("api", run_serve, SERVES)
    store = f"where documents are kept; created if it doesn't exist: {STORE_HELP}"
    api.add_argument("--store", metavar="STORE", help=store)
    api.add_config(CONFIG_HELP)
    api.add_argument("--key-file", type=Path, metavar="FILE", help=KEY_FILE_HELP)
    apiserve.add_arguments(api)
    actions = Verbs.below(api, ACTIONS, are_needed=False)
    _register_keys(Verbs.below(actions.add("keys", None), KEY_ACTIONS))
    _register_store(actions)


def _register_keys(keys: Verbs) -> None:
    create = _add(keys, "create", run_create)
    create.add_argument("--name", type=_name, default="", metavar="N", help="its name for people, up to 128 characters")
    policy = "what it may do: full (default), read-only, or a file with a RAM policy in JSON"
    create.add_argument("--policy", default="full", metavar="P", help=policy)
    sts = "a temporary key, like those of the cloud's STS: its requests need the token that is shown with it"
    create.add_argument("--sts", action="store_true", help=sts)
    lasts = f"with --sts: how long it is valid, in hours (default: {STS_HOURS:g})"
    create.add_argument("--hours", type=_hours, default=STS_HOURS, metavar="N", help=lasts)
    create.add_argument("--key-file", type=Path, default=argparse.SUPPRESS, metavar="FILE", help=KEY_FILE_HELP)
    _add(keys, "list", run_list)
    revoke = _add(keys, "revoke", run_revoke)
    revoke.add_argument("id", metavar="ID", help="the id of the access key")


def _register_store(actions: Verbs) -> None:
    imported = _add(actions, "import", run_import, "Refused if the store has one of its ids already.")
    imported.add_state()
    imported.add_choices(("profile",))
    audit = _add(actions, "audit", run_audit)
    audit.add_argument("--since", type=_revision, default=0, metavar="REVISION", help="only what came after it")
    prune = "remove the records before that revision; what was removed is recorded"
    audit.add_argument("--prune-before", type=_revision, metavar="REVISION", help=prune)
    backup = _add(actions, "backup", run_backup, "It holds no secret: keep the key file, too, but elsewhere.")
    backup.add_argument("copy", type=Path, metavar="FILE", help="the file to write; it must not exist yet")
    restore = _add(
        actions, "restore", run_restore, "The store that was there stays beside it, as STORE.before-restore."
    )
    restore.add_argument("copy", type=Path, metavar="FILE", help="a file that `sgdp api backup` wrote")
    env = actions.add("env", run_env)
    env.add_argument("folder", type=Path, nargs="?", metavar="DIR", help="the folder of --dev (default: its default)")
    env.add_json(schema_hint(env))
    _add(actions, "restored", run_restored, "`sgdp api restore` says so by itself.")


def _add(verbs: Verbs, name: str, run: Run, *more: str) -> Parser:
    """Add a verb on a store. Options that are given before the verb count, too."""
    parser = verbs.add(name, run, *more)
    parser.add_argument("--store", default=argparse.SUPPRESS, metavar="STORE", help=STORE_HELP)
    parser.add_argument("--config", type=Path, default=argparse.SUPPRESS, metavar="FILE", help=CONFIG_HELP)
    parser.add_json(schema_hint(parser))
    return parser


def _name(text: str) -> str:
    """Return a key's name as `--name` takes it. ArgumentTypeError if it is too long."""
    if len(text) > LONGEST_NAME:
        raise argparse.ArgumentTypeError(f"a name has up to {LONGEST_NAME} characters")
    return text


def _hours(text: str) -> float:
    """Return a number of hours as `--hours` takes it. ArgumentTypeError if it is none."""
    try:
        hours = float(text)
        if not 0 < hours <= MAX_STS_HOURS:
            raise ValueError
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of hours up to {MAX_STS_HOURS}") from None
    return hours


def _revision(text: str) -> int:
    """Return a revision as an option takes it. ArgumentTypeError if it is none."""
    if not text.isascii() or not text.isdigit():
        raise argparse.ArgumentTypeError(f"{text!r} is not a revision: a number from 0 up")
    return int(text)


# the API


def run_serve(arguments: argparse.Namespace) -> int:
    """Serve the API until SIGTERM or Ctrl-C."""
    with extra(EXTRA):
        with no_collection():  # 600 modules leave no garbage, and looking for it is 7 % of their import
            development = _development(arguments)
            config = config_of(arguments)
            from sgdataplane.control.http.server import listen_at
        at = read_for(arguments, lambda: listen_at(config.listen, config.tls_cert, config.tls_key))
        return apiserve.run(config, at, development)


def _development(arguments: argparse.Namespace) -> Development | None:
    """Prepare the folder of `--dev`, and set the options that follow from it; return None without `--dev`."""
    if arguments.dev is None:
        if arguments.hostnames:
            arguments.parser.error("--hostname needs --dev; without it, --tls-cert has the names of the API's host")
        return None
    named = [f"--{name.replace('_', '-')}" for name in NOT_WITH_DEV if getattr(arguments, name)]
    if named:
        arguments.parser.error(f"--dev makes its own store and certificate; it takes no {', '.join(named)}")
    with extra(EXTRA):
        from sgdataplane.cli.apidev import Development
        from sgdataplane.control.http.development import default_folder
        from sgdataplane.control.http.server import listen_at

        listen = arguments.listen or apiserve.LISTEN
        is_loopback = read_for(
            arguments, lambda: listen_at(listen, Path(), Path())
        ).is_loopback  # TLS, by files to come
        if not is_loopback and not arguments.hostnames:
            how = "to serve other machines, too, add --hostname with the name by which they reach this one"
            arguments.parser.error(f"--dev serves on loopback only, and not at {listen}; {how}")
        folder = default_folder() if arguments.dev is True else arguments.dev
        found = Development(folder, arguments.hostnames)
    arguments.store, arguments.tls_cert, arguments.tls_key = found.store, found.signed.certificate, found.signed.key
    return found


# keys


def run_create(arguments: argparse.Namespace) -> int:
    """Create an access key; print its id and secret, and for a temporary key its token and end."""
    from sgdataplane.control.access.keys import create_key, policy_of
    from sgdataplane.control.access.permissions import BUILT_IN
    from sgdataplane.store.audit import local_call
    from sgdataplane.store.opening import key_file_of, open_store

    policy: str = arguments.policy
    if policy not in BUILT_IN:
        policy = _text_of(Path(policy))
        _note_idle(policy_of(policy, arguments.policy))
    config = config_of(arguments)
    key_file = config.key_file or key_file_of(config.store)
    with extra(EXTRA):
        import sgdataplane.control.access.secrets  # noqa: F401  (before a store is made)
    with closing(open_store(config.store)) as store:
        call = local_call("CreateAccessKey")
        made = create_key(
            store,
            lambda is_first: _box(key_file, is_first=is_first),
            call,
            name=arguments.name,
            policy=policy,
            lasts_s=arguments.hours * 3600 if arguments.sts else None,
        )
    temporary = {"security_token": made.token, "expiration": iso_time(made.ends)} if made.ends else {}
    if arguments.json:
        print_json({"access_key_id": made.id, "access_key_secret": made.secret, **temporary})
    else:
        say(f"access key id:     {made.id}")
        say(f"access key secret: {made.secret}")
        if made.ends:
            say(f"security token:    {made.token}")
            say_aside(f"note: the key is valid until {local_time(made.ends)}")
        say_aside("note: keep the secret now; it is not shown again")
    return Exit.DONE


def _note_idle(policy: AccessPolicy) -> None:
    """Say which patterns of a policy match no action: a Deny that never matches permits more than its author meant."""
    from sgdataplane.control.calls.parameters import tables

    for pattern in policy.idle(tables()):
        say_aside(f"note: the policy names {pattern}, but the API has no such action")


def _box(file: Path, *, is_first: bool) -> SecretBox:
    """Return the box that seals secrets. With the first key its file is made, if it doesn't exist."""
    from sgdataplane.control.access.secrets import SecretBox, make_key_file

    if is_first and not file.exists():
        make_key_file(file)
        say_aside(f"note: {file} is new and seals the secrets; keep a copy of it, but not with backups of the store")
    return SecretBox(file)


def _text_of(file: Path) -> str:
    """Return the text of a policy's file. StateFileError if it can't be read."""
    from sgdataplane.control.access.permissions import LARGEST

    try:
        with open(file, "rb") as opened:
            return opened.read(LARGEST + 1).decode()
    except OSError as error:
        message, expected = (error.strerror or str(error)).lower(), "full, read-only or a file with a policy"
    except UnicodeDecodeError as error:
        message, expected = f"the policy isn't UTF-8: {error.reason}", "a RAM policy in JSON"
    raise StateFileError((Problem(Where(str(file)), "InvalidPolicy.NotReadable", message, expected=expected),))


def run_list(arguments: argparse.Namespace) -> int:
    """Print the keys, without their secrets."""
    from sgdataplane.control.access.keys import list_keys
    from sgdataplane.store.opening import open_store

    with closing(open_store(config_of(arguments).store, create=False)) as store:
        keys = list_keys(store.snapshot().documents)
    if arguments.json:
        print_json({"access_keys": list(map(_describe_key, keys))})
    elif keys:
        say_block(render_table(KEY_HEADERS, map(_cells, keys)))
    else:
        say("no access key yet; run `sgdp api keys create` to create one")
    return Exit.DONE


def _describe_key(key: StoredKey) -> dict[str, Any]:
    """Return a key as an object of `--json`."""
    policy = key.policy if key.has_built_in_policy else json.loads(key.policy)
    revoked, ends = (None if at is None else iso_time(at) for at in (key.revoked, key.ends))
    return {
        "access_key_id": key.id,
        "name": key.name,
        "policy": policy,
        "created": iso_time(key.created),
        "revoked": revoked,
        "ends": ends,
    }


def _cells(key: StoredKey) -> tuple[str, ...]:
    """Return a key as cells of KEY_HEADERS."""
    policy = key.policy if key.has_built_in_policy else "its own"
    ends, revoked = ("-" if at is None else whole_seconds(at) for at in (key.ends, key.revoked))
    return key.id, key.name or "-", policy, whole_seconds(key.created), ends, revoked


def run_revoke(arguments: argparse.Namespace) -> int:
    """Revoke a key; one that is revoked already stays so. Exit 5 if there is no such key."""
    from sgdataplane.control.access.keys import revoke_key
    from sgdataplane.store.audit import local_call
    from sgdataplane.store.opening import open_store

    with closing(open_store(config_of(arguments).store, create=False)) as store:
        key = revoke_key(store, local_call("DeleteAccessKey"), arguments.id)
    at = key.revoked or time.time()
    if arguments.json:
        print_json({"access_key_id": key.id, "revoked": iso_time(at)})
    else:
        say(f"{key.id} has been revoked since {local_time(at)}")
    return Exit.DONE


# a state


def run_import(arguments: argparse.Namespace) -> int:
    """Put a state into the store.

    Exit 5 if the state, or the store with it, isn't valid; nothing is stored then.
    """
    from sgdataplane.control.actions.importing import import_state
    from sgdataplane.statefile.dump_native import sections
    from sgdataplane.store.audit import local_call
    from sgdataplane.store.opening import open_store

    config = config_of(arguments)
    profile = config.choices.profile
    state = load_state(arguments.state, profile, is_as_written=True).state
    with closing(open_store(config.store)) as store:
        revision = import_state(store, state, profile, local_call("ImportState"))
    counts = {section: len(objects) for section, objects in sections(state).items()}
    if arguments.json:
        print_json({"revision": revision, "imported": counts})
    else:
        told = ", ".join(words.pluralize(count, NOUNS[section]) for section, count in counts.items() if count)
        say(f"imported {told or 'nothing'}; the store has revision {revision}")
    return Exit.DONE
