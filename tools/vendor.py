"""Copies what the product needs at run time into a folder that can be put on a path: itself, and its locked packages;
or what an extra of it needs besides.

Owns which files these are. Is given the folder, and perhaps the extra; run by `.venv/bin/python -I`, whose packages are
the locked ones, as set-up has checked by their hashes. Must not fetch anything.
"""

from __future__ import annotations

import shutil
import sys
import tomllib
from collections.abc import Container, Iterator
from importlib.metadata import Distribution, distribution
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# It is compiled and has OpenSSL inside: Debian's package has Debian's OpenSSL, and gets its fixes.
OF_DEBIAN = ("cryptography",)


def needed(requirements: list[str], without: Container[str] = ()) -> dict[str, Distribution]:
    """The packages that these requirements name, and all that those need, by name."""
    from packaging.requirements import Requirement

    found: dict[str, Distribution] = {}
    todo = [Requirement(line) for line in requirements]
    while todo:
        wanted = todo.pop()
        if wanted.name in found or wanted.name in without:
            continue
        if wanted.marker is None or wanted.marker.evaluate({"extra": ""}):
            found[wanted.name] = distribution(wanted.name)
            todo += [Requirement(line) for line in found[wanted.name].requires or ()]
    return found


def files_of(package: Distribution, without: Container[str] = (".pyc",)) -> Iterator[str]:
    """Relative to its folder of packages; without scripts, what else lies outside, and files with these suffixes."""
    for file in package.files or ():
        if file.parts[0] != ".." and file.suffix not in without:
            yield str(file)


def copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)
    target.chmod(0o644)


def copy_product(folder: Path) -> None:
    for path in sorted((ROOT / "sgdataplane").rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts:
            copy(path, folder / path.relative_to(ROOT))


def main() -> None:
    """Into a folder that isn't there yet."""
    folder, extra = Path(sys.argv[1]), sys.argv[2:]
    folder.mkdir(parents=True)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    packages = needed(project["dependencies"])
    if extra:
        packages = needed(project["optional-dependencies"][extra[0]], (*packages, *OF_DEBIAN))
    else:
        copy_product(folder)
    # an extra's package is for all machines: websockets does without what is compiled of it
    without = (".pyc", ".so") if extra else (".pyc",)
    for package in packages.values():
        for name in files_of(package, without):
            copy(Path(str(package.locate_file(name))), folder / name)
    for path in (folder, *folder.rglob("*")):
        if path.is_dir():
            path.chmod(0o755)


if __name__ == "__main__":
    main()
