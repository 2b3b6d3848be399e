"""Signatures, without a server: the requests that were captured from official clients, and everything near them."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping
from dataclasses import replace

import pytest

from sgdataplane.control.access.nonces import SKEW_S
from sgdataplane.control.access.signature import (
    MAX_NONCE,
    AccessKey,
    SignedParts,
    Signer,
    Verifier,
    acs3_canonical,
    digest_of,
    encode_query,
    sign_v1,
    v1_to_sign,
)
from sgdataplane.control.calls.answers import ApiError
from sgdataplane.control.calls.parameters import read_pairs
from tests.http.signing import KEY, KEYS, SECRET, TOKEN, TOKEN_DIGEST, Signed, acs3, stamp, v1

NOW = 1_800_000_000.0
# Captured from the official Python SDK: the target, and the canonical query that it signed.
CAPTURED = (
    "ClientToken=tok-2&Permissions.1.IpProtocol=TCP&Permissions.1.PortRange=443%2F443"
    "&Permissions.1.SourceCidrIp=0.0.0.0%2F0&Permissions.2.Description=from+bastion+%2B1&RegionId=cn-hangzhou"
)
SIGNED_BY_SDK = (
    "accept;host;user-agent;x-acs-action;x-acs-content-sha256;x-acs-credentials-provider;x-acs-date;"
    "x-acs-signature-nonce;x-acs-version"
)
EMPTY = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
HEADERS = {
    "host": "127.0.0.1:8099",
    "x-acs-action": "AuthorizeSecurityGroup",
    "x-acs-version": "2014-05-26",
    "x-acs-date": "2026-11-26T06:18:00Z",
    "x-acs-signature-nonce": "3dda209c3c387badb7bb3f3190c813ca",
    "x-acs-content-sha256": EMPTY,
    "x-acs-credentials-provider": "static_ak",
    "accept": "application/json",
    "user-agent": "AlibabaCloud (Linux; x86_64) Python/3.11.7 Core/0.4.3 TeaDSL/2",
}


def test_the_canonical_request_of_a_captured_one_is_what_the_sdk_signed() -> None:
    parts = SignedParts("POST", read_pairs(CAPTURED.encode()), {}, HEADERS, b"")
    assert acs3_canonical(parts, SIGNED_BY_SDK.split(";")) == "\n".join(
        (
            "POST",
            "/",
            CAPTURED.replace("+", "%20"),
            "accept:application/json",
            "host:127.0.0.1:8099",
            "user-agent:AlibabaCloud (Linux; x86_64) Python/3.11.7 Core/0.4.3 TeaDSL/2",
            "x-acs-action:AuthorizeSecurityGroup",
            f"x-acs-content-sha256:{EMPTY}",
            "x-acs-credentials-provider:static_ak",
            "x-acs-date:2026-11-26T06:18:00Z",
            "x-acs-signature-nonce:3dda209c3c387badb7bb3f3190c813ca",
            "x-acs-version:2014-05-26",
            "",
            SIGNED_BY_SDK,
            EMPTY,
        )
    )


def test_version_1_signs_blank_values_and_encodes_twice() -> None:
    pairs = {"SignatureType": "", "Action": "A", "PortRange": "22/22", "Description": "a b~*", "Signature": "x"}
    assert v1_to_sign("GET", pairs) == (
        "GET&%2F&Action%3DA%26Description%3Da%2520b~%252A%26PortRange%3D22%252F22%26SignatureType%3D"
    )


def test_the_documented_example_of_version_1_is_signed_as_documented() -> None:
    """The cloud's own page on signatures has this request, and its signature."""
    pairs = {
        "Timestamp": "2016-02-23T12:46:24Z",
        "Format": "XML",
        "AccessKeyId": "testid",
        "Action": "DescribeRegions",
        "SignatureMethod": "HMAC-SHA1",
        "SignatureNonce": "3ee8c1b8-83d3-44af-a94f-4e0ad82fd6cf",
        "Version": "2014-05-26",
        "SignatureVersion": "1.0",
    }
    assert sign_v1("testsecret", v1_to_sign("GET", pairs)) == "OLeaidS1JvxuMvnyHOwuJ+uX5qY="


def test_dots_sort_before_digits() -> None:
    assert encode_query({"Tag.10.Key": "b", "Tag.1.Key": "a", "Tag": "c"}) == "Tag=c&Tag.1.Key=a&Tag.10.Key=b"


def parts_of(request: Signed) -> SignedParts:
    query = request.target.partition("?")[2].encode()
    return SignedParts(request.method, read_pairs(query), read_pairs(request.body), request.headers, request.body)


def verify(parts: SignedParts, now: float = NOW, verifier: Verifier | None = None) -> Signer:
    verifier = verifier or Verifier(KEYS.get)
    return verifier.verify(verifier.claim(parts), now)


def refusal(parts: SignedParts, now: float = NOW, verifier: Verifier | None = None) -> str:
    with pytest.raises(ApiError) as caught:
        verify(parts, now, verifier)
    return caught.value.code


AT = {"x-acs-date": stamp(NOW)}
QUERY = {"SecurityGroupId": "sg-1"}


def header(**more: str) -> Signed:
    return acs3("DeleteSecurityGroup", QUERY, headers={**AT, **{name.replace("_", "-"): more[name] for name in more}})


def old(**more: str) -> Signed:
    return v1("DeleteSecurityGroup", QUERY, common={"Timestamp": stamp(NOW), **more})


def test_what_is_signed_rightly_is_accepted() -> None:
    verifier = Verifier(KEYS.get)
    for request in (header(), old()):
        signer = verify(parts_of(request), NOW, verifier)
        assert (signer.key.id, signer.action, signer.version) == ("LTAItest", "DeleteSecurityGroup", "2014-05-26")


def without(parts: SignedParts, name: str) -> SignedParts:
    return replace(parts, headers={each: value for each, value in parts.headers.items() if each != name})


def with_header(parts: SignedParts, name: str, value: str) -> SignedParts:
    return replace(parts, headers={**parts.headers, name: value})


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda parts: replace(parts, query={**parts.query, "SecurityGroupId": "sg-2"}), "SignatureDoesNotMatch"),
        (lambda parts: replace(parts, query={**parts.query, "Force": "true"}), "SignatureDoesNotMatch"),
        (lambda parts: replace(parts, method="GET"), "SignatureDoesNotMatch"),
        (lambda parts: replace(parts, body=b"a=b"), "IncompleteSignature"),
        (lambda parts: with_header(parts, "x-acs-action", "CreateSecurityGroup"), "SignatureDoesNotMatch"),
        (lambda parts: with_header(parts, "host", "elsewhere"), "SignatureDoesNotMatch"),
        (lambda parts: with_header(parts, "x-acs-content-sha256", "0" * 64), "SignatureDoesNotMatch"),
        (lambda parts: with_header(parts, "authorization", "Basic dGVzdA=="), "IncompleteSignature"),
        (lambda parts: with_header(parts, "authorization", ""), "IncompleteSignature"),
        (lambda parts: without(parts, "authorization"), "MissingParameter"),
        (lambda parts: without(parts, "x-acs-date"), "MissingParameter"),
        (lambda parts: without(parts, "x-acs-signature-nonce"), "MissingParameter"),
        (lambda parts: without(parts, "host"), "MissingParameter"),
        (lambda parts: with_header(parts, "x-acs-date", "yesterday"), "InvalidTimeStamp.Format"),
        (lambda parts: with_header(parts, "x-acs-date", stamp(NOW - SKEW_S - 1)), "InvalidTimeStamp.Expired"),
        (lambda parts: with_header(parts, "x-acs-security-token", "STS"), "IncompleteSignature"),
        (lambda parts: with_header(parts, "x-acs-signature-nonce", "n" * 129), "InvalidParameter"),
    ],
)
def test_the_headers_way_refuses(change: Callable[[SignedParts], SignedParts], code: str) -> None:
    parts = parts_of(header())
    assert refusal(change(parts)) == code
    verify(parts, NOW)


@pytest.mark.parametrize("name", ["x-acs-action", "host", "x-acs-date", "x-acs-version", "x-acs-signature-nonce"])
def test_each_header_that_counts_has_to_be_signed(name: str) -> None:
    request = acs3("DeleteSecurityGroup", QUERY, headers=AT, left_out=(name,))
    assert refusal(parts_of(request)) == "IncompleteSignature"


def test_a_body_has_to_be_the_one_that_was_signed() -> None:
    parts = parts_of(acs3("DeleteSecurityGroup", {}, QUERY, headers=AT))
    verify(parts, NOW)
    other = replace(parts, body=b"SecurityGroupId=sg-2", form={"SecurityGroupId": "sg-2"})
    assert refusal(other) == "SignatureDoesNotMatch"


def test_the_type_of_a_body_has_to_be_signed() -> None:
    request = acs3("DeleteSecurityGroup", {}, QUERY, headers=AT, left_out=("content-type",))
    assert refusal(parts_of(request)) == "IncompleteSignature"


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"SecurityGroupId": "sg-2"}, "SignatureDoesNotMatch"),
        ({"Action": "CreateSecurityGroup"}, "SignatureDoesNotMatch"),
        ({"Signature": ""}, "SignatureDoesNotMatch"),
        ({"Signature": "ü"}, "SignatureDoesNotMatch"),
        ({"AccessKeyId": ""}, "MissingParameter"),
        ({"Timestamp": ""}, "MissingParameter"),
        ({"SignatureNonce": ""}, "MissingParameter"),
        ({"Action": ""}, "MissingParameter"),
        ({"Version": ""}, "MissingParameter"),
        ({"SignatureMethod": "HMAC-MD5"}, "InvalidParameter"),
        ({"SignatureVersion": "2.0"}, "InvalidParameter"),
        ({"Timestamp": "2026-11-26 06:18:00"}, "InvalidTimeStamp.Format"),
    ],
)
def test_version_1_refuses(change: Mapping[str, str], code: str) -> None:
    parts = parts_of(old())
    assert refusal(replace(parts, query={**parts.query, **change})) == code
    verify(parts, NOW)


@pytest.mark.parametrize("sign", [acs3, v1])
def test_keys_that_are_unknown_revoked_or_others_are_refused(sign: Callable[..., Signed]) -> None:
    at = {"headers": AT} if sign is acs3 else {"common": {"Timestamp": stamp(NOW)}}
    assert refusal(parts_of(sign("DeleteVpc", {}, key="LTAInobody", **at))) == "InvalidAccessKeyId.NotFound"
    assert refusal(parts_of(sign("DeleteVpc", {}, key="LTAIold", **at))) == "InvalidAccessKeyId.Inactive"
    assert refusal(parts_of(sign("DeleteVpc", {}, secret="guessed", **at))) == "SignatureDoesNotMatch"


def test_a_key_that_was_known_is_looked_up_once_a_request_and_others_before_the_request_is_read() -> None:
    asked = list[str]()

    def find(name: str) -> AccessKey | None:
        asked.append(name)
        return KEYS.get(name)

    verifier = Verifier(find, is_known={"LTAItest", "LTAIold"}.__contains__)
    verifier.require_known("LTAItest")
    assert asked == []
    verify(parts_of(header()), NOW, verifier)
    assert asked == ["LTAItest"]
    with pytest.raises(ApiError, match="not found"):
        verifier.require_known("LTAInobody")
    verifier.require_known("LTAIold")  # it was known before it was revoked
    assert refusal(parts_of(acs3("DeleteVpc", {}, key="LTAIold", headers=AT)), NOW, verifier).endswith("Inactive")


def test_clocks_may_differ_by_15_minutes_and_no_more() -> None:
    for skew in (-SKEW_S, SKEW_S):
        verify(parts_of(header()), NOW + skew)
        assert refusal(parts_of(header()), NOW + skew * 1.01) == "InvalidTimeStamp.Expired"


def test_a_nonce_counts_once_as_long_as_its_request_could_be_sent_again() -> None:
    verifier, parts = Verifier(KEYS.get), parts_of(header())
    verify(parts, NOW, verifier)
    for later in (0.0, 1.0, SKEW_S):
        assert refusal(parts, NOW + later, verifier) == "SignatureNonceUsed"
    assert refusal(parts, NOW + SKEW_S + 1, verifier) == "InvalidTimeStamp.Expired"


def test_a_nonce_of_a_forged_request_isnt_used_up() -> None:
    verifier, parts = Verifier(KEYS.get), parts_of(header())
    assert refusal(replace(parts, method="GET"), NOW, verifier) == "SignatureDoesNotMatch"
    verify(parts, NOW, verifier)


def test_a_mismatch_shows_what_we_have_signed() -> None:
    parts = parts_of(old())
    with pytest.raises(ApiError) as caught:
        verify(replace(parts, query={**parts.query, "Signature": "wrong"}), NOW)
    assert caught.value.message.endswith(f"server string to sign is:{v1_to_sign('POST', parts.query)}")
    assert "secret" not in caught.value.message


def test_a_mismatch_of_the_headers_way_shows_the_canonical_request() -> None:
    parts = parts_of(header())
    signed = parts.headers["authorization"].partition("SignedHeaders=")[2].partition(",")[0].split(";")
    canonical = acs3_canonical(parts, signed)
    with pytest.raises(ApiError) as caught:
        verify(with_header(parts, "authorization", parts.headers["authorization"][:-64] + "0" * 64), NOW)
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    assert caught.value.message == (
        "Specified signature is not matched with our calculation."
        f" server canonical request is:{canonical} server string to sign is:ACS3-HMAC-SHA256\n{digest}"
    )


def test_an_endpoint_may_accept_the_headers_way_alone() -> None:
    strict = Verifier(KEYS.get, accepts_v1=False)
    assert verify(parts_of(header()), NOW, strict).key.id == KEY
    assert refusal(parts_of(old()), NOW, strict) == "UnsupportedSignatureMethod"
    verify(parts_of(old()))  # control


def test_parameters_of_version_1_may_come_in_the_form() -> None:
    parts = parts_of(old())
    assert verify(replace(parts, query={}, form=parts.query)).key.id == KEY


def test_times_are_utc_wherever_the_machine_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Asia/Shanghai-8")
    time.tzset()
    try:
        verify(parts_of(header()))
        with pytest.raises(ApiError) as caught:
            verify(parts_of(header()), NOW + 2 * SKEW_S)
    finally:
        monkeypatch.undo()
        time.tzset()
    assert caught.value.message == (
        "Specified time stamp or date value is expired. "
        f"It says {stamp(NOW)}, and it is {stamp(NOW + 2 * SKEW_S)} here."
    )


@pytest.mark.parametrize("way", [header, old])
def test_a_nonce_has_a_longest_length(way: Callable[..., Signed]) -> None:
    name = "x_acs_signature_nonce" if way is header else "SignatureNonce"
    verify(parts_of(way(**{name: "n" * MAX_NONCE})))
    assert refusal(parts_of(way(**{name: "n" * (MAX_NONCE + 1)}))) == "InvalidParameter"


def test_the_hash_of_a_captured_empty_body_is_that_of_no_bytes() -> None:
    assert hashlib.sha256(b"").hexdigest() == EMPTY


def token_of(sign: Callable[..., Signed], token: str | None, key: str = KEY, secret: str = SECRET) -> SignedParts:
    """A request of a key with a security token, which is signed as all else."""
    if sign is acs3:
        headers = AT | ({"x-acs-security-token": token} if token is not None else {})
        return parts_of(acs3("DeleteVpc", {}, headers=headers, key=key, secret=secret))
    common = {"Timestamp": stamp(NOW)} | ({"SecurityToken": token} if token is not None else {})
    return parts_of(v1("DeleteVpc", {}, common=common, key=key, secret=secret))


@pytest.mark.parametrize("sign", [acs3, v1])
def test_a_temporary_key_comes_with_its_token_and_before_its_end(sign: Callable[..., Signed]) -> None:
    assert verify(token_of(sign, TOKEN, key="STS.now"), NOW).key.id == "STS.now"
    assert refusal(token_of(sign, None, key="STS.now")) == "MissingParameter"
    assert refusal(token_of(sign, "other", key="STS.now")) == "InvalidSecurityToken.MismatchWithAccessKey"
    assert refusal(token_of(sign, TOKEN, key="STS.past")) == "InvalidSecurityToken.Expired"
    assert refusal(token_of(sign, TOKEN)) == "InvalidSecurityToken.NotFound"
    assert refusal(token_of(sign, TOKEN, key="STS.now", secret="x")) == "SignatureDoesNotMatch"


@pytest.mark.parametrize("sign", [acs3, v1])
def test_a_temporary_key_ends_at_its_end(sign: Callable[..., Signed]) -> None:
    keys = {KEY: replace(KEYS["STS.now"], id=KEY, ends=NOW)}
    parts = token_of(sign, TOKEN)
    verify(parts, NOW - 1, Verifier(keys.get))
    assert refusal(parts, NOW, Verifier(keys.get)) == "InvalidSecurityToken.Expired"


def test_a_token_that_is_no_unicode_is_another_one() -> None:
    assert digest_of("\udcff") not in {TOKEN_DIGEST, digest_of("\udcfe")}


@pytest.mark.parametrize("sign", [acs3, v1])
@pytest.mark.parametrize("token", [TOKEN, "", None])
def test_a_temporary_key_of_which_something_is_lost_opens_nothing(
    sign: Callable[..., Signed], token: str | None
) -> None:
    for key in ("STS.over", "STS.ever"):
        assert refusal(token_of(sign, token, key=key)) == "InvalidSecurityToken.Expired"
    assert refusal(token_of(sign, token, key="STS.any")) in {
        "InvalidSecurityToken.MismatchWithAccessKey",
        "MissingParameter",
    }
