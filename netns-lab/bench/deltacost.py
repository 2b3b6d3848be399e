"""`python -m bench.deltacost`: what a change costs when very many addresses are in groups.

Owns the changes and the measuring. It is given sizes. Must not know how a change is found, nor how the kernel is told
of it.

    python -m bench.deltacost                           65,536 addresses, 200 rules
    python -m bench.deltacost -m 4096 -r 1000 -n 50     4,096 addresses, 1,000 rules, 50 rounds

Prints a table with a row for each kind of change. Each kind has a turn in each round, so all share whatever the machine
does meanwhile. The columns are milliseconds until a new state is in force, as the agent would put it in force:

    whole     all of it     compile   build() without the proof     proof   the proof     kernel   enforce()

Something comes, then something else of its kind that was there before goes: so the sizes stay, and each state is one
that this process has never compiled or proven. It is made before the clock starts, and shares with the one before what
did not change.
"""

from __future__ import annotations

import argparse
import gc
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from bench.costs import tell
from bench.isolation import isolate
from sgdataplane.enforce import Desired, Proven, build, enforce
from sgdataplane.host import netns
from sgdataplane.host.links import Links
from sgdataplane.model.state import CloudState, Eni, GroupRef, PrefixListEntry, Remote, SecurityGroup, SecurityGroupRule
from sgdataplane.net.values import Address, Prefix
from tests.support.inputs.builders import make_eni, make_group, make_prefix_list, make_remote, make_rule, make_state
from tests.support.inputs.chooser import Chooser, with_ids

OWN, OTHER = "eni-target-0", "eni-target-1"  # the second one comes and goes
GROUP, PEERS, LISTS = "sg-own", 16, 4
FIRST_MEMBER = Address.parse("10.16.0.0").value
MAX_ROUNDS = 15  # then kinships would repeat
Change = Callable[[CloudState, int], CloudState]


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of change: how a state changes when round `n` makes something come, and then something go. `is_other`:
    what comes is the ENI OTHER."""

    come: Change
    go: Change
    is_other: bool = False


@dataclass(frozen=True, slots=True)
class Step:
    """One change: its kind with "in" or "out", whether it counts, the state after it, and whether OTHER is there
    then."""

    kind: str
    is_counted: bool
    state: CloudState
    has_other: bool


@dataclass(frozen=True, slots=True)
class Sample:
    """Seconds of one change: build() without the proof, the proof, and enforce()."""

    compile: float
    proof: float
    kernel: float

    @property
    def whole(self) -> float:
        return self.compile + self.proof + self.kernel


def line(name: str, samples: Sequence[Sample]) -> str:
    """Of the table."""
    wholes = [sample.whole for sample in samples]
    parts = (wholes, *([getattr(sample, part) for sample in samples] for part in ("compile", "proof", "kernel")))
    medians = "".join(f"{1000 * statistics.median(part):>10.2f}" for part in parts)
    return f"{name:>20}{medians}{1000 * max(wholes):>10.2f}"


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


def kinds(state: CloudState) -> Mapping[str, Kind]:
    """By name."""
    half = len(state.network_interfaces) // 2
    like_others = state.network_interfaces[half].security_group_ids
    found = {
        "rule on CIDR": _rules("198.18.7.0/24", 4443, Prefix),
        "rule on group": _rules("sg-peer-03", 5443, GroupRef),
        "prefix entry": Kind(_with_entry, _without_entry),
        "ENI": Kind(_with_other, _without_other, is_other=True),
    }
    if len(state.network_interfaces) == 1:
        return found
    return {"member": _members(0, lambda _: like_others), "new kinship": _members(1, _kinship), **found}


def _kinship(turn: int) -> Iterable[str]:
    """Four groups, where other members have three at most."""
    return sorted(f"sg-peer-{(turn + step) % PEERS:02}" for step in (0, 3, 7, 12))


def _members(kind: int, groups: Callable[[int], Iterable[str]]) -> Kind:
    """A new address in these groups comes, and another one that is there goes."""

    def come(state: CloudState, turn: int) -> CloudState:
        eni_id, address = f"eni-{turn:06}-new-{kind}", f"10.{200 + kind}.{turn}.9"
        return with_eni(state, make_eni(eni_id, address, " ".join(groups(turn))))

    def go(state: CloudState, turn: int) -> CloudState:
        return _without_eni(state, f"eni-{2 * turn + kind:06}")

    return Kind(come, go)


def _rules(remote: str, first_port: int, remotes: type) -> Kind:
    """A rule with a new port comes, and the oldest one with a remote of that type goes."""

    def come(state: CloudState, turn: int) -> CloudState:
        port = first_port + turn
        return with_rule(state, make_rule(f"ingress tcp {port}/{port} from {remote}", f"sgr-new-{port}"))

    def go(state: CloudState, _: int) -> CloudState:
        rules = state.group[GROUP].rules
        oldest = next(rule for rule in rules if isinstance(rule.remote, remotes))
        return _with_rules(state, tuple(rule for rule in rules if rule is not oldest))

    return Kind(come, go)


def with_eni(state: CloudState, eni: Eni) -> CloudState:
    """The state with one more ENI, in its place by id."""
    enis = state.network_interfaces
    place = sum(entry.network_interface_id < eni.network_interface_id for entry in enis)
    return replace(state, network_interfaces=(*enis[:place], eni, *enis[place:]))


def _without_eni(state: CloudState, eni_id: str) -> CloudState:
    kept = tuple(eni for eni in state.network_interfaces if eni.network_interface_id != eni_id)
    return replace(state, network_interfaces=kept)


def _with_other(state: CloudState, turn: int) -> CloudState:
    return with_eni(state, make_eni(OTHER, f"10.0.1.{turn + 1}", GROUP))


def _without_other(state: CloudState, _: int) -> CloudState:
    return _without_eni(state, OTHER)


def with_rule(state: CloudState, rule: SecurityGroupRule) -> CloudState:
    return _with_rules(state, (*state.group[GROUP].rules, rule))


def _with_rules(state: CloudState, rules: tuple[SecurityGroupRule, ...]) -> CloudState:
    def changed(group: SecurityGroup) -> SecurityGroup:
        return replace(group, rules=rules) if group.security_group_id == GROUP else group

    return replace(state, security_groups=tuple(map(changed, state.security_groups)))


def _with_entry(state: CloudState, turn: int) -> CloudState:
    entries = state.prefix_lists[0].entries
    return _with_entries(state, (*entries, PrefixListEntry(Prefix.parse(f"198.19.{turn}.0/24"))))


def _without_entry(state: CloudState, _: int) -> CloudState:
    return _with_entries(state, state.prefix_lists[0].entries[1:])


def _with_entries(state: CloudState, entries: tuple[PrefixListEntry, ...]) -> CloudState:
    first, *rest = state.prefix_lists
    return replace(state, prefix_lists=(replace(first, entries=entries), *rest))


def steps(state: CloudState, rounds: int) -> Iterator[Step]:
    """All steps of so many rounds, and of one more before them: it leaves things behind that later ones find. After
    OTHER came and after it went, something else changes; otherwise the state would be that of two steps before."""
    between = _rules("198.18.8.0/24", 6443, Prefix)
    for turn in range(rounds + 1):
        for name, kind in kinds(state).items():
            for way, change, other in (("in", kind.come, between.come), ("out", kind.go, between.go)):
                state = change(state, turn)
                has_other = kind.is_other and way == "in"
                yield Step(f"{name} {way}", turn > 0, state, has_other)
                if kind.is_other:
                    state = other(state, turn)
                    yield Step("between", False, state, has_other)


def desired_of(state: CloudState, *, has_other: bool = False) -> Desired:
    return Desired(state, {OWN: "eth0", OTHER: "eth1"} if has_other else {OWN: "eth0"})


def measured(namespace: str, state: CloudState, rounds: int) -> Iterator[tuple[str, Sample]]:
    """Each change's kind, with "in" or "out", and what it took."""
    current = build(desired_of(state))
    enforce(namespace, current)
    for step in steps(state, rounds):
        gc.collect(0)
        current, sample = _put_in_force(namespace, desired_of(step.state, has_other=step.has_other), current)
        if step.is_counted:
            yield step.kind, sample


def _put_in_force(namespace: str, desired: Desired, current: Proven) -> tuple[Proven, Sample]:
    began = time.perf_counter()
    proven = build(desired, previous=current)
    built = time.perf_counter()
    report = enforce(namespace, proven, current)
    done = time.perf_counter()
    assert report.changed
    assert not report.is_full_resync
    assert not report.leftover
    assert proven.proof is not None
    return proven, Sample(built - began - proven.proof.seconds, proven.proof.seconds, done - built)


def make_namespace(name: str, *ifnames: str) -> None:
    """A network namespace with these interfaces, which lead nowhere, so that the fence has something to fence."""
    netns.create(name)
    with Links(name) as links:
        for number, ifname in enumerate(ifnames):
            links.add_veth(ifname, name, f"far{number}", "")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.deltacost")
    parser.add_argument("-m", "--members", type=int, default=65_536, help="addresses in groups (default 65,536)")
    parser.add_argument("-r", "--rules", type=int, default=200, help="of the ENI (default 200)")
    parser.add_argument("-n", "--rounds", type=int, default=15, help=f"default 15, at most {MAX_ROUNDS}")
    parser.add_argument("--json", action="store_true", help="all samples, in seconds, for `bench`")
    asked = parser.parse_args()
    if asked.rounds > MAX_ROUNDS:
        parser.error(f"at most {MAX_ROUNDS} rounds")
    isolate("bench.deltacost")
    make_namespace("delta", "eth0", "eth1")
    found = measured("delta", base_state(asked.members, asked.rules), asked.rounds)
    if asked.json:
        for kind, sample in found:
            tell(**{kind.rpartition(" ")[0]: sample.whole})
        return
    by_kind: dict[str, list[Sample]] = {}
    for kind, sample in found:
        by_kind.setdefault(kind, []).append(sample)
    print(f"{asked.members:,} members, {asked.rules} rules, {asked.rounds} rounds; milliseconds, medians")
    print(f"{'change':>20}{'whole':>10}{'compile':>10}{'proof':>10}{'kernel':>10}{'most':>10}")
    for kind, samples in by_kind.items():
        print(line(kind, samples))


if __name__ == "__main__":
    main()
