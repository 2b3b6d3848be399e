"""The signatures of requests: ACS3-HMAC-SHA256 in a header, or version 1 (HMAC-SHA1) in the parameters.

Owns both ways to sign. Its input is the pairs of query and form as they were decoded. It encodes them anew to sign
them, because clients write a blank as + or as %20. Must not know the server, what an action does, or where keys are
kept.

Everything that we read of a request is covered by its signature: the header's way asks for the signed headers that we
use, and for the hash of the body that really came.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol, TypeAlias
from urllib.parse import quote

from sgdataplane.control.access.nonces import SKEW_S, Nonces
from sgdataplane.control.calls.answers import NOT_FOUND, ApiError
from sgdataplane.control.calls.parameters import Pairs

MAX_NONCE = 128
SHOWN = 16 * 1024  # characters of a string to sign in a message
ALGORITHM = "ACS3-HMAC-SHA256"
SIGNED = ("host", "x-acs-action", "x-acs-content-sha256", "x-acs-date", "x-acs-signature-nonce", "x-acs-version")
TOKEN = "x-acs-security-token"
_AUTHORIZATION = re.compile(
    rf"{ALGORITHM} +Credential=(?P<key>[^,\s]+), *SignedHeaders=(?P<headers>[a-z0-9;-]+), *Signature=(?P<signature>\w+)"
)


class AccessKey(Protocol):
    """A key as a signature is checked against it."""

    @property
    def id(self) -> str:
        """The key's id, which requests name."""

    @property
    def secret(self) -> str:
        """The secret that requests are signed with; "" for a revoked key."""

    @property
    def is_revoked(self) -> bool:
        """Whether the key is revoked."""

    @property
    def ends(self) -> float | None:
        """When a temporary key ends, in seconds since 1970; None for others."""

    @property
    def token_digest(self) -> str:
        """The digest of the token that a temporary key's requests must have; "" for other keys."""


FindKey: TypeAlias = Callable[[str], AccessKey | None]


@dataclass(frozen=True, slots=True)
class SignedParts:
    """The parts of an HTTP request that a signature covers."""

    method: str
    query: Pairs
    form: Pairs
    headers: Mapping[str, str]  # by lower-case name; each came once
    body: bytes


@dataclass(frozen=True, slots=True)
class Signer:
    """The key that has signed a request, with the action that the request asks for."""

    key: AccessKey
    action: str
    version: str


@dataclass(frozen=True, slots=True)
class SignatureClaim:
    """What a request says of its own signature. Nothing of it is proven."""

    key: str  # the id of the key
    signature: str
    date: str
    nonce: str
    action: str
    version: str
    to_sign: str  # the text that has to be signed
    sign: Callable[[str, str], str]  # signs a text with a secret
    canonical: str = ""  # the text that `to_sign` is the hash of, if it is one
    token: str = ""  # a temporary key's token, else ""


class Verifier:
    """Returns who signed a request, or raises the cloud's error.

    `find_key` is called in a thread, and may wait. `is_known` tells at once whether it found a key before.
    """

    def __init__(
        self,
        find_key: FindKey,
        *,
        is_known: Callable[[str], bool] = lambda _: False,
        nonces: Nonces | None = None,
        accepts_v1: bool = True,
    ) -> None:
        self._find_key, self._is_known, self._accepts_v1 = find_key, is_known, accepts_v1
        self._nonces = nonces or Nonces()

    def claim(self, parts: SignedParts) -> SignatureClaim:
        """Return what a request says of itself. Nothing of it is proven yet."""
        return claim_of(parts, accepts_v1=self._accepts_v1)

    def require_known(self, key: str) -> None:
        """Refuse a key that isn't there or is revoked. "" passes; it is refused when the whole request is read.

        A key that was there before passes, too: `verify` finds out whether it still is.

        Raises:
            ApiError: There is no such key, or it is revoked.
        """
        if key and not self._is_known(key):
            self._find(key)

    def verify(self, claim: SignatureClaim, now: float, check: Callable[[Signer], object] = lambda _: None) -> Signer:
        """Return who signed a request, and note its nonce.

        `check` is called before that with who signed it, and may refuse it: what is refused uses up no nonce.

        Raises:
            ApiError: The signature, its time, its token or its nonce isn't right.
        """
        signed_at = _time(claim.date)
        if abs(now - signed_at) > SKEW_S:
            raise ApiError("InvalidTimeStamp.Expired", _describe_expiry(claim.date, now))
        key = self._find(claim.key)
        if not _are_equal(claim.sign(key.secret, claim.to_sign), claim.signature):
            raise ApiError("SignatureDoesNotMatch", _mismatch(claim))
        _require_token(key, claim.token, now)
        signer = Signer(key, claim.action, claim.version)
        check(signer)
        self._nonces.use(key.id, claim.nonce, signed_at, now)
        return signer

    def _find(self, name: str) -> AccessKey:
        key = self._find_key(name)
        if key is None:
            raise ApiError("InvalidAccessKeyId.NotFound", "Specified access key is not found.", NOT_FOUND)
        if key.is_revoked:
            raise ApiError("InvalidAccessKeyId.Inactive", "Specified access key is disabled.")
        return key


def claim_of(parts: SignedParts, *, accepts_v1: bool = True) -> SignatureClaim:
    """Return what a request says of its signature, in whichever way it is signed.

    Raises:
        ApiError: It has no signature, or one that can't be read.
    """
    if "authorization" in parts.headers:
        return _acs3(parts)
    if "Signature" not in parts.query and "Signature" not in parts.form:
        raise missing("Signature")
    if not accepts_v1:
        raise ApiError("UnsupportedSignatureMethod", f"This endpoint accepts {ALGORITHM} only.")
    return _v1(parts)


# the header's way


def _acs3(parts: SignedParts) -> SignatureClaim:
    found = _AUTHORIZATION.fullmatch(parts.headers["authorization"])
    if found is None:
        form = f"{ALGORITHM} Credential=...,SignedHeaders=...,Signature=..."
        raise ApiError("IncompleteSignature", f"The Authorization header is not of the form {form}.")
    signed = found["headers"].split(";")
    _check_signed_headers(parts, signed)
    if not _are_equal(hashlib.sha256(parts.body).hexdigest(), parts.headers["x-acs-content-sha256"].lower()):
        raise ApiError("SignatureDoesNotMatch", "x-acs-content-sha256 is not the SHA-256 of the body that came.")
    canonical = acs3_canonical(parts, signed)
    return SignatureClaim(
        key=found["key"],
        signature=found["signature"].lower(),
        date=parts.headers["x-acs-date"],
        nonce=_nonce(parts.headers["x-acs-signature-nonce"]),
        action=parts.headers["x-acs-action"],
        version=parts.headers["x-acs-version"],
        to_sign=f"{ALGORITHM}\n{hashlib.sha256(canonical.encode()).hexdigest()}",
        sign=sign_acs3,
        canonical=canonical,
        token=parts.headers.get(TOKEN, ""),
    )


def _check_signed_headers(parts: SignedParts, signed: list[str]) -> None:
    """Refuse a request unless all headers that we read are there and signed; so is the type of a body."""
    for name in SIGNED:
        if not parts.headers.get(name):
            raise missing(name)
    needed = {*SIGNED, *(("content-type",) if parts.body else ()), *({TOKEN} & parts.headers.keys())}
    if left := sorted(needed - set(signed)):
        raise ApiError("IncompleteSignature", f"These headers are not signed: {', '.join(left)}.")
    if absent := sorted(set(signed) - parts.headers.keys()):
        raise ApiError("IncompleteSignature", f"These signed headers did not come: {', '.join(absent)}.")


def acs3_canonical(parts: SignedParts, signed: list[str]) -> str:
    """Return the canonical request of ACS3-HMAC-SHA256, whose hash is signed. `signed` names its headers."""
    headers = "".join(f"{name}:{parts.headers[name].strip()}\n" for name in signed)
    digest = parts.headers["x-acs-content-sha256"]
    return "\n".join((parts.method, "/", encode_query(parts.query), headers, ";".join(signed), digest))


def sign_acs3(secret: str, to_sign: str) -> str:
    """Return the ACS3-HMAC-SHA256 signature of a text."""
    return hmac.new(secret.encode(), to_sign.encode(), hashlib.sha256).hexdigest()


# the parameters' way


def _v1(parts: SignedParts) -> SignatureClaim:
    pairs = {**parts.query, **parts.form}
    for name in ("AccessKeyId", "Timestamp", "SignatureNonce", "Action", "Version"):
        if not pairs.get(name):
            raise missing(name)
    _check_method(pairs)
    return SignatureClaim(
        key=pairs["AccessKeyId"],
        signature=pairs["Signature"],
        date=pairs["Timestamp"],
        nonce=_nonce(pairs["SignatureNonce"]),
        action=pairs["Action"],
        version=pairs["Version"],
        to_sign=v1_to_sign(parts.method, pairs),
        sign=sign_v1,
        token=pairs.get("SecurityToken", ""),
    )


def _check_method(pairs: Pairs) -> None:
    for name, only in (("SignatureMethod", "HMAC-SHA1"), ("SignatureVersion", "1.0")):
        if pairs.get(name, only).upper() != only:
            raise ApiError("InvalidParameter", f'The specified parameter "{name}" is not valid: it is {only} here.')


def v1_to_sign(method: str, pairs: Pairs) -> str:
    """Return the text that version 1 signs: the method and all pairs but the signature."""
    unsigned = {name: value for name, value in pairs.items() if name != "Signature"}
    return f"{method}&{_quote('/')}&{_quote(encode_query(unsigned))}"


def sign_v1(secret: str, to_sign: str) -> str:
    """Return the signature of version 1 (HMAC-SHA1) of a text."""
    return base64.b64encode(hmac.new(f"{secret}&".encode(), to_sign.encode(), hashlib.sha1).digest()).decode()


# both


def encode_query(pairs: Pairs) -> str:
    """Return pairs as a query in the order of their names, encoded by RFC 3986.

    Names have letters, digits, underscores and dots only. So sorting them before or after encoding gives the same
    order.
    """
    return "&".join(f"{_quote(name)}={_quote(pairs[name])}" for name in sorted(pairs))


def _quote(text: str) -> str:
    return quote(text, safe="-_.~")


def _nonce(text: str) -> str:
    if len(text) > MAX_NONCE:
        raise ApiError("InvalidParameter", f"The signature's nonce has more than {MAX_NONCE} characters.")
    return text


def digest_of(token: str) -> str:
    """Return the digest under which a temporary key's token is kept."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


def _require_token(key: AccessKey, token: str, now: float) -> None:
    """Refuse a temporary key without its token or after its end, and any other key with a token.

    A temporary key is refused, too, if its end or its token isn't known.

    Raises:
        ApiError: The key is refused.
    """
    if key.ends is None and not key.token_digest:
        if token:
            words = "This key is a permanent one; send no security token."
            raise ApiError("InvalidSecurityToken.NotFound", words, NOT_FOUND)
        return
    if key.ends is None or now >= key.ends:
        raise ApiError("InvalidSecurityToken.Expired", "Specified SecurityToken is expired.")
    if not token:
        raise missing("SecurityToken")
    if not (key.token_digest and _are_equal(digest_of(token), key.token_digest)):
        raise ApiError("InvalidSecurityToken.MismatchWithAccessKey", "The security token isn't that of the key.")


def _time(text: str) -> float:
    try:
        return datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC).timestamp()
    except (ValueError, OverflowError):
        words = "Specified time stamp or date value is not well formatted; it is UTC, such as 2026-01-31T12:00:00Z."
        raise ApiError("InvalidTimeStamp.Format", words) from None


def _describe_expiry(date: str, now: float) -> str:
    here = datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return f"Specified time stamp or date value is expired. It says {date}, and it is {here} here."


def _are_equal(ours: str, theirs: str) -> bool:
    """Compare in a time that doesn't depend on what either text is. Theirs may be any text."""
    return hmac.compare_digest(ours.encode(), theirs.encode("utf-8", "surrogatepass"))


def missing(name: str) -> ApiError:
    """Return the cloud's error for a parameter or header that isn't there."""
    words = f'The input parameter "{name}" that is mandatory for processing this request is not supplied.'
    return ApiError("MissingParameter", words)


def _mismatch(claim: SignatureClaim) -> str:
    """Return the words for a wrong signature, with what we have signed.

    The cloud does so, too: it is how people find where their client differs.
    """
    words = "Specified signature is not matched with our calculation."
    canonical = f" server canonical request is:{claim.canonical[:SHOWN]}" if claim.canonical else ""
    return f"{words}{canonical} server string to sign is:{claim.to_sign[:SHOWN]}"
