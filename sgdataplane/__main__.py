"""The entry of `sgdp`, which is also `python -m sgdataplane`.

Owns that Ctrl-C ends it with a word from the first import on. Must not import anything before that.
"""

import os
import sys

INTERRUPTED = 130  # Exit.INTERRUPTED of terminal/output.py, which takes long to import


def main() -> int:
    """As `sgdataplane.cli.main.main`. That one says what is left of what it began; before, there is nothing."""
    try:
        from sgdataplane.cli.main import main as run  # noqa: PLC0415  # an import may be interrupted, too

        return run()
    except KeyboardInterrupt:
        os.write(2, b"interrupted\n")  # of ours alone; terminal/output.py, which prints all else, may not be there
        return INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())
