"""Documents that are decoded together are what each is alone, and share their strings."""

from __future__ import annotations

import json

from sgdataplane.store.documents import Documents, ResourceKind
from sgdataplane.store.encoded import Decoded, decode
from sgdataplane.store.interface import Snapshot

BODY = {"state": {"rules": [{"ip_protocol": "tcp", "n": 1}, ["x", None, 1.5, True]]}, "about": {"tags": {"a": "tcp"}}}
TEXTS = {"security_group/1": json.dumps(BODY), "security_group/2": json.dumps(BODY), "host/a": '{"about": {}}'}


def test_all_together_are_what_each_is_alone_and_equal_strings_are_one_object() -> None:
    found = Decoded(TEXTS, str).decode_all()
    assert found == {path: decode(text) for path, text in TEXTS.items()}
    first, second = (strings(found[path]) for path in list(TEXTS)[:2])
    assert [*map(id, first)] == [*map(id, second)]
    assert len({*map(id, first)}) == len({*first})


def strings(value: object) -> list[str]:
    if isinstance(value, dict):
        return [text for pair in value.items() for each in pair for text in strings(each)]
    if isinstance(value, list):
        return [text for inner in value for text in strings(inner)]
    return [value] if isinstance(value, str) else []


def test_a_snapshot_is_decoded_once() -> None:
    read: list[str] = []

    def noting(text: str) -> str:
        read.append(text)
        return text

    documents = Documents.of(Snapshot(1, Decoded({path: TEXTS[path] for path in ("host/a",)}, noting), {}))
    assert ([*documents.of_kind[ResourceKind.HOST]], len(read)) == (["a"], 1)
