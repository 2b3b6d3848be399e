"""The policies of access keys as the cloud's RAM writes them, and whether one of them permits a call.

Owns their grammar, what each part means, and the two that are built in; what a call is about is in targets.py. Pure
functions. Must not know keys, HTTP, or what an action does.

    {"Version": "1", "Statement": [{"Effect": "Allow", "Action": "ecs:Describe*", "Resource": "*"}]}

A call is permitted if a statement allows its action on every resource that it names, and none denies it on any. The API
has one account and doesn't tell regions apart, so these parts of a resource are always `*`. What a policy can't say
here (conditions, exceptions, other services) is refused: to leave it out would permit more than its author meant.
"""

from __future__ import annotations

import enum
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Protocol, cast

from sgdataplane.control.access.targets import SERVICES, CallTarget, names_of, resources_of
from sgdataplane.control.calls.answers import FORBIDDEN, ApiError
from sgdataplane.control.calls.products import SERVICES as PRODUCT_SERVICES
from sgdataplane.errors import Problem, StateFileError, Where
from sgdataplane.store.call import Call
from sgdataplane.store.interface import Json

MAX_SHOWN = 80  # characters of a value that is refused
LARGEST = 64 << 10  # bytes of a policy; the cloud's own limit is 6 KB
ACTION = re.compile(rf"\*|({'|'.join(PRODUCT_SERVICES)}):[A-Za-z0-9*]+", re.IGNORECASE)
RESOURCE = re.compile(r"acs:(?P<service>ecs|vpc|\*):\*:\*:(?P<kind>\*|[a-z]+/)(?P<name>[^:]*)")


class PolicyError(StateFileError):
    """A key's policy was refused as a whole."""


class Effect(enum.Enum):
    """The effect of a policy's statement, by its name in the policy."""

    ALLOW = "Allow"
    DENY = "Deny"


@dataclass(frozen=True, slots=True)
class Statement:
    """A statement of a policy."""

    effect: Effect
    actions: tuple[str, ...]  # patterns in lower case
    resources: tuple[tuple[str, str], ...]  # pairs of patterns: of the service, and of kind/name

    def covers(self, names: Iterable[str], resource: CallTarget) -> bool:
        """Whether the statement covers an action on this resource. `names` are all names of the action."""
        return any(matches(action, name) for action in self.actions for name in names) and any(
            matches(service, resource.service) and matches(pattern, f"{resource.kind}/{resource.name}")
            for service, pattern in self.resources
        )


@dataclass(frozen=True, slots=True)
class AccessPolicy:
    """A policy of access keys, as its statements."""

    statements: tuple[Statement, ...]

    def permits(self, call: Call) -> bool:
        """Whether the policy permits a call. An explicit Deny wins; what nothing allows is denied."""
        names = names_of(call.action)
        return all(self._permits(names, resource) for resource in resources_of(call))

    def denies(self, action: str, targets: Iterable[CallTarget]) -> bool:
        """Whether a statement explicitly denies the action on any of these."""
        names, denying = names_of(action), [one for one in self.statements if one.effect is Effect.DENY]
        return any(one.covers(names, target) for target in targets for one in denying)

    def idle(self, actions: Iterable[str]) -> list[str]:
        """Return the patterns of actions that match none of these, in lower case. They may be typing errors."""
        names = [name for action in actions for name in names_of(action)]
        patterns = dict.fromkeys(pattern for statement in self.statements for pattern in statement.actions)
        return [pattern for pattern in patterns if not any(matches(pattern, name) for name in names)]

    def _permits(self, names: tuple[str, ...], resource: CallTarget) -> bool:
        effects = {one.effect for one in self.statements if one.covers(names, resource)}
        return effects == {Effect.ALLOW}


def matches(pattern: str, text: str) -> bool:
    """Whether the whole text fits, where * stands for any characters. It takes time in proportion to the text."""
    first, *rest = pattern.split("*")
    if not rest:
        return pattern == text
    *middle, last = rest
    if len(text) < len(first) + len(last) or not (text.startswith(first) and text.endswith(last)):
        return False
    at, end = len(first), len(text) - len(last)
    for part in middle:
        found = text.find(part, at, end)
        if found < 0:
            return False
        at = found + len(part)
    return True


class Rights(Protocol):
    """The rights of keys, by their policies."""

    def permits(self, call: Call, /) -> bool:
        """Whether the key's policy allows a call on all that its parameters name."""

    def denies(self, call: Call, targets: Iterable[CallTarget], /) -> bool:
        """Whether the key's policy explicitly denies a call's action on any of these."""


class AllRights:
    """Every right for everybody, for calls that no key makes."""

    def permits(self, _: Call, /) -> bool:
        """Return True: every call is permitted."""
        return True

    def denies(self, _: Call, __: Iterable[CallTarget], /) -> bool:
        """Return False: nothing is denied."""
        return False


ALL_RIGHTS = AllRights()


def forbidden() -> ApiError:
    """Return the cloud's error for what a key's policy doesn't permit."""
    words = "User not authorized to operate on the specified resource, or this API doesn't support RAM."
    return ApiError("Forbidden.RAM", words, FORBIDDEN)


# reading a policy


def read_policy(text: str, file: str = "") -> AccessPolicy:
    """Return the policy in a JSON text. `file` is where the text comes from, for errors.

    Raises:
        PolicyError: Everything that is wrong with the text.
    """
    document = _parse(text, file)
    problems: list[Problem] = []
    policy = _Reader(file, problems).policy(document)
    if problems:
        raise PolicyError(tuple(problems))
    return policy


def _parse(text: str, file: str) -> Json:
    where = Where(file)
    if len(text) > LARGEST:
        raise PolicyError(
            (Problem(where, "InvalidPolicy.TooLarge", "the policy is too large", expected="64 KB at most"),)
        )
    try:
        return cast(Json, json.loads(text, object_pairs_hook=_without_twins))
    except json.JSONDecodeError as error:
        where, message = Where(file, error.lineno), f"the policy isn't JSON: {error.msg}"
    except (ValueError, RecursionError) as error:
        message = f"the policy can't be read: {error}"
    raise PolicyError((Problem(where, "InvalidPolicy.Format", message, expected="a RAM policy in JSON"),))


def _without_twins(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twin = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"{twin} is given twice in one object")
    return found


@dataclass(frozen=True, slots=True)
class _Reader:
    """Reads all of a policy, and collects what is wrong with it."""

    file: str
    problems: list[Problem]

    def policy(self, value: Json) -> AccessPolicy:
        fields = self._object(value, "", ("Version", "Statement"))
        if fields is None:
            return AccessPolicy(())
        if fields.get("Version") != "1":
            self._refuse("/Version", "Version", "not the version of RAM policies", fields.get("Version"), '"1"')
        statements = fields.get("Statement")
        if not isinstance(statements, list) or not statements:
            self._refuse("/Statement", "Statement", "not a list of statements", statements, "one statement or more")
            return AccessPolicy(())
        return AccessPolicy(tuple(self._statement(one, f"/Statement/{at}") for at, one in enumerate(statements)))

    def _statement(self, value: Json, at: str) -> Statement:
        fields = self._object(value, at, ("Effect", "Action", "Resource"))
        if fields is None:
            return Statement(Effect.DENY, (), ())
        effect = next((one for one in Effect if one.value == fields.get("Effect")), None)
        if effect is None:
            self._refuse(f"{at}/Effect", "Effect", "not an effect", fields.get("Effect"), "Allow or Deny")
        actions = tuple(self._action(text, place) for place, text in self._each(fields, at, "Action"))
        resources = tuple(self._pattern(text, place) for place, text in self._each(fields, at, "Resource"))
        return Statement(effect or Effect.DENY, actions, resources)

    def _action(self, text: str, at: str) -> str:
        if not ACTION.fullmatch(text):
            expected = "ecs:NAME, vpc:NAME or another service's, where * stands for any text; or *"
            self._refuse(at, "Action", "not an action of this API", text, expected)
        return text.lower()

    def _pattern(self, text: str, at: str) -> tuple[str, str]:
        found = RESOURCE.fullmatch("acs:*:*:*:*" if text == "*" else text)
        if found and found["service"] in _services_of(found["kind"]):
            return found["service"], f"{found['kind']}{found['name']}"
        kinds = ", ".join(SERVICES)
        expected = f"* or acs:ecs:*:*:KIND/ID (acs:vpc for vpc, vswitch and routetable); KIND is one of {kinds}"
        self._refuse(at, "Resource", "not a resource of this API", text, expected)
        return "", ""

    def _each(self, fields: Mapping[str, Json], at: str, name: str) -> Iterator[tuple[str, str]]:
        """Yield the place and the text of each value of a field, which holds one text or a list of them."""
        value = fields.get(name)
        texts = {f"{at}/{name}": value}
        if isinstance(value, list) and value:
            texts = {f"{at}/{name}/{number}": one for number, one in enumerate(value)}
        for place, text in texts.items():
            if isinstance(text, str):
                yield place, text
            else:
                self._refuse(place, name, "not a text or a list of texts", text, f"each {name}; * is all of them")

    def _object(self, value: Json, at: str, keys: tuple[str, ...]) -> Mapping[str, Json] | None:
        """Return an object, and note keys that it must not have; None if the value is no object."""
        if not isinstance(value, dict):
            self._refuse(at, "Format", "not an object", value, f"an object with {', '.join(keys)}")
            return None
        for key in sorted(value.keys() - set(keys)):
            place = f"{at}/{key.replace('~', '~0').replace('/', '~1')}"
            self._refuse(place, "Unsupported", f"{key} has no meaning here", value[key], f"only {', '.join(keys)}")
        return value

    def _refuse(self, at: str, code: str, message: str, value: Json, expected: str) -> None:
        shown = "" if value is None else value if isinstance(value, str) else json.dumps(value)
        where = Where(self.file, pointer=at)
        self.problems.append(Problem(where, f"InvalidPolicy.{code}", message, shown[:MAX_SHOWN], expected))


def _services_of(kind: str) -> tuple[str, ...]:
    """Return the services that a pattern may name with a kind: the kind's own, and `*`."""
    if kind == "*":
        return ("*", "ecs", "vpc")
    service = SERVICES.get(kind.removesuffix("/"))
    return (service, "*") if service else ()


# What `sgdp api keys create --policy` knows by name.
ALL = (("*", "*"),)
READING = (
    *("ecs:describe*", "ecs:list*", "ecs:sgdpdescribe*", "ecs:sgdpdiff", "ecs:sgdpexplain", "ecs:sgdpwait"),
    "ecs:sgdptrialshow",
    *("vpc:describe*", "vpc:list*", "resourcemanager:list*", "sts:getcalleridentity", "location:describe*"),
    "bssopenapi:query*",
)
BUILT_IN: Mapping[str, AccessPolicy] = MappingProxyType(
    {
        "full": AccessPolicy((Statement(Effect.ALLOW, ("*",), ALL),)),
        "read-only": AccessPolicy((Statement(Effect.ALLOW, READING, ALL),)),
    }
)
