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

    `unpack` returns the text in a value.
    """

    def __init__(self, values: Mapping[Path, T], unpack: Callable[[T], str | bytes]) -> None:
        self._values, self._unpack = values, unpack

    def __getitem__(self, path: Path) -> Body:
        return decode(self._unpack(self._values[path]))

    def __iter__(self) -> Iterator[Path]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __contains__(self, path: object) -> bool:
        return path in self._values

    def decode_all(self) -> dict[Path, Body]:
        """Return all documents, each decoded once. Equal strings in them are one object, which saves memory."""
        read = _make_sharing_decoder()
        return {path: read(self._unpack(value)) for path, value in self._values.items()}


def _make_sharing_decoder() -> Callable[[str | bytes], dict[str, Json]]:
    """Return a function that does what `decode` does, and in whose documents equal strings are one object."""
    share = dict[str, str]().setdefault

    def share_in_list(values: list[Json]) -> list[Json]:
        return [share(one, one) if isinstance(one, str) else share_in(one) for one in values]

    def share_in(value: Json) -> Json:
        return share_in_list(value) if isinstance(value, list) else value  # objects have been through make_object

    def make_object(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
        return {share(key, key): share(one, one) if isinstance(one, str) else share_in(one) for key, one in pairs}

    read: Callable[[str], dict[str, Json]] = json.JSONDecoder(object_pairs_hook=make_object).decode
    return lambda text: read(text if isinstance(text, str) else text.decode())


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
