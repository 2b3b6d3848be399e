"""How a lab gets its policy: the product's own enforcement, asked once per namespace where it is enforced.

Owns the way from the lab's request to it. Must not know how policy is compiled.
"""

from __future__ import annotations

from dataclasses import replace

from sgdataplane.enforce import Settings, build, enforce
from sgdataplane.lab.manage import EnforceRequest


def enforce_policy(request: EnforceRequest) -> None:
    """Put one namespace's policy in force. KernelError if refused: then nothing changed there.

    There is nothing to adopt: an ENI of a lab has its policy before it has a link (build.reconcile).
    """
    settings = Settings(on_change=request.on_change, time_scale=request.time_scale, adoption_window=0.0)
    before = None if request.former is None else build(request.former, replace(settings, prove=False))
    enforce(request.netns, build(request.wanted, settings, before), before, settings)
