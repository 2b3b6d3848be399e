"""`sgdp` whose agent logs few lines of each kind: python -m tests.support.variants.terseagent agent --config FILE

Owns how many come at once; what it does with more is the product's. Must not know what is expected of it.
"""

from __future__ import annotations

import sys
from typing import Any

from sgdataplane.cli.main import main
from sgdataplane.daemon import loglimit

BURST = 5


def be_terse() -> None:
    """From here on."""
    named: Any = loglimit
    assert named.BURST > BURST
    named.BURST = BURST


if __name__ == "__main__":
    be_terse()
    sys.exit(main(sys.argv[1:]))
