"""Signed requests, written from the cloud's documentation and not with the product's code; and how they are sent."""

from __future__ import annotations

import base64
import hashlib
import hmac
import http.client
import itertools
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote, quote_plus, urlsplit

KEY, SECRET = "LTAItest", "secret of the test"
VERSION = "2014-05-26"
NONCES = map("nonce-{}".format, itertools.count())


@dataclass(frozen=True)
class KeyOfTests:
    id: str
    secret: str
    is_revoked: bool = False
    ends: float | None = None
    token_digest: str = ""


TOKEN = "token of the test"
TOKEN_DIGEST = hashlib.sha256(TOKEN.encode()).hexdigest()
OTHER_KEY = "LTAIother"
KEYS = {
    KEY: KeyOfTests(KEY, SECRET),
    OTHER_KEY: KeyOfTests(OTHER_KEY, SECRET),
    "LTAIold": KeyOfTests("LTAIold", SECRET, is_revoked=True),
    "STS.now": KeyOfTests("STS.now", SECRET, ends=9e9, token_digest=TOKEN_DIGEST),
    "STS.past": KeyOfTests("STS.past", SECRET, ends=1.0, token_digest=TOKEN_DIGEST),
    "STS.any": KeyOfTests("STS.any", SECRET, ends=9e9),
    "STS.over": KeyOfTests("STS.over", SECRET, ends=1.0),
    "STS.ever": KeyOfTests("STS.ever", SECRET, token_digest=TOKEN_DIGEST),
}


@dataclass(frozen=True)
class Signed:
    """A request as it goes onto the wire."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes = b""


@dataclass(frozen=True)
class Reply:
    status: int
    headers: Mapping[str, str]
    body: Mapping[str, Any] = field(default_factory=dict)

    @property
    def code(self) -> str:
        return str(self.body.get("Code", ""))


def stamp(seconds: float | None = None) -> str:
    at = datetime.now(UTC) if seconds is None else datetime.fromtimestamp(seconds, UTC)
    return at.strftime("%Y-%m-%dT%H:%M:%SZ")


def acs3(
    action: str,
    query: Mapping[str, str],
    form: Mapping[str, str] | None = None,
    *,
    method: str = "POST",
    key: str = KEY,
    secret: str = SECRET,
    headers: Mapping[str, str] | None = None,
    left_out: tuple[str, ...] = (),
) -> Signed:
    """As the official Python SDK sends it: a blank is `+` on the wire, and %20 in what is signed. `headers` replace its
    own; `left_out` aren't signed."""
    body = plus(form).encode() if form is not None else b""
    sent = {
        "host": "127.0.0.1",
        "x-acs-action": action,
        "x-acs-version": VERSION,
        "x-acs-date": stamp(),
        "x-acs-signature-nonce": next(NONCES),
        "x-acs-content-sha256": hashlib.sha256(body).hexdigest(),
        **({"content-type": "application/x-www-form-urlencoded"} if form is not None else {}),
        **(headers or {}),
    }
    names = sorted(set(sent) - set(left_out))
    signed = "".join(f"{name}:{sent[name]}\n" for name in names)
    parts = (method, "/", rfc3986(query), signed, ";".join(names), sent["x-acs-content-sha256"])
    digest = hashlib.sha256("\n".join(parts).encode()).hexdigest()
    signature = hmac.new(secret.encode(), f"ACS3-HMAC-SHA256\n{digest}".encode(), hashlib.sha256).hexdigest()
    sent["authorization"] = f"ACS3-HMAC-SHA256 Credential={key},SignedHeaders={';'.join(names)},Signature={signature}"
    return Signed(method, f"/?{plus(query)}", sent, body)


def v1(
    action: str,
    query: Mapping[str, str],
    form: Mapping[str, str] | None = None,
    *,
    method: str = "POST",
    key: str = KEY,
    secret: str = SECRET,
    common: Mapping[str, str] | None = None,
) -> Signed:
    """As the older SDKs send it: the signature is in the query, over query and form together."""
    query = {
        **query,
        "Action": action,
        "Version": VERSION,
        "Format": "JSON",
        "AccessKeyId": key,
        "Timestamp": stamp(),
        "SignatureNonce": next(NONCES),
        "SignatureMethod": "HMAC-SHA1",
        "SignatureVersion": "1.0",
        "SignatureType": "",
        **(common or {}),
    }
    to_sign = f"{method}&%2F&{quote(rfc3986({**query, **(form or {})}), safe='-_.~')}"
    digest = hmac.new(f"{secret}&".encode(), to_sign.encode(), hashlib.sha1).digest()
    target = f"/?{plus(query)}&Signature={quote_plus(base64.b64encode(digest))}"
    kind = {"content-type": "application/x-www-form-urlencoded"} if form is not None else {}
    return Signed(method, target, kind, plus(form or {}).encode())


def rfc3986(pairs: Mapping[str, str]) -> str:
    return "&".join(f"{quote(name, safe='-_.~')}={quote(pairs[name], safe='-_.~')}" for name in sorted(pairs))


def plus(pairs: Mapping[str, str]) -> str:
    return "&".join(f"{quote_plus(name)}={quote_plus(value)}" for name, value in pairs.items())


def send(url: str, request: Signed) -> Reply:
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=20)
    try:
        return send_on(connection, request)
    finally:
        connection.close()


def send_on(connection: http.client.HTTPConnection, request: Signed) -> Reply:
    connection.request(request.method, request.target, request.body, dict(request.headers))
    answer = connection.getresponse()
    text = answer.read()
    return Reply(answer.status, {name.lower(): value for name, value in answer.getheaders()}, json.loads(text))
