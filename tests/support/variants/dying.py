"""A lab verb that kills itself at a chosen moment: python -m tests.support.variants.dying VERB NAME STATE POINT COUNT

Owns the killing. POINT is a function of the lab's code as module.function; the COUNTth call of it is the last thing the
process does. Run it in namespaces of a test's own.
"""

from __future__ import annotations

import importlib
import itertools
import os
import signal
import sys
from pathlib import Path

from sgdataplane.lab import manage
from sgdataplane.lab.manage import enforce_policy
from sgdataplane.statefile import load


def die_at(point: str, count: int) -> None:
    """Make the COUNTth call of that function kill this process instead of returning. `point`: a module of the lab, and
    the way from there, such as build.reconcile or manage.enforcement.enforce."""
    module_name, *way, function_name = point.split(".")
    module = importlib.import_module(f"sgdataplane.lab.{module_name}")
    for step in way:
        module = getattr(module, step)
    function, calls = getattr(module, function_name), itertools.count(1)

    def dying(*arguments: object, **named: object) -> object:
        result = function(*arguments, **named)
        if next(calls) == count:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(module, function_name, dying)


def main() -> int:
    verb, name, state_file, point, count = sys.argv[1:]
    state = load(Path(state_file)).state
    die_at(point, int(count))
    if verb == "up":
        manage.up(manage.default_record(name), state, enforce_policy)
    elif verb == "apply":
        manage.apply(name, state, enforce_policy)
    else:
        manage.down(name)
    return 0


if __name__ == "__main__":
    sys.exit(main())
