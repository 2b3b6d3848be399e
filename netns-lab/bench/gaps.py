"""`python -m bench.gaps`: how long packets wait while a table of 1,000 ENIs is loaded. Prints a table in Markdown.

Owns the stream, the loads, and the order in which they alternate. It is given sizes. Must not know how a table is made
or sent.

A process sends 100,000 packets a second over the path, one at a time, and notes the longest time between the ends of
two sends. A veth delivers within the send, so whatever holds a packet up, on its way or in its turn, makes such a gap.
Another process, on another processor if there is one, meanwhile does one of these, in a new random order in each round:

    nothing      sleeps
    work         computes in Python, without a system call: what the machine itself takes from the stream
    elsewhere    loads the table into another namespace
    here         loads it into the namespace that the stream enters; its rules accept the stream
    refill       writes it there once more, although it is in force
    removal      removes it there

`more` is how much longer than beside nothing the longest gap was, in the same round. The sender is a real-time process,
since a network card's interrupt has precedence, too: this doesn't measure how the scheduler shares a processor. After
each 400 ms it rests for 40 ms, which is no gap: the kernel takes the processor from real-time processes that leave less
than a twentieth of it to others.
"""

from __future__ import annotations

import argparse
import gc
import mmap
import os
import random
import signal
import socket
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Self

from bench.batch import SIZE, Batch
from bench.costs import begin, tell
from bench.errors import BenchError
from bench.isolation import isolate
from bench.path import Ends, Path
from bench.policy import PROBE
from sgdataplane.contract.tables import TABLE
from sgdataplane.enforce import Desired, Settings, build
from sgdataplane.enforce.run import run
from sgdataplane.host import netns
from sgdataplane.model.options import Placement
from sgdataplane.nft.delta import Plan, plan, plan_removal
from sgdataplane.nft.ir import Table
from sgdataplane.nft.kernel import NetlinkKernel
from tests.support.inputs.builders import make_eni, make_group, make_state

NOTHING = "nothing"
BESIDE = ("elsewhere", "here")  # a table is loaded
LOADS = ("work", *BESIDE, "refill", "removal")
GROUPS, RULES = 50, 20  # an ENI is in one group
RATE = 100_000  # packets a second
GOAL_MS = 1.0  # more than without a load
SPELL_NS, REST_S = 400_000_000, 0.04
TRIES = 10
PAUSE_S = 0.5  # how long the loader does nothing, or works
RUN = 0  # where in their shared memory the loader says whether to send


@dataclass(frozen=True, slots=True)
class Window:
    """`gap`: the longest time between two packets. `lasted`: how long the load took. Both in seconds."""

    gap: float
    packets: int
    lasted: float


@dataclass
class Stream:
    """The sender, a process of its own while the block runs."""

    socket_number: int
    processor: int
    flags: mmap.mmap = field(default_factory=lambda: mmap.mmap(-1, 1))
    pid: int = field(default=0, init=False)
    _orders: int = field(default=-1, init=False)
    _answers: int = field(default=-1, init=False)

    def __enter__(self) -> Self:
        (asked, self._orders), (self._answers, told) = os.pipe(), os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            self._send_windows(asked, told)
        os.close(asked)
        os.close(told)
        return self

    def __exit__(self, *_: object) -> None:
        self.flags[RUN] = 0
        os.close(self._orders)
        os.waitpid(self.pid, 0)
        os.close(self._answers)

    def during(self, load: Callable[[], object]) -> Window:
        """Send while `load` runs."""
        self.flags[RUN] = 1
        os.write(self._orders, b"\n")
        began = time.perf_counter()
        try:
            load()
        finally:
            lasted = time.perf_counter() - began
            self.flags[RUN] = 0
        gap, packets = map(int, os.read(self._answers, 64).split())
        return Window(gap / 1e9, packets, lasted)

    def _send_windows(self, asked: int, told: int) -> None:
        """In the child: a window for each order, until there are no more."""
        code = 1
        try:
            os.close(self._orders)
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            os.sched_setaffinity(0, {self.processor})
            os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
            gc.disable()
            while os.read(asked, 1):
                os.write(told, b"%d %d" % self._send())
            code = 0
        finally:
            os._exit(code)

    def _send(self) -> tuple[int, int]:
        """Until the flag is gone: the longest gap in nanoseconds, and how many packets."""
        clock, content, flags = time.perf_counter_ns, bytes(SIZE), self.flags
        number, interval = self.socket_number, 1_000_000_000 // RATE
        longest = packets = 0
        while flags[RUN]:
            last = clock()
            rest = last + SPELL_NS
            while flags[RUN] and last < rest:
                while clock() < last + interval:
                    pass
                os.write(number, content)
                now = clock()
                longest, last, packets = max(longest, now - last), now, packets + 1
            time.sleep(REST_S)
        return longest, packets


@dataclass(frozen=True, slots=True)
class Scene:
    """A stream into the namespace `here`, which receives it, and the table to be loaded there or `elsewhere`."""

    stream: Stream
    inbox: socket.socket
    here: str
    elsewhere: str
    table: Table

    def window(self, kind: str) -> Window:
        """A window of that kind, in which packets were received: a small load may end while the stream rests."""
        for _ in range(TRIES):
            found = self._window(kind)
            if self._received():
                return found
        raise BenchError(f"no packet of the stream was received ({kind})")

    def _window(self, kind: str) -> Window:
        """A load begins where no table is, a refill or a removal where one is."""
        _remove(self.elsewhere)
        _remove(self.here)
        if kind in ("refill", "removal"):
            _load(self.here, self.table)
        self._received()
        return self.stream.during(lambda: self._do(kind))

    def _do(self, kind: str) -> None:
        match kind:
            case "nothing":
                time.sleep(PAUSE_S)
            case "work":
                _work()
            case "elsewhere":
                _load(self.elsewhere, self.table)
            case "removal":
                _remove(self.here)
            case _:
                _load(self.here, self.table)

    def _received(self) -> int:
        """How many packets are in the inbox, which is empty afterwards."""
        batch, packets = Batch(), 0
        while found := batch.receive(self.inbox):
            packets += found
        return packets


def _work() -> None:
    until = time.perf_counter() + PAUSE_S
    while time.perf_counter() < until:
        pass


def _load(namespace: str, table: Table) -> None:
    with NetlinkKernel(namespace) as kernel:
        there = kernel.inventory(TABLE)
        if run(kernel, plan(None, there, table), is_live=there.exists).leftover:
            raise BenchError("the kernel refused a part of the load")


def _remove(namespace: str) -> None:
    with NetlinkKernel(namespace) as kernel:
        there = kernel.inventory(TABLE)
        if there.exists:
            run(kernel, Plan((plan_removal(there, TABLE, "inet"),)), is_live=True)


def desired(enis: int) -> Desired:
    """In host placement: the stream comes from an ENI at eth0, which may send; the others' interfaces don't exist."""
    groups = [
        make_group(
            f"sg-{n:02}", [f"ingress tcp {1000 + n + r}/{1000 + n + r} from 192.168.{n}.0/24" for r in range(RULES)]
        )
        for n in range(GROUPS)
    ]
    others = [
        make_eni(f"eni-{n:04}", f"10.{1 + n // 62_500}.{n // 250 % 250}.{n % 250 + 1}", f"sg-{n % GROUPS:02}")
        for n in range(enis - 1)
    ]
    state = make_state(groups, [*others, make_eni("eni-probe", PROBE, "sg-00")])
    names = {eni.network_interface_id: f"h{number}" for number, eni in enumerate(others)}
    return Desired(state, {**names, "eni-probe": "eth0"}, placement=Placement.HOST)


@contextmanager
def scene(name: str, enis: int, processor: int) -> Iterator[Scene]:
    """`processor`: the sender's."""
    elsewhere = f"{name}x"
    with Path(name) as path:
        netns.create(elsewhere)
        path.stack.callback(netns.remove, elsewhere)
        table = build(desired(enis), Settings(prove=False)).table
        ends = Ends(path)
        with Stream(ends.one_way.fileno(), processor) as stream:
            yield Scene(stream, ends.inbox, path.receiver, elsewhere, table)


def measured(place: Scene, kinds: Sequence[str], rounds: int, chance: random.Random) -> dict[str, list[Window]]:
    """Windows by kind, one in each round."""
    found: dict[str, list[Window]] = {kind: [] for kind in kinds}
    for number in range(rounds + 1):
        for kind in chance.sample(kinds, len(kinds)):
            window = place.window(kind)
            if number:  # the first round finds everything cold
                found[kind].append(window)
    return found


HEADER = (
    "| beside the stream | lasted, ms | packets a second | longest gap, ms | most | more, ms |",
    "|---|---|---|---|---|---|",
)


def row(kind: str, windows: Sequence[Window], without: Sequence[Window]) -> str:
    """Medians over the rounds, and the longest gap of all."""
    lasted = 1000 * statistics.median(window.lasted for window in windows)
    rate = statistics.median(window.packets / window.lasted for window in windows)
    gap = 1000 * statistics.median(window.gap for window in windows)
    most = max(window.gap for window in windows) * 1000
    return f"| {kind} | {lasted:,.0f} | {rate:,.0f} | {gap:,.2f} | {most:,.2f} | {more_ms(windows, without):+,.2f} |"


def more_ms(windows: Sequence[Window], without: Sequence[Window]) -> float:
    return statistics.median(each_ms(windows, without))


def each_ms(windows: Sequence[Window], without: Sequence[Window]) -> list[float]:
    """By round, how many milliseconds longer the longest gap was than in the window without a load."""
    return [1000 * (one.gap - other.gap) for one, other in zip(windows, without, strict=True)]


def _loads(text: str) -> tuple[str, ...]:
    found = tuple(text.split(","))
    if not set(found) <= set(LOADS):
        raise argparse.ArgumentTypeError(f"not among {', '.join(LOADS)}")
    return found


def arguments(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench.gaps", description=__doc__.partition("\n")[0])
    parser.add_argument("-n", "--enis", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=7)
    words = f"what goes on beside the stream (default {','.join(LOADS)})"
    parser.add_argument("--loads", type=_loads, default=LOADS, metavar="NAME,...", help=words)
    parser.add_argument("--seed", type=int, default=0, help="of the order within a round")
    parser.add_argument("--json", action="store_true", help="only loads of a table; the worse one, for `bench`")
    return parser.parse_args(argv)


def main() -> int:
    options = arguments(sys.argv[1:])
    isolate("bench.gaps")
    first, *others = sorted(os.sched_getaffinity(0))
    loads = BESIDE if options.json else options.loads
    with scene("gaps", options.enis, first) as place:
        os.sched_setaffinity(0, {*others} or {first})
        if options.json:
            begin("more_ms")
        found = measured(place, (NOTHING, *loads), options.rounds, random.Random(options.seed))
    if options.json:
        tell(more_ms=max((each_ms(found[kind], found[NOTHING]) for kind in loads), key=statistics.median))
        return 0
    print(*HEADER, sep="\n")
    for kind, windows in found.items():
        print(row(kind, windows, found[NOTHING]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
