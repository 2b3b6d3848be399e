"""An OCI runtime for engines that know neither CNI nor folders of hooks, such as docker.

It gives a container sgdataplane's hooks, and is runc otherwise. Owns which containers get them: those with the
annotation `sgdataplane/bind`. Must not know what the hooks do. An engine runs this for each step of each container, so
it imports little and ends by becoming the runtime that it stands for.

    sgdataplane-runc [--with RUNTIME] [--hook FILE] [--config FILE] ARGUMENT...

The first arguments may be its own options; an engine's configuration has them. The rest is the runtime's.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

BIND = "sgdataplane/bind"  # as sgdataplane.cni.request has it
MAKES = ("create", "run", "restore")  # the runtime's commands that read a bundle
DESCRIPTION = Path("config.json")  # in the bundle
MAX_BYTES = 16 << 20
OWN = ("--with", "--hook", "--config")


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of this program's own options."""
    about = "An OCI runtime that protects containers before they start; container engines run it."
    parser = argparse.ArgumentParser(prog="sgdataplane-runc", description=about, allow_abbrev=False)
    parser.add_argument("--with", dest="runtime", default="runc", metavar="RUNTIME", help="what it stands for (runc)")
    where = "the OCI hook (default: sgdataplane-oci beside this program)"
    parser.add_argument("--hook", type=Path, metavar="FILE", help=where)
    parser.add_argument("--config", metavar="FILE", help="the agent's configuration, which the hook gets")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run as an engine runs a runtime. It returns only if it fails."""
    given = list(sys.argv[1:] if argv is None else argv)
    count = _own(given)
    if given == ["--help"]:
        count = 1
    options, handed = build_parser().parse_args(given[:count]), given[count:]
    try:
        if (bundle := bundle_of(handed)) is not None:
            hook = options.hook or Path(sys.argv[0]).resolve().parent / "sgdataplane-oci"
            protect(bundle / DESCRIPTION, hook, options.config)
    except (OSError, ValueError) as error:
        return _fail(str(error))
    try:
        os.execvp(options.runtime, [options.runtime, *handed])
    except OSError as error:
        return _fail(f"{options.runtime}: {error.strerror}")


def _fail(why: str) -> int:
    from sgdataplane.terminal.output import complain  # noqa: PLC0415  # only what fails needs it

    complain(why, "sgdataplane-runc:")
    return 1


def _own(given: Sequence[str]) -> int:
    """Count the arguments that are this program's own: those in front."""
    count = 0
    while count < len(given) and given[count].partition("=")[0] in OWN:
        count += 1 if "=" in given[count] else 2
    return count


def bundle_of(arguments: Sequence[str]) -> Path | None:
    """Return the folder that describes a container that the runtime is about to make; None if it makes none.

    A container may be named `create`, so without a folder the word alone doesn't count.
    """
    if not any(command in arguments for command in MAKES):
        return None
    for argument, value in zip(arguments, [*arguments[1:], ""], strict=True):
        name, _, joined = argument.partition("=")
        if name in ("--bundle", "-bundle", "-b", "--b"):
            return Path(joined or value)
    return Path() if DESCRIPTION.exists() else None


def protect(file: Path, hook: Path, config: str | None) -> None:
    """Add sgdataplane's hooks to the description of a container that has its annotation.

    Raises:
        OSError: The file can't be read or written.
        ValueError: It isn't a description of a container.
    """
    with open(file, "rb") as opened:
        text = opened.read(MAX_BYTES + 1)
    if len(text) > MAX_BYTES:
        raise ValueError(f"{file} has more than {MAX_BYTES} bytes")
    description = json.loads(text)
    if not isinstance(description, dict):
        raise ValueError(f"{file} is not an object of JSON")
    if BIND not in (description.get("annotations") or {}):
        return
    options = ["--config", config] if config else []
    hooks = description["hooks"] = description.get("hooks") or {}
    for stage, words in (("createRuntime", ["bind", "--early"]), ("poststop", ["unbind"])):
        mine = {"path": str(hook), "args": [hook.name, *options, *words]}
        hooks[stage] = [*(hooks.get(stage) or []), mine]
    _replace(file, json.dumps(description))


def _replace(file: Path, text: str) -> None:
    """Replace a file in one step, with the rights that it has."""
    number, name = tempfile.mkstemp(dir=file.parent)
    with open(number, "w", encoding="utf-8") as written:
        written.write(text)
    beside = Path(name)
    beside.chmod(file.stat().st_mode & 0o777)
    beside.replace(file)


if __name__ == "__main__":
    sys.exit(main())
