"""The last policies in force, kept so that each can come back.

Owns the folder `policies` in the state directory, and which policies stay. Its input is policies. Must not know cycles.

    index.json      {"version": 1, "policies": [...]}, oldest first: fields of PastPolicy
    DIGEST.yaml     a native state; policies that are equal share it

Whatever can't be written or read is reported and harms nothing else: undoing is a help, and enforcing goes on without
it.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from sgdataplane.errors import HostError, SgDataplaneError
from sgdataplane.host.files import Survives, replace_file
from sgdataplane.host.private import make_private_folder, words_of
from sgdataplane.model.state import CloudState
from sgdataplane.statefile import dump_native, load

MAX_POLICIES = 50
MAX_BYTES = 256 << 20  # of all contents; the newest two stay whatever they take
SHARE = 4  # they take at most this part of the room that the disk has for them: other files need some, too
MAX_COMPARED_BYTES = 4 << 20  # of a policy that has to be read for it
INDEX, VERSION, MAX_INDEX_BYTES = "index.json", 1, 1 << 20
UNREADABLE = (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, MemoryError)


@dataclass(frozen=True, slots=True)
class PastPolicy:
    """A policy that is or was in force."""

    number: int  # grows by one with each policy
    at: float  # since when it was in force, seconds since 1970
    source: str  # where it came from: a path
    revision: str  # which generation of the source it was; "" if that isn't known
    digest: str  # names its content
    change: str  # what is different from the policy before, in one line

    @classmethod
    def of(cls, value: Mapping[str, object]) -> PastPolicy:
        """Read an entry of the index.

        Raises:
            ValueError: It is none.
            KeyError: It is none.
            TypeError: It is none.
        """
        found = {each.name: value[each.name] for each in fields(cls)}
        texts = [str(found[name]) for name in ("source", "revision", "digest", "change")]
        return cls(int(str(found["number"])), float(str(found["at"])), *texts)


@dataclass(frozen=True, slots=True)
class WrittenState:
    """A file that has a state's content already, as `dump_native` spells it."""

    path: Path
    digest: str


class PastPolicies:
    """The policies that are kept. `error` says why the last one isn't; "" if it is."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.error = folder, ""
        self._entries: tuple[PastPolicy, ...] | None = None
        self._noted: CloudState | None = None  # the state of the last entry, once it is known
        self._sizes: dict[str, int] | None = None  # of all contents in the folder, by digest; None: look there
        self._spelled: dict[PastPolicy, str] = {}  # the entries as the index has them

    @property
    def entries(self) -> tuple[PastPolicy, ...]:
        """All policies that are kept, oldest first."""
        if self._entries is None:
            self._entries = self._read()
        return self._entries

    def find(self, number: int) -> PastPolicy:
        """Return the policy of that number.

        Raises:
            HostError: It isn't kept.
        """
        for entry in self.entries:
            if entry.number == number:
                return entry
        kept = f"{self.entries[0].number} to {self.entries[-1].number}" if self.entries else "none yet"
        raise HostError(f"policy {number}", f"it isn't kept; those that are: {kept} (`sgdp policies` lists them)")

    def check(self, digest: str) -> None:
        """Check that a policy's content is what was written.

        Raises:
            HostError: It isn't, or it can't be read.
        """
        path = self.path_of(digest)
        try:
            found = hashlib.sha256(path.read_bytes()).hexdigest()
        except OSError as error:
            raise HostError(str(path), words_of(error)) from error
        if found != digest:
            raise HostError(str(path), "it isn't the policy that was written there")

    def state(self, digest: str) -> CloudState:
        """Return the policy's state.

        Raises:
            HostError: The content isn't what was written, or can't be read.
            StateFileError: It can't be understood.
        """
        self.check(digest)
        return load(self.path_of(digest), profile="unlimited").state

    def note(
        self, state: CloudState, source: str, revision: str, change: str = "", written: WrittenState | None = None
    ) -> None:
        """Keep a policy that is in force now, unless it is the last one that was kept.

        Args:
            state: The policy.
            source: Where it came from: a path.
            revision: Which generation of the source it is; "" if that isn't known.
            change: What is different, in words. Without it, the policy is compared with the one before.
            written: Where it is on this disk already, if it is.
        """
        if state is self._noted:
            return
        try:
            digest = digest_of(state) if written is None else written.digest
            if not self.entries or self.entries[-1].digest != digest:
                self._add(state, PastPolicy(0, time.time(), source, revision, digest, change), written)
            self._noted, self.error = state, ""
        except (SgDataplaneError, OSError) as error:
            words = words_of(error) if isinstance(error, OSError) else str(error)
            self.error = f"{self.folder}: {words}"

    def make_room(self) -> bool:
        """Give up all policies but the last one; return whether that has removed any."""
        entries = self.entries
        self._entries = entries[-1:]
        self._sweep()
        if all(self.path_of(entry.digest).exists() for entry in entries):  # there are none, or none can be removed
            self._entries = entries
            return False
        with suppress(OSError):  # without, what isn't there any more isn't offered
            self._write(self._entries)
        return True

    def _add(self, state: CloudState, new: PastPolicy, written: WrittenState | None) -> None:
        make_private_folder(self.folder)
        entries, path = self.entries, self.path_of(new.digest)
        number = entries[-1].number + 1 if entries else 1
        try:
            if not path.exists():
                self._put(new.digest, state, written)
            change = new.change or self._change(entries, state)
            self._write((*entries, replace(new, number=number, change=change)))
        finally:
            self._sweep()

    def _change(self, entries: Sequence[PastPolicy], state: CloudState) -> str:
        if not entries:
            return "the first one that is kept"
        if self._noted is None and self.path_of(entries[-1].digest).stat().st_size > MAX_COMPARED_BYTES:
            return "not compared, as it is large"
        try:
            before = self._noted or self.state(entries[-1].digest)
        except SgDataplaneError:
            return "the one before can't be read"
        return change_of(before, state)

    def _put(self, digest: str, state: CloudState, written: WrittenState | None) -> None:
        path, sizes, self._sizes = self.path_of(digest), self._sizes, None  # if it fails, there may be part of it
        _put(path, state, written)
        if sizes is not None:
            self._sizes = {**sizes, digest: path.stat().st_size}

    def _write(self, entries: Sequence[PastPolicy]) -> None:
        """Replace the index."""
        kept = self._affordable(entries[-MAX_POLICIES:])
        spelled = {entry: self._spelled.get(entry) or json.dumps(asdict(entry)) for entry in kept}
        text = f'{{"version": {VERSION}, "policies": [{", ".join(spelled.values())}]}}'
        replace_file(self.folder / INDEX, text.encode(), Survives.THE_MACHINE, mode=0o600)
        self._entries, self._spelled = kept, spelled

    def _sweep(self) -> None:
        """Remove contents that the index doesn't name."""
        with suppress(OSError):
            sizes, self._sizes = self._look(), None  # if it fails, the next sweep looks again
            for digest in sizes.keys() - {entry.digest for entry in self.entries}:
                self.path_of(digest).unlink(missing_ok=True)
                del sizes[digest]
            self._sizes = sizes

    def _look(self) -> dict[str, int]:
        """Return the sizes of all contents in the folder, by digest."""
        if self._sizes is not None:
            return self._sizes
        return {path.stem: path.stat().st_size for path in self.folder.glob("*.yaml")}

    def _affordable(self, entries: Sequence[PastPolicy]) -> tuple[PastPolicy, ...]:
        """Return the newest policies that there is room for. One whose content has gone isn't among them."""
        disk, sizes = os.statvfs(self.folder), self._look()
        most = min(MAX_BYTES, (disk.f_bavail * disk.f_frsize + sum(sizes.values())) // SHARE)
        found: dict[str, int] = {}
        kept: list[PastPolicy] = []
        for entry in (entry for entry in reversed(entries) if entry.digest in sizes):
            found[entry.digest] = sizes[entry.digest]
            if len(kept) >= 2 and sum(found.values()) > most:
                break
            kept.append(entry)
        return tuple(reversed(kept))

    def path_of(self, digest: str) -> Path:
        """Return the file of that content."""
        return self.folder / f"{digest}.yaml"

    def _read(self) -> tuple[PastPolicy, ...]:
        """Return the entries of the index. If it can't be read, numbers begin anew."""
        path = self.folder / INDEX
        try:
            if path.stat().st_size > MAX_INDEX_BYTES:
                raise ValueError(f"it has more than {MAX_INDEX_BYTES} bytes")
            value = json.loads(path.read_bytes())
            found = tuple(map(PastPolicy.of, value["policies"])) if value["version"] == VERSION else ()
            return tuple(entry for entry in found if self.path_of(entry.digest).exists())
        except FileNotFoundError:
            return ()
        except UNREADABLE as error:
            self.error = f"{path}: the list of policies can't be read, so it begins anew ({error})"
            return ()


def _put(path: Path, state: CloudState, written: WrittenState | None) -> None:
    """Put the content there: as another name of the file that has it, if one has."""
    if written is not None:
        with suppress(OSError):
            os.link(written.path, path)
            return
    replace_file(path, dump_native(state).encode(), Survives.THE_MACHINE, mode=0o600)


def digest_of(state: CloudState) -> str:
    """Return what names a state's content: equal states have equal digests."""
    return hashlib.sha256(dump_native(state).encode()).hexdigest()


def change_of(before: CloudState, after: CloudState) -> str:
    """Return what is different, in one line: how many records of each kind came, went, or have changed."""
    same = {id(group) for group in before.security_groups} & {id(group) for group in after.security_groups}
    kinds: dict[str, tuple[Mapping[Any, object], Mapping[Any, object]]] = {
        "rule": (_rules(before, same), _rules(after, same)),
        "group": (_plain_groups(before), _plain_groups(after)),
        "ENI": (before.eni, after.eni),
        "prefix list": (before.prefix_list, after.prefix_list),
        "port list": (before.port_list, after.port_list),
        "instance": (before.instance, after.instance),
        "VPC": (before.vpc, after.vpc),
    }
    parts = [text for name, pair in kinds.items() if (text := _counts(name, *pair))]
    return "; ".join(parts) or "nothing that rules depend on"


def _rules(state: CloudState, same: Collection[int]) -> dict[object, object]:
    """Return rules by group and id.

    The rules of groups that both states share, which `same` has, needn't be compared.
    """
    return {
        (group.security_group_id, rule.security_group_rule_id): rule
        for group in state.security_groups
        if id(group) not in same
        for rule in group.rules
    }


def _plain_groups(state: CloudState) -> dict[object, object]:
    """Return groups without their rules."""
    hidden = {"rules"}
    return {
        group.security_group_id: [getattr(group, each.name) for each in fields(group) if each.name not in hidden]
        for group in state.security_groups
    }


def _counts(name: str, before: Mapping[Any, object], after: Mapping[Any, object]) -> str:
    came, went = _number(after, before), _number(before, after)
    changed = sum(before[key] != entry for key, entry in after.items() if key in before)
    numbers = {"+": came, "-": went, "~": changed}
    text = " ".join(f"{sign}{number:,}" for sign, number in numbers.items() if number)
    return f"{text} {name}{'s' if max(numbers.values()) != 1 or text.count(' ') else ''}" if text else ""


def _number(these: Iterable[object], others: Mapping[Any, object]) -> int:
    return sum(key not in others for key in these)
