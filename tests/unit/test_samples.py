"""README.md and docs/ show what `sgdp` really prints.

Each page has a folder of its own. A block that is headed ```yaml NAME is written into it as a file; the commands after
`$` run there, in the order of the page. A line `...` stands for any lines. Commands after `#` need root: not run.
`--update-golden` writes what the commands print now into the page.
"""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
BLOCK = re.compile(r"^```(?P<kind>[^\n]*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
PROMPT, ANYTHING = "$ ", "..."


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """With this program as `sgdp`, its Python as `python`, and the scenarios where the repository has them."""
    (tmp_path / "bin").mkdir()
    for name, program in (("sgdp", [sys.executable, "-m", "sgdataplane"]), ("python", [sys.executable])):
        command = tmp_path / "bin" / name
        command.write_text(f'#!/bin/sh\nexec {shlex.join(program)} "$@"\n')
        command.chmod(0o755)
    (tmp_path / "netns-lab").symlink_to(ROOT / "netns-lab")
    return tmp_path


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_page_shows_what_is_printed(page: Path, folder: Path, update_golden: bool) -> None:
    before = page.read_text("utf-8")
    after = BLOCK.sub(lambda found: ran(found, folder), before)
    if update_golden and after != before:
        page.write_text(after, "utf-8")
    assert after == before or update_golden


def ran(found: re.Match[str], folder: Path) -> str:
    """The block, as it should be."""
    _, _, name = found["kind"].partition(" ")
    if name:
        (folder / name).write_text(found["text"], "utf-8")
    if not found["text"].startswith(PROMPT):
        return found[0]
    return f"```{found['kind']}\n{''.join(sample(*command, folder) for command in commands(found['text']))}```"


def commands(text: str) -> Iterator[tuple[str, str]]:
    """Each with what the page says that it prints."""
    for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
        command, _, output = part.partition("\n")
        yield command, output


def sample(command: str, shown: str, folder: Path) -> str:
    environment = {"PATH": f"{folder / 'bin'}:/usr/bin:/bin", "PYTHONPATH": str(ROOT), "LC_ALL": "C.UTF-8"}
    done = subprocess.run(
        command, cwd=folder, env=environment, shell=True, check=False, timeout=60, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    return f"{PROMPT}{command}\n{shown if fits(shown, done.stdout) else done.stdout}"


def fits(shown: str, printed: str) -> bool:
    pattern = "".join(r"(?:.*\n)*?" if line == ANYTHING else re.escape(line) + r"\n" for line in shown.splitlines())
    return re.fullmatch(pattern, printed) is not None


def test_the_pages_have_samples() -> None:
    with_samples = [page.name for page in PAGES if any(
        text.startswith(PROMPT) for _, text in BLOCK.findall(page.read_text("utf-8"))
    )]  # fmt: skip
    assert {"README.md", "review.md", "state.md", "troubleshooting.md"} <= set(with_samples)
