"""Wait until the process that started this one has ended, for whatever reason, and remove the lab that it made.

Owns only the wait. It is given the lab's name. Must not load anything before it is needed.
"""

from __future__ import annotations

import sys

DONE = b"done"


def main(name: str) -> int:
    """Wait until the parent closes its end of the pipe or dies; remove the lab, unless the parent says it is done."""
    if sys.stdin.buffer.read() == DONE:
        return 0
    from sgdataplane.lab import manage  # noqa: PLC0415  # it takes a while to load, and is seldom needed

    manage.down(name)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
