"""`sgdp` that doesn't know the tracker of SCTP: python -m tests.support.variants.strangekernel agent --config FILE

Owns the forgetting. So the kernel has a tracker that nobody here has heard of, as a newer one may have.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

from sgdataplane.cli.main import main
from sgdataplane.host import timeouts

STRANGE = tuple(sorted(name for name in timeouts.KNOWN if "_sctp_" in name))


def forget_sctp(set_: Callable[[object, str, object], None] = setattr) -> None:
    """From here on; `set_` may be one that is undone."""
    for name in ("SPECIFIED", "KERNELS_OWN"):
        known: dict[str, int] = getattr(timeouts, name)
        set_(timeouts, name, {key: seconds for key, seconds in known.items() if key not in STRANGE})
    set_(timeouts, "KNOWN", timeouts.KNOWN - set(STRANGE))


if __name__ == "__main__":
    forget_sctp()
    sys.exit(main(sys.argv[1:]))
