"""The entry of `sgdp`, which is also `python -m sgdataplane`.

From its first import on, Ctrl-C ends it with a word. Must not import anything before that holds.
"""

import os
import sys

INTERRUPTED = 130  # Exit.INTERRUPTED of terminal/output.py, which takes long to import


def main() -> int:
    """Run `sgdataplane.cli.main.main`, and end with a word if Ctrl-C comes before that function can handle it.

    That function says what is left of what it began; before it runs, there is nothing.
    """
    try:
        from sgdataplane.cli.main import main as run  # noqa: PLC0415  # an import may be interrupted, too

        return run()
    except KeyboardInterrupt:
        os.write(2, b"interrupted\n")  # terminal/output.py, which prints all else, may not be there yet
        return INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())
