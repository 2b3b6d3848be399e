"""Writers of a control plane's store that check themselves: what each leaves behind tells whether anything was lost.

Owns what they write. Must not know which store it is, or who kills them. As a program: writes into a store.

    python -m tests.support.servers.storewriting STORE NAME TIMES     answers "NUMBER REVISION" for each commit
"""

from __future__ import annotations

import itertools
import signal
import sys
from contextlib import closing

from sgdataplane.store.interface import Body, ConflictError, Snapshot, Store, Token, Write
from sgdataplane.store.opening import open_store

GUARD, COUNTER = "vpc-1", "counter/all"
FOREVER = 1e12
PARTS = ("a", "b", "c")


def write(snapshot: Snapshot, puts: dict[str, Body], *, audit: Body | None = None, token: Token | None = None) -> Write:
    """A commit that was decided upon by this snapshot."""
    return Write({GUARD: snapshot.guards.get(GUARD, 0)}, puts, audit=audit or {}, token=token)


def count_up(store: Store, name: str, number: int) -> int:
    """Adds one to the counter that everybody shares, and writes `number` into three documents of its own, in one
    commit; its revision."""
    for _ in itertools.count():
        seen = store.snapshot()
        counted = seen.documents.get(COUNTER, {"n": 0})["n"]
        assert isinstance(counted, int)
        puts: dict[str, Body] = {f"{part}/{name}": {"n": number, "filler": "é" * 500} for part in PARTS}
        puts[COUNTER] = {"n": counted + 1}
        try:
            token = Token(f"{name}-{number}", "digest", {"n": number}, FOREVER)
            return store.commit(write(seen, puts, audit={"name": name, "n": number}, token=token))
        except ConflictError:
            continue
    raise AssertionError


def main(text: str, name: str, times: str) -> None:
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)  # whoever limits the size of our files kills us in a write
    with closing(open_store(text)) as store:
        print("ready", flush=True)
        for number in range(1, int(times) + 1):
            print(number, count_up(store, name, number), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
