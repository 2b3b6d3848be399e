"""One namespace whose packets are recorded in history: its logs and its counters.

Owns the sockets there. Is given where it is, which ENIs it has and what it obeys. Must not know rows, files, or when it
is read.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

from sgdataplane.contract.counters import HISTORY_GROUP, LOG_GROUP, eni_counter, name_fenced_counter
from sgdataplane.contract.names import find_logged_counter
from sgdataplane.contract.sites import SITES
from sgdataplane.contract.tables import NETDEV, TABLE
from sgdataplane.errors import HostError
from sgdataplane.history.confirm import Confirmations
from sgdataplane.history.ends import Interpretation
from sgdataplane.history.rows import ALL_OF_ENI
from sgdataplane.history.sample import make_sampling_table, name_opened_counter
from sgdataplane.host import netns
from sgdataplane.host.identity import Identity, find_namespace, identity_of, is_there
from sgdataplane.host.nflog import Logged, Nflog
from sgdataplane.host.nfnetlink import Nfnetlink
from sgdataplane.model.decision import Decision
from sgdataplane.model.options import Placement
from sgdataplane.net.values import Direction, Verdict
from sgdataplane.nft.counters import Counted, read_wanted
from sgdataplane.nft.kernel import NetlinkKernel
from sgdataplane.observe.belief import LoggedAs
from sgdataplane.observe.denied import Denied, EnforcedPlace, Interpreter

MAX_HELD = 5000  # logged packets that wait for the next reading of the counters; more are only counted


@dataclass(frozen=True, slots=True)
class RecordedPlace:
    """A place where a policy is enforced."""

    key: Identity | str
    """A router's name, or the identity of a workload's namespace, which is looked for at `path`."""
    path: str
    named: str
    """The name that people read."""
    scope: str
    """The scope's name in the ledger (observe/ledger.py)."""
    interfaces: Mapping[str, str]
    """ENI id -> interface."""
    placement: Placement


@dataclass(slots=True)
class Findings:
    """The findings of one reading of a place."""

    packets: list[tuple[str, Denied]] = field(default_factory=list)
    """What is confirmed, with the counter of each."""
    missing: dict[str, int] = field(default_factory=dict)
    """What was counted and not logged, by counter."""
    forged: int = 0
    """How many packets others have logged in our name, at least."""


class Listening:
    """A listener in a place, which keeps a table there that logs new sessions.

    A reading has three steps: `read_counters`; a wait until all that they have counted has come (host/quiet.py), which
    is one for all places; then `judge`.

    Attributes:
        place: The place.
        cookie: The namespace's cookie.
        first: The counters when it began.
        decisions: What each counter stands for.
        all_decisions: The same, with rules that the state no longer has.
        refusing: The counters of what drops packets.
        of_enis: The counters that count for one ENI, with it.
    """

    def __init__(self, place: RecordedPlace, meaning: Interpretation, per_second: int, buffer_bytes: int) -> None:
        """Begin to listen. `per_second` is how many new sessions are logged, each way.

        Raises:
            HostError: The namespace has ended, or somebody else listens.
            KernelError: The kernel refuses the table.
            UnsupportedError: The kernel refuses the table.
            OSError: The kernel refuses to list counters.
        """
        self.place = place
        with ExitStack() as stack:
            self._fd = stack.enter_context(_open_place(place))
            self._path = f"/proc/self/fd/{self._fd}"
            self._inode = os.fstat(self._fd).st_ino
            self.cookie = identity_of(self._path).cookie
            with netns.inside(self._path):
                self._asked = Nfnetlink()
                stack.callback(self._asked.close)
                self._logs = (Nflog(LOG_GROUP, buffer_bytes), Nflog(HISTORY_GROUP, buffer_bytes))
            for log in self._logs:
                stack.callback(log.close)
            table = make_sampling_table(SITES[place.placement], place.interfaces.values(), per_second)
            kernel = NetlinkKernel(self._path)
            # The kernel removes the table with the socket that made it: that is no commit, and no generation.
            stack.callback(kernel.close)
            kernel.run_beside(table)
            self._table = table.name
            self._own = frozenset(
                name_opened_counter(side, name) for side in Direction for name in place.interfaces.values()
            )
            self.of_enis = dict(_of_enis(place.interfaces))
            self.decisions: Mapping[str, Decision] = {}
            self.set_meaning(meaning)
            self._came: list[tuple[str, Denied]] = []
            self.first = self.read_counters()
            self._confirmations = Confirmations(self.first)
            self._came.clear()  # what came before can't be told from what is forged
            self._stack = stack.pop_all()

    @property
    def logs(self) -> tuple[Nflog, ...]:
        """The sockets for a selector: call `hear` when one of them is readable."""
        return self._logs

    def close(self) -> None:
        """Stop listening; the kernel removes the table."""
        self._stack.close()

    def is_there(self) -> bool:
        """Return whether the namespace exists without us. HostError if we may not look everywhere."""
        key = self.place.key
        try:
            if os.stat(netns.path_of(key) if isinstance(key, str) else self.place.path).st_ino == self._inode:
                return True
        except OSError:
            pass
        return not isinstance(key, str) and is_there(key, self.place.path)

    def set_meaning(self, meaning: Interpretation) -> None:
        """Take another state as the one that the place obeys from now on."""
        self._meaning, self._is_stale = meaning, True

    def _renew(self) -> None:
        """Learn what counters stand for, if the state has changed.

        Packets of rules that the state no longer has may be on their way, so what was known stays.
        """
        if not self._is_stale:
            return
        self._is_stale = False
        before, self.decisions = self.decisions, self._meaning.decisions(self.place.interfaces)
        enforced = EnforcedPlace(self._path, self.place.interfaces, self.place.placement)
        self.all_decisions = {**before, **self.decisions}
        self._interpreter = Interpreter(enforced, self.all_decisions)
        self.refusing = {name for name, found in self.decisions.items() if found.verdict is Verdict.DROP}

    def hear(self) -> None:
        """Take what has come out of the sockets, up to MAX_HELD packets. HostError if the kernel refuses."""
        self._renew()
        for log in self._logs:
            for packet in log.read():
                named = self._name_packet(packet)
                if named is not None and len(self._came) < MAX_HELD:
                    self._came.append(named)

    @property
    def has_heard(self) -> bool:
        """Whether packets wait to be judged."""
        return bool(self._came)

    def read_counters(self) -> dict[str, Counted]:
        """Hear, and read all counters of the policy's tables and of history's own.

        Raises:
            OSError: The kernel refuses.
        """
        self.hear()
        wanted = {*self.decisions, *self.of_enis} - self._own
        counted = read_wanted(self._asked, TABLE, "inet", wanted) | read_wanted(self._asked, TABLE, NETDEV, wanted)
        return counted | read_wanted(self._asked, self._table, "inet", self._own)

    def judge(self, counters: Mapping[str, Counted]) -> Findings:
        """Judge what came before these counters were read; what has come since is judged the next time."""
        came, self._came = self._came, []
        self.hear()
        before, since = Counter(name for name, _ in came), Counter(name for name, _ in self._came)
        findings, refused = Findings(), set()
        for name in {*before, *self.refusing, *self._own}:
            said = self._confirmations.judge(name, counters.get(name), before[name], since[name])
            findings.forged += said.forged
            if said.missing:
                findings.missing[name] = said.missing
            if not said.is_given:
                refused.add(name)
        findings.packets = [(name, packet) for name, packet in came if name not in refused]
        return findings

    def _name_packet(self, packet: Logged) -> tuple[str, Denied] | None:
        """Return the packet with the counter that has counted it; None if it isn't recorded.

        Another program's isn't, nor one that opened a session at an interface without an ENI, nor one that wasn't
        dropped.
        """
        name = find_logged_counter(packet.prefix)
        if name is None:
            return None
        seen = self._interpreter.interpret(LoggedAs(name, packet))
        if name == f"opened.{seen.direction.value}":
            return (name_opened_counter(seen.direction, seen.ifname or ""), seen) if seen.eni_id else None
        is_refused = seen.decision is not None and seen.decision.verdict is Verdict.DROP
        return (name, seen) if is_refused else None


def _of_enis(interfaces: Mapping[str, str]) -> Iterator[tuple[str, tuple[str, Decision]]]:
    """Yield the counters that count for one ENI, whatever decided: its new sessions, and what was dropped at it."""
    for eni_id, ifname in interfaces.items():
        for side in Direction:
            yield name_opened_counter(side, ifname), (eni_id, Decision(side, Verdict.ACCEPT, ALL_OF_ENI))
            yield eni_counter(side, ifname), (eni_id, Decision(side, Verdict.DROP, ALL_OF_ENI))
        yield name_fenced_counter(ifname), (eni_id, Decision(Direction.EGRESS, Verdict.DROP, ALL_OF_ENI))


@contextmanager
def _open_place(place: RecordedPlace) -> Iterator[int]:
    """Open a descriptor of the place's namespace. HostError if it has ended."""
    if isinstance(place.key, str):
        with netns.open_fd(place.key) as fd:
            yield fd
        return
    with find_namespace(place.key, place.path) as path:
        if path is None:
            raise HostError(place.named, "it has ended")
        yield int(path.rpartition("/")[2])
