"""Summaries as relays write them, for tests that have no relay."""

from __future__ import annotations

import time
from collections.abc import Mapping

from sgdataplane.store.interface import Body, Json


def host(enforced: int, needed: int | None = None, **more: Json) -> dict[str, Json]:
    """What a relay says of one host that is connected, and was heard just now. `needed`: if not what it enforces."""
    return {
        "connected": True,
        "since": 1.0,
        "enforced": [0, enforced],
        "needed": enforced if needed is None else needed,
        "failed": [],
        "error": "",
        "age": 0.0,
        "claims": [],
        **more,
    }


def summary(seen: int, hosts: Mapping[str, Mapping[str, Json]], **more: Json) -> Body:
    """What a relay says now."""
    said: dict[str, Json] = {name: dict(one) for name, one in hosts.items()}
    return {"time": time.time(), "epoch": 0, "seen": seen, "hosts": said, **more}
