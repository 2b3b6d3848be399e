"""The commands of `sgdp api` on a store itself: its audit, its copies; and which store is meant.

Owns the wording of these commands. Must not know how a store keeps anything.
"""

from __future__ import annotations

import argparse
from contextlib import closing
from typing import TYPE_CHECKING

from sgdataplane.cli.apiaudit import audit_tables
from sgdataplane.model.words import pluralize
from sgdataplane.terminal.arguments import get_choices
from sgdataplane.terminal.output import Exit, print_json, say, say_aside, say_block
from sgdataplane.visible import json_text

if TYPE_CHECKING:
    from sgdataplane.control.config import ApiConfig
    from sgdataplane.store.interface import Store


def config_of(arguments: argparse.Namespace) -> ApiConfig:
    """Return the options and, unless they name the store, the configuration.

    A usage error if no store is named.

    Raises:
        ConfigError: The configuration is wrong.
    """
    from sgdataplane.control.config import CONFIG_FILE, KINDS, OF_CHOICES, load_api_config, with_chosen

    given = {name: getattr(arguments, name, None) for name in KINDS if name not in OF_CHOICES}
    options = {name: value for name, value in given.items() if value is not None} | get_choices(arguments)
    if arguments.store is not None and arguments.config is None:
        return with_chosen({}, options)
    file = arguments.config or CONFIG_FILE
    config = load_api_config(file, must_exist=arguments.config is not None, chosen=options)
    if not config.store:
        arguments.parser.error(f"no store is named: give --store FILE, or name it in {file}")
    return config


# the audit


def run_audit(arguments: argparse.Namespace) -> int:
    """Print the records, the oldest first; or remove old ones, if that is asked for."""
    from sgdataplane.store import audit
    from sgdataplane.store.history import PRUNED, find_last_pruned
    from sgdataplane.store.opening import open_store

    with closing(open_store(config_of(arguments).store, create=False)) as store:
        if arguments.prune_before is not None:
            return _prune(store, arguments)
        gone = find_last_pruned(store.snapshot().documents.get(PRUNED))
        if arguments.since < gone:
            say_aside(f"note: the records up to revision {gone} have been pruned")
        records = audit.read(store, arguments.since)
        for text in map(json_text, records) if arguments.json else audit_tables(records):
            say_block(text)
    return Exit.DONE


def _prune(store: Store, arguments: argparse.Namespace) -> int:
    from sgdataplane.store.audit import local_call
    from sgdataplane.store.history import prune_audit

    pruned = prune_audit(store, local_call("PruneAudit"), max(0, arguments.prune_before - 1))
    if arguments.json:
        found = {"pruned": pruned.count, "up_to": pruned.last, "sha256": pruned.sha256, "revision": pruned.revision}
        print_json(found)
    elif pruned.count:
        removed = f"{pluralize(pruned.count, 'record')} up to revision {pruned.last} removed"
        say(f"{removed}; revision {pruned.revision} says so")
    else:
        say(f"no record is older than revision {arguments.prune_before}")
    return Exit.DONE


# the store's file


def run_backup(arguments: argparse.Namespace) -> int:
    """Write a copy of the store."""
    from sgdataplane.store.opening import file_of
    from sgdataplane.store.sqlite.backup import back_up

    revision = back_up(file_of(config_of(arguments).store), arguments.copy)
    if arguments.json:
        print_json({"file": str(arguments.copy), "revision": revision})
    else:
        say(f"{arguments.copy} has revision {revision}")
    return Exit.DONE


def run_restore(arguments: argparse.Namespace) -> int:
    """Put a copy in the store's place. Exit 5 if the store is in use, or the copy isn't whole."""
    from sgdataplane.store.audit import local_call
    from sgdataplane.store.opening import file_of
    from sgdataplane.store.sqlite.backup import restore

    store = file_of(config_of(arguments).store)
    version, former = restore(arguments.copy, store, local_call("RestoreStore"))
    if arguments.json:
        found = {"file": str(store), "revision": version.revision, "epoch": version.epoch}
        print_json({**found, "former": former and str(former)})
    else:
        say(f"{store} has {version}")
        if former:
            say(f"the store that was there before is now {former}")
    return Exit.DONE


def run_restored(arguments: argparse.Namespace) -> int:
    """Begin a new epoch, because the store was put back by other means."""
    from sgdataplane.store.audit import local_call
    from sgdataplane.store.history import begin_epoch
    from sgdataplane.store.opening import open_store

    with closing(open_store(config_of(arguments).store, create=False)) as store:
        version = begin_epoch(store, local_call("RestoreStore"))
    if arguments.json:
        print_json({"revision": version.revision, "epoch": version.epoch})
    else:
        say(f"the store has {version}")
    return Exit.DONE
