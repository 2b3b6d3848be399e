"""What is desired, built and put in force in one call, where a test has no use for what lies between.

Owns nothing. Must not know what is expected.
"""

from __future__ import annotations

from collections import deque

from sgdataplane import enforce as product
from sgdataplane.enforce import DEFAULT_SETTINGS, ApplyReport, Desired, Proven, Settings, build
from sgdataplane.enforce.sessions import Sessions
from sgdataplane.nft.ir import Table
from sgdataplane.nft.kernel import Kernel
from sgdataplane.nft.validation import Visits

UNPROVEN = Settings(prove=False)


def table_of(desired: Desired) -> Table:
    """At the first epoch."""
    return build(desired, UNPROVEN).table


def visits_of(desired: Desired) -> Visits:
    return build(desired, UNPROVEN).visits


def enforce(
    namespace: str, desired: Desired, previous: Desired | None = None, settings: Settings = DEFAULT_SETTINGS
) -> ApplyReport:
    """As the product's."""
    proven, before = _both(desired, previous, settings)
    return product.enforce(namespace, proven, before, settings)


def apply(
    kernel: Kernel, sessions: Sessions, desired: Desired, previous: Desired | None, settings: Settings
) -> ApplyReport:
    """As the product's."""
    proven, before = _both(desired, previous, settings)
    return product.apply(kernel, sessions, proven, before, settings)


_RECENT: deque[tuple[Desired, Proven]] = deque(maxlen=8)


def _both(desired: Desired, previous: Desired | None, settings: Settings) -> tuple[Proven, Proven | None]:
    """What was built of these same objects lately isn't built again: the product keeps what is in force, too."""
    before = None if previous is None else _known(previous, settings) or build(previous, UNPROVEN)
    proven = _known(desired, settings)
    if proven is None:
        proven = build(desired, settings, before)
        _RECENT.append((desired, proven))
    return proven, before


def _known(desired: Desired, settings: Settings) -> Proven | None:
    return next((made for known, made in _RECENT if known is desired and made.is_of(desired, settings)), None)
