"""The blocks of the documents: which there are, and what their commands print.

Owns how a block says what it is (tests/README.md, "The documents"), where commands run, and which parts of an output
may differ from run to run. Must not know the pages.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Timer

ROOT = Path(__file__).resolve().parents[3]
EXAMPLES = ROOT / "examples"
BLOCK = re.compile(
    r"^(?:<!-- (?P<word>not run|from|first|meanwhile): (?P<about>[^\n]*?) -->\n)?"
    r"```(?P<kind>[^\n]*)\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
USER, SUPERUSER, ANYTHING = "$ ", "# ", "..."
CACHES = {"__pycache__", ".pytest_cache"}
DEADLINE_S = 60.0 * float(os.environ.get("SGDP_TIMEOUT_FACTOR", "1"))
AUTHOR = {f"GIT_{who}_{what}": "reader@example.org" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
ENVIRONMENT = {"PYTHONPATH": str(ROOT), "LC_ALL": "C.UTF-8", "COLUMNS": "100", **AUTHOR}
# What is another in each run, and what stands for it. Columns are as wide as what is in them.
UNSTEADY = [
    (re.compile(pattern), word)
    for pattern, word in (
        (r"\d{4}-\d\d-\d\dT[\d:.]+(?:Z|[+-]\d\d:\d\d)", "TIME"),
        (r"\b\d\d:\d\d:\d\d\.\d{3}(?:Z|[+-]\d\d:\d\d)", "TIME"),
        (r"\b\d+\.\d+ ?s\b", "DURATION"),
        (r"(?:(?<=runs for )|(?<=not seen in ))\d+ (?:s|min)\b", "DURATION"),  # of trials
        (r"\bpid \d+|(?<=nft\[)\d+", "PID"),
        (r"\blast cycle: .*|(?<=in force) +\d+\b", "CYCLE"),
        (r"(?<=[:.\]])(?:3[2-9]|[45]\d|6[0-5])\d{3}\b", "PORT"),  # of the range from which the kernel takes them
        (r"\b(vpc|sg|sgr|i|eni)-[0-9a-z]{17}\b", r"\1-ID"),  # as the API makes them
        (r"\bLTAI[0-9A-Za-z]{20}\b", "KEY"),
        (r"\b(?!00)[0-9a-f]{2}(?::[0-9a-f]{2}){5}\b", "MAC"),
        (r"(?<=REPLIED) +\d{1,2}\b", " LEFT"),
        (r" {2,}", "  "),
    )
]
# Nothing is attached, named, configured or a lab, whatever is installed on this machine, and what is written to /etc or
# /var/lib is gone with the process. $1: a folder.
HOLD = """
set -e
mkdir -p /run/sgdataplane /run/netns "$1"
for each in /run/sgdataplane /run/netns "$1"; do mount -t tmpfs none "$each"; done
for each in etc var/lib; do
    mkdir -p "$1/$each/new" "$1/$each/work"
    mount -t overlay none -o "lowerdir=/$each,upperdir=$1/$each/new,workdir=$1/$each/work" "/$each"
done
rm -rf /etc/sgdataplane /var/lib/sgdataplane*
echo
exec cat
"""
END = "[ ! -e agent.pid ] || kill $(cat agent.pid); sgdp clear; sgdp lab down"


@dataclass(frozen=True)
class Block:
    """One block of a page. `word`, `about`: the comment in the line above it; `name`: of the file that it shows."""

    word: str
    about: str
    kind: str
    text: str

    @property
    def name(self) -> str:
        return self.kind.partition(" ")[2]

    @property
    def is_prompted(self) -> bool:
        return self.kind == "" and self.text.startswith((USER, SUPERUSER))

    @property
    def is_run(self) -> bool:
        return self.is_prompted and self.word != "not run"

    @property
    def prompt(self) -> str:
        return self.text[:2]

    def commands(self) -> Iterator[tuple[str, str]]:
        """Each with what the page says that it prints."""
        for part in re.split(f"^{re.escape(self.prompt)}", self.text, flags=re.MULTILINE)[1:]:
            command, _, output = part.partition("\n")
            yield command, output


def block_of(found: re.Match[str]) -> Block:
    return Block(found["word"] or "", found["about"] or "", found["kind"], found["text"])


def blocks(page: Path) -> list[Block]:
    return [block_of(found) for found in BLOCK.finditer(page.read_text("utf-8"))]


def steady(text: str) -> str:
    for pattern, word in UNSTEADY:
        text = pattern.sub(word, text)
    return text


def fits(shown: str, printed: str) -> bool:
    """Whether a command has printed what the page shows, apart from what differs in each run."""
    return re.fullmatch("".join(map(_pattern, steady(shown).splitlines())), steady(printed)) is not None


def _pattern(line: str) -> str:
    """Of a line that tells of a packet, there may be several: on a busy machine a probe sends its packet again."""
    if line == ANYTHING:
        return r"(?:.*\n)*?"
    return rf"(?:{re.escape(line)}\n){'+' if line.startswith('TIME ') else ''}"


@dataclass(frozen=True)
class Scene:
    """Where the commands of a page run: in a copy of examples/, with this program as `sgdp` and its Python as `python`.
    `holder`: a process in whose mount namespace they run (HOLD); 0: no command of the page needs root."""

    folder: Path
    holder: int

    def page(self, text: str) -> str:
        """The page as it should be."""
        return BLOCK.sub(self._block, text)

    @property
    def left(self) -> list[str]:
        """What isn't as in examples/: what the page has changed there, and what it has left behind for its readers. The
        process number of what `first` starts is no reader's."""
        files = {path.relative_to(self.folder) for path in self.folder.rglob("*") if path.is_file()}
        files = {file for file in files if not CACHES.intersection(file.parts)} - {Path("agent.pid")}
        return sorted(str(file) for file in files if not _is_same(file, self.folder))

    def _block(self, found: re.Match[str]) -> str:
        block = block_of(found)
        if not block.is_run:
            return found[0]
        head = found[0].partition("```")[0]
        if block.word == "first":
            self.run(block.about)
        return f"{head}```\n{''.join(self._sample(block, *command) for command in block.commands())}```"

    def _sample(self, block: Block, command: str, shown: str) -> str:
        printed = self.watch(command, block.about, shown) if block.word == "meanwhile" else self.run(command)
        return f"{block.prompt}{command}\n{shown if fits(shown, printed) else printed}"

    def run(self, command: str) -> str:
        with self._start(command) as process:
            return process.communicate(timeout=DEADLINE_S)[0]

    def watch(self, command: str, meanwhile: str, shown: str) -> str:
        """What a command prints that goes on until it is interrupted: when it has printed as many lines as are shown.
        `meanwhile` runs once it has printed a line."""
        with self._start(f"exec {command}") as process, bounded(process):
            assert process.stdout is not None
            first = process.stdout.readline()
            self.run(meanwhile)
            others = "".join(process.stdout.readline() for _ in shown.splitlines()[1:])
            os.killpg(process.pid, signal.SIGINT)
            return first + others + process.communicate()[0]

    def _start(self, command: str) -> subprocess.Popen[str]:
        inside = f"cd {shlex.quote(str(self.folder))} || exit\n{command}"
        enter = ("nsenter", "--mount", f"--target={self.holder}") if self.holder else ()
        home = self.folder.parent
        path = f"{home / 'bin'}:/usr/sbin:/usr/bin:/sbin:/bin"
        return subprocess.Popen(
            [*enter, "bash", "-c", inside],
            env={**ENVIRONMENT, "PATH": path, "HOME": str(home), "BASH_ENV": str(home / "exports")},
            start_new_session=True, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip


def _is_same(file: Path, folder: Path) -> bool:
    original = EXAMPLES / file
    return original.is_file() and original.read_bytes() == (folder / file).read_bytes()


@contextmanager
def bounded(process: subprocess.Popen[str]) -> Iterator[None]:
    """Ends the process if the block takes too long."""
    timer = Timer(DEADLINE_S, process.kill)
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


@contextmanager
def scene(folder: Path, sgdp: str, *, with_root: bool) -> Iterator[Scene]:
    (folder / "bin").mkdir()
    for name, script in (("sgdp", sgdp), ("python", f'exec {shlex.quote(sys.executable)} "$@"\n')):
        command = folder / "bin" / name
        command.write_text(f"#!/bin/sh\n{script}")
        command.chmod(0o755)
    shutil.copytree(EXAMPLES, folder / "examples")
    if not with_root:
        yield Scene(folder / "examples", 0)
        return
    with held(folder / "written") as holder:
        found = Scene(folder / "examples", holder)
        try:
            yield found
        finally:
            found.run(END)


@contextmanager
def held(written: Path) -> Iterator[int]:
    """A process in a mount namespace of its own, as HOLD makes it."""
    command = ["unshare", "--mount", "--propagation", "private", "sh", "-c", HOLD, "sh", str(written)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"\n"
        yield process.pid
