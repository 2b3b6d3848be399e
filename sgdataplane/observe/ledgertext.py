"""The ledger as a document, for files.

Owns its form. Is given a ledger, or a document that may be anything. Must not know where it is kept.

    {"version": 1, "boot": "<boot id>",
     "scopes": {"<scope>": {"<counter>": [packets, bytes, since, first, last]}},
     "bases": {"<cookie>": ["<scope>", {"<counter>": ["<made>", packets, bytes]}]}}

Bases are valid for one boot.
"""

from __future__ import annotations

from typing import TypeVar

from sgdataplane.nft.counters import Counted
from sgdataplane.observe.ledger import Base, Ledger, Sum

T = TypeVar("T")
VERSION = 1


def ledger_as_json(ledger: Ledger, boot: str) -> dict[str, object]:
    """Return the ledger as a document. `boot` is this boot's id."""
    return {
        "version": VERSION,
        "boot": boot,
        "scopes": {
            scope: {name: [s.packets, s.bytes, s.since, s.first, s.last] for name, s in sums.items()}
            for scope, sums in ledger.scopes.items()
        },
        "bases": {
            str(cookie): [base.scope, {n: [c.made, c.packets, c.bytes] for n, c in base.counters.items() if c.packets}]
            for cookie, base in ledger.bases.items()
        },
    }


def ledger_of(document: object, boot: str) -> Ledger:
    """Return the ledger in a document; without bases if it is of another boot.

    Raises:
        ValueError: It isn't one.
        TypeError: It isn't one.
    """
    found = _as(dict, document)
    if found.keys() != {"version", "boot", "scopes", "bases"} or found["version"] != VERSION:
        raise ValueError("it has another version, or no counts")
    scopes = {
        scope: {name: _sum(*_as(list, row)) for name, row in _as(dict, sums).items()}
        for scope, sums in _as(dict, found["scopes"]).items()
    }
    bases = {int(cookie): _base(*_as(list, row)) for cookie, row in _as(dict, found["bases"]).items()}
    return Ledger(scopes, bases if boot and found["boot"] == boot else {})


def _sum(packets: object, size: object, since: object, first: object, last: object) -> Sum:
    return Sum(_count(packets), _count(size), _as(str, since), _as(str, first), _as(str, last))


def _base(scope: object, counters: object) -> Base:
    return Base(_as(str, scope), {name: _parse_counted(*_as(list, row)) for name, row in _as(dict, counters).items()})


def _parse_counted(made: object, packets: object, size: object) -> Counted:
    return Counted(_count(packets), _count(size), _as(str, made))


def _count(value: object) -> int:
    """Return the value if it is a count. ValueError if it isn't."""
    if type(value) is not int or not 0 <= value < 1 << 80:  # a bool is an int, too
        raise ValueError(f"{value!r:.40} is not a count")
    return value


def _as(kind: type[T], value: object) -> T:
    """Return the value if it is of that type. TypeError if it isn't."""
    if not isinstance(value, kind):
        raise TypeError(f"{value!r:.40} is not a {kind.__name__}")
    return value
