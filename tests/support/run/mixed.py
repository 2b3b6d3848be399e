"""The order of the test modules: those that compute run beside those that wait.

Tests of some folders wait for packets and for the kernel, and those of others only compute. If one folder ran after the
other, the processors would be idle in some and overloaded in others.

Owns the order of modules. Must not know what they test.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path

SHORT = "unit"  # has many short modules
REST_UNTIL = 0.7  # all modules of other folders have begun: so all workers end at about the same time


def turns_of(modules: Iterable[Path], root: Path) -> Mapping[Path, float]:
    """Return when each module begins, from 0 to 1. The modules of each folder of `root` are spread evenly, in order."""
    folders: dict[str, list[Path]] = defaultdict(list)
    for module in modules:
        folders[module.relative_to(root).parts[0] if module.is_relative_to(root) else ""].append(module)
    return {
        module: (number + 0.5) / len(found) * (1 if folder == SHORT else REST_UNTIL)
        for folder, found in folders.items()
        for number, module in enumerate(found)
    }
