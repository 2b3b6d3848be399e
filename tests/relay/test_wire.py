"""What a peer sends is checked before anything else sees it, and what we send is what the peer reads."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sgdataplane.relay import wire
from sgdataplane.relay.wire import (
    LARGEST_REPORT,
    LONGEST_LINE,
    MAX_TRIAL_LINES,
    MAX_TRIALS,
    PROTOCOL,
    Ask,
    BadMessageError,
    Hello,
    HostChange,
    OtherProtocolError,
    Refused,
    Reported,
    canonical,
    digest_of,
    read_from_host,
    read_from_relay,
    spell,
    split_change,
)
from sgdataplane.store.documents import Fields
from sgdataplane.store.history import Version
from sgdataplane.store.interface import Json

GROUP: Fields = {"security_group_id": "sg-1", "vpc_id": "vpc-1", "rules": [{"description": "ä\ud800"}]}
DIGEST = "0" * 32
VERSION = Version(3, 7)
TRIAL: Fields = {
    "group": "sg-1", "since": 1, "until": 2, "opens": 3, "closes": 4, "count": 5, "paused": "",
    "lines": [{"eni": "eni-1", "packets": 7, "before": {"verdict": "drop"}}],
}  # fmt: skip


@pytest.mark.parametrize(
    "message",
    [
        Hello("0.1"),
        Hello("0.1", VERSION, {"security_group/sg-1": DIGEST}),
        Hello("0.1", VERSION, digest=DIGEST),
        Reported(),
        Reported(VERSION, (("eni-1", "gone: é"),), "why", ("eni-1", "eni-2")),
        Reported(trials=(TRIAL, {**TRIAL, "lines": []})),
    ],
)
def test_a_relay_reads_what_a_host_says(message: Hello | Reported) -> None:
    assert read_from_host(spell(message)) == message


@pytest.mark.parametrize(
    "message",
    [
        HostChange(VERSION),
        HostChange(VERSION, {"security_group/sg-1": GROUP}, ("network_interface/eni-1",), has_more=True),
        Ask(),
        Refused({"eni-1": "another host has it"}),
    ],
)
def test_a_host_reads_what_a_relay_says(message: HostChange | Ask | Refused) -> None:
    assert read_from_relay(spell(message)) == message


def hello(**other: object) -> str:
    said = {"kind": "hello", "protocol": PROTOCOL, "version": "1", "have": None, "digests": {}, **other}
    return json.dumps({key: value for key, value in said.items() if value is not ...})


def report(**other: object) -> str:
    said = {"kind": "report", "enforced": None, "failed": [], "error": "", "claims": [], **other}
    return json.dumps({key: value for key, value in said.items() if value is not ...})


def change(**other: object) -> str:
    said = {"kind": "change", "epoch": 0, "revision": 1, "puts": {}, "deletes": [], **other}
    return json.dumps({key: value for key, value in said.items() if value is not ...})


WRONG: tuple[object, ...] = ({}, None, -1)
NOT_JSON = ["", "{", "[1]", "7", '"hello"', "null", "NaN", '{"kind": NaN}', "[" * 100_000, '{"kind":7}', '{"kind":"x"}']
BAD_FROM_HOST: Mapping[str, list[str]] = {
    "json": NOT_JSON,
    "another's kind": [change(), json.dumps({"kind": "refused", "enis": {}})],
    "protocol": [hello(protocol=...), hello(protocol="1"), hello(protocol=True), hello(protocol=-1)],
    "version": [hello(version=...), hello(version=7), hello(version="v" * 501)],
    "have": [hello(have=7), hello(have={}), hello(have={"epoch": 1, "revision": -1}), hello(have=[1, 2])],
    "numbers": [hello(have={"epoch": 2**63, "revision": 1}), hello(have={"epoch": 1.5, "revision": 1})],
    "digests": [hello(digests=...), hello(digests=[]), hello(digests={"security_group/sg-1": 7})],
    "short digest": [hello(digests={"security_group/sg-1": "00"})],
    "digest of all": [hello(digests=..., digest=one) for one in (None, 7, "", "00", [DIGEST], DIGEST + "0")],
    "paths": [
        hello(digests={path: DIGEST})
        for path in ("", "security_group", "security_group/", "access_key/k", "store/epoch", "vpc/../x", "vpc/a/b")
    ],
    "failed": [report(failed=...), report(failed=[7]), report(failed=[{"eni": 7, "why": ""}])],
    "why": [report(failed=[{"eni": "eni-1"}]), report(failed=[{"eni": "eni-1", "why": "w" * 501}])],
    "claims": [report(claims={}), report(claims=["../eni"]), report(claims=["eni"] * 5_001), report(claims=[None])],
    "error": [report(error=None), report(error="e" * 501)],
    "large": [report(more="x" * LARGEST_REPORT)],
    "trials": [
        report(trials=7),
        report(trials=[7]),
        report(trials=[TRIAL] * (MAX_TRIALS + 1)),
        *(report(trials=[{**TRIAL, name: value}]) for name in TRIAL for value in WRONG),
        report(trials=[{**TRIAL, "lines": [{}] * MAX_TRIAL_LINES}, TRIAL]),
        report(trials=[{**TRIAL, "lines": [{"x": "x" * LONGEST_LINE}]}]),
        report(trials=[{**TRIAL, "lines": [{"x": [[[[[[[[[[]]]]]]]]]]}]}]),
        report(trials=[{**TRIAL, "paused": "p" * 501}]),
    ],
}
BAD_ENIS: tuple[object, ...] = ([], {"../x": ""}, {"eni-1": 7})
DEEP: object = "x"
for _ in range(20):
    DEEP = [DEEP]
BAD_FROM_RELAY: Mapping[str, list[str]] = {
    "json": NOT_JSON,
    "another's kind": [hello(), report()],
    "version": [change(epoch=...), change(revision=...), change(revision="1"), change(epoch=-1)],
    "numbers": [change(revision=2**63), change(epoch=1.0)],
    "puts": [change(puts=...), change(puts=[]), change(puts={"vpc/vpc-1": 7})],
    "another's id": [change(puts={"vpc/vpc-1": {"vpc_id": "vpc-2"}}), change(puts={"vpc/vpc-1": {}})],
    "paths": [
        change(puts={path: {"vpc_id": path.partition("/")[2]}})
        for path in ("vpc/..", "vpc/.current", "vpc/a/b", "vpc/" + "a" * 64, "store/epoch", "host/h", "vpc/a\n")
    ],
    "deletes": [change(deletes={}), change(deletes=[7]), change(deletes=["../../etc/passwd"])],
    "more": [change(more=1), change(more="true")],
    "deep": [change(puts={"vpc/vpc-1": {"vpc_id": "vpc-1", "cidr_blocks": DEEP}})],
    "refused": [json.dumps({"kind": "refused", "enis": enis}) for enis in BAD_ENIS],
}


@pytest.mark.parametrize("text", [pytest.param(one, id=key) for key, many in BAD_FROM_HOST.items() for one in many])
def test_what_is_no_message_of_a_host_is_refused(text: str) -> None:
    with pytest.raises(BadMessageError):
        read_from_host(text)


@pytest.mark.parametrize("text", [pytest.param(one, id=key) for key, many in BAD_FROM_RELAY.items() for one in many])
def test_what_is_no_message_of_a_relay_is_refused(text: str) -> None:
    with pytest.raises(BadMessageError):
        read_from_relay(text)


def test_the_same_messages_without_their_mistakes_are_read() -> None:
    """So what is refused above is refused for its mistake."""
    read_from_host(hello())
    read_from_host(report())
    read_from_relay(change(puts={"vpc/vpc-1": {"vpc_id": "vpc-1", "cidr_blocks": ["10.0.0.0/8"]}}))


def test_bytes_are_no_message() -> None:
    for read in (read_from_host, read_from_relay):
        with pytest.raises(BadMessageError, match="not bytes"):
            read(hello().encode())


def test_another_protocol_is_told_apart() -> None:
    with pytest.raises(OtherProtocolError, match="protocol 1, and not 2"):
        read_from_host(hello(protocol=2, digests="of another form"))


def test_a_refusal_is_visible_and_short() -> None:
    with pytest.raises(BadMessageError) as refused:
        read_from_host(report(claims=["\x1b[2J" * 1_000]))
    assert str(refused.value).isprintable()
    assert len(str(refused.value)) <= wire.LONGEST_TEXT


def test_texts_of_others_are_made_visible() -> None:
    found = read_from_host(report(error="\x1b[2J", failed=[{"eni": "eni-1", "why": "a\nb"}]))
    assert isinstance(found, Reported)
    assert (found.error, found.failed) == ("\\x1b[2J", (("eni-1", "a\\nb"),))


def test_a_report_is_cut_to_what_a_relay_takes() -> None:
    failed = tuple((f"eni-{number}", "w" * 1_000) for number in range(1_000))
    claims = tuple(f"eni-{number}-{'x' * 40}" for number in range(6_000))
    found = read_from_host(spell(Reported(VERSION, failed, "e" * 1_000, claims)))
    assert isinstance(found, Reported)
    assert (len(found.failed), len(found.claims), len(found.error)) == (100, 5_000, 500)


def test_a_large_change_comes_in_parts_that_make_the_same() -> None:
    names = [f"sg-{number}" for number in range(100)]
    puts: dict[str, Fields] = {
        f"security_group/{name}": {"security_group_id": name, "x": "x" * 10_000} for name in names
    }
    texts = list(split_change(((path, canonical(fields)) for path, fields in puts.items()), VERSION, ("vpc/vpc-1",)))
    found = [one for one in map(read_from_relay, texts) if isinstance(one, HostChange)]
    assert len(found) == len(texts) > 1
    assert [one.has_more for one in found] == [True] * (len(found) - 1) + [False]
    assert {path: fields for one in found for path, fields in one.puts.items()} == puts
    assert [path for one in found for path in one.deletes] == ["vpc/vpc-1"]
    assert all(len(text) < 2 * wire.ONE_MESSAGE for text in texts)


def test_an_object_that_is_larger_than_a_part_comes_alone() -> None:
    sizes = {"vpc-1": 1, "vpc-2": 1 << 20, "vpc-3": 1}
    puts = ((f"vpc/{name}", canonical({"vpc_id": name, "x": "x" * size})) for name, size in sizes.items())
    found = [read_from_relay(text) for text in split_change(puts, VERSION, ())]
    assert [len(one.puts) for one in found if isinstance(one, HostChange)] == [1, 1, 1]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)
OF_HOSTS = ("protocol", "version", "have", "digests", "enforced", "failed", "claims", "error")
WORDS = st.sampled_from([*OF_HOSTS, "puts", "deletes", "epoch", "revision", "more", "enis"])
KINDS = st.sampled_from(["hello", "report", "change", "ask", "refused"])


@given(st.dictionaries(WORDS, JSON), KINDS)
def test_whatever_comes_is_read_or_refused_and_raises_nothing_else(said: dict[str, object], kind: str) -> None:
    text = json.dumps({**said, "kind": kind})
    for read in (read_from_host, read_from_relay):
        with suppress(BadMessageError):
            read(text)


@given(JSON)
def test_a_digest_survives_the_way(value: object) -> None:
    """What a host computes from what it read is what the relay computes from what it has."""
    fields = {"vpc_id": "vpc-1", "cidr_blocks": value}
    assert digest_of(json.loads(canonical(fields))) == digest_of(fields)  # type: ignore[arg-type]


def test_trials_of_a_report_share_the_lines_that_it_may_have() -> None:
    """The first ones of each, which have the most packets; a line that is too long is left out."""
    long: Fields = {"x": "x" * LONGEST_LINE}
    lines: list[Json] = [long, *({"packets": number} for number in range(150))]
    trials: tuple[Fields, ...] = ({**TRIAL, "lines": lines},) * 4
    found = read_from_host(spell(Reported(trials=trials)))
    assert isinstance(found, Reported)
    assert [trial["lines"] for trial in found.trials] == [[{"packets": number} for number in range(50)]] * 4
