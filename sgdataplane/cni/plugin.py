"""The CNI plugin `sgdataplane`: it binds a container's interface, and returns once its policy is in force.

Owns what each command does, and the answer. Must not know how an interface is bound or a policy enforced: `attach` does
the one, and the agent the other.

    ADD       binds; from then on the namespace passes nothing; waits until the agent has put the policy in force. If
              it fails, it leaves the namespace closed, and DEL cleans up.
    DEL       takes the interface down, then unbinds it. What isn't bound any more is no error.
    CHECK     is the policy in force, by the kernel's tables and by the agent, if that runs?
    GC        does a DEL for each attachment of the network that the runtime doesn't list
    STATUS    is the agent there, with a policy?

In a network's list of plugins it may stand first, too, before the plugin that makes the interface. Then rules are there
before the interface, and even a process that is in the namespace already can send or receive nothing by it.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any, NoReturn

from sgdataplane.attach.manage import Attached, AttachRequest, attach, describe_attachment, detach
from sgdataplane.attach.registry import Binding, Means, Registry
from sgdataplane.attach.workload import Naming, Workload
from sgdataplane.cni.request import (
    MAX_BYTES,
    VERSIONS,
    CniCode,
    CniCommand,
    CniError,
    CniRequest,
    command_of,
    read_request,
    version_in,
)
from sgdataplane.daemon.config import CONFIG_FILE, Config, load_config
from sgdataplane.daemon.control import Request, ask
from sgdataplane.daemon.lookup import resolve_eni_id
from sgdataplane.enforce import is_enforced
from sgdataplane.errors import BindingError, ConfigError, HostError, SgDataplaneError, StateFileError
from sgdataplane.host.identity import find_namespace, hold_namespace, identity_of
from sgdataplane.host.links import Links
from sgdataplane.terminal.bugs import bug_report
from sgdataplane.terminal.output import guard_output, print_json

WAIT_S = 20.0  # for the policy to be in force, under an agent that is busy
HOPELESS_S = 2.0  # for an outcome that only others can change: the state may be on its way
FIRST_POLL_S, LAST_POLL_S = 0.005, 0.1
IN_FORCE, ABSENT = ("in force", "auditing"), "absent"  # of an ENI in either mode
WORDS = {
    "closed": "the state has no such ENI",
    ABSENT: "the interface isn't there",
    "gone": "its namespace has ended",
    "disturbed": "other programs keep changing its rules",
    "misaddressed": "the interface has only addresses that aren't the ENI's",
}
CLOSED = "nothing passes at the interface until its policy is in force"
Answer = dict[str, object]
EniReported = dict[str, Any]  # an entry of the agent's status


def add(request: CniRequest, config: Config, *, takes_back: bool = False) -> Answer:
    """Bind the interface, wait for its policy, and hand on what the plugins before this one have made.

    If that fails and `takes_back` is set, unbind what was bound here, because the engine won't ask for it.

    Raises:
        CniError: The policy isn't in force in time; the interface stays closed.
        SgDataplaneError: The interface can't be bound.
    """
    registry = Registry(config.bindings)
    eni_id, _ = resolve_eni_id(request.eni, registry, lambda: config)
    workload = Workload(Naming.NETNS, request.netns)
    asked = AttachRequest(
        eni_id, workload, request.ifname, set_mac=True, attachment=request.attachment, pod=request.pod
    )
    attached = attach(registry, asked)
    with _undo_if_failed(config, attached) if takes_back and attached.is_new else nullcontext():
        _wait(config, attached.binding, (*IN_FORCE, ABSENT) if request.previous is None else IN_FORCE)
    if request.previous is None:
        return {"cniVersion": request.version, "interfaces": [], "ips": [], "routes": [], "dns": {}}
    return {**request.previous, **_interfaces(request, request.previous), "cniVersion": request.version}


@contextmanager
def _undo_if_failed(config: Config, attached: Attached) -> Iterator[None]:
    """Unbind what was bound, if the block fails or is interrupted.

    If that fails, too, or this process is killed, the binding ends with its namespace (attach/again.py).
    """
    try:
        yield
    except BaseException:
        bound = attached.binding
        with suppress(SgDataplaneError, OSError):
            unbind(
                config, lambda one: (one.named, one.ifname, one.identity) == (bound.named, bound.ifname, bound.identity)
            )
        raise


def _wait(config: Config, binding: Binding, wanted: Sequence[str]) -> None:
    """Wait until the agent reports one of these outcomes. CniError if it doesn't in time."""
    started, pause = time.monotonic(), FIRST_POLL_S
    while (eni := _await_report(config, binding)) is None or eni["outcome"] not in wanted:
        is_hopeless = eni is not None and eni["outcome"] in WORDS
        if time.monotonic() - started > (HOPELESS_S if is_hopeless else WAIT_S):
            why = "the agent hasn't enforced it in time" if eni is None else _why(eni)
            message = f"{binding.eni_id}: its policy isn't in force at {binding.ifname}: {why}"
            raise CniError(CniCode.LATER, message, CLOSED)
        time.sleep(pause)
        pause = min(2 * pause, LAST_POLL_S)


def _await_report(config: Config, binding: Binding) -> EniReported | None:
    """Return what the agent says of this binding; None if it doesn't know it yet.

    Raises:
        CniError: It gives no answer.
    """
    try:
        return _find_report(config, binding)
    except HostError as error:
        raise CniError(CniCode.LATER, str(error), CLOSED) from error


def _find_report(config: Config, binding: Binding) -> EniReported | None:
    """Return what the agent says of this binding; None if it doesn't know it yet.

    Raises:
        HostError: It gives no answer.
    """
    found: Any = ask(config.socket, Request.STATUS, eni=binding.eni_id)["status"]
    mine = (binding.named, binding.ifname)
    return next((eni for eni in found["enis"] if (eni["namespace"], eni["interface"]) == mine), None)


def _why(eni: EniReported) -> str:
    """Say why the ENI's policy isn't in force."""
    return str(eni["error"] or WORDS.get(eni["outcome"], eni["outcome"]))


def _interfaces(request: CniRequest, previous: Mapping[str, object]) -> Answer:
    """Return the result's interfaces, with the MAC that the bound one has now; nothing if the result has none."""
    entries = previous.get("interfaces")
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        return {}
    with hold_namespace(request.netns) as place, Links(place) as links:
        link = links.link(request.ifname)

    def is_ours(entry: dict[str, object]) -> bool:
        return link is not None and (entry.get("name"), entry.get("sandbox")) == (request.ifname, request.netns)

    mac = "" if link is None else link.mac
    return {"interfaces": [{**entry, "mac": mac} if is_ours(entry) else entry for entry in entries]}


def delete(request: CniRequest, config: Config) -> None:
    """Undo what `add` did, or as much of it as there is."""
    unbind(config, lambda binding: _is_of(binding, request))


def collect(request: CniRequest, config: Config) -> None:
    """Undo what `add` did for attachments that the runtime doesn't know any more."""
    valid = {(describe_attachment(attachment), ifname) for attachment, ifname in request.valid}
    prefix = describe_attachment(f"{request.network}/")
    unbind(config, lambda one: one.named.startswith(prefix) and (one.named, one.ifname) not in valid)


def _list_bindings(config: Config, is_meant: Callable[[Binding], bool]) -> tuple[Binding, ...]:
    """Return the bindings that a runtime has made and that are meant."""
    bindings = Registry(config.bindings).load()
    return tuple(binding for binding in bindings if binding.means is Means.RUNTIME and is_meant(binding))


def _is_of(binding: Binding, request: CniRequest) -> bool:
    """Return whether a request is about that binding."""
    return (binding.named, binding.ifname) == (describe_attachment(request.attachment), request.ifname)


def unbind(config: Config, is_meant: Callable[[Binding], bool]) -> None:
    """Unbind what is meant, and set its interfaces down first.

    With the last binding of a namespace, sgdataplane's rules there go, and others take the interface away only after
    that.
    """
    for binding in _list_bindings(config, is_meant):
        with find_namespace(binding.identity, binding.path) as place:
            if place is not None:
                _take_down(place, binding.ifname)
        with suppress(BindingError):  # somebody else has unbound it meanwhile
            detach(Registry(config.bindings), binding.eni_id)


def _take_down(place: str, ifname: str) -> None:
    """Set an interface down, if it is there."""
    with Links(place) as links:
        if links.link(ifname) is not None:
            links.set_down(ifname)


def check(request: CniRequest, config: Config) -> None:
    """Raise CniError unless the interface is protected as `add` left it."""
    binding = next(iter(_list_bindings(config, lambda binding: _is_of(binding, request))), None)
    if binding is None:
        _not_in_force(request, "it isn't bound to an ENI")
    with hold_namespace(request.netns) as place:
        if identity_of(place) != binding.identity:
            _not_in_force(request, f"{binding.eni_id} is bound in another namespace")
        with Links(place) as links:
            if links.link(request.ifname) is None:
                _not_in_force(request, WORDS[ABSENT])
        where = place if binding.host_end is None else binding.host_end.router
        if not is_enforced(where, fence=config.fence):
            _not_in_force(request, "sgdataplane's tables aren't there")
    try:
        eni = _find_report(config, binding)
    except HostError:  # without an agent the kernel still enforces what was in force
        return
    if eni is not None and eni["outcome"] not in IN_FORCE:
        _not_in_force(request, _why(eni))


def _not_in_force(request: CniRequest, why: str) -> NoReturn:
    message = f"{request.ifname} of {request.attachment} is not protected: {why}"
    raise CniError(CniCode.NOT_IN_FORCE, message)


def status(_: CniRequest, config: Config) -> None:
    """Raise CniError unless an ADD could succeed now."""
    try:
        found: Any = ask(config.socket, Request.STATUS)["status"]
    except HostError as error:
        raise CniError(CniCode.UNAVAILABLE, str(error)) from error
    if found["state"]["origin"] == "closed":
        raise CniError(CniCode.UNAVAILABLE, "the agent has no state to enforce", found["state"]["error"] or "")


RUN: Mapping[CniCommand, Callable[[CniRequest, Config], Answer | None]] = {
    CniCommand.ADD: add,
    CniCommand.DEL: delete,
    CniCommand.CHECK: check,
    CniCommand.GC: collect,
    CniCommand.STATUS: status,
}
UNDOING = (CniCommand.DEL, CniCommand.GC)


def answer(environment: Mapping[str, str], text: bytes, config_file: Path | None) -> Answer | None:
    """Do what the runtime asks for; return what it gets on standard output, if anything.

    This raises whatever keeps the command from being done; error_of() makes a CniError of it.
    """
    command = command_of(environment)
    if command is CniCommand.VERSION:
        return {"cniVersion": version_in(text), "supportedVersions": list(VERSIONS)}
    request = read_request(environment, text)
    return RUN[command](request, config_at(config_file, is_undoing=command in UNDOING))


def config_at(path: Path | None, *, is_undoing: bool) -> Config:
    """Return the agent's configuration. A bad one that wasn't named keeps nobody from undoing."""
    try:
        return load_config(path or CONFIG_FILE, must_exist=path is not None)
    except ConfigError:
        if path is not None or not is_undoing:
            raise
        return Config()


def error_of(error: Exception) -> CniError:
    """Return the specification's error for what went wrong."""
    if isinstance(error, CniError):
        return error
    if not isinstance(error, (SgDataplaneError, OSError)):
        return CniError(CniCode.BUG, f"{type(error).__name__}: {error}", bug_report(error))
    message, _, details = str(error).partition("\n")
    return CniError(_code_of(error), message, details)


def _code_of(error: Exception) -> CniCode:
    """Return the specification's code for an error of sgdataplane."""
    if isinstance(error, BindingError):
        is_namespace = error.problem.code.startswith("InvalidNamespace.")
        return CniCode.ENVIRONMENT if is_namespace else CniCode.REFUSED
    if isinstance(error, ConfigError):
        return CniCode.LATER
    return CniCode.CONFIGURATION if isinstance(error, StateFileError) else CniCode.KERNEL


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line; what the runtime wants is in the environment and on standard input."""
    return parser_of("sgdataplane-cni", "The CNI plugin; container runtimes run it.")


def parser_of(name: str, about: str) -> argparse.ArgumentParser:
    """Return a parser for a program that a runtime runs."""
    parser = argparse.ArgumentParser(prog=name, description=about)
    where = f"the agent's configuration (default: {CONFIG_FILE})"
    parser.add_argument("--config", type=Path, metavar="FILE", help=where)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run as a runtime runs a plugin, with the command in the environment; return the exit code."""
    arguments = build_parser().parse_args(argv)
    is_version = os.environ.get("CNI_COMMAND") == CniCommand.VERSION.value and sys.stdin.isatty()
    text = b"" if is_version else sys.stdin.buffer.read(MAX_BYTES + 1)
    with guard_output():
        try:
            found = answer(os.environ, text, arguments.config)
        except Exception as error:  # noqa: BLE001  # whatever it is, the runtime gets an answer that it understands
            refused = error_of(error)
            said = {"cniVersion": version_in(text), "code": refused.code.value, "msg": refused.message}
            print_json(said | ({"details": refused.details} if refused.details else {}))
            return 1
        if found is not None:
            print_json(found)
    return 0


if __name__ == "__main__":
    sys.exit(main())
