"""Documents as text: how every store keeps them.

Owns the encoding. Must not know any store.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping

from sgdataplane.control.store import Body, Json, Path


def encode(value: Json | Body) -> str:
    """JSON in plain ASCII, so that any string survives, lone surrogates too. ValueError, TypeError if it isn't JSON."""
    return json.dumps(value, separators=(",", ":"), allow_nan=False, default=dict)


def decode(text: str | bytes) -> dict[str, Json]:
    """The document of a text. Each call makes a new one: whoever changes it changes nobody else's."""
    found: dict[str, Json] = json.loads(text)
    return found


def encode_each(documents: Mapping[Path, Body]) -> dict[Path, str]:
    """Documents, each as a text of its own."""
    return {path: encode(body) for path, body in documents.items()}


def join(texts: Mapping[Path, str]) -> str:
    """The text of many documents, from the texts of each."""
    return "{" + ",".join(f"{json.dumps(path)}:{text}" for path, text in texts.items()) + "}"


def split(text: str) -> dict[Path, Body]:
    """The documents of such a text."""
    found: dict[Path, Body] = json.loads(text)
    return found


def encode_names(names: Iterable[str]) -> str:
    return json.dumps(sorted(names))


def decode_names(text: str) -> frozenset[str]:
    return frozenset(json.loads(text))
