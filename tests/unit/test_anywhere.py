"""Verbs that only read a state, the gate's among them, and the Python API run where there is no Linux and no root; the
other verbs say in one line what is missing. Each runs in a process of its own, without what only Linux or Unix has."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sgdataplane.cli.main import VERBS
from tests.support.variants.otherplatform import ERRORS, OUTPUT
from tools.anywhere import PYTHON, READING

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "tests" / "support" / "variants" / "otherplatform.py"
TLS = ("--tls-cert", "a", "--tls-key", "b", "--tls-ca", "c")
RELAY = ("--store", "s.db", "--listen", "127.0.0.1:0", *TLS)
SYNC = ("--relay", "wss://127.0.0.1:1", "--folder", "f", *TLS)
ON_LINUX = (
    ("apply", "shop.yaml"), ("attach", "--eni", "eni-a", "--ifname", "eth0", "--netns", "x"), ("agent", "--once"),
    ("lab", "up", "shop.yaml"), ("log",), ("replay", "shop.pcap", "--state", "shop.yaml"), ("sessions",), ("status",),
    ("trace", "--eni", "web1"), ("counters",), ("detach", "--eni", "eni-a"), ("clear",), ("flows",), ("top",),
    ("history", "forget", "--before", "1d"), ("trial", "list"), ("group", "list"), ("api", "--dev", "dev"),
    ("hosts", "add", "h", "--store", "s.db"), ("wait", "--store", "s.db"), ("relay", *RELAY), ("sync", *SYNC),
    ("call", "DescribeVpcs"), ("policies",), ("rollback", "1"), ("resume",),
    # verbs that read, with an option that looks at a host
    ("explain", "shop.yaml", "web1", "db1", "tcp/5432", "--live"), ("suggest", "shop.yaml", "--live"),
    ("test", "shop-expectations.txt", "--state", "shop.yaml", "--live"), ("init", "new.yaml", "--from-containers"),
)  # fmt: skip


class Elsewhere:
    """Where there is no Linux: a process that forks for each call."""

    def __init__(self) -> None:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("SGDP_")}
        environment |= {"PYTHONPATH": str(ROOT), "PYTHONUTF8": "0"}
        command, pipe = [sys.executable, str(SCRIPT)], subprocess.PIPE
        self.process = subprocess.Popen(command, cwd=ROOT, env=environment, text=True, stdin=pipe, stdout=pipe)

    def run(self, folder: Path, *words: str) -> subprocess.CompletedProcess[bytes]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        print(json.dumps({"folder": str(folder), "words": words}), file=self.process.stdin, flush=True)
        code = int(self.process.stdout.readline())
        printed, complaints = ((folder / name).read_bytes() for name in (OUTPUT, ERRORS))
        return subprocess.CompletedProcess(words, code, printed, complaints)


@pytest.fixture(scope="module")
def elsewhere() -> Iterator[Elsewhere]:
    made = Elsewhere()
    with made.process:
        yield made


@pytest.fixture
def examples(tmp_path: Path) -> Path:
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    return tmp_path / "examples"


@pytest.mark.parametrize(("words", "code"), READING.values(), ids=READING)
def test_a_verb_that_reads_runs_anywhere(
    elsewhere: Elsewhere, examples: Path, words: tuple[str, ...], code: int
) -> None:
    done = elsewhere.run(examples, "sgdp", *words)
    assert done.returncode == code, done.stderr.decode("cp1252")
    assert b"Traceback" not in done.stderr


@pytest.mark.parametrize("words", ON_LINUX, ids=lambda words: " ".join(words[:2]))
def test_a_verb_that_enforces_says_what_is_missing_in_one_line(
    elsewhere: Elsewhere, examples: Path, words: tuple[str, ...]
) -> None:
    done = elsewhere.run(examples, "sgdp", *words)
    text = done.stderr.decode("cp1252").replace("\r\n", "\n")
    assert done.returncode == 3, text
    assert text.count("\n") == 1
    assert text.startswith(f"error: `sgdp {words[0]}")
    assert "needs Linux: this system has no" in text


def test_every_verb_reads_or_says_what_is_missing() -> None:
    reading = {words[0] for words, _ in READING.values()}
    verbs = {verb for summaries in VERBS.values() for verb in summaries}
    assert verbs - reading == {words[0] for words in ON_LINUX} - reading


def test_the_api_runs_anywhere(elsewhere: Elsewhere, examples: Path) -> None:
    done = elsewhere.run(examples, "python", PYTHON)
    assert done.returncode == 0, done.stderr.decode("cp1252")


def test_nothing_of_linux_is_imported_to_read_a_state(examples: Path) -> None:
    """On Linux, too: these packages take longer to import than most states to check."""
    code = (
        "import sys; from sgdataplane.cli.main import main\n"
        "assert main(['explain', 'shop.yaml', 'web1', 'db1', 'tcp/5432']) == 0\n"
        "print(sorted({'pyroute2', 'scapy', 'nftables', 'inotify_simple'} & set(sys.modules)))"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=examples, env=environment, capture_output=True, check=True, text=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_letters_that_a_console_lacks_are_spelt(elsewhere: Elsewhere, examples: Path) -> None:
    state, group = examples / "web.yaml", "security_group_id: sg-web\n"
    text = state.read_text(encoding="utf-8").replace(group, f"{group}    security_group_name: 网站\n", 1)
    state.write_text(text, encoding="utf-8")
    done = elsewhere.run(examples, "sgdp", "import", "web.yaml")
    assert done.returncode == 0, done.stderr.decode("cp1252")
    assert b"\\u7f51\\u7ad9" in done.stdout


def test_lines_of_windows_are_read(elsewhere: Elsewhere, examples: Path) -> None:
    state = examples / "shop.yaml"
    state.write_bytes(state.read_bytes().replace(b"\n", b"\r\n"))
    done = elsewhere.run(examples, "sgdp", "check", "shop.yaml")
    assert done.returncode == 0, done.stderr.decode("cp1252")


def test_files_that_are_written_are_the_same_everywhere(elsewhere: Elsewhere, examples: Path) -> None:
    for words in (("import", "web.yaml", "-o", "out.yaml"), ("export", "web.yaml", "--to", "ecs", "-o", "out")):
        assert elsewhere.run(examples, "sgdp", *words).returncode == 0
    written = [examples / "out.yaml", *(examples / "out").iterdir()]
    assert len(written) > 3
    assert not [path for path in written if b"\r" in path.read_bytes()]
