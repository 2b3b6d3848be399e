"""The engine's results for HTTP: an answer or an error.

Owns these values and the cloud's error statuses. Must not know HTTP, signatures or the store.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sgdataplane.store.interface import Body

NOT_FOUND, FORBIDDEN, TOO_MANY, UNAVAILABLE = 404, 403, 400, 503


class ApiError(Exception):
    """A request is refused, as the cloud does it.

    Attributes:
        code: The cloud's own, such as InvalidSecurityGroupId.NotFound.
        message: What is wrong, for people.
        status: HTTP's.
        extra: Headers to send, such as x-acs-retry-after.
    """

    def __init__(self, code: str, message: str, status: int = 400, extra: Mapping[str, str] | None = None) -> None:
        super().__init__(code, message, status)
        self.code, self.message, self.status, self.extra = code, message, status, dict(extra or {})

    def __str__(self) -> str:
        return f"{self.code}: {self.message}"


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to a call."""

    body: Body  # the answer's own fields in the shape that goes out, doubly nested lists included, without RequestId
    revision: int | None = None  # the commit's, if it was a write
    epoch: int = 0  # the epoch of that revision
