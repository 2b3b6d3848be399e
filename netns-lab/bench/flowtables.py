"""A prototype: a flowtable of our own behind the policy of host placement, once for each epoch.

Prints what an established packet costs with it, and what becomes of sessions, timeouts and counters. Owns the tables of
the prototype. Nothing of the product makes them. Needs a kernel with flowtables, and root.

    PYTHONPATH=netns-lab .venv/bin/python -m bench.flowtables costs|sessions [--rounds N]
"""

from __future__ import annotations

import argparse
import random
import re
import resource
import sys
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field, replace

from bench import flowsessions, flowtimes, ours
from bench.batch import PACKETS, Batch
from bench.flowsessions import BEHIND, flowtable, must, say
from bench.measures import Measure, ratios, spread
from bench.ours import Ours
from bench.path import HOST_END, UPLINK, Ends, RoutedPath
from bench.probes import tcp_connection, udp_session
from bench.run import on_one_processor
from sgdataplane.enforce import DEFAULT_SETTINGS
from sgdataplane.model.options import Placement

ENIS, SLICE_S, SESSIONS = 20, 0.02, 2000
MEASURES = (Measure.UDP_IN, Measure.UDP_OUT, Measure.TCP_IN, Measure.TCP_OUT)


def beside(priority: int) -> str:
    """A flowtable that takes every session over that our table let through."""
    return (
        f"add table inet proto\n{flowtable('f', priority)}"
        "add chain inet proto forward { type filter hook forward priority 10; }\n"
        "add rule inet proto forward ct state established meta l4proto { tcp, udp } flow add @f\n"
    )


def marked(secret: str) -> str:
    """So that what the flowtable sends passes our fence: the secret is there before the flowtable is asked."""
    chains = (
        f"add chain netdev proto in{n} {{ type filter hook ingress device {device} priority 5; }}\n"
        f"add rule netdev proto in{n} meta mark set {secret}\n"
        for n, device in enumerate((UPLINK, HOST_END))
    )
    return f"add table netdev proto\n{''.join(chains)}"


@dataclass
class Stand:
    """One variant on a path of its own. `fence`: None without our table."""

    name: str
    fence: bool | None = None
    text: str = ""
    is_marked: bool = False
    samples: dict[Measure, list[float]] = field(default_factory=dict)
    ends: Ends | None = None

    def build(self, stack: ExitStack, number: int) -> None:
        path = stack.enter_context(RoutedPath(f"flow{number}"))
        if self.fence is not None:
            path.add_ends([f"eni-{n:04}" for n in range(ENIS - 1)])
            settings = replace(DEFAULT_SETTINGS, fence=self.fence)
            Ours(path.filtering, ours.by_enis(path.mac, ENIS, Placement.HOST), settings).load()
        if self.is_marked:
            (secret, *_) = re.findall(r"meta mark (0x[0-9a-f]+)", must(path.filtering, "list table netdev sgdataplane"))
            must(path.filtering, marked(secret))
        if self.text:
            must(path.filtering, self.text)
        self.ends = Ends(path)

    def measure(self) -> None:
        assert self.ends is not None
        for probe in (udp_session, tcp_connection):
            for measure, figure in probe(self.ends, SLICE_S).items():
                self.samples.setdefault(measure, []).append(figure)


FLOOR = "a router without rules"
ESTABLISHED = (
    "add table inet proto\nadd chain inet proto forward { type filter hook forward priority 0; }\n"
    "add rule inet proto forward ct state established accept\n"
)


def stands() -> list[Stand]:
    return [
        Stand(FLOOR),
        Stand("one rule: ct state established", text=ESTABLISHED),
        Stand("our table, with the fence", fence=True),
        Stand("our table, without the fence", fence=False),
        Stand("and a flowtable, without the fence", fence=False, text=beside(BEHIND)),
        Stand("and a flowtable, behind the fence", fence=True, text=beside(BEHIND), is_marked=True),
        Stand("a flowtable alone", text=beside(BEHIND)),
    ]


def costs(rounds: int) -> None:
    """Medians and quartiles of the ratios to the floor, round by round."""
    found = stands()
    with ExitStack() as stack:
        for number, stand in enumerate(found):
            stand.build(stack, number)
        with on_one_processor():
            for _ in range(rounds):
                for stand in random.sample(found, len(found)):
                    stand.measure()
    floor = found[0]
    for stand in found:
        cells = []
        for measure in MEASURES:
            median = spread(stand.samples[measure]).median
            ratio = spread(ratios(stand.samples[measure], floor.samples[measure]))
            cells.append(f"{median:.0f} ns, {ratio.median:.3f} ({ratio.low:.3f} to {ratio.high:.3f})")
        say(stand.name, " | ".join(cells))
    say("columns", " | ".join(measure.value for measure in MEASURES))


def ours_counts() -> None:
    """Which of our own counters see what a flowtable carries."""
    with ExitStack() as stack:
        stand = Stand("", fence=True, text=beside(BEHIND), is_marked=True)
        stand.build(stack, 0)
        assert stand.ends is not None
        namespace, batch = stand.ends.path.filtering, Batch()

        def counts() -> dict[str, int]:
            listed = must(namespace, "list counters")
            return {name: int(found) for name, found in re.findall(r"counter (\S+) {\s*packets (\d+)", listed)}

        with stand.ends.session() as (client, server):
            server.send(b"x")
            client.recv(64)
            before = counts()
            batch.send(client)
            batch.send(server)
            after = counts()
        grown = {name: after[name] - before[name] for name in after if after[name] != before[name]}
        say(f"our own counters after {PACKETS} packets each way", grown)
        say("our hooks", sorted(set(re.findall(r"hook \w+", must(namespace, "list ruleset")))))


PARTS: dict[str, Callable[[], None]] = {
    "transactions": flowsessions.transactions,
    "revoke": lambda: flowsessions.revoke_one(SESSIONS),
    "switch": lambda: flowsessions.switch_costs(SESSIONS),
    "entry": flowsessions.entry_deleted,
    "flood": lambda: flowsessions.flood(200),
    "bulk": flowsessions.bulk,
    "timeouts": flowtimes.timeouts,
    "endings": flowtimes.endings,
    "hooks": flowtimes.hooks,
    "leak": flowtimes.leaked_mark,
    "ours": ours_counts,
}


def main() -> int:
    """0 if no part failed."""
    parser = argparse.ArgumentParser(prog="bench.flowtables")
    parser.add_argument("part", choices=["costs", *PARTS, "all"])
    parser.add_argument("--rounds", type=int, default=40)
    arguments = parser.parse_args()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    failed = 0
    for name, part in PARTS.items():
        if arguments.part in (name, "all"):
            try:
                part()
            except (OSError, RuntimeError, ValueError, AssertionError) as error:  # the next part says what it can
                say(f"{name} failed", repr(error))
                failed = 1
    if arguments.part in ("costs", "all"):
        costs(arguments.rounds)
    return failed


if __name__ == "__main__":
    sys.exit(main())
