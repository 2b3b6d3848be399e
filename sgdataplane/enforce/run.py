"""A plan's transactions run in order, with the waiting between them.

Owns what happens when one is refused. Is given a plan. Must not know what it is for.
"""

from __future__ import annotations

from contextlib import suppress

from sgdataplane.errors import KernelError
from sgdataplane.nft.delta import Change, Plan, undo
from sgdataplane.nft.kernel import Kernel
from sgdataplane.nft.transaction import Transaction


def run(kernel: Kernel, steps: Plan, *, is_live: bool) -> str:
    """Run the changes; what was refused after the policy came into force, or "". Any refusal before that is raised,
    and the policy is what it was."""
    for change in steps.changes:
        try:
            _switch(kernel, change, is_live=is_live)
        except KernelError as error:
            if change is steps.changes[0]:
                raise
            return error.detail
        refusal = _sweep(kernel, change.sweep)
        if refusal:
            return refusal
    return ""


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


def _sweep(kernel: Kernel, sweep: Transaction) -> str:
    if not len(sweep):
        return ""
    kernel.settle()
    try:
        kernel.run(sweep)
    except KernelError as error:
        return error.detail
    return ""
