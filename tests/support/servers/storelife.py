"""Processes that write to a store until they are killed, and what they must have left behind.

Owns these processes, and the check. Is given the store as `--store` names it.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from contextlib import closing, suppress

from sgdataplane.store.interface import Store
from sgdataplane.store.opening import open_store
from tests.support.servers.storewriting import COUNTER, GUARD, PARTS, count_up

SEED = int(os.environ.get("SGDP_TEST_SEED", "1"))
LONGEST_LIFE_S = 0.2
ENDLESS = 1_000_000


def writer(store: str, name: str, times: int, *, largest: int | None = None) -> subprocess.Popen[str]:
    """`largest`: the write that makes a file larger than that is cut there, and kills the process."""
    limit = () if largest is None else ("prlimit", f"--fsize={largest}")
    command = (*limit, sys.executable, "-m", "tests.support.servers.storewriting", store, name, str(times))
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def answers(process: subprocess.Popen[str]) -> dict[int, int]:
    """All that a writer has answered, once it has ended: number -> revision. A last line without its end is no
    answer."""
    assert process.stdout is not None
    with process:
        text = process.stdout.read()
    lines = (line.split() for line in text.splitlines(keepends=True) if line.endswith("\n") and line != "ready\n")
    return {int(number): int(revision) for number, revision in lines}


class Life:
    """A store that writers use until they are killed, again and again; what they were answered must be there once."""

    def __init__(self, store: str) -> None:
        self.store, self.chance = store, random.Random(SEED)
        self.answered: dict[str, dict[int, int]] = {}

    def live(self, turn: int) -> None:
        """Two writers begin, and are killed at a random moment."""
        names = [f"{turn}-{number}" for number in range(2)]
        processes = [writer(self.store, name, ENDLESS) for name in names]
        for process in processes:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        with suppress(subprocess.TimeoutExpired):
            processes[0].wait(self.chance.uniform(0, LONGEST_LIFE_S))
        for process in processes:
            process.kill()
        self.answered |= {name: answers(process) for name, process in zip(names, processes, strict=True)}

    def tear(self, turn: int, largest: int) -> None:
        """Two writers, one after the other, are killed in the midst of a write to a file that has this size then."""
        for name in (f"{turn}-0", f"{turn}-1"):
            process = writer(self.store, name, ENDLESS, largest=largest)
            self.answered[name] = answers(process)
            assert process.returncode == -signal.SIGXFSZ

    def check(self) -> None:
        """What the last two left behind."""
        with closing(open_store(self.store)) as store:
            count_up(store, f"check {len(self.answered)}", 1)  # whatever is under way to etcd comes too late now
            seen, events = store.snapshot(), store.events(limit=ENDLESS)
            assert [event.revision for event in events] == list(range(1, seen.revision + 1))
            assert seen.guards == {GUARD: seen.revision}
            assert seen.documents[COUNTER] == {"n": len(events)}
            written = {(str(e.record["name"]), e.record["n"]): e.revision for e in events}
            assert len(written) == len(events), "something was written twice"
            for name in list(self.answered)[-2:]:
                self._check(store, name, {n: revision for (who, n), revision in written.items() if who == name})

    def _check(self, store: Store, name: str, written: dict[object, int]) -> None:
        answered = self.answered[name]
        unanswered = {number: revision for number, revision in written.items() if number not in answered}
        assert {number: written.get(number) for number in answered} == answered
        assert list(unanswered) in ([], [len(answered) + 1])
        for number, revision in written.items():
            token = store.find_answer(f"{name}-{number}")
            assert token is not None
            assert (token.answer, token.revision) == ({"n": number}, revision)
        documents = store.snapshot().documents
        assert [documents.get(f"{part}/{name}", {"n": 0})["n"] for part in PARTS] == [len(written)] * 3
        assert store.find_answer(f"{name}-{len(written) + 1}") is None
