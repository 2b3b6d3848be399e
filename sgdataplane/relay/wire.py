"""The messages between relay and host: JSON objects, one a WebSocket message, told apart by `kind`.

Owns the messages, their encoding, and the check of everything that comes in: nothing else reads what a peer has sent.
Must not know sockets, stores or folders.

    host to relay
    hello     {"protocol": 1, "version": of our program, "have": {"epoch", "revision"} or null,
              "digests": {path: digest}} or, in place of `digests`, "digest": one of all objects (`digest_of_all`)
              first, and again after `ask`. `digests`: of each object that the host has; so a stream goes on without
              any history. A host sends `digest` only to a relay that has agreed to `SHORT_HELLO`
    report    {"enforced": {"epoch", "revision"} or null, "failed": [{"eni", "why"}], "error": text, "claims": [ENI],
              "trials": [{"group", "since", "until", "paused", "opens", "closes", "count", "lines"}]}
              on each change, and each 10 s. `claims`: ENIs that are attached on that host. `trials`: what trials of
              groups' rules have seen (trial/declared.py); their counts are no change

    relay to host
    change    {"epoch", "revision", "puts": {path: object}, "deletes": [path]}
              the first one answers `hello`, perhaps with nothing in it; the result is what the host gets at that
              revision. With "more": true, nothing counts until the last part has come
    ask       {}                        answers a hello with `digest` that isn't the relay's: say hello with `digests`
    refused   {"enis": {ENI: why}}      all claims of the host that don't count

A path is `kind/id`, as in the store, and an object is in the native format (state-format.md, section A).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from typing import Any, NoReturn, TypeAlias

from sgdataplane.model.ids import ID, is_id
from sgdataplane.store.documents import IDS, SECTIONS, Fields, ResourceKind, kind_of
from sgdataplane.store.history import Version
from sgdataplane.store.interface import Path
from sgdataplane.visible import json_text, visible

PROTOCOL = 1
SHORT_HELLO = "short-hello.sgdp"  # the subprotocol (RFC 6455, section 1.9) of relays that know `digest` and `ask`
REVOKED, BAD_MESSAGE, OTHER_PROTOCOL, NEWER_STREAM = 4001, 4002, 4003, 4004  # codes with which a relay ends a stream

# What one message, and all that a host gets, may have. A relay's message is at most a little more than ONE_MESSAGE,
# unless one object alone is larger; what is larger than these is no message of ours.
LARGEST_FROM_HOST, LARGEST_FROM_RELAY, LARGEST_REPORT = 4 << 20, 16 << 20, 1 << 20  # bytes
ONE_MESSAGE = 1 << 18  # characters
MAX_OBJECTS, MAX_CHARACTERS = 100_000, 128 << 20  # of all objects that a host gets
MAX_ENIS, MAX_FAILED, LONGEST_TEXT = 5_000, 100, 500  # of a report: attached, failed; and characters of a reason
MAX_TRIALS, MAX_TRIAL_LINES, LONGEST_LINE = 16, 200, 2_000  # of a report: trials, and all lines of these; characters
LARGEST_NUMBER = 2**62
DIGEST = 32  # characters
DEEPEST = 8  # levels of an object
PATH = re.compile(f"(?:{'|'.join(SECTIONS)})/(?:{ID.pattern})")
CANONICAL = json.JSONEncoder(sort_keys=True, separators=(",", ":"))

Objects: TypeAlias = Mapping[Path, Fields]  # what a host gets: path -> native object


class BadMessageError(Exception):
    """A peer has sent what is no message. The text is for that peer and for our log, and is safe to show."""

    def __init__(self, message: str) -> None:
        super().__init__(visible(message)[:LONGEST_TEXT])


class OtherProtocolError(BadMessageError):
    """A host speaks another version of the protocol."""


@dataclass(frozen=True, slots=True)
class Hello:
    """A host's first message: what it already has."""

    version: str  # the version of the host's program
    have: Version | None = None  # the version that the host got last; None if it has nothing
    digests: Mapping[Path, str] = field(default_factory=dict)  # path -> digest of the host's object
    digest: str = ""  # `digest_of_all` of its objects, if `digests` isn't sent


@dataclass(frozen=True, slots=True)
class Reported:
    """A host's report of what is in force there."""

    enforced: Version | None = None  # the last version that is in force
    failed: tuple[tuple[str, str], ...] = ()  # pairs of an ENI that isn't enforced and the reason
    error: str = ""  # why nothing newer is in force; "" if nothing is wrong
    claims: tuple[str, ...] = ()  # ENIs that are attached there
    trials: tuple[Fields, ...] = ()  # what trials of groups' rules have seen (DeclaredTrial, as JSON)

    def has_news_since(self, before: Reported | None) -> bool:
        """Whether it says anything that the host's report before didn't say. What trials count is never news."""
        return before is None or replace(self, trials=before.trials) != before


@dataclass(frozen=True, slots=True)
class HostChange:
    """One message of a change. A host that has applied all of them has what is right at `version`."""

    version: Version
    puts: Objects = field(default_factory=dict)
    deletes: tuple[Path, ...] = ()
    has_more: bool = False


@dataclass(frozen=True, slots=True)
class Ask:
    """The answer to a short hello of a host that hasn't got all."""


@dataclass(frozen=True, slots=True)
class Refused:
    """The answer to claims that don't count."""

    enis: Mapping[str, str]  # each ENI that the host claims and doesn't have, and why


def canonical(value: Fields | Sequence[Fields]) -> str:
    """Return the text of an object from which its digest is made: the same for all that mean the same JSON."""
    return CANONICAL.encode(value)


def digest_of(fields: Fields) -> str:
    """Return the digest of an object in hexadecimal, as messages have it."""
    return digest_in(canonical(fields)).hex()


def digest_in(text: str) -> bytes:
    """Return the digest of an object's text, in bytes."""
    return sha256(text.encode()).digest()[: DIGEST // 2]


def digest_of_all(digests: Iterable[bytes]) -> str:
    """Return the digest of all objects of a host, in hexadecimal. `digests` are the objects', in any order."""
    return sha256(b"".join(sorted(digests))).hexdigest()[:DIGEST]


# what is sent


def spell(message: Hello | Reported | HostChange | Ask | Refused) -> str:
    """Return the text of a message."""
    match message:
        case Hello():
            said = {"protocol": PROTOCOL, "version": message.version, "have": _spell_version(message.have)}
            what = {"digest": message.digest} if message.digest else {"digests": dict(message.digests)}
            return json_text({"kind": "hello", **said, **what}, separators=(",", ":"))
        case Reported():
            return json_text({"kind": "report", **_report(message)}, separators=(",", ":"))
        case Ask():
            return '{"kind":"ask"}'
        case Refused():
            return json_text({"kind": "refused", "enis": dict(message.enis)}, separators=(",", ":"))
        case HostChange():
            texts = {path: canonical(fields) for path, fields in message.puts.items()}
            return spell_change(message.version, texts, message.deletes, has_more=message.has_more)


def spell_change(
    version: Version, texts: Mapping[Path, str], deletes: tuple[Path, ...] = (), *, has_more: bool = False
) -> str:
    """Return the text of a change whose objects are texts already (`canonical`), as many hosts get the same ones."""
    puts = ",".join(f"{json.dumps(path)}:{text}" for path, text in texts.items())
    more = ',"more":true' if has_more else ""
    place = f'"epoch":{version.epoch},"revision":{version.revision}'
    return f'{{"kind":"change",{place},"deletes":{json.dumps(deletes)},"puts":{{{puts}}}{more}}}'


def split_change(texts: Iterator[tuple[Path, str]], version: Version, deletes: tuple[Path, ...]) -> Iterator[str]:
    """Yield the messages of one change: as many as its size needs. `texts` are of the objects that are put."""
    puts: dict[Path, str] = {}
    size = sum(map(len, deletes))
    for path, text in texts:
        if puts and size + len(text) > ONE_MESSAGE:
            yield spell_change(version, puts, deletes, has_more=True)
            puts, deletes, size = {}, (), 0
        puts[path] = text
        size += len(text)
    yield spell_change(version, puts, deletes)


def _report(report: Reported) -> dict[str, object]:
    """Return a report's fields, cut to what a report may have."""
    failed = [{"eni": eni, "why": why[:LONGEST_TEXT]} for eni, why in report.failed[:MAX_FAILED]]
    said = {"enforced": _spell_version(report.enforced), "failed": failed, "error": report.error[:LONGEST_TEXT]}
    return {**said, "claims": list(report.claims[:MAX_ENIS]), "trials": list(_cut_trials(report.trials[:MAX_TRIALS]))}


def _cut_trials(trials: Sequence[Fields]) -> Iterator[Fields]:
    """Yield trials with as many of their lines as a report may have. They share them."""
    for trial in trials:
        lines = [line for line in _list(trial, "lines", MAX_OBJECTS) if len(canonical(line)) <= LONGEST_LINE]
        yield {**trial, "lines": lines[: MAX_TRIAL_LINES // len(trials)]}


def _spell_version(version: Version | None) -> dict[str, int] | None:
    return None if version is None else {"epoch": version.epoch, "revision": version.revision}


# what comes in


def read_from_host(text: str | bytes) -> Hello | Reported:
    """Read and check a host's message.

    Raises:
        BadMessageError: It is none, or has what a message must not have.
    """
    found = _object(text)
    match found.pop("kind", None):
        case "hello":
            return _hello(found)
        case "report" if len(text) <= LARGEST_REPORT:
            return _read_report(found)
        case "report":
            raise BadMessageError(f"a report has at most {LARGEST_REPORT} bytes, and this one {len(text)}")
    raise BadMessageError("not a message of a host: its kind is hello or report")


def read_from_relay(text: str | bytes) -> HostChange | Ask | Refused:
    """Read and check a relay's message.

    Raises:
        BadMessageError: It is none, or has what a message must not have.
    """
    found = _object(text)
    match found.pop("kind", None):
        case "change":
            return _change(found)
        case "ask":
            return Ask()
        case "refused":
            enis = _mapping(found, "enis", MAX_ENIS)
            return Refused({_eni(eni): _text(why, f"enis.{eni}") for eni, why in enis.items()})
    raise BadMessageError("not a message of a relay: its kind is change, ask or refused")


def _hello(found: dict[str, Any]) -> Hello:
    if (protocol := _number(found, "protocol")) != PROTOCOL:
        raise OtherProtocolError(f"this relay speaks protocol {PROTOCOL}, and not {protocol}")
    said = _text(found.get("version"), "version"), _version_or_none(found, "have")
    if "digest" in found and "digests" not in found:
        _require_digest(found["digest"], "digest")
        return Hello(*said, digest=found["digest"])
    digests = _mapping(found, "digests", MAX_OBJECTS)
    for path, digest in digests.items():
        if PATH.fullmatch(path) is None:
            _require_path(path)
        _require_digest(digest, "digests", path)
    return Hello(*said, digests)


def _require_digest(digest: object, *where: str) -> None:
    if not isinstance(digest, str) or len(digest) != DIGEST:
        raise BadMessageError(f"{'.'.join(where)}: a digest is a text of {DIGEST} characters")


def _read_report(found: dict[str, Any]) -> Reported:
    claims = _list(found, "claims", MAX_ENIS)
    failed = []
    for entry in _list(found, "failed", MAX_FAILED):
        if not isinstance(entry, dict):
            raise BadMessageError("failed: each entry is an object with eni and why")
        failed.append((_eni(entry.get("eni")), _text(entry.get("why"), "failed.why")))
    error = _text(found.get("error"), "error")
    distinct = tuple(dict.fromkeys(map(_eni, claims)))
    trials = tuple(map(_trial, _list(found, "trials", MAX_TRIALS))) if "trials" in found else ()
    if sum(len(_list(trial, "lines", MAX_TRIAL_LINES)) for trial in trials) > MAX_TRIAL_LINES:
        raise BadMessageError(f"trials: more than {MAX_TRIAL_LINES} lines in one report")
    return Reported(_version_or_none(found, "enforced"), tuple(failed), error, distinct, trials)


def _trial(value: object) -> Fields:
    """Check what a trial has seen. Its lines are for people, who get them through the API."""
    if not isinstance(value, dict):
        raise BadMessageError("trials: each entry is an object")
    group, lines = value.get("group"), _list(value, "lines", MAX_TRIAL_LINES)
    if not isinstance(group, str) or not is_id(group):
        raise BadMessageError("trials.group: not the id of a group")
    if not all(isinstance(line, dict) and _is_shallow(line, DEEPEST) for line in lines):
        raise BadMessageError(f"trials.lines: each line is an object of at most {DEEPEST} levels")
    if any(len(canonical(line)) > LONGEST_LINE for line in lines):
        raise BadMessageError(f"trials.lines: a line has at most {LONGEST_LINE} characters")
    numbers = {name: _number(value, name) for name in ("since", "until", "opens", "closes", "count")}
    return {"group": group, **numbers, "paused": _text(value.get("paused"), "trials.paused"), "lines": lines}


def _change(found: dict[str, Any]) -> HostChange:
    puts = _mapping(found, "puts", MAX_OBJECTS)
    for path, fields in puts.items():
        kind = _require_path(path)
        if not isinstance(fields, dict) or fields.get(IDS[kind]) != path.partition("/")[2]:
            raise BadMessageError(f"puts.{path}: not an object whose {IDS[kind]} is that of its path")
        if not _is_shallow(fields, DEEPEST):
            raise BadMessageError(f"puts.{path}: an object has at most {DEEPEST} levels")
    deletes = _list(found, "deletes", MAX_OBJECTS)
    for path in deletes:
        _require_path(path)
    more = found.get("more", False)
    if not isinstance(more, bool):
        raise BadMessageError("more: true or false")
    return HostChange(_version(found), puts, tuple(deletes), more)


def _object(text: str | bytes) -> dict[str, Any]:
    if not isinstance(text, str):
        raise BadMessageError("a message is a text, not bytes")
    try:
        found = json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise BadMessageError(f"not JSON: {error}") from None
    if not isinstance(found, dict):
        raise BadMessageError("not a JSON object")
    return found


def _is_shallow(value: object, levels: int) -> bool:
    """Whether a value has at most so many levels of lists and objects. What writes it isn't made for more."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return not inner or (levels > 0 and all(_is_shallow(one, levels - 1) for one in inner))


def _refuse_constant(word: str) -> NoReturn:
    raise ValueError(f"{word} isn't JSON")


def _require_path(path: object) -> ResourceKind:
    """Return the kind of document that a path names.

    Raises:
        BadMessageError: It is no path of a state.
    """
    if not isinstance(path, str) or PATH.fullmatch(path) is None:
        raise BadMessageError(f"{path}: not a path of a state, such as security_group/sg-1")
    return kind_of(path)


def _eni(value: object) -> str:
    if not isinstance(value, str) or not is_id(value):
        raise BadMessageError(f"{str(value)[:80]}: not the id of an ENI")
    return value


def _text(value: object, name: str) -> str:
    if not isinstance(value, str) or len(value) > LONGEST_TEXT:
        raise BadMessageError(f"{name}: not a text of up to {LONGEST_TEXT} characters")
    return visible(value)


def _version_or_none(found: dict[str, Any], name: str) -> Version | None:
    value = found.get(name)
    if value is None:
        return None
    if not isinstance(value, dict):
        raise BadMessageError(f"{name}: not an object with epoch and revision, or null")
    return _version(value)


def _version(found: dict[str, Any]) -> Version:
    return Version(_number(found, "epoch"), _number(found, "revision"))


def _number(found: dict[str, Any], name: str) -> int:
    value = found.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= LARGEST_NUMBER:
        raise BadMessageError(f"{name}: not a number from 0 to {LARGEST_NUMBER}")
    return value


def _mapping(found: dict[str, Any], name: str, most: int) -> dict[str, Any]:
    value = found.get(name)
    if not isinstance(value, dict) or len(value) > most:
        raise BadMessageError(f"{name}: not an object with up to {most} entries")
    return value


def _list(found: dict[str, Any], name: str, most: int) -> list[Any]:
    value = found.get(name)
    if not isinstance(value, list) or len(value) > most:
        raise BadMessageError(f"{name}: not a list with up to {most} entries")
    return value
