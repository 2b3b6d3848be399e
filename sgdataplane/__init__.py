"""Security groups, enforced with nftables and conntrack in Linux network namespaces.

Owns the version, and the names that Python programs use. They stand in api.py and are imported when they are first
used, because this module is read on every start.
"""

TYPE_CHECKING = False  # as type checkers know it; to import `typing` would take longer than all the rest
if TYPE_CHECKING:
    from sgdataplane.api import Lab, compile, decide, diff, expect, explain, load  # noqa: A004  # the verb's name

__version__ = "0.1.0"
__all__ = ["Lab", "__version__", "compile", "decide", "diff", "expect", "explain", "load"]


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from sgdataplane import api  # noqa: PLC0415  # not before it is needed

    return getattr(api, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
