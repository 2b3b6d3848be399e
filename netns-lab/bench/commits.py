"""`python -m bench.commits`: what commits cost the kernel, by kind of change. Prints a table in Markdown.

Owns the rows and what is measured. It is given sizes. Must not know how a change is found.

Milliseconds are those of all commits of a change together, with the encoding, in the fastest of the rounds: other work
on the machine only makes them longer. `ratio` compares them with the fastest plain commit, one of which is made right
after each: a rule without a target, in a table and a namespace of its own. So a kernel or a machine that is slow
altogether shows the same ratios. The namespace is its own because before Linux 6.4 a commit to any table of a namespace
validates all of them.

    a member joins, ...   in instance placement, one ENI: deltacost.py has the states and changes
                          and in host placement, a router of many ENIs: hostcost.py has the state and changes
    an unrelated goto     in host placement: a rule in another table, with a goto to a chain that nothing else leads to

The changes skip the judgement that makes `sgdp` hold back expensive commits (enforce/hold.py), so they are measured
even where `sgdp` would refuse them.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

from bench import hostcost
from bench.deltacost import base_state, desired_of, steps
from bench.facts import facts
from bench.isolation import isolate
from sgdataplane.contract.fields import Field
from sgdataplane.enforce import Desired, KernelSessions, Proven, Settings, apply, build
from sgdataplane.host import netns
from sgdataplane.model.options import Placement
from sgdataplane.nft.ir import ACCEPT, Chain, Match, Range, Rule, Table, goto, rule
from sgdataplane.nft.kernel import NetlinkKernel
from sgdataplane.nft.transaction import Kind, Operation, Transaction, Verb
from sgdataplane.nft.validation import REMEMBERING, Pace
from tests.support.inputs.hardpolicies import targets

ROUNDS = 5
KINDS = {
    "member in": "a member joins",
    "rule on CIDR in": "a rule comes",
    "prefix entry in": "a prefix-list entry comes",
    "ENI in": "an ENI comes",
}
HOST_KINDS = {"a member joins": hostcost.with_member, "a rule changes": hostcost.with_rule}
Change = tuple[str, Desired]  # how the page calls it, "" if it isn't measured, and what is wanted then
UNPROVEN = Settings(fence=False, adoption_window=0, prove=False)
HEADER = (
    "| where | change | commits | ms | times a plain commit | paths |",
    "|---|---|---|---|---|---|",
)
END = Chain("end", (rule(ACCEPT),))
PLAIN, UNRELATED = rule(Match(Field.L4PROTO, (Range.of(6),)), ACCEPT), rule(goto("end"))


@dataclass
class Row:
    """One kind of change at one place. Seconds of each sample; `plain`: of the plain commit after it."""

    where: str
    change: str
    commits: int
    paths: int
    took: list[float] = field(default_factory=list)
    plain: list[float] = field(default_factory=list)

    @property
    def ms(self) -> float:
        return 1000 * min(self.took)

    @property
    def ratio(self) -> float:
        return min(self.took) / min(self.plain)

    def markdown(self) -> str:
        return (
            f"| {self.where} | {self.change} | {self.commits} | {self.ms:,.2f} | {self.ratio:,.1f} | {self.paths:,} |"
        )

    def as_json(self) -> dict[str, object]:
        return {**asdict(self), "ms": self.ms, "ratio": self.ratio}


@dataclass
class TimedKernel(NetlinkKernel):
    """The real kernel, with the seconds that each commit took. It claims to be a kernel that remembers what it has
    validated, so that enforce() refuses no change."""

    namespace: str
    commits: list[float] = field(default_factory=list, init=False)

    def __post_init__(self) -> None:
        super().__init__(self.namespace)

    def run(self, *transactions: Transaction) -> None:
        began = time.perf_counter()
        super().run(*transactions)
        if any(entry.operations for entry in transactions):
            self.commits.append(time.perf_counter() - began)

    def pace(self) -> Pace:
        return REMEMBERING


class Beside:
    """A rule in a table of its own. Each commit makes it anew."""

    def __init__(self, kernel: NetlinkKernel, entry: Rule) -> None:
        self._kernel = kernel
        table, chain = Table("beside"), Chain("probe", (entry,))
        kinds = ((Kind.TABLE, table), (Kind.CHAIN, END), (Kind.CHAIN, chain), (Kind.RULES, chain))
        kernel.run(Transaction.of(table, [Operation(Verb.ADD, kind, subject) for kind, subject in kinds]))
        again = (Operation(Verb.FLUSH, Kind.RULES, chain), Operation(Verb.ADD, Kind.RULES, chain))
        self._again = Transaction.of(table, again)

    def commit(self) -> float:
        """How many seconds it takes."""
        began = time.perf_counter()
        self._kernel.run(self._again)
        return time.perf_counter() - began


@contextmanager
def namespace(name: str) -> Iterator[str]:
    netns.create(name)
    try:
        yield name
    finally:
        netns.remove(name)


def instance_changes(members: int, rules: int, rounds: int) -> Iterator[Change]:
    """A round more comes first and isn't measured."""
    state = base_state(members, rules)
    yield "", desired_of(state)
    for step in steps(state, rounds):
        name = KINDS.get(step.kind, "") if step.is_counted else ""
        yield name, desired_of(step.state, has_other=step.has_other)


def host_changes(enis: int, rounds: int) -> Iterator[Change]:
    """The same in a router, to which the last of so many ENIs come one by one."""
    state = hostcost.base_state(enis)
    ends = [(eni.network_interface_id, f"h{number}") for number, eni in enumerate(targets(state))]
    for turn in range(rounds + 1):
        there = dict(ends[: enis - rounds + turn])
        yield "an ENI comes" if turn else "", Desired(state, there, placement=Placement.HOST)
        for name, change in HOST_KINDS.items():
            state = change(state, turn)
            yield name if turn else "", Desired(state, there, placement=Placement.HOST)


def changed_rows(where: str, changes: Iterable[Change], kernel: TimedKernel, plain: Beside) -> Iterator[Row]:
    """A row for each kind of change."""
    rows: dict[str, Row] = {}
    current: Proven | None = None
    for name, desired in changes:
        proven = build(desired, UNPROVEN, current)
        kernel.commits.clear()
        apply(kernel, KernelSessions(kernel.namespace, desired.site.marks), proven, current, UNPROVEN)
        current = proven
        if name:
            row = rows.setdefault(name, Row(where, name, len(kernel.commits), proven.visits.every_path))
            row.took.append(sum(kernel.commits))
            row.plain.append(plain.commit())
    yield from rows.values()


def beside_row(where: str, paths: int, kernel: TimedKernel, plain: Beside, rounds: int) -> Row:
    """Of a commit that has nothing to do with the table of so many paths in its namespace."""
    row = Row(where, "an unrelated goto", 1, paths)
    unrelated = Beside(kernel, UNRELATED)
    for number in range(rounds + 1):
        took, beside = unrelated.commit(), plain.commit()
        if number:  # the first one finds everything cold
            row.took.append(took)
            row.plain.append(beside)
    return row


def instance_rows(members: int, rules: int, rounds: int, plain: Beside) -> Iterator[Row]:
    where = f"instance placement, {rules:,} rules, {members:,} members"
    with namespace("instance") as name, TimedKernel(name) as kernel:
        yield from changed_rows(where, instance_changes(members, rules, rounds), kernel, plain)


def host_rows(enis: int, rounds: int, plain: Beside) -> Iterator[Row]:
    where = f"host placement, {enis:,} ENIs"
    with namespace("host") as name, TimedKernel(name) as kernel:
        found = list(changed_rows(where, host_changes(enis, rounds), kernel, plain))
        yield from found
        yield beside_row(where, found[-1].paths, kernel, plain, rounds)


def rows(options: argparse.Namespace) -> Iterator[Row]:
    with namespace("plain") as name, NetlinkKernel(name) as kernel:
        plain = Beside(kernel, PLAIN)
        for members in options.members:
            yield from instance_rows(members, options.rules, options.rounds, plain)
        for enis in options.enis:
            yield from host_rows(enis, options.rounds, plain)


def sizes(text: str) -> list[int]:
    return [int(word) for word in text.split(",") if word]


def arguments(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench.commits", description=__doc__.partition("\n")[0])
    words = "instance placement, by addresses in groups (default %(default)s; '' for none)"
    parser.add_argument("--members", type=sizes, default="256,4096,65536", metavar="N,N,...", help=words)
    parser.add_argument("--rules", type=int, default=200, help="of the ENI in instance placement (default 200)")
    words = f"host placement, by ENIs of one VPC (default %(default)s; '' for none), each at least {hostcost.FEWEST}"
    parser.add_argument("--enis", type=sizes, default="50,1000", metavar="N,N,...", help=words)
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"of each change (default {ROUNDS})")
    parser.add_argument("--json", type=Path, metavar="FILE", help="all samples, in seconds, with what it ran on")
    return parser.parse_args(argv)


def main() -> int:
    options = arguments(sys.argv[1:])
    isolate("bench.commits")
    about = facts()
    print(f"Linux {about['kernel']}, {about['nftables']}\n", *HEADER, sep="\n", flush=True)
    found = []
    for row in rows(options):
        found.append(row)
        print(row.markdown(), flush=True)
    if options.json is not None:
        text = json.dumps({"facts": about, "rows": [row.as_json() for row in found]}, indent=2)
        options.json.write_text(f"{text}\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
