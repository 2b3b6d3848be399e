"""Says whether .venv is what requirements.lock and this folder ask for; prints what is not.

Owns the comparison; is given the interpreter that runs it (`.venv/bin/python -I`). Must not change anything.
Exit code: 0 complete; 1 some packages are absent or of another version; 2 damaged, so it has to be made anew.
"""

from __future__ import annotations

import csv
import re
import sys
from collections.abc import Iterator
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SCRIPT = Path(sys.prefix) / "bin" / "sgdp"
PIN = re.compile(r"^(?P<name>[\w.-]+)==(?P<version>[^\s;]+)(?: ; (?P<marker>.*?))?(?: \\)?$", re.MULTILINE)


def pinned(lock: str) -> Iterator[tuple[str, str]]:
    """(name, version) of every line of the lock that counts for this interpreter."""
    from packaging.markers import Marker  # itself locked: its absence is reported as an absent package

    for pin in PIN.finditer(lock):
        if pin["marker"] is None or Marker(pin["marker"]).evaluate():
            yield pin["name"], pin["version"]


def absent(lock: str) -> Iterator[str]:
    """A line for every package of the lock that is not here in its version."""
    for name, version in pinned(lock):
        try:
            found = distribution(name).version
        except PackageNotFoundError:
            found = "nothing"
        if found != version:
            yield f"{name}: needs {version}, found {found}"


def lost_files(package: Distribution) -> Iterator[str]:
    """A line for every file that the package installed and that is gone; compiled copies don't count.

    Reads RECORD itself: `Distribution.files` leaves out what is gone. Debian's own packages may have none.
    """
    for row in csv.reader((package.read_text("RECORD") or "").splitlines()):
        if not row[0].endswith(".pyc") and not Path(str(package.locate_file(row[0]))).exists():
            yield f"{package.name}: {row[0]} is gone"


def damage(lock: str) -> Iterator[str]:
    """A line for everything that installing packages would not repair."""
    library = Path(sys.prefix) / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"
    if sys.base_prefix != "/usr" or not library.is_dir():
        yield f"not made on Debian's Python {sys.version.split()[0]}"
    if find_spec("nftables") is None:
        yield "does not see Debian's python3-nftables"
    if SCRIPT.exists() and str(ROOT) not in SCRIPT.read_text(encoding="utf-8").partition("\n")[0]:
        yield "made in another folder, so its scripts don't start"
    for name in re.findall(r"^([\w.-]+)==", lock, re.MULTILINE):
        try:
            yield from lost_files(distribution(name))
        except PackageNotFoundError:
            continue


def project() -> Iterator[str]:
    """A line for everything that is wrong with the installed project, which has to be this folder's, in its version."""
    spec = find_spec("sgdataplane")
    if spec is None or spec.origin is None or ROOT not in Path(spec.origin).parents:
        yield "sgdataplane is not installed from this folder"
        return
    source = re.search(r'^__version__ = "(.*)"$', Path(spec.origin).read_text(encoding="utf-8"), re.MULTILINE)
    package = distribution("sgdataplane")
    if source is None or package.version != source[1]:
        yield f"sgdataplane: {package.version} is installed, the source has another version"
    if not SCRIPT.exists():
        yield "bin/sgdp is gone"


def main() -> int:
    """Prints what is wrong, a line each; the exit code says what would put it right."""
    lock = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    damaged = tuple(damage(lock))
    try:
        incomplete = (*absent(lock), *project())
    except ImportError as error:
        incomplete = (f"packaging: {error}",)
    for line in (*damaged, *incomplete):
        print(line)
    return 2 if damaged else 1 if incomplete else 0


if __name__ == "__main__":
    sys.exit(main())
