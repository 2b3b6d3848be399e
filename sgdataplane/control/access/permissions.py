"""What an access key may do: policies as the cloud's RAM writes them, and whether one of them permits a call.

Owns their grammar, what each part means, and the two that are built in. Pure functions. Must not know keys, HTTP, or
what an action does.

    {"Version": "1", "Statement": [{"Effect": "Allow", "Action": "ecs:Describe*", "Resource": "*"}]}

A call is permitted if a statement allows its action on every resource that it names, and none denies it on any. The
API has one account and doesn't tell regions apart, so these parts of a resource are always `*`. What a policy can't say
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

from sgdataplane.control.calls.answers import FORBIDDEN, ApiError
from sgdataplane.control.calls.products import SERVICES as PRODUCT_SERVICES
from sgdataplane.control.calls.products import plain, service_of
from sgdataplane.errors import Problem, StateFileError, Where
from sgdataplane.store.call import Call
from sgdataplane.store.documents import ResourceKind, Workspace, kind_of, name_of, path_of, state_in
from sgdataplane.store.hosts import TAG, named_host
from sgdataplane.store.interface import Json

MOST_SHOWN = 80  # characters of a value that is refused
LARGEST = 64 << 10  # bytes of a policy; the cloud's own limit is 6 KB
SERVICES = {
    "securitygroup": "ecs",
    "eni": "ecs",
    "instance": "ecs",
    "prefixlist": "ecs",
    "portrangelist": "ecs",
    "vpc": "vpc",
    "vswitch": "vpc",
    "host": "ecs",
}  # kind of resource -> the service that has it
# In an action's name, the first of these says which kind it is about.
SUBJECTS = {
    "SecurityGroup": "securitygroup",
    "NetworkInterface": "eni",
    "PrefixList": "prefixlist",
    "PortRangeList": "portrangelist",
    "VSwitch": "vswitch",
    "Vpc": "vpc",
    "Instance": "instance",
    "Hosts": "host",
}
CHANGED = {
    ResourceKind.GROUP: "securitygroup",
    ResourceKind.ENI: "eni",
    ResourceKind.INSTANCE: "instance",
    ResourceKind.PREFIX_LIST: "prefixlist",
    ResourceKind.PORT_LIST: "portrangelist",
    ResourceKind.VPC: "vpc",
    ResourceKind.VSWITCH: "vswitch",
}  # kind of document -> kind of resource
BY_EXTENSION = "SgdpHost"  # of the parameters named Sgdp*, the one that names a resource; so does a tag
# The parameters that name resources, wherever they stand in a call.
NAMING = {f"{word}Id{plural}": kind for word, kind in SUBJECTS.items() for plural in ("", "s")}
NAMING[BY_EXTENSION] = "host"
OF_RULES = ("PortRangeListId",)  # but not what a rule refers to
READS = ("Describe", "List")  # what begins so names resources of other kinds only to filter by them
MAKES = ("Create", "Run", "SgdpClone")  # what begins so makes one that has no name yet
ACTION = re.compile(rf"\*|({'|'.join(PRODUCT_SERVICES)}):[A-Za-z0-9*]+", re.IGNORECASE)
RESOURCE = re.compile(r"acs:(?P<service>ecs|vpc|\*):\*:\*:(?P<kind>\*|[a-z]+/)(?P<name>[^:]*)")


class PolicyError(StateFileError):
    """A key's policy was refused whole."""


class Effect(enum.Enum):
    ALLOW = "Allow"
    DENY = "Deny"


@dataclass(frozen=True, slots=True)
class CallTarget:
    """What a call is about; `name` is * if the call names none of the kind."""

    service: str
    kind: str
    name: str


@dataclass(frozen=True, slots=True)
class Statement:
    """`actions`: patterns in lower case; `resources`: pairs of patterns, of the service and of kind/name."""

    effect: Effect
    actions: tuple[str, ...]
    resources: tuple[tuple[str, str], ...]

    def covers(self, names: Iterable[str], resource: CallTarget) -> bool:
        """Whether it says anything of an action, by any of its names, on this resource."""
        return any(matches(action, name) for action in self.actions for name in names) and any(
            matches(service, resource.service) and matches(pattern, f"{resource.kind}/{resource.name}")
            for service, pattern in self.resources
        )


@dataclass(frozen=True, slots=True)
class AccessPolicy:
    statements: tuple[Statement, ...]

    def permits(self, call: Call) -> bool:
        """An explicit Deny wins; what nothing allows is denied."""
        names = names_of(call.action)
        return all(self._permits(names, resource) for resource in resources_of(call))

    def denies(self, action: str, targets: Iterable[CallTarget]) -> bool:
        """Whether a statement denies the action on any of these explicitly."""
        names, denying = names_of(action), [one for one in self.statements if one.effect is Effect.DENY]
        return any(one.covers(names, target) for target in targets for one in denying)

    def idle(self, actions: Iterable[str]) -> list[str]:
        """The patterns of actions that match none of these, in lower case: perhaps slips of the pen."""
        names = [name for action in actions for name in names_of(action)]
        patterns = dict.fromkeys(pattern for statement in self.statements for pattern in statement.actions)
        return [pattern for pattern in patterns if not any(matches(pattern, name) for name in names)]

    def _permits(self, names: tuple[str, ...], resource: CallTarget) -> bool:
        effects = {one.effect for one in self.statements if one.covers(names, resource)}
        return effects == {Effect.ALLOW}


def matches(pattern: str, text: str) -> bool:
    """Whether the whole text fits; * stands for any characters. Takes time in proportion to the text."""
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
    """What keys may do, by their policies."""

    def permits(self, call: Call, /) -> bool:
        """Whether the key's policy allows a call on all that its parameters name."""

    def denies(self, call: Call, targets: Iterable[CallTarget], /) -> bool:
        """Whether the key's policy explicitly denies a call's action on any of these."""


class AllRights:
    """Everybody may do everything: for calls that no key makes."""

    def permits(self, _: Call, /) -> bool:
        return True

    def denies(self, _: Call, __: Iterable[CallTarget], /) -> bool:
        return False


ALL_RIGHTS = AllRights()


def forbidden() -> ApiError:
    """Return the cloud's error for what a key's policy doesn't permit."""
    words = "User not authorized to operate on the specified resource, or this API doesn't support RAM."
    return ApiError("Forbidden.RAM", words, FORBIDDEN)


# what a call asks for


def names_of(action: str) -> tuple[str, ...]:
    """The names by which policies know an action, in lower case. Actions on VPCs are the VPC service's, too."""
    service, name = service_of(action), plain(action)
    is_of_vpc = SERVICES.get(_subject(name)) == "vpc" or service == "vpc"
    return tuple(f"{one}:{name}".lower() for one in (("ecs", "vpc") if is_of_vpc else (service,)))


def resources_of(call: Call) -> tuple[CallTarget, ...]:
    """What a call is about: all that its parameters name; and its subject as such, if it makes one or names none."""
    action = plain(call.action)
    subject = _subject(action)
    said = {**call.parameters, **{name: call.extensions[name] for name in (BY_EXTENSION,) if name in call.extensions}}
    named = {one for one in _named(said, subject) if one.kind == subject or not action.startswith(READS)}
    if subject and (action.startswith(MAKES) or all(one.kind != subject for one in named)):
        named.add(_resource(subject, "*"))
    return tuple(named) or (CallTarget(service_of(call.action), "*", "*"),)


def targets_of_change(workspace: Workspace) -> Iterator[CallTarget]:
    """Yield what a call changes or takes away that was there before, whatever its parameters name: so a call on an
    instance is about the ENIs that it changes, too, and about the hosts that they come from and go to."""
    documents = workspace.documents
    for path in sorted(workspace.changed):
        kind, before = kind_of(path), documents.get(path)
        if before is None or kind not in CHANGED:
            continue
        yield _resource(CHANGED[kind], name_of(path))
        enis = [name_of(path)] if kind is ResourceKind.ENI else []
        enis = workspace.enis_of(name_of(path)) if kind is ResourceKind.INSTANCE else enis
        for eni in enis:
            yield from (_resource("host", host) for host in _hosts_moved(workspace, eni))


def _hosts_moved(workspace: Workspace, eni: str) -> set[str]:
    """Return the host that an ENI leaves, and the one that it goes to, if it moves."""
    found = []
    for get in (lambda kind, name: workspace.documents.get(path_of(kind, name)), workspace.get):
        body = get(ResourceKind.ENI, eni)
        instance = get(ResourceKind.INSTANCE, str(state_in(body).get("instance_id", ""))) if body else None
        found.append(named_host(body, instance) if body else "")
    before, after = found
    return {before, after} - {""} if before != after else set()


def _subject(action: str) -> str:
    return next((kind for word, kind in SUBJECTS.items() if word in action), "")


def _resource(kind: str, name: str) -> CallTarget:
    return CallTarget(SERVICES.get(kind, "*"), kind, name)


def _named(parameters: Mapping[str, Json], subject: str) -> Iterator[CallTarget]:
    for key, value in parameters.items():
        kind = NAMING.get(key) or _kind_named(key, parameters, subject)
        if kind and (kind == subject or key not in OF_RULES):
            yield from (_resource(kind, name) for name in _texts(value))
        for inner in value if isinstance(value, list) else [value]:
            if isinstance(inner, dict):
                yield from _named(inner, subject)


def _kind_named(key: str, parameters: Mapping[str, Json], subject: str) -> str:
    """The kind of what a parameter names that doesn't say so itself; "" if it names nothing."""
    if key == "ResourceId":
        return str(parameters.get("ResourceType", "")).lower()
    if key == "HostName":  # elsewhere, what an instance calls itself
        return subject if subject == "host" else ""
    return "host" if key == "Value" and parameters.get("Key") == TAG else ""


def _texts(value: Json) -> list[str]:
    """One text or several, also as the text of a JSON list, as DescribeInstances has it."""
    if isinstance(value, str) and value.startswith("["):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return [str(value)]
    return [str(one) for one in value] if isinstance(value, list) else [str(value)]


# reading a policy


def read_policy(text: str, file: str = "") -> AccessPolicy:
    """The policy in a JSON text from `file`. PolicyError with everything that is wrong with it."""
    document = _parsed(text, file)
    problems: list[Problem] = []
    policy = _Reader(file, problems).policy(document)
    if problems:
        raise PolicyError(tuple(problems))
    return policy


def _parsed(text: str, file: str) -> Json:
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
    """Reads all of a policy and collects what is wrong with it."""

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
            expected = "ecs:NAME, vpc:NAME or another service's, where * stands for any letters; or *"
            self._refuse(at, "Action", "not an action of this API", text, expected)
        return text.lower()

    def _pattern(self, text: str, at: str) -> tuple[str, str]:
        found = RESOURCE.fullmatch("acs:*:*:*:*" if text == "*" else text)
        if found and found["service"] in _services_of(found["kind"]):
            return found["service"], f"{found['kind']}{found['name']}"
        expected = f"* or acs:ecs:*:*:KIND/ID (acs:vpc for vpc and vswitch); KIND is one of {', '.join(SERVICES)}"
        self._refuse(at, "Resource", "not a resource of this API", text, expected)
        return "", ""

    def _each(self, fields: Mapping[str, Json], at: str, name: str) -> Iterator[tuple[str, str]]:
        """(place, text) of one text or a list of them."""
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
        """None if it is none."""
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
        self.problems.append(Problem(where, f"InvalidPolicy.{code}", message, shown[:MOST_SHOWN], expected))


def _services_of(kind: str) -> tuple[str, ...]:
    """The services that a pattern may name with it: a kind has one, and `*` stands for it."""
    if kind == "*":
        return ("*", "ecs", "vpc")
    service = SERVICES.get(kind.removesuffix("/"))
    return (service, "*") if service else ()


# What `sgdp api keys create --policy` knows by name.
ALL = (("*", "*"),)
READING = (
    *("ecs:describe*", "ecs:list*", "ecs:sgdpdescribe*", "ecs:sgdpdiff", "ecs:sgdpexplain", "ecs:sgdpwait"),
    *("vpc:describe*", "vpc:list*", "resourcemanager:list*", "sts:getcalleridentity", "location:describe*"),
    "bssopenapi:query*",
)
BUILT_IN: Mapping[str, AccessPolicy] = MappingProxyType(
    {
        "full": AccessPolicy((Statement(Effect.ALLOW, ("*",), ALL),)),
        "read-only": AccessPolicy((Statement(Effect.ALLOW, READING, ALL),)),
    }
)
