"""The native format as a JSON Schema (draft 2020-12), for editors and other programs.

Owns the layout of the schema, and what objects need besides single keys. Is given the table of keys (keys.py). The
schema refuses nothing that the reader takes; it can't see what depends on other objects. Must not know how values are
read.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sgdataplane.statefile.keys import HAS_PORTS, OBJECTS, REMOTES, TOP_KEYS, Key, Keys

NEEDS: Mapping[str, dict[str, Any]] = {
    "rule": {
        "anyOf": [{"required": [name]} for name in REMOTES],
        "if": {"properties": {"ip_protocol": HAS_PORTS}, "required": ["ip_protocol"]},
        "then": {"anyOf": [{"required": [name]} for name in ("port_range", "port_list_id")]},
    }
}


def state_schema() -> dict[str, Any]:
    """Return the JSON Schema of a state in the native format."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$comment": "`make docs` writes this file from sgdataplane/statefile/keys.py.",
        "title": "a state of sgdataplane, in the native format",
        "description": "One YAML or JSON document, or a folder of them that are merged.",
        **_object(TOP_KEYS),
        "minProperties": 1,
        "$defs": {name: _object(keys) | NEEDS.get(name, {}) for name, keys in OBJECTS.items()},
    }


def _object(keys: Keys) -> dict[str, Any]:
    required = [name for name, key in keys.items() if key.is_required]
    return {
        "type": "object",
        "additionalProperties": False,
        **({"required": required} if required else {}),
        "properties": {name: _property(key) for name, key in keys.items()},
    }


def _property(key: Key) -> dict[str, Any]:
    default = {} if key.default is None else {"default": key.default}
    return {"description": key.means, **key.shape, **default}
