"""What `promptagent` starts to record history: python -m tests.support.variants.promptrecorder FILE KEEP_S MAX_BYTES

Owns its intervals, each a tenth of the product's or less. Must not know what is expected of it.
"""

from __future__ import annotations

from typing import Any

from sgdataplane.history import __main__ as process
from sgdataplane.history import budget, keep, recorder


def be_prompt() -> None:
    """From here on."""
    faster: tuple[tuple[Any, dict[str, object]], ...] = (
        (recorder, {"FLUSH_S": 0.5, "LIVE_S": 0.1, "LOOK_S": 0.1, "GATHER_S": 0.02, "AGAIN_S": 0.5}),
        (keep, {"AGAIN_S": 0.5}),
        (process, {"STATUS_S": 0.1, "give_way": lambda: None}),
        (budget, {"SHARE": 1.0}),
    )
    for module, values in faster:
        for name, value in values.items():
            assert hasattr(module, name)
            setattr(module, name, value)


if __name__ == "__main__":
    be_prompt()
    process.main()
