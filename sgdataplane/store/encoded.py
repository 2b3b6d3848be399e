"""Documents as text: how every store keeps them.

Owns the encoding. Must not know any store.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Generic, TypeVar

from sgdataplane.store.interface import Body, Json, Path

T = TypeVar("T")


class Decoded(Mapping[Path, Body], Generic[T]):
    """Documents that are made of their texts when somebody asks for them, anew each time: texts take a fifth of the
    memory. `read`: makes a document of a text."""

    def __init__(self, texts: Mapping[Path, T], read: Callable[[T], Body]) -> None:
        self._texts, self._read = texts, read

    def __getitem__(self, path: Path) -> Body:
        return self._read(self._texts[path])

    def __iter__(self) -> Iterator[Path]:
        return iter(self._texts)

    def __len__(self) -> int:
        return len(self._texts)

    def __contains__(self, path: object) -> bool:
        return path in self._texts


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
