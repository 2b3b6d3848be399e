"""The closure of a host: the documents that determine the policies of its own ENIs, and nothing else.

Owns the closure of each host, and which hosts a revision concerns. Its input is documents. Must not know streams,
stores or what a policy means.

A host gets the closure (`store/closure.py`) of the ENIs that are bound to it. So `decide()` gives each packet at these
the verdict that it gives with all documents, and a host learns nothing of tenants whom rules of its own don't name
(tests/relay/test_closure.py).
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from sgdataplane.relay.changes import HostChanges, HostOf
from sgdataplane.relay.digests import KnownDigests
from sgdataplane.relay.spill import SpillFile
from sgdataplane.relay.topics import EniFacts, Topics
from sgdataplane.relay.wire import canonical, digest_in
from sgdataplane.store.closure import Closure, ClosureIds, GroupFacts
from sgdataplane.store.documents import Documents, Fields, ResourceKind, kind_of, name_of, path_of
from sgdataplane.store.hosts import host_of
from sgdataplane.store.interface import Body, Path, Revision


@dataclass(frozen=True, slots=True)
class _HostLinks:
    """Finds the objects of a host's closure. It reads each document once, as a relay unpacks one anew each time."""

    documents: Documents
    topics: Topics
    instances: Mapping[str, Collection[str]]  # with the host's own ENIs, which are all that count
    known: dict[tuple[ResourceKind, str], Body | None] = field(default_factory=dict)

    def body(self, kind: ResourceKind, name: str, /) -> Body | None:
        if (kind, name) not in self.known:
            self.known[kind, name] = self.documents.of_kind[kind].get(name)
        return self.known[kind, name]

    def members(self, group: str, /) -> Collection[str]:
        return self.topics.members(group)

    def enis_of_instance(self, instance: str, /) -> Collection[str]:
        return self.instances.get(instance, ())


@dataclass(slots=True)
class _News:
    """The paths whose objects may have changed, host by host."""

    paths: dict[str, set[Path]] = field(default_factory=dict)  # host -> the paths of these objects

    def note(self, hosts: Iterable[str], paths: Iterable[Path]) -> None:
        found = set(paths)
        for host in hosts if found else ():
            self.paths.setdefault(host, set()).update(found)


class Closures:
    """The closures of all hosts at one revision. One thread at a time may use it.

    `host_of` returns the host that an ENI is bound to. It may read the ENI's document, its instance's, and, as long as
    there is at most one host, which hosts there are: only when these change is it asked again. What leads to hosts
    lies in `file`.
    """

    def __init__(self, documents: Documents, host_of: HostOf = host_of, file: SpillFile | None = None) -> None:
        self._documents, self._host_of = documents, host_of
        self.file = file or SpillFile()
        self._known = KnownDigests()
        groups, enis = (documents.of_kind[kind].items() for kind in (ResourceKind.GROUP, ResourceKind.ENI))
        self._topics = Topics.of(
            ((name, GroupFacts.of(body)) for name, body in groups),
            ((name, EniFacts.of(body, host_of(documents, body))) for name, body in enis),
            self.file,
        )

    def hosts(self) -> frozenset[str]:
        """Return the hosts that ENIs are bound to."""
        return self._topics.hosts()

    def vpc_of(self, host: str) -> str:
        """Return a VPC in which a host has ENIs, always the same one of several; "" if it has none."""
        found = map(self._topics.groups.get, self._topics.own_groups(host))
        return min((facts.vpc_id for facts in found if facts), default="")

    def of(self, host: str) -> dict[Path, Fields]:
        """Return all native objects that a host gets, by path. Callers must not change them."""
        return self._closure(host).objects()

    def digests(self, host: str) -> tuple[dict[Path, bytes], dict[Path, str]]:
        """Return the digests of all objects that a host gets, and the texts that had to be made for them.

        The texts (`canonical`) are of the objects whose digest wasn't known yet; both are by path.
        """
        closure = self._closure(host)
        digests, texts = dict[Path, bytes](), dict[Path, str]()
        for path, seen in self._views(closure):
            digest = None if seen is None else self._known.get(path, seen)
            if digest is None:
                fields = closure.object_at(path)
                if fields is None:
                    continue
                texts[path] = canonical(fields)
                digest = digest_in(texts[path])
                if seen is not None:
                    self._known.put(path, seen, digest)
            digests[path] = digest
        return digests, texts

    def _views(self, closure: Closure) -> Iterator[tuple[Path, Hashable]]:
        """Yield the path of each object that a host may get, with what the object follows from besides its document.

        That is the key of a known digest. It is None where no other host gets the object in this form.
        """
        ids = closure.ids
        for kind, names in ((ResourceKind.ENI, ids.enis), (ResourceKind.INSTANCE, closure.instances())):
            yield from ((path_of(kind, name), None) for name in names)
        yield from ((path, ()) for path in (*ids.vpcs, *ids.lists))
        for is_whole, groups in ((True, ids.own), (False, ids.named)):
            yield from ((path_of(ResourceKind.GROUP, name), is_whole) for name in groups)
        through = self._topics.members_of_all(ids.peer_groups)
        yield from ((path_of(ResourceKind.ENI, eni), groups) for eni, groups in through.items() if eni not in ids.enis)

    def some(self, host: str, paths: Iterable[Path]) -> dict[Path, Fields | None]:
        """Return some objects of a host by path; None for those that it doesn't get."""
        closure = self._closure(host)
        return {path: closure.object_at(path) for path in paths}

    def after(self, documents: Documents, change: Revision) -> frozenset[str]:
        """Go on to the next revision, and return the hosts that may have to hear of it."""
        return frozenset(self.step(documents, change))

    def step(self, documents: Documents, change: Revision) -> dict[str, set[Path]]:
        """Go on to the next revision, and return which paths each host may get differently now.

        A path that a host doesn't get any more is among them. There may be too many paths, never too few. `change` is
        the revision that led to these documents.
        """
        changes = HostChanges.of(self._documents, documents, change, self._topics, self._host_of)
        before = {host: self._closure_ids(host) for host in self._find_hosts_with_other_needs(changes)}
        news = _News()
        if changes.lead_elsewhere:
            self._note_receivers(news, changes)
        for path in (*change.puts, *change.deletes):
            self._known.forget(path)
        self._go_on(documents, changes)
        self._note_receivers(news, changes)
        for host, ids in before.items():
            news.note([host], self._differences(ids, self._closure_ids(host)))
        return news.paths

    def _closure_ids(self, host: str) -> ClosureIds:
        topics = self._topics
        return ClosureIds.of(topics.enis_of_host(host), topics.own_groups(host), topics.groups.get)

    def _closure(self, host: str) -> Closure:
        return Closure(
            self._closure_ids(host), _HostLinks(self._documents, self._topics, self._topics.instances_of(host))
        )

    # what a revision changes

    def _find_hosts_with_other_needs(self, changes: HostChanges) -> set[str]:
        """Return the hosts that may need other groups, lists or VPCs, or the members of other groups."""
        found = {host for eni in changes.enis for host in eni.reshaped}
        for group in changes.groups:
            if group.before != group.after:
                found.update(self._topics.hosts_in(group.name))
            if group.is_moved:
                found |= self._topics.hosts_getting(path_of(ResourceKind.GROUP, group.name))
        return found

    def _note_receivers(self, news: _News, changes: HostChanges) -> None:
        """Note for each changed object the hosts that get it, by the topics as they are now.

        Called before and after a step, it reaches those that had the object, and those that get it. These are the same
        unless topics change.
        """
        topics = self._topics
        for group in changes.groups:
            path = path_of(ResourceKind.GROUP, group.name)
            news.note(topics.hosts_getting(path) if group.is_stub_changed else topics.hosts_in(group.name), [path])
        for eni in changes.enis:
            path = path_of(ResourceKind.ENI, eni.name)
            for one in eni.instances:  # whether a host gets an instance depends on its ENIs
                same = [path_of(ResourceKind.ENI, other) for other in topics.enis_of_instance(one)]
                news.note(eni.hosts, [path_of(ResourceKind.INSTANCE, one), *same])
            news.note(eni.hosts, [path])
            if eni.is_far_changed:
                news.note(topics.hosts_getting_members(eni.groups), [path])
        for path in changes.others:
            self._note_other(news, path)

    def _note_other(self, news: _News, path: Path) -> None:
        topics, name = self._topics, name_of(path)
        match kind_of(path):
            case ResourceKind.INSTANCE:
                found = map(self._documents.of_kind[ResourceKind.ENI].get, topics.enis_of_instance(name))
                hosts = (self._host_of(self._documents, body) for body in found if body)
                news.note([host for host in hosts if host is not None], [path])
            case ResourceKind.VPC:
                for host in topics.hosts_getting_vpc(name):
                    enis = (path_of(ResourceKind.ENI, eni) for eni in topics.enis_of_host(host))
                    news.note([host], [path, *enis])
            case _:
                news.note(topics.hosts_getting(path), [path])

    def _go_on(self, documents: Documents, changes: HostChanges) -> None:
        self._documents = documents
        for group in changes.groups:
            self._topics.put_group(group.name, group.after)
        for eni in changes.enis:
            self._topics.put_eni(eni.name, eni.before, eni.after)

    def _differences(self, before: ClosureIds, after: ClosureIds) -> Iterator[Path]:
        """Yield the paths that a host gets or loses because its closure has changed.

        Objects that were changed themselves are noted elsewhere.
        """
        yield from (before.vpcs ^ after.vpcs) | (before.lists ^ after.lists)
        groups = (before.own ^ after.own) | (before.named ^ after.named)
        yield from (path_of(ResourceKind.GROUP, name) for name in groups)
        for name in before.peer_groups ^ after.peer_groups:
            yield from (path_of(ResourceKind.ENI, eni) for eni in self._topics.members(name))
