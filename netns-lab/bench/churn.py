"""`python -m bench.churn`: what the agent keeps of its memory while rules change again and again.

Owns how many changes there are, and when memory is looked at. The scene is that of agentscale.py. Must not know what is
promised.

    before_mb, before_threads      once all ENIs are in force
    after_mb, after_threads        after the last change, once the agent has nothing more to do
    change_ms                      from the file to the end of the agent's cycle, for each change
"""

from __future__ import annotations

import argparse
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.agentscale import Agent, Scene, shown, started, state_of, told, with_port
from bench.costs import begin
from bench.isolation import isolate


def measure(enis: int, changes: int, folder: Path, *, is_json: bool) -> None:
    say = told if is_json else shown
    if is_json:
        begin("after_mb", "after_threads", "change_ms")
    with ExitStack() as stack:
        state = state_of(enis, 10)
        scene = Scene(folder, state, is_folder=True)
        scene.configure()
        agent, _ = started(scene, stack)
        say("before", mb=agent.memory_mb(), threads=threads_of(agent))
        took = []
        for step in range(changes):
            state = with_port(state, step * 7 % len(state.security_groups), 20_000 + step)
            last = number_of(agent.cycle())
            began = scene.write(state)
            agent.wait(lambda cycle, last=last: number_of(cycle) > last)  # type: ignore[misc]
            took.append(1000 * (time.monotonic() - began))
        agent.settle()
        say("change", ms=took)
        say("after", mb=agent.memory_mb(), threads=threads_of(agent))


def number_of(cycle: dict[str, object]) -> int:
    return int(str(cycle.get("number", 0)))


def threads_of(agent: Agent) -> float:
    return float(len(list(Path(f"/proc/{agent.process.pid}/task").iterdir())))


def main() -> int:
    parser = argparse.ArgumentParser(prog="bench.churn", description=__doc__.partition("\n")[0])
    parser.add_argument("--enis", type=int, default=400, help="ENIs of the host, ten in each group (default 400)")
    parser.add_argument("--changes", type=int, default=300, help="changes of a rule (default 300)")
    parser.add_argument("--json", action="store_true", help="all samples, for `bench`")
    options = parser.parse_args()
    isolate("bench.churn")
    with TemporaryDirectory() as folder:
        measure(options.enis, options.changes, Path(folder), is_json=options.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
