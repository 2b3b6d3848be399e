"""What a verb needs and this system doesn't have.

Verbs that only read a state run anywhere, the others on Linux alone, and some need packages of an extra. Owns the
words. Is given an error that Python raised. Must not know the verbs.
"""

from __future__ import annotations

import platform
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import NoReturn

from sgdataplane.errors import ExtraError, PlatformError

# Modules that Python has on Linux or Unix only, and packages that are used there alone.
MODULES = frozenset(("fcntl", "grp", "inotify_simple", "pwd", "pyroute2", "resource", "termios"))
OF_SYSTEM = frozenset(("ctypes", "os", "select", "signal", "socket", "time"))


def missing_here(error: BaseException) -> str:
    """Return what the system lacks, as an error says it; "" if the error is about something else."""
    if isinstance(error, ModuleNotFoundError):
        top = (error.name or "").partition(".")[0]
        return f"module {top}" if top in MODULES else ""
    if isinstance(error, AttributeError) and isinstance(error.obj, ModuleType) and error.obj.__name__ in OF_SYSTEM:
        return f"{error.obj.__name__}.{error.name}"
    return ""


def lacking(verb: str, error: BaseException) -> PlatformError:
    """Return the error for a verb that can't run here."""
    found = PlatformError(verb, missing_here(error))
    found.__cause__ = error
    return found


def refusing(verb: str, error: BaseException) -> Callable[[object], NoReturn]:
    """Return a function that runs in place of a verb whose module can't be imported here."""

    def run(_: object) -> NoReturn:
        raise lacking(verb, error)

    return run


def require_linux() -> None:
    """Raise a PlatformError on any other system."""
    if platform.system() != "Linux":
        raise PlatformError(" ".join(sys.argv[1:2]), "network namespaces")


@contextmanager
def extra(name: str) -> Iterator[None]:
    """Turn a package that the block can't import into an ExtraError, unless only Linux has it.

    `name` is that of the extra that it comes with.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package == "sgdataplane" or missing_here(error):
            raise
        raise ExtraError(package, name) from error
