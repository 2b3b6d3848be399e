"""A client of the API, for `sgdp group`: signs a call, sends it, and reads the answer.

Owns the request's form, which is that of the cloud's own SDKs: signed in a header, everything in the query. Must not
know what a call means.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import secrets
import ssl
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, urlsplit

from sgdataplane.control.access.signature import ALGORITHM, SIGNED, SignedParts, acs3_canonical, encode_query, sign_acs3
from sgdataplane.control.calls.products import ECS_VERSION
from sgdataplane.errors import EndpointError, SgDataplaneError
from sgdataplane.visible import visible

ANSWER_S = 60.0
LARGEST = 64 << 20  # bytes of an answer
SCHEMES = ("http", "https")
EXAMPLE = "a URL such as http://127.0.0.1:8080"
# Where a client finds what it needs; the last two are the cloud's own names.
URL, KEY, SECRET = "SGDP_API", "ALIBABA_CLOUD_ACCESS_KEY_ID", "ALIBABA_CLOUD_ACCESS_KEY_SECRET"


class RefusedError(SgDataplaneError):
    """The API has refused a call. `code` is the cloud's."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(code, message)
        self.code, self.message = code, message

    def __str__(self) -> str:
        return visible(f"{self.code}: {self.message}")


@dataclass(frozen=True, slots=True)
class ApiClient:
    """A client that signs with one key."""

    url: str
    """`http://HOST:PORT` or `https://HOST:PORT`."""
    key: str
    secret: str
    authority: Path | None = None
    """The file of the authority of the API's certificate; None for the system's authorities."""
    version: str = ECS_VERSION
    """The version of the cloud's API that calls are for."""

    @classmethod
    def of_environment(cls) -> ApiClient:
        """Return a client by the environment's variables.

        Raises:
            ValueError: A variable is missing, or the URL is none.
        """
        missing = [name for name in (URL, KEY, SECRET) if not os.environ.get(name)]
        if missing:
            raise ValueError(f"set {', '.join(missing)}: {URL} is {EXAMPLE}, and `sgdp api keys create` makes a key")
        url = os.environ[URL]
        if urlsplit(url).scheme not in SCHEMES or not urlsplit(url).netloc:
            raise ValueError(f"{URL}: {visible(url)} is not {EXAMPLE}")
        return cls(url, os.environ[KEY], os.environ[SECRET])

    def ask(self, action: str, **parameters: object) -> dict[str, Any]:
        """Make a call, and return the answer's fields, with `revision` if something was written.

        Raises:
            RefusedError: The API refuses the call.
            EndpointError: No answer comes.
        """
        split = urlsplit(self.url)
        query = dict(flat(parameters))
        try:
            connection = self._connection(split)
        except OSError as error:  # of the authority's file
            raise EndpointError(str(self.authority), error.strerror or str(error)) from error
        try:
            connection.request("POST", f"/?{encode_query(query)}", b"", self._headers(action, query, split.netloc))
            answer = connection.getresponse()
            return _read(answer.read(LARGEST), answer.getheader("x-sgdp-revision"), is_done=answer.status == 200)
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise EndpointError(self.url, f"no answer: {error}") from error
        finally:
            connection.close()

    def _connection(self, url: SplitResult) -> http.client.HTTPConnection:
        if url.scheme == "http":
            return http.client.HTTPConnection(url.netloc, timeout=ANSWER_S)
        context = ssl.create_default_context(cafile=self.authority)
        return http.client.HTTPSConnection(url.netloc, timeout=ANSWER_S, context=context)

    def _headers(self, action: str, query: Mapping[str, str], host: str) -> dict[str, str]:
        headers = {
            "host": host,
            "x-acs-action": action,
            "x-acs-content-sha256": hashlib.sha256(b"").hexdigest(),
            "x-acs-date": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "x-acs-signature-nonce": secrets.token_hex(16),
            "x-acs-version": self.version,
        }
        canonical = acs3_canonical(SignedParts("POST", query, {}, headers, b""), list(SIGNED))
        signature = sign_acs3(self.secret, f"{ALGORITHM}\n{hashlib.sha256(canonical.encode()).hexdigest()}")
        signed = ";".join(SIGNED)
        return {
            **headers,
            "authorization": f"{ALGORITHM} Credential={self.key},SignedHeaders={signed},Signature={signature}",
        }


def flat(value: object, path: str = "") -> Iterator[tuple[str, str]]:
    """Yield {"Permissions": [{"Policy": "drop"}]} as ("Permissions.1.Policy", "drop"), without what is None or ""."""
    if isinstance(value, Mapping):
        for name, part in value.items():
            yield from flat(part, f"{path}.{name}" if path else str(name))
    elif isinstance(value, (list, tuple)):
        for number, part in enumerate(value, 1):
            yield from flat(part, f"{path}.{number}")
    elif value not in (None, ""):
        yield path, str(value).lower() if isinstance(value, bool) else str(value)


def _read(data: bytes, revision: str | None, *, is_done: bool) -> dict[str, Any]:
    body = json.loads(data)
    if not isinstance(body, dict):
        raise ValueError("the answer is not an object")
    if not is_done:
        raise RefusedError(str(body.get("Code", "")), str(body.get("Message", "")))
    return {**body, **({} if revision is None else {"revision": int(revision)})}
