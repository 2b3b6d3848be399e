"""`sgdp` whose agent keeps history without delay: python -m tests.support.variants.promptagent agent --config FILE

Owns the intervals. Must not know what is expected of it.

The process that records reads and writes ten times as often as the product's, tries again as soon, and takes the
processor time that it needs. Nothing else differs.
"""

from __future__ import annotations

import sys
from typing import Any

from sgdataplane.cli.main import main
from sgdataplane.daemon import historian

RECORDER = "tests.support.variants.promptrecorder"


def be_prompt() -> None:
    """From here on."""
    named: Any = historian
    named.MODULE, named.FIRST_S = RECORDER, 0.1


if __name__ == "__main__":
    be_prompt()
    sys.exit(main(sys.argv[1:]))
