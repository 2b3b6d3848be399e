"""Token buckets: how often, how long to wait, and never too many of them."""

from __future__ import annotations

import pytest

from sgdataplane.control.access.nonces import Nonces
from sgdataplane.control.access.signature import Verifier
from sgdataplane.control.calls.answers import ApiError
from sgdataplane.control.http import tokenbuckets as module
from sgdataplane.control.http.admission import Admission, Asker, Incoming
from sgdataplane.control.http.tokenbuckets import TokenBuckets
from tests.http.signing import KEYS, Signed, acs3


def taken(buckets: TokenBuckets, now: float, key: str = "a", action: str = "DescribeVpcs") -> str:
    """ "" if it may; else the milliseconds after which it may."""
    try:
        buckets.take(key, action, now)
    except ApiError as error:
        return error.extra["x-acs-retry-after"]
    return ""


def test_a_burst_then_as_many_as_the_rate() -> None:
    buckets = TokenBuckets(rate=2, burst=3)
    assert [taken(buckets, 100.0) for _ in range(4)] == ["", "", "", "500"]
    assert taken(buckets, 100.25) == "250"
    assert [taken(buckets, 100.5), taken(buckets, 100.5)] == ["", "500"]
    assert [taken(buckets, 1000.0) for _ in range(4)] == ["", "", "", "500"]


def test_keys_and_actions_have_each_their_own() -> None:
    buckets = TokenBuckets(rate=1, burst=1)
    assert taken(buckets, 0.0) == ""
    assert taken(buckets, 0.0) == "1000"
    assert taken(buckets, 0.0, key="b") == ""
    assert taken(buckets, 0.0, action="DescribeZones") == ""


def test_a_clock_that_is_set_back_gives_nothing_and_takes_nothing() -> None:
    buckets = TokenBuckets(rate=1, burst=1)
    assert [taken(buckets, 100.0), taken(buckets, 50.0), taken(buckets, 51.0)] == ["", "1000", ""]


def test_buckets_are_never_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_BUCKETS", 10)
    buckets = TokenBuckets(rate=1, burst=2)
    for number in range(100):
        assert taken(buckets, 0.0, key=f"k{number}") == ""
        assert len(buckets._buckets) <= 10
    buckets = TokenBuckets(rate=1, burst=1)
    assert taken(buckets, 0.0) == ""
    for number in range(100):
        taken(buckets, number * 2.0, key=f"k{number}")
    assert len(buckets._buckets) <= 10


class Noted(Nonces):
    """How many were used up."""

    count = 0

    def use(self, key: str, nonce: str, signed_at: float, now: float) -> None:
        super().use(key, nonce, signed_at, now)
        self.count += 1


class Door:
    """What a request passes before anything is done for it."""

    def __init__(self, buckets: TokenBuckets) -> None:
        self.nonces = Noted()
        self.admission = Admission(Verifier(KEYS.get, nonces=self.nonces), buckets=buckets)

    def refusal(self, request: Signed) -> str:
        """The code with which it is refused, or ""."""
        query, headers = request.target.partition("?")[2].encode(), tuple(request.headers.items())
        incoming = Incoming(request.method, query, headers, request.body, "127.0.0.1", "request-1")
        try:
            self.admission.admit(incoming, Asker())
        except ApiError as error:
            return error.code
        return ""


def test_what_a_key_asks_for_too_often_uses_up_no_nonce() -> None:
    """Two keys filled what all keys have of nonces, however few calls each one had. Control: the first two calls."""
    door = Door(TokenBuckets(rate=0.001, burst=2))
    requests = [acs3("DescribeVpcs", {}) for _ in range(20)]
    assert [door.refusal(one) for one in requests] == [""] * 2 + ["Throttling.User"] * 18
    assert door.nonces.count == 2


def test_actions_that_are_not_known_share_one_bucket_and_use_up_no_nonce() -> None:
    door = Door(TokenBuckets(rate=0.001, burst=2))
    found = [door.refusal(acs3(f"Describe{number}", {})) for number in range(5)]
    assert found == ["InvalidAction.NotFound"] * 2 + ["Throttling.User"] * 3
    assert door.nonces.count == 0
    assert door.refusal(acs3("DescribeVpcs", {})) == ""
