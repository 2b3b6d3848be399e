"""The encoding of documents as text, which every store keeps.

Owns the encoding. Must not know any store.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Generic, TypeVar

from sgdataplane.store.interface import Body, Json, Path

T = TypeVar("T")


class Decoded(Mapping[Path, Body], Generic[T]):
    """Documents that are decoded anew each time somebody asks for them, because texts take a fifth of the memory.

    `read` makes a document of a text.
    """

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

    def decode_all(self) -> dict[Path, Body]:
        """Return all documents, each decoded once. Equal strings in them are one object, which saves memory."""
        share = SharedStrings().share
        return {path: share(self._read(text)) for path, text in self._texts.items()}


class SharedStrings:
    """The strings that values have in common: keys of objects, ids, and words such as `ingress`."""

    def __init__(self) -> None:
        self._known: dict[str, str] = {}

    def share(self, value: Mapping[str, Json]) -> dict[str, Json]:
        """Return a copy of an object in which each string is the one that was seen first."""
        known = self._known.setdefault
        return {
            known(key, key): known(inner, inner) if isinstance(inner, str) else self._share_inner(inner)
            for key, inner in value.items()
        }

    def _share_inner(self, value: Json) -> Json:
        if isinstance(value, list):
            known = self._known.setdefault
            return [known(one, one) if isinstance(one, str) else self._share_inner(one) for one in value]
        return self.share(value) if isinstance(value, dict) else value


def encode(value: Json | Body) -> str:
    """Return a value as JSON in plain ASCII, so that any string survives, lone surrogates too.

    Raises:
        ValueError: It has a number that JSON doesn't have.
        TypeError: It isn't JSON.
    """
    return json.dumps(value, separators=(",", ":"), allow_nan=False, default=dict)


def decode(text: str | bytes) -> dict[str, Json]:
    """Return the document of a text. Each call makes a new one, so that changes to it concern nobody else."""
    found: dict[str, Json] = json.loads(text)
    return found


def encode_each(documents: Mapping[Path, Body]) -> dict[Path, str]:
    """Return documents, each as a text of its own."""
    return {path: encode(body) for path, body in documents.items()}


def join(texts: Mapping[Path, str]) -> str:
    """Return the text of many documents, from the texts of each."""
    return "{" + ",".join(f"{json.dumps(path)}:{text}" for path, text in texts.items()) + "}"


def split(text: str) -> dict[Path, Body]:
    """Return the documents of such a text, by path."""
    found: dict[Path, Body] = json.loads(text)
    return found


def encode_names(names: Iterable[str]) -> str:
    """Return the text of a set of names."""
    return json.dumps(sorted(names))


def decode_names(text: str) -> frozenset[str]:
    """Return the names of such a text."""
    return frozenset(json.loads(text))
