"""Hosts: the machines that enforce, each as a document; and which of them an ENI is bound to.

Owns what a host's document holds, what a host may be called, the binding, and the commits that an operator makes of
them. Must not know how anything gets to a host, or what hosts report.

    host/NAME   about: {"created": seconds since 1970, "revoked": bool}; as earlier versions wrote it also
                "refused_serials": [of certificates, as text], which refusals.py has now
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple, TypeVar, cast

from sgdataplane.errors import Problem, StateFileError, Where
from sgdataplane.store.audit import record_of
from sgdataplane.store.call import Call
from sgdataplane.store.documents import (
    HOSTS,
    INSTANCES,
    Documents,
    Fields,
    ResourceKind,
    Workspace,
    about,
    path_of,
    state_in,
)
from sgdataplane.store.interface import Body, ConflictError, Path, Store, Write
from sgdataplane.store.refusals import NEVER, RefusedCertificates

T = TypeVar("T")
TAG = "sgdp:host"  # of an instance: the host of those of its ENIs that nothing else binds
FIELD = "host"  # in `about` of an ENI: the host that claimed it, or that a call named for it
LONGEST = 253
NAME = re.compile(r"(?!-)[a-z0-9-]{1,63}(?<!-)(\.(?!-)[a-z0-9-]{1,63}(?<!-))*")
SERIAL = re.compile(r"[0-9A-F]{1,40}")
EXPECTED = "a DNS name: labels of a-z, 0-9 and -, with dots between them, 253 characters at most"
LISTED = "a host that `sgdp hosts` lists"


@dataclass(frozen=True, slots=True)
class StoredHost:
    """A host as the store has it."""

    name: str
    created: float  # seconds since 1970
    is_revoked: bool = False  # whether it gets no stream any more
    refused_serials: tuple[str, ...] = ()  # certificates that open no stream any more, in capital hexadecimal digits

    @property
    def path(self) -> Path:
        """The path of the host's document."""
        return path_of(ResourceKind.HOST, self.name)

    def body(self) -> Body:
        """Return the host's document."""
        said: Fields = {"created": self.created, "revoked": self.is_revoked}
        more: Fields = {"refused_serials": [*self.refused_serials]} if self.refused_serials else {}
        return {"about": {**said, **more}}

    @staticmethod
    def of(name: str, body: Body) -> StoredHost:
        """Return the host that a document holds."""
        said = about(body)
        serials = cast("list[str]", said.get("refused_serials", []))
        created, is_revoked = cast(float, said.get("created", 0.0)), said.get("revoked") is True
        return StoredHost(name, created, is_revoked, tuple(serials))


def is_host_name(text: str) -> bool:
    """Whether a host may be called so."""
    return len(text) <= LONGEST and NAME.fullmatch(text) is not None


def serial_of(text: str) -> str | None:
    """Return a certificate's serial number as Python's `ssl` writes it; None if the text is none.

    openssl and browsers put colons or 0x into it.
    """
    digits = text.replace(":", "").upper().removeprefix("0X")
    if not SERIAL.fullmatch(digits):
        return None
    plain = digits.lstrip("0") or "0"
    return plain.zfill(len(plain) + len(plain) % 2)


def hosts_in(documents: Documents) -> dict[str, StoredHost]:
    """Return all hosts, by name."""
    found = documents.of_kind[ResourceKind.HOST]
    return {name: StoredHost.of(name, found[name]) for name in sorted(found)}


# which host an ENI is bound to


def host_of(documents: Documents, eni: Body) -> str | None:
    """Return the host that an ENI is bound to; None if it is bound to none.

    It is the one that claimed it or that a call named for it; else the one that its instance's tag names; else the only
    host that there is. A host that is revoked counts: revoking moves nothing.
    """
    instance = None if about(eni).get(FIELD) else _instance_of(documents, eni)
    return find_bound_host(eni, instance, documents.of_kind[ResourceKind.HOST])


def find_bound_host(eni: Body, instance: Body | None, hosts: Collection[str]) -> str | None:
    """Return the host that an ENI is bound to, from its instance if it has one, and the names of all hosts."""
    return find_named_host(eni, instance) or (next(iter(hosts)) if len(hosts) == 1 else None)


def find_named_host(eni: Body, instance: Body | None) -> str:
    """Return the host that an ENI or its instance's tag names; "" if none is named."""
    return str(about(eni).get(FIELD) or (find_tagged_host(instance) if instance else ""))


def find_tagged_host(instance: Body) -> str:
    """Return the host that an instance's tag names; "" if none does."""
    return cast("dict[str, str]", about(instance).get("tags", {})).get(TAG, "")


def enis_at(documents: Documents, vpc_id: str = "") -> dict[str, list[str]]:
    """Return the ids of the ENIs that are bound to each host, in order; with `vpc_id`, only those of a VPC."""
    enis = documents.of_kind[ResourceKind.ENI]
    found: dict[str, list[str]] = {}
    for name in _enis_of(documents, vpc_id) if vpc_id else enis:
        if host := host_of(documents, enis[name]):
            found.setdefault(host, []).append(name)
    return {host: sorted(found[host]) for host in sorted(found)}


def _enis_of(documents: Documents, vpc_id: str) -> Iterator[str]:
    users = documents.users.get(path_of(ResourceKind.VPC, vpc_id), ())
    return (path.partition("/")[2] for path in users if path.startswith(f"{ResourceKind.ENI}/"))


def _instance_of(documents: Documents, eni: Body) -> Body | None:
    return documents.of_kind[ResourceKind.INSTANCE].get(str(state_in(eni).get("instance_id", "")))


# what an operator does


class Admitted(NamedTuple):
    """Whether a host may have a stream, and which of its certificates are refused."""

    host: StoredHost
    refusal: RefusedCertificates


@dataclass(frozen=True, slots=True)
class Forgotten:
    """What a forgotten host leaves."""

    released: tuple[str, ...]  # the ENIs that it had
    instances: tuple[str, ...]  # those whose tag still names it


def add_host(
    store: Store, call: Call, name: str, claimed: Iterable[str] = (), *, accepts_issued: bool = False
) -> Admitted:
    """Let a host have a stream and claim ENIs from now on; one that was revoked, again.

    Certificates that were revoked stay so. If the host itself was revoked, that means all that were issued until then,
    unless `accepts_issued` says that they count again. If there was one host only, what was bound to it for that reason
    stays with it, if it is of an instance or in `claimed`.

    Raises:
        StateFileError: A host can't be called so.
    """
    if not is_host_name(name):
        raise _make_refusal("InvalidHost.Malformed", "not a name that a host can have", name, EXPECTED)

    def decide(workspace: Workspace) -> Admitted:
        hosts = hosts_in(workspace.documents)
        if name not in hosts and len(hosts) == 1:
            _keep_bound(workspace, next(iter(hosts)), frozenset(claimed))
        host, refusal = hosts.get(name, StoredHost(name, call.now)), _refusal(workspace, name)
        refusal = replace(refusal, issued_until=NEVER) if accepts_issued else _of_revoked(host, refusal, call.now)
        return Admitted(*_put(workspace, replace(host, is_revoked=False), refusal))

    return _commit(store, call, decide)


def revoke_host(store: Store, call: Call, name: str, serial: str = "") -> Admitted:
    """End a host's stream, and let it have no other one. What it enforces stays so, and its ENIs stay bound to it.

    With `serial`, that is about one of its certificates only.

    Raises:
        StateFileError: There is no such host, or it is no serial number.
    """

    def decide(workspace: Workspace) -> Admitted:
        host, refusal = _find(workspace.documents, name), _refusal(workspace, name)
        if serial:
            return Admitted(*_put(workspace, host, refusal.refuse([_serial(serial)])))
        if not host.is_revoked:
            refusal = refusal.refuse((), call.now)
        return Admitted(*_put(workspace, replace(host, is_revoked=True), refusal))

    return _commit(store, call, decide)


def forget_host(store: Store, call: Call, name: str) -> Forgotten:
    """Remove a host, and release what is bound to it by a claim or a call. What is revoked of it stays revoked.

    Raises:
        StateFileError: There is no such host, and nothing is bound to one of that name.
    """

    def decide(workspace: Workspace) -> Forgotten:
        documents = workspace.documents
        released = [eni for eni, body in workspace.all(ResourceKind.ENI) if about(body).get(FIELD) == name]
        instances = [one for one, body in workspace.all(ResourceKind.INSTANCE) if find_tagged_host(body) == name]
        if not released:
            _find(documents, name)
        _release(workspace, released)
        if host := hosts_in(documents).get(name):
            _put(workspace, host, _of_revoked(host, _refusal(workspace, name), call.now))
        workspace.delete(ResourceKind.HOST, name)
        return Forgotten(tuple(released), tuple(instances))

    return _commit(store, call, decide)


def release_enis(store: Store, call: Call, name: str, enis: Iterable[str]) -> tuple[str, ...]:
    """Release single ENIs from a host, and return them.

    Raises:
        StateFileError: All ENIs that it can't release.
    """
    wanted = tuple(dict.fromkeys(enis))

    def decide(workspace: Workspace) -> tuple[str, ...]:
        wrong = [eni for eni in wanted if _field(workspace, eni) != name]
        if wrong:
            expected = f"an ENI that {name} has by a claim, or by a call that named it"
            problems = (Problem(Where(), "InvalidHost.Eni", "not an ENI of this host", eni, expected) for eni in wrong)
            raise StateFileError(tuple(problems))
        _release(workspace, wanted)
        return wanted

    return _commit(store, call, decide)


def _field(workspace: Workspace, eni: str) -> str:
    body = workspace.get(ResourceKind.ENI, eni)
    return str(about(body).get(FIELD, "")) if body else ""


def _keep_bound(workspace: Workspace, host: str, claimed: Collection[str]) -> None:
    """Bind ENIs to the only host by name, before it isn't the only one any more."""
    for eni, body in workspace.all(ResourceKind.ENI):
        instance = _instance_of(workspace.documents, body)
        if not find_named_host(body, instance) and (instance or eni in claimed):
            workspace.put(ResourceKind.ENI, eni, state_in(body), {**about(body), FIELD: host})


def _release(workspace: Workspace, enis: Iterable[str]) -> None:
    for eni in enis:
        body = workspace.get(ResourceKind.ENI, eni) or {}
        more = {key: value for key, value in about(body).items() if key != FIELD}
        workspace.put(ResourceKind.ENI, eni, state_in(body), more)


def _commit(store: Store, call: Call, decide: Callable[[Workspace], T]) -> T:
    """Commit what `decide` does, and return its result. If others commit meanwhile, decide anew.

    Nothing is committed if nothing is different.
    """
    while True:
        workspace = Workspace(Documents.of(store.snapshot()))
        result = decide(workspace)
        if not workspace.deletes and all(
            workspace.documents.get(path) == body for path, body in workspace.puts.items()
        ):
            return result
        read = workspace.documents.guards
        guards = {**workspace.guards, **{name: read.get(name, 0) for name in (HOSTS, INSTANCES)}}
        audit = record_of(call, workspace.changed)
        try:
            store.commit(Write(guards, dict(workspace.puts), frozenset(workspace.deletes), audit))
        except ConflictError:
            continue
        return result


def _refusal(workspace: Workspace, name: str) -> RefusedCertificates:
    """Return what is refused of a host's certificates, also where an earlier version has noted it."""
    documents = workspace.documents
    refusal = RefusedCertificates.of(name, documents.of_kind[ResourceKind.REFUSAL].get(name))
    host = hosts_in(documents).get(name)
    return refusal.refuse(host.refused_serials) if host else refusal


def _of_revoked(host: StoredHost, refusal: RefusedCertificates, now: float) -> RefusedCertificates:
    """Return the refusal of a host that may be revoked, and for which an earlier version has noted no time."""
    is_untimed = host.is_revoked and refusal.issued_until == NEVER
    return refusal.refuse((), now) if is_untimed else refusal


def _put(
    workspace: Workspace, host: StoredHost, refusal: RefusedCertificates
) -> tuple[StoredHost, RefusedCertificates]:
    host = replace(host, refused_serials=())
    workspace.puts[host.path] = host.body()
    if not refusal.is_empty or workspace.documents.of_kind[ResourceKind.REFUSAL].get(host.name):
        workspace.puts[refusal.path] = refusal.body()
    return host, refusal


def _find(documents: Documents, name: str) -> StoredHost:
    body = documents.of_kind[ResourceKind.HOST].get(name)
    if body is None:
        raise _make_refusal("InvalidHost.NotFound", "there is no such host", name, LISTED)
    return StoredHost.of(name, body)


def _serial(text: str) -> str:
    found = serial_of(text)
    if found is None:
        expected = "hexadecimal digits, such as `openssl x509 -noout -serial` shows"
        raise _make_refusal("InvalidHost.Serial", "not a certificate's serial number", text, expected)
    return found


def _make_refusal(code: str, message: str, value: str, expected: str) -> StateFileError:
    return StateFileError((Problem(Where(), code, message, value, expected),))
