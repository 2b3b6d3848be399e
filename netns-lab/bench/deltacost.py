"""`python -m bench.deltacost`: what a change costs when very many addresses are in groups.

Owns the measuring. It is given sizes. Must not know how a change is found, nor how the kernel is told of it.

    python -m bench.deltacost                           65,536 addresses, 200 rules
    python -m bench.deltacost -m 4096 -r 1000 -n 50     4,096 addresses, 1,000 rules, 50 rounds

Prints a table with a row for each kind of change. A round makes and undoes each kind once, so all share whatever the
machine does meanwhile. The columns are milliseconds until a new state is in force, without the fence:

    compile   everything but the kernel       kernel   everything in the kernel, with the messages to it
    whole     both                            proof    the proof alone, which `whole` doesn't include

The state is made before the clock starts, and shares with the previous one what did not change.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import statistics
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from itertools import product

from sgdataplane.contract.sites import INSTANCE
from sgdataplane.enforce import Desired, KernelSessions, Settings, apply, build
from sgdataplane.host import netns
from sgdataplane.model.state import CloudState, Eni, PrefixListEntry, Remote, SecurityGroupRule
from sgdataplane.net.values import Address, Prefix
from sgdataplane.nft.ir import Table
from sgdataplane.nft.kernel import NetlinkKernel
from sgdataplane.nft.snapshot import Inventory
from sgdataplane.nft.transaction import Transaction
from sgdataplane.nft.validation import REMEMBERING, Pace
from tests.support.builders import make_eni, make_group, make_prefix_list, make_remote, make_rule, make_state
from tests.support.chooser import Chooser, with_ids

OWN, OTHER = "eni-target-0", "eni-target-1"  # the second one comes and goes
GROUP, PEERS, LISTS = "sg-own", 16, 4
FIRST_MEMBER = Address.parse("10.16.0.0").value
Change = Callable[[CloudState], CloudState]


@dataclass
class TimedKernel(NetlinkKernel):
    """The real kernel, with the seconds that were spent in it; `commits`: in each commit alone. It claims to be a
    kernel that remembers what it has validated, so that enforce() refuses no change."""

    namespace: str
    seconds: float = field(default=0.0, init=False)
    commits: list[float] = field(default_factory=list, init=False)

    def __post_init__(self) -> None:
        super().__init__(self.namespace)

    @contextmanager
    def _clock(self) -> Iterator[None]:
        started = time.perf_counter()
        try:
            yield
        finally:
            self.seconds += time.perf_counter() - started

    def run(self, transaction: Transaction) -> None:
        before = self.seconds
        with self._clock():
            super().run(transaction)
        if transaction.operations:
            self.commits.append(self.seconds - before)

    def pace(self) -> Pace:
        return REMEMBERING

    def inventory(self, name: str, family: str = "inet", most: int | None = None) -> Inventory:
        with self._clock():
            return super().inventory(name, family, most)

    def trusted(self, table: Table) -> Inventory | None:
        with self._clock():
            return super().trusted(table)

    def interfaces(self) -> frozenset[str]:
        with self._clock():
            return super().interfaces()

    def settle(self) -> None:
        with self._clock():
            super().settle()


@dataclass
class Figures:
    """Seconds of each apply of one kind of change."""

    compile: list[float] = field(default_factory=list)
    kernel: list[float] = field(default_factory=list)
    proof: list[float] = field(default_factory=list)

    def row(self, name: str) -> str:
        whole = [a + b for a, b in zip(self.compile, self.kernel, strict=True)]
        cells = (statistics.median(samples) * 1000 for samples in (whole, self.compile, self.kernel, self.proof))
        return f"{name:>18}" + "".join(f"{cell:>10.2f}" for cell in cells) + f"{max(whole) * 1000:>10.2f}"


def base_state(members: int, rules: int) -> CloudState:
    """One ENI with `rules` rules: a fifth on other groups, a tenth on prefix lists, the rest on CIDR blocks; and
    `members` addresses, each in one to three of the other groups."""
    choose = Chooser.of("delta", 0)
    peers = [f"sg-peer-{n:02}" for n in range(PEERS)]
    lists = {f"pl-{n}": " ".join(f"203.{n}.{i}.0/24" for i in range(20)) for n in range(LISTS)}
    kinds = [choose.sample(peers, choose.between(1, 3)) for _ in range(2 * PEERS)]
    remotes: list[Remote] = [make_remote(choose.one(peers)) for _ in range(rules // 5)]
    remotes += [make_remote(choose.one(sorted(lists))) for _ in range(rules // 10)]
    remotes += [choose.typical_cidr(choose.family) for _ in range(rules - len(remotes))]
    own = make_group(GROUP, with_ids([choose.typical_rule(remote) for remote in remotes]))
    enis = [member(number, kinds[number % len(kinds)]) for number in range(members)]
    state = make_state([own, *map(make_group, peers)], [make_eni(OWN, "10.0.0.1", GROUP), *enis])
    made = tuple(make_prefix_list(name, words) for name, words in sorted(lists.items()))
    return replace(state, prefix_lists=made, instances=())


def member(number: int, groups: list[str]) -> Eni:
    return make_eni(f"eni-{number:06}", str(Address(32, FIRST_MEMBER + number)), " ".join(sorted(groups)))


def changes(state: CloudState) -> Mapping[str, tuple[Change, Mapping[str, str]]]:
    """By kind of change: how it changes the state, and the interfaces afterwards."""
    one, two = {OWN: "eth0"}, {OWN: "eth0", OTHER: "eth1"}
    half = len(state.network_interfaces) // 2
    newcomer = replace(member(half, ["sg-peer-00", "sg-peer-01"]), private_ip_addresses=(Address.parse("10.99.0.9"),))
    newcomer = replace(newcomer, network_interface_id=f"eni-{half:06}-new")
    like_others = replace(newcomer, security_group_ids=state.network_interfaces[half].security_group_ids)
    on_cidr = make_rule("ingress tcp 4443/4443 from 198.18.7.0/24", "sgr-new")
    on_group = make_rule("ingress tcp 4443/4443 from sg-peer-03", "sgr-new")
    return {
        "member": (lambda s: with_eni(s, like_others), one),
        "other kinship": (lambda s: with_eni(s, newcomer), one),
        "rule on CIDR": (lambda s: with_rule(s, on_cidr), one),
        "rule on group": (lambda s: with_rule(s, on_group), one),
        "prefix entry": (with_entry, one),
        "ENI": (lambda s: with_eni(s, make_eni(OTHER, "10.0.0.2", GROUP)), two),
    }


def with_eni(state: CloudState, eni: Eni) -> CloudState:
    """The state with one more ENI, in its place by id."""
    enis = state.network_interfaces
    place = sum(entry.network_interface_id < eni.network_interface_id for entry in enis)
    return replace(state, network_interfaces=(*enis[:place], eni, *enis[place:]))


def with_rule(state: CloudState, rule: SecurityGroupRule) -> CloudState:
    groups = (replace(g, rules=(*g.rules, rule)) if g.security_group_id == GROUP else g for g in state.security_groups)
    return replace(state, security_groups=tuple(groups))


def with_entry(state: CloudState) -> CloudState:
    first, *rest = state.prefix_lists
    more = replace(first, entries=(*first.entries, PrefixListEntry(Prefix.parse("198.19.7.0/24"))))
    return replace(state, prefix_lists=(more, *rest))


@dataclass(frozen=True, slots=True)
class Sample:
    """Seconds of one apply. `kind`: the change, and "in" or "out". `commits`: of each one. `proof`: None if there was
    none. `paths`: how many lead through the table."""

    kind: str
    compile: float
    kernel: float
    commits: tuple[float, ...]
    proof: float | None
    paths: int


def samples(
    namespace: str, state: CloudState, rounds: int, *, names: Collection[str] = (), is_proven: bool = True
) -> Iterator[Sample]:
    """Make and undo each kind of change (those in `names`, or all) `rounds` times. One round more comes first and isn't
    measured, as it leaves things behind that later ones find."""
    kinds = {name: kind for name, kind in changes(state).items() if name in (names or (name,))}
    settings = Settings(fence=False, adoption_window=0, prove=False)
    with TimedKernel(namespace) as kernel:
        sessions = KernelSessions(namespace, INSTANCE.marks)
        current = build(Desired(state, {OWN: "eth0"}), Settings(prove=is_proven))
        apply(kernel, sessions, current, None, settings)
        for number in range(rounds + 1):
            for (name, (change, interfaces)), way in product(kinds.items(), ("in", "out")):
                is_in = way == "in"
                new = change(state) if is_in else replace(state)
                desired = Desired(new, interfaces if is_in else {OWN: "eth0"})
                gc.collect(0)
                kernel.seconds, started = 0.0, time.perf_counter()
                kernel.commits.clear()
                proven = build(desired, Settings(prove=is_proven), current)
                report = apply(kernel, sessions, proven, current, settings)
                whole = time.perf_counter() - started
                assert report.changed
                assert not report.is_refill
                assert not report.leftover
                proof = None if proven.proof is None else proven.proof.seconds
                current = proven
                if number:
                    spent = whole - kernel.seconds - (proof or 0.0), kernel.seconds, tuple(kernel.commits)
                    yield Sample(f"{name} {way}", *spent, proof, proven.visits.every_path)


def measured(namespace: str, state: CloudState, rounds: int) -> dict[str, Figures]:
    """The figures by kind of change, "in" or "out"."""
    figures: dict[str, Figures] = {}
    for sample in samples(namespace, state, rounds):
        row = figures.setdefault(sample.kind, Figures())
        row.compile.append(sample.compile)
        row.kernel.append(sample.kernel)
        row.proof.append(sample.proof or 0.0)
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.deltacost")
    parser.add_argument("-m", "--members", type=int, default=65_536)
    parser.add_argument("-r", "--rules", type=int, default=200)
    parser.add_argument("-n", "--rounds", type=int, default=15)
    parser.add_argument("--json", action="store_true", help="all samples, in seconds")
    asked = parser.parse_args()
    namespace = f"delta{os.getpid()}"
    netns.create(namespace)
    try:
        found = measured(namespace, base_state(asked.members, asked.rules), asked.rounds)
    finally:
        netns.remove(namespace)
    if asked.json:
        print(json.dumps({name: asdict(row) for name, row in found.items()}))
        return
    print(f"{asked.members:,} members, {asked.rules} rules, {asked.rounds} rounds; milliseconds, medians")
    print(f"{'change':>18}{'whole':>10}{'compile':>10}{'kernel':>10}{'proof':>10}{'most':>10}")
    for name, row in found.items():
        print(row.row(name).rstrip())


if __name__ == "__main__":
    main()
