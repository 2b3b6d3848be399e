"""Access keys: who may call the API. They are documents in the store, changed by commits like everything else.

Owns what such a document holds, and making, finding and revoking keys. Must not know signatures, or how secrets are
sealed.

A revoked key stays as a document without a secret, so that the audit's ids keep their names.
"""

from __future__ import annotations

import secrets
import string
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Protocol, cast

from sgdataplane.control.access.permissions import BUILT_IN, AccessPolicy, PolicyError, read_policy
from sgdataplane.control.access.signature import digest_of
from sgdataplane.control.access.targets import CallTarget
from sgdataplane.control.calls.answers import UNAVAILABLE, ApiError
from sgdataplane.errors import Problem, StateFileError, Where
from sgdataplane.store.audit import record_of
from sgdataplane.store.call import Call
from sgdataplane.store.interface import (
    Body,
    ConflictError,
    GoneError,
    Json,
    Path,
    Snapshot,
    Store,
    UnavailableError,
    Write,
)

KIND = "access_key"
GUARD = "access_keys"
PREFIX, ID_CHARACTERS, SECRET_CHARACTERS = "LTAI5t", 18, 30  # as long as the cloud's
TEMPORARY_PREFIX, TOKEN_CHARACTERS = "STS.N", 120  # of a temporary key
# What a temporary key's document has in place of its policy. Versions that know no temporary keys, and so would ask for
# no token and see no end, can't read that, and give the key no rights.
NO_POLICY = '"temporary"'
ALPHABET = string.ascii_letters + string.digits


class Box(Protocol):
    """A box that seals secrets and opens them. `name` says what each is the secret of."""

    def seal(self, secret: str, name: str) -> str:
        """Return a secret in its sealed form."""

    def open(self, sealed: str, name: str) -> str:
        """Return the secret that was sealed under this name.

        Raises:
            StateFileError: It was sealed with another key, for another name, or was changed.
        """


@dataclass(frozen=True, slots=True)
class StoredKey:
    """An access key as the store has it.

    A temporary key has an end, and its requests must have its token. One whose document doesn't say its end has ended.
    """

    id: str
    name: str
    policy: str  # the name of a built-in policy, or the text of another one
    sealed: str  # the secret; "" once the key is revoked
    created: float  # seconds since 1970
    revoked: float | None = None  # seconds since 1970; None if it isn't revoked
    ends: float | None = None  # seconds since 1970; None for a key that isn't temporary
    token_digest: str = ""  # the SHA-256 of a temporary key's token, else ""

    @property
    def path(self) -> Path:
        """The path of the key's document."""
        return f"{KIND}/{self.id}"

    @property
    def has_built_in_policy(self) -> bool:
        """Whether the policy is one of those that are built in."""
        return self.policy in BUILT_IN

    def body(self) -> Body:
        """Return the key's document."""
        about: dict[str, Json] = {
            "name": self.name,
            "policy": self.policy if self.ends is None else NO_POLICY,
            "sealed_secret": self.sealed,
            "created": self.created,
            "revoked": self.revoked,
        }
        if self.ends is not None:
            about["temporary"] = {"policy": self.policy, "ends": self.ends, "token_digest": self.token_digest}
        return {"state": {}, "about": about}

    @staticmethod
    def of(path: Path, body: Body) -> StoredKey:
        """Return the key that a document holds."""
        about, key_id = cast("dict[str, Json]", body["about"]), path.partition("/")[2]
        temporary = cast("dict[str, Json]", about.get("temporary", {}))
        is_temporary = bool(temporary) or key_id.startswith(TEMPORARY_PREFIX)
        return StoredKey(
            key_id,
            cast(str, about["name"]),
            cast(str, temporary.get("policy", about["policy"])),
            cast(str, about["sealed_secret"]),
            cast(float, about["created"]),
            cast("float | None", about["revoked"]),
            cast(float, temporary.get("ends", 0.0)) if is_temporary else None,
            str(temporary.get("token_digest", "")),
        )


@dataclass(frozen=True, slots=True)
class UsableKey:
    """What a request's signature is checked with."""

    id: str
    secret: str  # "" for a revoked key
    is_revoked: bool
    policy: AccessPolicy
    ends: float | None = None  # when a temporary key ends, in seconds since 1970; None for others
    token_digest: str = ""  # the SHA-256 of a temporary key's token, else ""


@dataclass(frozen=True, slots=True)
class NewKey:
    """A new key with what nobody can read from the store."""

    id: str
    secret: str
    token: str = ""  # a temporary key's token, else ""
    ends: float | None = None  # when a temporary key ends, in seconds since 1970; None for others


def list_keys(documents: Mapping[Path, Body]) -> list[StoredKey]:
    """Return all keys, the oldest first."""
    found = [StoredKey.of(path, body) for path, body in documents.items() if path.startswith(f"{KIND}/")]
    return sorted(found, key=lambda key: (key.created, key.id))


def policy_of(text: str, file: str = "") -> AccessPolicy:
    """Return a policy by the name of a built-in one, or by its text.

    Raises:
        PolicyError: The text is no policy.
    """
    return BUILT_IN[text] if text in BUILT_IN else read_policy(text, file)


def create_key(  # noqa: PLR0913  # what a key is, and who makes it
    store: Store, box: Callable[[bool], Box], call: Call, *, name: str, policy: str, lasts_s: float | None = None
) -> NewKey:
    """Make a key, and commit it. With `lasts_s` it is a temporary key that ends after so many seconds.

    `box` is called with whether no other secret is sealed yet. If so, a new sealing key will do.

    Raises:
        PolicyError: The policy can't be used.
    """
    policy_of(policy)
    prefix = PREFIX if lasts_s is None else TEMPORARY_PREFIX
    key_id, secret = prefix + _random(ID_CHARACTERS), _random(SECRET_CHARACTERS)
    token = "" if lasts_s is None else _random(TOKEN_CHARACTERS)
    ends = None if lasts_s is None else call.now + lasts_s

    def decide(seen: Snapshot) -> StoredKey:
        is_first = not any(key.sealed for key in list_keys(seen.documents))
        sealed = box(is_first).seal(secret, key_id)
        return StoredKey(key_id, name, policy, sealed, call.now, None, ends, digest_of(token) if token else "")

    _commit(store, call, decide)
    return NewKey(key_id, secret, token, ends)


def revoke_key(store: Store, call: Call, key_id: str) -> StoredKey:
    """Revoke a key, so that it is refused from the next request on. Return the revoked key.

    A key that is revoked already stays as it is.

    Raises:
        StateFileError: There is no key of this id.
    """

    def decide(seen: Snapshot) -> StoredKey:
        key = next((one for one in list_keys(seen.documents) if one.id == key_id), None)
        if key is None:
            message, expected = "there is no such access key", "an id that `sgdp api keys list` shows"
            raise StateFileError((Problem(Where(), "InvalidAccessKeyId.NotFound", message, key_id, expected),))
        return key if key.revoked else replace(key, sealed="", revoked=call.now)

    return _commit(store, call, decide)


def _commit(store: Store, call: Call, decide: Callable[[Snapshot], StoredKey]) -> StoredKey:
    """Commit the key that `decide` returns. If others commit meanwhile, decide anew.

    Nothing is committed if the document is there already.
    """
    while True:
        seen = store.snapshot()
        key = decide(seen)
        if seen.documents.get(key.path) == key.body():
            return key
        guards = {GUARD: seen.guards.get(GUARD, 0)}
        try:
            store.commit(Write(guards, {key.path: key.body()}, audit=record_of(call, [key.path])))
        except ConflictError:
            continue
        return key


def _random(length: int) -> str:
    return "".join(secrets.choice(ALPHABET) for _ in range(length))


class Keyring:
    """Finds keys for those who serve requests. Several threads may use it.

    Each look first takes over what any process has committed. So a key that was revoked opens nothing from then on.
    `box` is called only once there is a key.
    """

    def __init__(self, store: Store, box: Callable[[], Box]) -> None:
        self._store, self._box = store, box
        self._lock = threading.Lock()
        self._revision = -1
        self._keys: dict[Path, tuple[StoredKey, AccessPolicy]] = {}

    def find(self, key_id: str) -> UsableKey | None:
        """Return the key of this id; None if there is none.

        Raises:
            ApiError: The store can't be reached. A key that is known from before may have been revoked.
            StateFileError: The key's secret can't be opened.
        """
        with self._lock:
            try:
                self._catch_up()
            except UnavailableError as error:
                raise ApiError("ServiceUnavailable", f"The store can't be reached: {error}", UNAVAILABLE) from error
            key, policy = self._keys.get(f"{KIND}/{key_id}", (None, None))
        if key is None or policy is None:
            return None
        secret = self._box().open(key.sealed, key.id) if key.sealed else ""
        return UsableKey(key.id, secret, key.revoked is not None, policy, key.ends, key.token_digest)

    def is_known(self, key_id: str) -> bool:
        """Whether there was a key of this id that wasn't revoked when a key was found last. It doesn't wait."""
        key, _ = self._keys.get(f"{KIND}/{key_id}", (None, None))
        return key is not None and key.revoked is None

    def permits(self, call: Call) -> bool:
        """Whether the policy of the call's key permits it, as it was when the key was found last."""
        with self._lock:
            key, policy = self._keys.get(f"{KIND}/{call.key}", (None, None))
        return key is not None and policy is not None and key.revoked is None and policy.permits(call)

    def denies(self, call: Call, targets: Iterable[CallTarget]) -> bool:
        """Whether the policy of the call's key explicitly denies its action on any of these."""
        with self._lock:
            _, policy = self._keys.get(f"{KIND}/{call.key}", (None, None))
        return policy is not None and policy.denies(call.action, targets)

    def _catch_up(self) -> None:
        try:
            if self._revision < 0:
                raise GoneError("nothing was read yet")
            for change in self._store.watch(self._revision, timeout=0):
                self._put(change.puts)
                for path in change.deletes:
                    self._keys.pop(path, None)
                self._revision = change.revision
        except GoneError:
            seen = self._store.snapshot()
            self._keys.clear()
            self._put(seen.documents)
            self._revision = seen.revision

    def _put(self, documents: Mapping[Path, Body]) -> None:
        for key in list_keys(documents):
            try:
                self._keys[key.path] = key, policy_of(key.policy)
            except PolicyError:  # another version took it: this one must not guess, and the other keys go on
                self._keys[key.path] = key, AccessPolicy(())
