"""What the benchmark raises on purpose. Imports nothing of ours."""

from __future__ import annotations


class BenchError(Exception):
    """One filter can't be measured, and why. The others go on."""
