"""A plan's transactions run in order, with the waiting between them.

Owns what happens when one is refused. Is given a plan. Must not know what it is for.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass

from sgdataplane.errors import KernelError
from sgdataplane.nft.counters import Counted
from sgdataplane.nft.delta import Change, Plan, undo
from sgdataplane.nft.kernel import Kernel


@dataclass(frozen=True, slots=True)
class Ran:
    """`leftover`: what was refused after the policy came into force, or "". `counted`: what counters that are removed
    had counted when no packet could meet them any more."""

    leftover: str
    counted: Mapping[str, Counted]


def run(kernel: Kernel, steps: Plan, *, is_live: bool) -> Ran:
    """Run the changes. Any refusal before the policy is in force is raised, and it is what it was."""
    counted: dict[str, Counted] = {}
    for change in steps.changes:
        try:
            _switch(kernel, change, is_live=is_live)
        except KernelError as error:
            if change is steps.changes[0]:
                raise
            return Ran(error.detail, counted)
        refusal = _sweep(kernel, change, counted)
        if refusal:
            return Ran(refusal, counted)
    return Ran("", counted)


def _switch(kernel: Kernel, change: Change, *, is_live: bool) -> None:
    kernel.run(change.stage)
    try:
        if is_live:
            kernel.settle()
        kernel.run(change.switch)
    except KernelError:
        with suppress(KernelError):  # what is staged does nothing; the next apply finds and removes it
            kernel.run(undo(change.stage))
        raise


def _sweep(kernel: Kernel, change: Change, counted: dict[str, Counted]) -> str:
    """What was refused, or ""; `counted`: to add to."""
    if not len(change.sweep):
        return ""
    kernel.settle()
    # of the policy's table; those of the fence go with it only
    has_counted = change.ending and change.sweep.family == "inet"
    last = kernel.counted(change.sweep.name, change.ending) if has_counted else {}
    try:
        kernel.run(change.sweep)
    except KernelError as error:
        return error.detail
    counted.update(last)
    return ""
