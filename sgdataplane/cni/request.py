"""The request of a container runtime: its environment and standard input, read and checked.

Owns the bounds of both, the codes of the CNI specification (1.1), and where an ENI can be named. Must not know what is
done about it.

The runtime's operator writes the network's configuration, but whoever starts a workload may choose annotations and
arguments, and with some runtimes the whole configuration. So nothing in it names a file, a socket or a command, and
every text that is used has to match a pattern.

An ENI can be named in these places; where several name one, they have to agree:

    CNI_ARGS        SGDP_ENI=eni-web                        (with IgnoreUnknown=1, as other plugins refuse what they
                                                            don't know)
    args.cni        {"args": {"cni": {"eni": "eni-web"}}}
    runtimeConfig   {"eni": "eni-web"}, with "capabilities": {"eni": true}
    annotation      sgdataplane/eni: eni-web                with "capabilities": {"io.kubernetes.cri.pod-annotations":
                                                            true}, as containerd and CRI-O hand them over

The kubelet names the pod, too (K8S_POD_NAMESPACE and K8S_POD_NAME in CNI_ARGS). People see that name beside the ENI.
"""

from __future__ import annotations

import enum
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NoReturn, cast

from sgdataplane.attach.names import OCI
from sgdataplane.net.values import IFNAME
from sgdataplane.visible import visible

VERSIONS = ("0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0")
MAX_BYTES = 1 << 20
MAX_VALID = 10_000  # attachments that a GC can list
ARGUMENT, CAPABILITY = "SGDP_ENI", "eni"
ANNOTATIONS, ANNOTATION = "io.kubernetes.cri.pod-annotations", "sgdataplane/eni"
# For an OCI hook. Not the annotation above: CRI-O hands annotations to hooks and to plugins.
BIND, INTERFACE = "sgdataplane/bind", "sgdataplane/interface"
MAX_PID = 1 << 22  # linux/threads.h: PID_MAX_LIMIT
VALID = "cni.dev/valid-attachments"
WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")  # a network's name and a container's id
ENI = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:-]{0,127}")  # its id, or the id or name of its instance
# Arguments of the kubelet. Names of Kubernetes objects are labels or subdomains as in DNS.
POD_NAMESPACE, POD_NAME = "K8S_POD_NAMESPACE", "K8S_POD_NAME"
LABEL, SUBDOMAIN = re.compile(r"[a-z0-9-]{1,63}"), re.compile(r"[a-z0-9.-]{1,253}")
SHORT = 12
MADE, MADE_PART = re.compile(r"[0-9a-f]{64}"), re.compile(r"[0-9a-f]{12}")
PLACE = re.compile(r"/[\x21-\x7e]{1,4094}")


class CniCode(enum.IntEnum):
    """The specification's codes of errors; those from 100 on are sgdataplane's."""

    INCOMPATIBLE = 1
    ENVIRONMENT = 4
    UNREADABLE = 5
    UNDECODABLE = 6
    CONFIGURATION = 7
    LATER = 11
    UNAVAILABLE = 50
    REFUSED = 100  # the interface can't be bound to this ENI
    KERNEL = 101  # the kernel refused, or the host
    NOT_IN_FORCE = 102  # CHECK: the attachment isn't protected
    BUG = 999  # as libcni has it


class CniError(Exception):
    """The answer to the runtime: an error of the specification, with a message and, in `details`, more about it."""

    def __init__(self, code: CniCode, message: str, details: str = "") -> None:
        super().__init__(message)
        self.code, self.message, self.details = code, message, details


class CniCommand(enum.Enum):
    """The commands of a runtime."""

    ADD = "ADD"
    DEL = "DEL"
    CHECK = "CHECK"
    GC = "GC"
    STATUS = "STATUS"
    VERSION = "VERSION"

    @property
    def since(self) -> str:
        """The first version of the specification that has it."""
        return {"CHECK": "0.4.0", "GC": "1.1.0", "STATUS": "1.1.0"}.get(self.value, VERSIONS[0])

    @property
    def is_about_one(self) -> bool:
        """Whether it names an attachment: one interface of one container."""
        return self in (CniCommand.ADD, CniCommand.DEL, CniCommand.CHECK)


@dataclass(frozen=True, slots=True)
class CniRequest:
    """A request that was read and checked."""

    command: CniCommand
    version: str
    network: str = ""
    attachment: str = ""
    """NETWORK/CONTAINER, or oci:CONTAINER for a hook; unique together with `ifname`."""
    ifname: str = ""
    netns: str = ""
    """Empty in a DEL whose namespace has ended."""
    eni: str = ""
    """The ENI as it is named; empty if it isn't."""
    previous: Mapping[str, object] | None = None
    """The result of the plugins before this one; None if it is the first."""
    valid: frozenset[tuple[str, str]] = frozenset()
    """The attachments that stay, for a GC: (attachment, interface)."""
    pod: str = ""
    """NAMESPACE/NAME of the Kubernetes pod; empty if the runtime names none."""


def read_request(environment: Mapping[str, str], text: bytes) -> CniRequest:
    """Read a request. CniError if anything is missing, too large, or not of the kind that it has to be."""
    command = command_of(environment)
    config = _config(text)
    version, network = _version(config, command), _word(config, "name")
    previous = config.get("prevResult")
    if previous is not None and not isinstance(previous, dict):
        _refuse("prevResult", previous, "an object")
    if not command.is_about_one:
        return CniRequest(command, version, network, valid=_valid(config, network, command))
    container = _variable(environment, "CNI_CONTAINERID", WORD)
    return CniRequest(
        command,
        version,
        network,
        name_attachment(network, container),
        _variable(environment, "CNI_IFNAME", IFNAME),
        _variable(environment, "CNI_NETNS", PLACE, may_be_missing=command is CniCommand.DEL),
        _eni(environment, config, is_needed=command is CniCommand.ADD),
        previous,
        pod=_pod(environment),
    )


def read_state(text: bytes, *, is_binding: bool, is_early: bool = False) -> CniRequest:
    """Read what an OCI runtime tells its hooks, the state of a container, as a request to bind or unbind.

    `is_early` says that the interface may come later.

    Raises:
        CniError: The state isn't valid.
    """
    state = _config(text)
    container, annotations = _word(state, "id"), _object(state, "annotations")
    attachment = OCI + container_id_of(container)
    if not is_binding:
        return CniRequest(CniCommand.DEL, VERSIONS[-1], attachment=attachment)
    pid, eni, ifname = state.get("pid"), annotations.get(BIND), annotations.get(INTERFACE, "eth0")
    if type(pid) is not int or not 0 < pid < MAX_PID:  # a bool is an int, too
        _refuse("pid", pid, "a process")
    if not isinstance(eni, str) or not ENI.fullmatch(eni):
        _refuse(f"annotation {BIND}", eni, "an ENI's id, or the id or name of its instance")
    if not isinstance(ifname, str) or not IFNAME.fullmatch(ifname):
        _refuse(f"annotation {INTERFACE}", ifname, "the name of an interface")
    return CniRequest(
        CniCommand.ADD, VERSIONS[-1], "", attachment, ifname, f"/proc/{pid}/ns/net", eni, None if is_early else {}
    )


def command_of(environment: Mapping[str, str]) -> CniCommand:
    """Return the command in the environment. CniError if it is none."""
    found = environment.get("CNI_COMMAND", "")
    command = next((command for command in CniCommand if command.value == found), None)
    if command is None:
        expected = f"one of {', '.join(command.value for command in CniCommand)}"
        raise CniError(CniCode.ENVIRONMENT, f"CNI_COMMAND: {visible(found[:80])!r} is not {expected}")
    return command


def _config(text: bytes) -> dict[str, object]:
    """Return standard input as an object of JSON. CniError if it isn't one, or is too large."""
    if len(text) > MAX_BYTES:
        raise CniError(CniCode.UNREADABLE, f"standard input has more than {MAX_BYTES} bytes")
    try:
        value = json.loads(text.decode("utf-8"), parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise CniError(CniCode.UNDECODABLE, "standard input is not JSON", visible(str(error))) from error
    if not isinstance(value, dict):
        raise CniError(CniCode.UNDECODABLE, "standard input is not an object of JSON")
    return cast("dict[str, object]", value)


def version_in(text: bytes) -> str:
    """Return the version in which to answer: the network configuration's, or the latest if that isn't known."""
    try:
        return _version(_config(text), CniCommand.ADD)
    except CniError:
        return VERSIONS[-1]


def _no_constant(word: str) -> NoReturn:
    """Raise ValueError for NaN and the like, which Python takes for JSON."""
    raise ValueError(f"{word} is not JSON")


def _version(config: Mapping[str, object], command: CniCommand) -> str:
    """Return the version of the network's configuration.

    CniError if it isn't supported, or doesn't have the command.
    """
    found = config.get("cniVersion")
    if not isinstance(found, str) or found not in VERSIONS:
        said = visible(str(found)[:80])
        raise CniError(CniCode.INCOMPATIBLE, f"cniVersion is {said}; supported are {', '.join(VERSIONS)}")
    if VERSIONS.index(found) < VERSIONS.index(command.since):
        message = f"cniVersion {found} does not have {command.value}, which came with {command.since}"
        raise CniError(CniCode.INCOMPATIBLE, message)
    return found


def _word(values: Mapping[str, object], key: str) -> str:
    """Return a value that is a name. CniError if it isn't one."""
    found = values.get(key)
    if not isinstance(found, str) or not WORD.fullmatch(found):
        _refuse(key, found, "1 to 128 letters, digits and any of _ . -")
    return found


def _refuse(key: str, value: object, expected: str) -> NoReturn:
    """Raise CniError for a value of the configuration."""
    raise CniError(CniCode.CONFIGURATION, f"{key} is {visible(repr(value)[:80])}; expected {expected}")


def _variable(
    environment: Mapping[str, str], name: str, pattern: re.Pattern[str], *, may_be_missing: bool = False
) -> str:
    """Return a variable of the environment that matches the pattern. CniError if it doesn't."""
    found = environment.get(name, "")
    if not pattern.fullmatch(found) and (found or not may_be_missing):
        raise CniError(CniCode.ENVIRONMENT, f"{name}: {visible(found[:80])!r} can't be used")
    return found


def _eni(environment: Mapping[str, str], config: Mapping[str, object], *, is_needed: bool) -> str:
    """Return the ENI that is named. CniError if several are, or if none is and one is needed."""
    found = dict(_list_named_enis(environment, config))
    for place, value in found.items():
        if not isinstance(value, str) or not ENI.fullmatch(value):
            _refuse(place, value, "an ENI's id, or the id or name of its instance")
    if len(set(found.values())) > 1:
        said = ", ".join(f"{place} {value}" for place, value in found.items())
        raise CniError(CniCode.CONFIGURATION, f"the ENI is named in several ways: {said}")
    if not found and is_needed:
        where = f"annotation {ANNOTATION}, runtimeConfig.{CAPABILITY}, args.cni.{CAPABILITY}, or {ARGUMENT} in CNI_ARGS"
        raise CniError(CniCode.CONFIGURATION, f"no ENI is named; expected {where}")
    return str(next(iter(found.values()), ""))


def _pod(environment: Mapping[str, str]) -> str:
    """Return the pod that CNI_ARGS names; "" if it names none.

    Only people need the name, so one that no pod can have is left out, and not refused.
    """
    found = dict(_arguments(environment))
    namespace, name = found.get(POD_NAMESPACE, ""), found.get(POD_NAME, "")
    return f"{namespace}/{name}" if LABEL.fullmatch(namespace) and SUBDOMAIN.fullmatch(name) else ""


def _arguments(environment: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Yield the keys and values in CNI_ARGS."""
    for pair in environment.get("CNI_ARGS", "").split(";"):
        key, _, value = pair.partition("=")
        yield key, value


def _list_named_enis(environment: Mapping[str, str], config: Mapping[str, object]) -> Iterator[tuple[str, object]]:
    """Yield each place that names an ENI, and what stands there."""
    yield from ((f"CNI_ARGS {ARGUMENT}", value) for key, value in _arguments(environment) if key == ARGUMENT)
    handed = _object(config, "runtimeConfig")
    places: tuple[tuple[str, Mapping[str, object], str], ...] = (
        ("args.cni", _object(_object(config, "args"), "cni"), CAPABILITY),
        ("runtimeConfig", handed, CAPABILITY),
        ("annotation", _object(handed, ANNOTATIONS), ANNOTATION),
    )
    yield from ((f"{place} {key}", values[key]) for place, values, key in places if key in values)


def _object(values: Mapping[str, object], key: str) -> Mapping[str, object]:
    """Return an object within an object; an empty one if it is missing. CniError if it isn't an object."""
    found = values.get(key)
    if found is None:
        return {}
    if not isinstance(found, dict):
        _refuse(key, found, "an object")
    return found


def _valid(config: Mapping[str, object], network: str, command: CniCommand) -> frozenset[tuple[str, str]]:
    """Return the attachments of this network that stay; none unless the command is GC."""
    found = config.get(VALID)
    if command is not CniCommand.GC:
        return frozenset()
    if not isinstance(found, list) or len(found) > MAX_VALID:
        _refuse(VALID, found, f"a list of at most {MAX_VALID}")
    return frozenset(_attachment(entry, network) for entry in found)


def _attachment(entry: object, network: str) -> tuple[str, str]:
    if not isinstance(entry, dict) or not isinstance(entry.get("ifname"), str):
        _refuse(VALID, entry, "objects with containerID and ifname")
    return name_attachment(network, _word(entry, "containerID")), entry["ifname"]


def name_attachment(network: str, container: str) -> str:
    """Return the name of an attachment: NETWORK/CONTAINER."""
    return f"{network}/{container_id_of(container)}"


def container_id_of(container: str) -> str:
    """Return the container's id as attachments have it.

    A number that an engine made is cut to what engines show. An id that looks like such a part gets a sign that no id
    has.
    """
    if MADE.fullmatch(container):
        return container[:SHORT]
    return f"{container}~" if MADE_PART.fullmatch(container) else container
