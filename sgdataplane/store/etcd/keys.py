"""The layout of a store in etcd: its keys, what their values say, and the operations on them.

Owns the layout. Must not know how etcd is called, or in which order things are done. Below NAME/ are

    head                {"format": 2, "revision": R}: the last revision; each commit compares and replaces it
    doc/PATH            a document
    private/doc/PATH    one that relays don't need, and so needn't be able to read: an access key
    guard/NAME          the revision that moved it last
    token/NAME          what was answered, and when it is forgotten; a lease removes it some time after that
    audit/R             the audit record of a revision
    log/R               what a revision changed, and who wrote it: a LogEntry. The last ones only
    private/log/R       what it put of private documents, if it did
    parcel/R/NONCE/I    the text of a change that is too large for one transaction, in chunks
    summary/RELAY       what a relay says of its hosts (summaries.py)
    pending             the chunked write whose documents aren't all put yet, though its revision is committed
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sgdataplane.errors import LimitError, Problem, StateFileError, Where
from sgdataplane.store.encoded import decode, encode
from sgdataplane.store.etcd.messages import Message, make
from sgdataplane.store.interface import Answered, Body, Path, Revision, Token, Write
from sgdataplane.visible import json_text

FORMAT = 2
PRIVATE = "access_key/"  # what begins so is kept apart
MAX_BYTES, MAX_AT_ONCE = 5 << 18, 1 << 20  # of a document, and of a small commit's: etcd takes 1.5 MB a request
MAX_OPERATIONS = 100  # of documents and guards: etcd takes 128 a transaction
LONG = 1 << 14  # bytes from which a value is compressed
EQUAL, GREATER, MOD, VALUE = 0, 1, 2, 3  # etcd's numbers in a comparison


@dataclass(frozen=True, slots=True)
class Keys:
    """The keys of the store of that name."""

    name: str

    def of(self, *parts: str | int) -> bytes:
        """Return the key of these parts. Numbers are padded, so that keys are in their order."""
        return "/".join((self.name, *(f"{part:020d}" if isinstance(part, int) else part for part in parts))).encode()

    def document(self, path: Path) -> bytes:
        """Return the key of a document."""
        return self.of("private/doc" if path.startswith(PRIVATE) else "doc", path)

    def name_in(self, key: bytes, folder: str) -> str:
        """Return the last part of a key in a folder."""
        return key.decode().removeprefix(f"{self.name}/{folder}/")

    def folder(self, *parts: str | int) -> tuple[bytes, bytes]:
        """Return the first key in a folder, and the first one behind it."""
        first = self.of(*parts, "")
        return first, first[:-1] + b"0"  # "0" comes after "/"


@dataclass(frozen=True, slots=True)
class LogEntry:
    """The changes of one revision."""

    nonce: str  # a text that only this commit has
    puts: Mapping[Path, bytes]  # documents as etcd's values
    deletes: frozenset[Path]
    guards: frozenset[str]
    log: bytes  # all of it as one value, but for private documents
    private: bytes = b""  # the private documents as one value; b"" if there are none

    @staticmethod
    def of(write: Write, nonce: str) -> LogEntry:
        """Return what a commit would change. `nonce` is its own.

        Raises:
            LimitError: A document is larger than etcd takes.
            ValueError: A value isn't JSON.
            TypeError: A value isn't JSON.
        """
        about = {"nonce": nonce, "deletes": sorted(write.deletes), "guards": sorted(write.guards)}
        puts = {path: pack(body) for path, body in write.puts.items()}
        for path, value in puts.items():
            if len(value) > MAX_BYTES:
                raise LimitError(f"the document {path} (bytes in etcd)", MAX_BYTES, len(value))
        private = {path: body for path, body in write.puts.items() if path.startswith(PRIVATE)}
        log = pack({"puts": {path: body for path, body in write.puts.items() if path not in private}, **about})
        private_log = pack({"puts": private}) if private else b""
        return LogEntry(nonce, puts, write.deletes, frozenset(write.guards), log, private_log)

    @staticmethod
    def read(log: bytes) -> LogEntry:
        """Return the entry of a log's value, without private documents."""
        found = json.loads(unpack(log))
        puts = {path: pack(body) for path, body in found["puts"].items()}
        return LogEntry(found["nonce"], puts, frozenset(found["deletes"]), frozenset(found["guards"]), log)

    @property
    def is_small(self) -> bool:
        """Whether one transaction can make it."""
        names = sum(len(path.encode()) for path in (*self.puts, *self.deletes))
        size = len(self.log) + sum(map(len, self.puts.values())) + names
        count = len(self.puts) + len(self.deletes) + len(self.guards)
        return count <= MAX_OPERATIONS and size <= MAX_AT_ONCE

    def operations(self, keys: Keys, revision: int) -> Iterator[Message]:
        """Yield the operations that put and delete the documents, and move the guards."""
        yield from (put(keys.of("guard", name), b"%d" % revision) for name in self.guards)
        yield from (put(keys.document(path), value) for path, value in self.puts.items())
        yield from (delete(keys.document(path)) for path in self.deletes)

    def private_operations(self, keys: Keys) -> Iterator[Message]:
        """Yield the operations that put private documents, which are in no chunked write."""
        private = ((path, value) for path, value in self.puts.items() if path.startswith(PRIVATE))
        yield from (put(keys.document(path), value) for path, value in private)

    def batches(self, keys: Keys, revision: int) -> Iterator[list[Message]]:
        """Yield the operations in batches, each of which fits into a transaction of etcd's."""
        batch: list[Message] = []
        size = 0
        for operation in self.operations(keys, revision):
            if batch and (len(batch) == MAX_OPERATIONS or size + operation.ByteSize() > MAX_BYTES):
                yield batch
                batch, size = [], 0
            batch.append(operation)
            size += operation.ByteSize()
        yield batch


def revision_of(number: int, log: bytes, private: bytes = b"") -> Revision:
    """Return what watches get of a revision, from its log and its private one."""
    found, more = json.loads(unpack(log)), json.loads(unpack(private or b"{}"))
    puts = found["puts"] | more.get("puts", {})
    return Revision(number, puts, frozenset(found["deletes"]), frozenset(found["guards"]))


# values


def pack(body: Mapping[str, Any]) -> bytes:
    """Return an object as JSON. A long one is compressed, without escapes, which would make it longer."""
    text = encode(body)
    return text.encode() if len(text) <= LONG else zlib.compress(json_text(json.loads(text)).encode(), 1)


def encode_place(place: str) -> bytes:
    """Return a value whose chunks are in that folder."""
    return b"@" + place.encode()


def place_of(value: bytes) -> str:
    """Return where a value's chunks are; "" if it is whole."""
    return value[1:].decode() if value.startswith(b"@") else ""


def pending_value(chunked_at: str, revision: int) -> bytes:
    """Return the value of `pending` for a chunked write."""
    return json.dumps({"parcel": chunked_at, "revision": revision}).encode()


def nonce_of(log: bytes) -> str:
    """Return the nonce of the commit that wrote a log."""
    place = place_of(log)
    return place.rpartition("/")[2] if place else str(read_value(log)["nonce"])


def unpack(value: bytes) -> bytes:
    """Return a value without its compression. JSON begins with a brace, and what is compressed with an x."""
    return zlib.decompress(value) if value.startswith(b"x") else value


def head_value(revision: int) -> bytes:
    """Return the value of `head` at a revision."""
    return json.dumps({"format": FORMAT, "revision": revision}).encode()


def head_of(pairs: list[Message]) -> int:
    """Return the revision that a head says; 0 if there is none.

    Raises:
        StateFileError: Another version wrote the store.
    """
    if not pairs:
        return 0
    found = json.loads(pairs[0].value)
    if found["format"] != FORMAT:
        expected = f"version {FORMAT}"
        problem = Problem(
            Where(), "InvalidStore.Version", "another version wrote the store", str(found["format"]), expected
        )
        raise StateFileError((problem,))
    return int(found["revision"])


def token_value(token: Token, revision: int) -> bytes:
    """Return the value of a token, with the answer to its request."""
    about: Body = {"digest": token.digest, "until": token.until, "revision": revision, "answer": dict(token.answer)}
    return pack(about)


def find_answer(pairs: list[Message], now: float) -> Answered | None:
    """Return what a token says; None if there is none or its time is over. `now` is in seconds since 1970."""
    if not pairs:
        return None
    found = read_value(pairs[0].value)
    return Answered(found["digest"], found["answer"], found["revision"]) if found["until"] > now else None


def read_value(value: bytes) -> dict[str, Any]:
    """Return the object that a value holds."""
    return decode(unpack(value))


# operations and comparisons


def put(key: bytes, value: bytes, lease: int = 0) -> Message:
    """Return the operation that puts a key. `lease` removes it later; 0: nothing does."""
    return make("RequestOp", request_put=make("PutRequest", key=key, value=value, lease=lease))


def delete(first: bytes, end: bytes = b"") -> Message:
    """Return the operation that deletes a key, or all keys up to `end`."""
    return make("RequestOp", request_delete_range=make("DeleteRangeRequest", key=first, range_end=end))


def get(first: bytes, end: bytes = b"", limit: int = 0) -> Message:
    """Return the operation that reads a key, or all keys up to `end`; 0 is no limit."""
    return make("RequestOp", request_range=make("RangeRequest", key=first, range_end=end, limit=limit))


def is_there(key: bytes) -> Message:
    """Return the comparison that a key is there."""
    return make("Compare", key=key, result=GREATER, target=MOD, mod_revision=0)


def is_value(key: bytes, value: bytes) -> Message:
    """Return the comparison that a key has this value."""
    return make("Compare", key=key, result=EQUAL, target=VALUE, value=value)


def is_of(key: bytes, mod_revision: int) -> Message:
    """Return the comparison that a key was put last at that revision of etcd's; 0: never."""
    return make("Compare", key=key, result=EQUAL, target=MOD, mod_revision=mod_revision)
