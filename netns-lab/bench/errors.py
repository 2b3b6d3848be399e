"""The benchmark's own error. Imports nothing of ours."""

from __future__ import annotations


class BenchError(Exception):
    """A filter can't be measured, and why. The run goes on with the others."""
