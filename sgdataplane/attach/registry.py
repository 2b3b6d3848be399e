"""The record of bindings: /run/sgdataplane/attached/bindings.json.

Owns that file, and the lock beside it, in a folder that only we can use. Its input is bindings. Must not know the
kernel, or whether a namespace still exists. The file is in /run, since no namespace survives a reboot.
"""

from __future__ import annotations

import enum
import errno
import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NoReturn, TypeVar

from sgdataplane.errors import BindingError, HostError, Problem, Where
from sgdataplane.host.files import Survives, replace_file
from sgdataplane.host.identity import Identity
from sgdataplane.host.private import NO_ROOM, make_private_folder, open_lock, wait_for_lock, words_of
from sgdataplane.model.modes import Mode
from sgdataplane.model.options import Placement
from sgdataplane.net.values import IFNAME

ATTACHED_DIR = Path("/run/sgdataplane/attached")
VERSION = 1
LOCK_S = 30.0
RECORD, LOCK, COMMITS = "bindings.json", "lock", "commits"  # the last one: attach/owncommits.py
APPLIED = "policies"  # the folder of what `sgdp apply` has put in force (daemon/pastpolicies.py)
TEXTS, NUMBERS = ("eni", "ifname", "named", "path", "means"), ("inode", "cookie")
FLAGS = ("set_mac", "superseded")
MODE, POD = "mode", "pod"
# Keys that older entries don't have, and what holds for those.
LATER: dict[str, object] = {
    "host_end": None,
    "means": "attach",
    "set_mac": False,
    "superseded": False,
    MODE: "enforce",
    POD: "",
}
END_TEXTS = ("router", "ifname", "home_ifname", "home_path")
NUMBER_KEYS = {"index": int, "peer": int, "peer_nsid": int, "mac": str, "alias": str}
Word = TypeVar("Word", bound=enum.Enum)


class Means(enum.Enum):
    """What bound an interface. Aliases and MACs are labels, by which the agent binds."""

    ATTACH = "attach"  # `sgdp attach`
    RUNTIME = "runtime"  # a container runtime, through our CNI plugin or OCI hook
    ALIAS = "alias"  # the agent, because the interface's alias is the ENI's id
    MAC = "mac"  # the agent, because the interface has the ENI's MAC

    @property
    def is_label(self) -> bool:
        """Whether the agent bound the interface by a label."""
        return self in (Means.ALIAS, Means.MAC)


@dataclass(frozen=True, slots=True)
class EndNumbers:
    """What the kernel numbers at a host end in a router. Others can give its name to another link, but not these."""

    index: int  # the end's
    peer: int  # the index of the workload's end
    peer_nsid: int  # the number, as the router counts, of the namespace that has the workload's end
    mac: str  # the MAC that it has to keep
    alias: str  # the alias that it has to keep


@dataclass(frozen=True, slots=True)
class HostEnd:
    """The other end of a workload's link in host placement: it is in its VPC's router, or is about to be."""

    router: str  # the name of its namespace
    ifname: str
    home_ifname: str  # the name to which it returns
    home_path: str  # where the namespace was that it came from
    home: Identity  # the namespace that it came from and returns to
    numbers: EndNumbers | None = None  # None until it has been seen in its router


@dataclass(frozen=True, slots=True)
class Binding:
    """The binding of one ENI to one interface.

    A binding whose namespace has ended stays, without a host end, until it is detached or bound again.
    """

    eni_id: str
    ifname: str
    named: str
    """The namespace in the user's words ("container web")."""
    path: str
    """Where the namespace was when it was bound."""
    identity: Identity
    host_end: HostEnd | None = None
    """The other end of the interface's link; None in instance placement."""
    means: Means = Means.ATTACH
    set_mac: bool = False
    """Whether to give the interface the ENI's MAC."""
    superseded: bool = False
    """Whether its name leads elsewhere now, where the ENI is bound.

    Here its rules stay until the namespace ends or the ENI is detached.
    """
    mode: Mode = Mode.ENFORCE
    """Audit puts the ENI into audit mode, whatever the state says."""
    pod: str = ""
    """NAMESPACE/NAME of its Kubernetes pod, as its runtime said; "" if it said none."""

    def __str__(self) -> str:
        return f"{self.ifname} of {self.named}"

    @property
    def placement(self) -> Placement:
        """Where its policy is enforced."""
        return Placement.INSTANCE if self.host_end is None else Placement.HOST

    @property
    def enforced_at(self) -> str:
        """The interface where its policy is in force."""
        return str(self) if self.host_end is None else f"{self.host_end.ifname} of {self.host_end.router}"


def current(bindings: Iterable[Binding]) -> tuple[Binding, ...]:
    """Return the bindings where ENIs are bound now, each in one place."""
    return tuple(binding for binding in bindings if not binding.superseded)


def is_same_interface(one: Binding, other: Binding) -> bool:
    """Whether both are at the same interface of the same namespace."""
    return (one.identity, one.ifname) == (other.identity, other.ifname)


def in_order(bindings: Iterable[Binding]) -> tuple[Binding, ...]:
    """Return bindings in the order in which the registry keeps them."""
    return tuple(sorted(bindings, key=lambda b: (b.eni_id, b.superseded, b.identity.cookie, b.ifname)))


def refuse(place: str, code: str, message: str, value: str, expected: str) -> NoReturn:
    """Raise BindingError: what was asked for isn't possible."""
    raise BindingError(Problem(Where(place), code, message, value, expected))


def find_unfit_name(binding: Binding) -> BindingError | None:
    """Return why rules can't name a binding's interface; None if they can.

    Root of a namespace may give an interface nearly any name.
    """
    if IFNAME.fullmatch(binding.ifname):
        return None
    message, expected = "the interface has a name that can't stand in rules", "1 to 15 letters, digits and any of _ . -"
    where = Where(binding.named)
    return BindingError(Problem(where, "InvalidInterface.Name", message, repr(binding.ifname), expected))


class Registry:
    """The bindings of this host. Read and change them while holding the lock."""

    def __init__(self, folder: Path = ATTACHED_DIR) -> None:
        self.folder = folder
        self.path = folder / RECORD
        self._read: tuple[str, tuple[Binding, ...]] = "", ()  # a text, and its bindings

    @contextmanager
    def lock(self, seconds: float = LOCK_S) -> Iterator[None]:
        """Run the block as the only one that reads or changes bindings.

        Raises:
            HostError: Others hold the lock for so many seconds, or others than we could use it.
        """
        make_private_folder(self.folder, (RECORD, LOCK, COMMITS, APPLIED))
        lock = self._open_lock()
        try:
            if not wait_for_lock(lock, seconds):
                raise HostError("attached ENIs", f"another process has been working on them for {seconds:g} s")
            yield
        finally:
            os.close(lock)

    def _open_lock(self) -> int:
        """Open the lock's file, or on a full disk without one the folder: nobody else can open that, either."""
        try:
            return open_lock(self.folder / LOCK)
        except OSError as error:
            if error.errno in (*NO_ROOM, errno.ENOENT):
                return os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            raise HostError(str(self.folder / LOCK), words_of(error)) from error

    def load(self) -> tuple[Binding, ...]:
        """Return all bindings, by ENI.

        Raises:
            BindingError: The file isn't exactly what this or an earlier version of `store` writes.
            HostError: The file can't be read.
        """
        try:
            text = self.path.read_text(encoding="utf-8")
        except FileNotFoundError:
            return ()
        except (OSError, UnicodeDecodeError) as error:
            raise HostError(str(self.path), str(error)) from error
        if text != self._read[0]:
            self._read = text, _decode(text, str(self.path))
        return self._read[1]

    def store(self, bindings: Iterable[Binding]) -> None:
        """Replace all bindings in one step. They needn't survive a reboot, as their interfaces don't.

        Raises:
            HostError: The file can't be written. Nothing is changed.
        """
        entries = [_encode(binding) for binding in in_order(bindings)]
        text = json.dumps({"version": VERSION, "bindings": entries}, indent=1) + "\n"
        with self._translate_errors():
            replace_file(self.path, text.encode(), Survives.THE_WRITER, mode=0o600)

    def forget(self) -> None:
        """Remove all bindings.

        Raises:
            HostError: That can't be done.
        """
        with self._translate_errors():
            self.path.unlink(missing_ok=True)

    @contextmanager
    def _translate_errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            detail = f"the record of attached ENIs can't be written: {words_of(error)}"
            raise HostError(str(self.path), detail) from error


def _encode(binding: Binding) -> dict[str, object]:
    texts = (binding.eni_id, binding.ifname, binding.named, binding.path, binding.means.value)
    end = binding.host_end
    return {
        **dict(zip(TEXTS, texts, strict=True)),
        **asdict(binding.identity),
        "set_mac": binding.set_mac,
        "superseded": binding.superseded,
        MODE: binding.mode.value,
        **({POD: binding.pod} if binding.pod else {}),  # an earlier version can't read it
        "host_end": None if end is None else _encode_end(end),
    }


def _encode_end(end: HostEnd) -> dict[str, object]:
    numbers = None if end.numbers is None else asdict(end.numbers)
    return {**{key: getattr(end, key) for key in END_TEXTS}, **asdict(end.home), "numbers": numbers}


def _decode(text: str, file: str) -> tuple[Binding, ...]:
    try:
        value = json.loads(text)
    except ValueError as error:
        _refuse_malformed(file, "", str(error), "a JSON document as sgdp writes it")
    if not isinstance(value, dict) or value.keys() != {"version", "bindings"}:
        _refuse_malformed(file, "", text[:80], "an object with version and bindings")
    if value["version"] != VERSION:
        _refuse_malformed(file, "/version", str(value["version"]), f"{VERSION}; `sgdp clear` of that version")
    if not isinstance(value["bindings"], list):
        _refuse_malformed(file, "/bindings", repr(value["bindings"]), "a list")
    found = tuple(_parse_binding(entry, file, f"/bindings/{i}") for i, entry in enumerate(value["bindings"]))
    for what, keys in (
        ("ENI", [binding.eni_id for binding in current(found)]),
        ("interface", [f"{binding.ifname} of namespace {binding.identity.cookie}" for binding in found]),
    ):
        doubles = sorted(key for key, count in Counter(keys).items() if count > 1)
        if doubles:
            _refuse_malformed(file, "/bindings", doubles[0], f"each {what} once")
    return found


def _parse_binding(entry: object, file: str, pointer: str) -> Binding:
    whole = {**LATER, **entry} if isinstance(entry, dict) else entry
    more = ("host_end", MODE, POD, *FLAGS)
    texts, identity, (end, mode, pod, *flags) = _fields(whole, TEXTS, file, pointer, more=more)
    eni_id, ifname, named, path, means = texts
    for key, flag in zip(FLAGS, flags, strict=True):
        if not isinstance(flag, bool):
            _refuse_malformed(file, f"{pointer}/{key}", repr(flag), "true or false")
    if not isinstance(pod, str):
        _refuse_malformed(file, f"{pointer}/{POD}", repr(pod), "a text")
    host_end = _host_end(end, file, f"{pointer}/host_end")
    set_mac, superseded = map(bool, flags)
    return Binding(
        eni_id,
        ifname,
        named,
        path,
        identity,
        host_end,
        _parse_word(Means, means, file, f"{pointer}/means"),
        set_mac,
        superseded,
        _parse_word(Mode, mode, file, f"{pointer}/{MODE}"),
        pod,
    )


def _parse_word(words: type[Word], word: object, file: str, pointer: str) -> Word:
    found = next((known for known in words if known.value == word), None)
    if found is None:
        _refuse_malformed(file, pointer, repr(word), f"one of {', '.join(known.value for known in words)}")
    return found


def _host_end(entry: object, file: str, pointer: str) -> HostEnd | None:
    if entry is None:
        return None
    whole = {"numbers": None, **entry} if isinstance(entry, dict) else entry  # older records don't have them
    texts, identity, (numbers,) = _fields(whole, END_TEXTS, file, pointer, more=("numbers",))
    router, ifname, home_ifname, home_path = texts
    return HostEnd(router, ifname, home_ifname, home_path, identity, _numbers(numbers, file, f"{pointer}/numbers"))


def _numbers(entry: object, file: str, pointer: str) -> EndNumbers | None:
    if entry is None:
        return None
    if not isinstance(entry, dict) or {key: type(value) for key, value in entry.items()} != NUMBER_KEYS:
        _refuse_malformed(file, pointer, str(entry), f"an object with {', '.join(NUMBER_KEYS)}, or null")
    return EndNumbers(**entry)


def _fields(
    entry: object, texts: Sequence[str], file: str, pointer: str, more: Sequence[str] = ()
) -> tuple[list[str], Identity, list[object]]:
    """Return the values of these texts, the identity beside them, and the values of the other keys.

    Raises:
        BindingError: The entry has other keys or values.
    """
    keys = (*texts, *NUMBERS, *more)
    if not isinstance(entry, dict) or entry.keys() != set(keys):
        _refuse_malformed(file, pointer, str(entry), f"an object with {', '.join(keys)}")
    for key in texts:
        if not isinstance(entry[key], str) or not entry[key]:
            _refuse_malformed(file, f"{pointer}/{key}", repr(entry[key]), "a text")
    for key in NUMBERS:
        if type(entry[key]) is not int or entry[key] < 1:  # a bool is an int, too
            _refuse_malformed(file, f"{pointer}/{key}", repr(entry[key]), "a number from 1 up")
    found = Identity(entry["inode"], entry["cookie"])
    return [entry[key] for key in texts], found, [entry[key] for key in more]


def _refuse_malformed(file: str, pointer: str, value: str, expected: str) -> NoReturn:
    message = "the record of attached ENIs can't be read; remove it and attach the ENIs again, or repair it"
    raise BindingError(Problem(Where(file, 0, pointer), "InvalidBindings.Malformed", message, value, expected))
