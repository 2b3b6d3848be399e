"""What came of virtual machines, as Markdown for people.

Owns the page. Is given folders of results. Must not know how they came about.
"""

from __future__ import annotations

import json
import re
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree import ElementTree as ET

DEMO = re.compile(r"^\d+ probes: .*$", re.MULTILINE)
MARKUP = re.compile(r"([\\`*_{}\[\]<>|])")


@dataclass(frozen=True, slots=True)
class Case:
    """A test that did not pass: its name, and the first line of why."""

    name: str
    reason: str


@dataclass(frozen=True)
class SuiteResult:
    """One run of pytest. `seconds` is the guest's clock. `commit`: of this repository, "" if it is the machine's."""

    name: str
    passed: int
    seconds: float
    failed: tuple[Case, ...] = ()
    skipped: tuple[Case, ...] = ()
    commit: str = ""


@dataclass(frozen=True)
class MachineResult:
    """`kernel`: what it calls itself, "" if it never came up. `commit`: of this repository. `note`: what is wrong with
    the run as a whole, or "". `demo`: what `make demo` found straight after boot, "" where it didn't run. `seconds`:
    from start to end, this machine's clock. `commits`: rows of `bench.commits`, by their names."""

    machine: str
    kernel: str
    commit: str = ""
    note: str = ""
    demo: str = ""
    seconds: float = 0.0
    suites: tuple[SuiteResult, ...] = ()
    commits: dict[str, dict[str, float]] = field(default_factory=dict)

    @property
    def has_failed(self) -> bool:
        return bool(self.note) or any(suite.failed for suite in self.suites)


def add(results: Path, commit: str, note: str, seconds: float) -> None:
    """To what a job left in its folder."""
    for name, text in (("commit", commit), ("note", note), ("seconds", f"{seconds:.0f}")):
        (results / name).write_text(text, "utf-8")


def take_over(some: Path, results: Path) -> None:
    """Of a machine that ran a part: that part's results take the place of those of before, if there are any."""
    results.mkdir(parents=True, exist_ok=True)
    for path in (*some.glob("*.xml"), *some.glob("commits.json")):
        shutil.copy(path, results)
        shutil.copy(some / "commit", results / f"{path.stem}.commit")
    for name in ("note", "kernel"):
        if (some / name).exists():
            shutil.copy(some / name, results)


def take_over_cases(some: Path, results: Path, suite_of: Callable[[str], str]) -> None:
    """Of a machine that ran chosen tests: each takes the place of what it was when its suite ran, or stands beside the
    others if it is new; and the suite says how many did. `suite_of`: by the module of a test, "" if it has none."""
    chosen = [case for path in some.glob("*.xml") for case in ET.parse(path).getroot().iter("testcase")]
    for path in results.glob("*.xml"):
        ours = {_key(case): case for case in chosen if suite_of(case.get("classname", "")) == path.stem}
        if ours:
            tree = ET.parse(path)
            _replace(next(tree.getroot().iter("testsuite")), ours)
            tree.write(path, "utf-8")
            before = _said(path.with_suffix(".commit")) or _said(results / "commit")
            said = [*before.split(", "), f"{len(ours)} of them {_said(some / 'commit')}"]
            path.with_suffix(".commit").write_text(", ".join(dict.fromkeys(said)), "utf-8")


def _replace(suite: ET.Element, chosen: Mapping[tuple[str, str], ET.Element]) -> None:
    before = {_key(case): case for case in suite.iter("testcase")}
    suite[:] = [*{**before, **chosen}.values()]


def _key(case: ET.Element) -> tuple[str, str]:
    return case.get("classname", ""), case.get("name", "")


def read(machine: str, results: Path) -> MachineResult:
    """What a job left in its folder, and what was added."""
    suites = (read_suite(path) for path in sorted(results.glob("*.xml"), key=lambda path: path.stat().st_mtime))
    commits = results / "commits.json"
    rows = read_commits(commits) if commits.exists() else {}
    kernel, commit, note = (_said(results / name) for name in ("kernel", "commit", "note"))
    demo = DEMO.search(_said(results / "demo"))
    seconds = float(_said(results / "seconds") or 0)
    return MachineResult(machine, kernel, commit, note, demo[0] if demo else "", seconds, tuple(suites), rows)


def _said(path: Path) -> str:
    return path.read_text("utf-8").strip() if path.exists() else ""


def read_commits(path: Path) -> dict[str, dict[str, float]]:
    """What `bench.commits` wrote: of each row its milliseconds, and how many plain commits they are."""
    rows = json.loads(path.read_text("utf-8"))["rows"]
    return {f"{row['where']}: {row['change']}": {key: row[key] for key in ("ms", "ratio")} for row in rows}


def read_suite(path: Path) -> SuiteResult:
    """One JUnit file of pytest's."""
    failed, skipped, passed = [], [], 0
    root = ET.parse(path).getroot()
    for case in root.iter("testcase"):
        name = f"{case.get('classname', '').replace('.', '/')}::{case.get('name', '')}"
        bad = [child for child in case if child.tag in ("failure", "error")]
        left = [child for child in case if child.tag == "skipped"]
        if bad:
            failed.append(Case(name, _first_line(bad[0])))
        elif left:
            skipped.append(Case(name, _first_line(left[0])))
        else:
            passed += 1
    seconds = sum(float(suite.get("time", 0)) for suite in root.iter("testsuite"))
    commit = _said(path.with_suffix(".commit"))
    return SuiteResult(path.stem, passed, seconds, tuple(failed), tuple(skipped), commit)


def _first_line(element: ET.Element) -> str:
    return (element.get("message") or element.text or "").strip().partition("\n")[0][:200]


def page(results: Sequence[MachineResult]) -> str:
    """The whole report. What tests said is escaped."""
    lines = [
        "# Kernels",
        "",
        "`make test-vm` runs the tests in virtual machines with Debian's kernels, and writes this page.",
        "`uml` machines run a kernel that was built from Debian's source package, as a process of the host.",
        "Only `arch/um`, which makes it such a process, is changed (`tools/vm/kernel.sh`).",
        "`cloud` machines run Debian's own binary kernel in qemu, with systemd as process 1, on a stock image.",
        "`race` machines run it, too. A debugger forces a look-up on one processor to race with a commit on the other:",
        "in place, which harms where look-ups miss and so is the control, and as the product changes its maps there.",
        "The suites agent and hostile run on the first kernel, and on others if they are asked for (`SUITES=`).",
        'The column "minutes" is the time of the tests alone, by the machine\'s own clock.',
        'In the column "commit", "A, 16 of them B" means that the suite ran at commit A, 16 of its tests again at B.',
        "",
        "| machine | kernel | commit | suite | passed | failed | skipped | minutes |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for result in results:
        lines += _rows(result)
    for result in results:
        lines += _details(result)
    lines += _commits([result for result in results if result.commits])
    return "\n".join(lines) + "\n"


def _rows(result: MachineResult) -> Iterator[str]:
    begins = f"| {result.machine} | {result.kernel or 'did not come up'} |"
    for suite in result.suites:
        counts = f"{suite.passed} | {len(suite.failed)} | {len(suite.skipped)} | {suite.seconds / 60:.1f}"
        yield f"{begins} {suite.commit or result.commit} | {suite.name} | {counts} |"
    if not result.suites:
        yield f"{begins} {result.commit} | - | - | - | - | - |"


def _details(result: MachineResult) -> Iterator[str]:
    failed = [case for suite in result.suites for case in suite.failed]
    skipped = Counter(case.reason for suite in result.suites for case in suite.skipped)
    yield from ("", f"## {result.machine}", "")
    if result.seconds:
        yield f"- {result.seconds / 60:.0f} minutes from its start to its end"
    if result.demo:
        yield f"- `make demo`, straight after boot: {_safe(result.demo)}"
    if result.note:
        yield f"- {_safe(result.note)}"
    for case in failed:
        yield f"- failed: {_safe(case.name)}: {_safe(case.reason)}"
    for reason, count in skipped.most_common():
        yield f"- skipped {count}: {_safe(reason)}"


def _commits(results: Sequence[MachineResult]) -> Iterator[str]:
    """Milliseconds, and beside them how many times a plain commit of that kernel; of each machine but the first, how
    many times as long it takes as the first."""
    if not results:
        return
    names = list(dict.fromkeys(name for result in results for name in result.commits))
    yield from ("", "## What a commit costs", "")
    yield "Milliseconds of the fastest round, by what the commit changes. The number in brackets says how many plain"
    yield "commits would take as long, on the same kernel and in the same run. (A plain commit adds one rule without a"
    yield 'jump, to a table in a namespace of its own.) "An unrelated goto" is a rule of another table, added beside'
    yield "the table of host placement."
    first, *others = results
    heads = [f"{result.machine} ({result.kernel})" for result in results]
    heads += [f"{other.machine} : {first.machine}" for other in others]
    yield from ("", f"| commit | {' | '.join(heads)} |", "|---" * (len(heads) + 1) + "|")
    for name in names:
        cells = [result.commits.get(name) for result in results]
        said = [f"{cell['ms']:.2f} ({cell['ratio']:.0f} x)" if cell else "-" for cell in cells]
        said += [_times(cell, cells[0]) for cell in cells[1:]]
        yield f"| {name} | {' | '.join(said)} |"


def _times(cell: Mapping[str, float] | None, first: Mapping[str, float] | None) -> str:
    """How many times the milliseconds of the first."""
    return f"{cell['ms'] / first['ms']:.1f}" if cell and first else "-"


def _safe(text: str) -> str:
    """No markup, and nothing that can't be seen: test output is whatever a test printed."""
    return MARKUP.sub(r"\\\1", text.encode("unicode_escape").decode("ascii") if not text.isprintable() else text)
