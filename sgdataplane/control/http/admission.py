"""From the bytes of a request to a call that may be made.

    bytes --> pairs --> who signed it --> may it now --> typed parameters --> may this key

Owns this order, and which versions and headers are understood. It gets the parts that know keys and policies. Must not
know the server, or what an action does. Safe for several threads; may wait for a disk where keys are kept.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TypeAlias
from urllib.parse import unquote_plus

from sgdataplane.control.access.permissions import forbidden
from sgdataplane.control.access.signature import SignedParts, Signer, Verifier, missing
from sgdataplane.control.calls.answers import ApiError
from sgdataplane.control.calls.parameters import nest_and_type, read_pairs, tables, together, unknown_action
from sgdataplane.control.calls.products import ECS_VERSION, qualify_action
from sgdataplane.control.http.tokenbuckets import TokenBuckets
from sgdataplane.store.call import Call

FORM = "application/x-www-form-urlencoded"
ONCE = ("host", "authorization", "content-type")  # and x-acs-*: headers that mustn't come twice
CREDENTIAL = re.compile(r"Credential=([^,\s]{1,256})")
SIGNATURE, KEY_ID = re.compile(rb"(?:^|&)Signature="), re.compile(rb"(?:^|&)AccessKeyId=([^&]{1,256})(?=&|$)")
ACTION = re.compile(rb"(?:^|&)Action=([A-Za-z0-9]{1,256})(?=&|$)")
NO_TYPE = 415
KEY_ACTIONS = 3  # a key may call as often, in all, as this many of its actions
SHOWN = 128  # characters of a key's or action's name in the log

Permits: TypeAlias = Callable[[Call], bool]


@dataclass(frozen=True, slots=True)
class Incoming:
    """A request as it came."""

    method: str
    query: bytes
    headers: tuple[tuple[str, str], ...]  # pairs of a name in lower case and a value
    body: bytes
    source: str  # the client's address
    request_id: str


@dataclass(slots=True)
class Asker:
    """The key and the action of a request, for the log."""

    key: str = ""
    action: str = ""
    version: str = ""
    has_signed: bool = False
    """Whether the signature was right; otherwise the other fields are only what the request says."""


class Admission:
    """Admits requests: makes calls of them, or refuses them.

    `permits` returns whether a key's policies allow a call.
    """

    def __init__(
        self,
        verifier: Verifier,
        permits: Permits = lambda _: True,
        buckets: TokenBuckets | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._verifier, self._permits, self._clock = verifier, permits, clock
        self._buckets = buckets or TokenBuckets()
        self._key_buckets = self._buckets.times(KEY_ACTIONS)

    def admit(self, incoming: Incoming, asker: Asker) -> Call:
        """Return the call that a request makes, and fill in `asker` on the way.

        Raises:
            ApiError: The request is refused.
        """
        now, headers = self._clock(), _headers(incoming.headers)
        body = _form(incoming.body, headers)
        key = find_claimed_key(incoming, headers)
        asker.key, asker.action = key[:SHOWN], find_claimed_action(incoming, headers)[:SHOWN]
        self._verifier.require_known(key)
        query, form = read_pairs(incoming.query), read_pairs(body)
        parts = SignedParts(incoming.method, query, form, headers, incoming.body)
        pairs = together(query, form)
        claim = self._verifier.claim(parts)
        asker.key, asker.action = claim.key[:SHOWN], claim.action[:SHOWN]
        signer = self._verifier.verify(claim, now, lambda one: self._check(one, asker, now))
        action = qualify_action(signer.action, signer.version)
        parameters = nest_and_type(action, pairs)
        call = Call(
            action=action,
            parameters=parameters.named,
            request_id=incoming.request_id,
            key=signer.key.id,
            source=incoming.source,
            now=now,
            extensions=parameters.extensions,
            host=headers.get("host", ""),
        )
        if not self._permits(call):
            raise forbidden()
        return call

    def _check(self, signer: Signer, asker: Asker, now: float) -> None:
        """Refuse what a key asks for too often, and actions that don't exist.

        All unknown actions share one bucket of a key, so that a key can't get as many as it likes.

        Raises:
            ApiError: It is refused.
        """
        asker.has_signed = True
        self._key_buckets.take(signer.key.id, "", now)
        action = qualify_action(signer.action, signer.version)
        is_known = action in tables()
        self._buckets.take(signer.key.id, action if is_known else "", now)
        asker.version = signer.version[:SHOWN]
        if is_known:
            asker.action = action
        elif not action and signer.action in tables():
            raise ApiError("InvalidVersion", f"Specified parameter Version is not valid; it is {ECS_VERSION}.")
        else:
            raise unknown_action(signer.action, signer.version)


def find_claimed_key(incoming: Incoming, headers: Mapping[str, str]) -> str:
    """Return the key that a request says is its own, without reading the rest of it.

    A client without a key mustn't make us decode, sort and hash a megabyte to find that out.

    Raises:
        ApiError: The request names no key.
    """
    if "authorization" in headers:
        found = CREDENTIAL.search(headers["authorization"])
        return found[1] if found else ""
    if not any(SIGNATURE.search(text) for text in (incoming.query, incoming.body)):
        raise missing("Signature")
    named = KEY_ID.search(incoming.query) or KEY_ID.search(incoming.body)
    if named is None:
        raise missing("AccessKeyId")
    return unquote_plus(named[1].decode("latin-1"))


def find_claimed_action(incoming: Incoming, headers: Mapping[str, str]) -> str:
    """Return the action that a request asks for; "" if it doesn't name it in the usual place."""
    named = ACTION.search(incoming.query) or ACTION.search(incoming.body)
    return headers.get("x-acs-action", "") or (named[1].decode("latin-1") if named else "")


def _headers(headers: Iterable[tuple[str, str]]) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, value in headers:
        if name in found and (name in ONCE or name.startswith("x-acs-")):
            raise ApiError("InvalidParameter", f"The header {name} comes more than once.")
        found[name] = f"{found[name]},{value}" if name in found else value
    return found


def _form(body: bytes, headers: dict[str, str]) -> bytes:
    """Return the body, which has to be a form if there is any.

    Raises:
        ApiError: It is something else.
    """
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    if body and kind != FORM:
        raise ApiError("UnsupportedContentType", f"A body has to be {FORM}.", NO_TYPE)
    return body
