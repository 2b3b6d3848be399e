"""Waits until the process that started it has ended, by whatever, and takes down the lab that it made.

Owns nothing but the wait. Is given the lab's name. Must not load anything before it is needed.
"""

from __future__ import annotations

import sys

DONE = b"done"


def main(name: str) -> int:
    """Returns once our starter's end of the pipe is closed, which nothing can keep it from, and the lab is gone."""
    if sys.stdin.buffer.read() == DONE:
        return 0
    from sgdataplane.lab import manage  # noqa: PLC0415  # this takes a while, and is seldom needed

    manage.down(name)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
