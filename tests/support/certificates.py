"""An authority of a test's own, and what it signs: the lab's."""

from __future__ import annotations

from sgdataplane.lab.hosts.authority import Authority, Signed

__all__ = ["Authority", "Signed"]
