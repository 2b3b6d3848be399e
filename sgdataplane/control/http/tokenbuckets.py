"""Token buckets, which limit how often a key may call an action.

Owns the buckets; safe for several threads. Must not know what a key or an action is. Buckets that are full again are
forgotten, so there are as many as are in use.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass

from sgdataplane.control.calls.answers import TOO_MANY, ApiError

MAX_BUCKETS = 10_000


@dataclass(slots=True)
class Bucket:
    """A token bucket."""

    tokens: float  # that were left at the time `at`
    at: float


class TokenBuckets:
    """A limit of `rate` calls a second, and `burst` calls at once, for each key and action."""

    def __init__(self, rate: float = 100.0, burst: float = 200.0) -> None:
        self._rate, self._burst = rate, burst
        self._lock = threading.Lock()
        self._buckets: dict[tuple[str, str], Bucket] = {}

    def times(self, count: int) -> TokenBuckets:
        """Return other buckets, with so many times the rate and the burst."""
        return TokenBuckets(self._rate * count, self._burst * count)

    def take(self, key: str, action: str, now: float) -> None:
        """Take a token of a key and an action. `now` is in seconds.

        Raises:
            ApiError: Throttling.User: there is no token left.
        """
        with self._lock:
            bucket = self._bucket((key, action), now)
            if bucket.tokens < 1:
                raise make_refusal((1 - bucket.tokens) / self._rate)
            bucket.tokens -= 1

    def _bucket(self, name: tuple[str, str], now: float) -> Bucket:
        if name not in self._buckets and len(self._buckets) >= MAX_BUCKETS:
            self._forget(now)
        bucket = self._buckets.setdefault(name, Bucket(self._burst, now))
        bucket.tokens, bucket.at = self._fill(bucket, now), now
        return bucket

    def _fill(self, bucket: Bucket, now: float) -> float:
        return min(self._burst, bucket.tokens + max(0.0, now - bucket.at) * self._rate)

    def _forget(self, now: float) -> None:
        """Forget the buckets that are full; if none is, all of them.

        A bucket that is too full lets through now what it would have let through later.
        """
        used = {name: bucket for name, bucket in self._buckets.items() if self._fill(bucket, now) < self._burst}
        self._buckets = used if len(used) < MAX_BUCKETS else {}


def make_refusal(seconds: float) -> ApiError:
    """Return the cloud's error for calls that come too fast.

    `seconds` is when to try again. SDKs read it as whole milliseconds.
    """
    words = "Request was denied due to user flow control."
    return ApiError("Throttling.User", words, TOO_MANY, {"x-acs-retry-after": str(max(1, round(seconds * 1000)))})
