"""`sgdp apply --dry-run`, `--diff` and `--confirm`: what is said before, and the way back, for real packets."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.probes.flood import DEADLINE, wait_until
from tests.support.scenes.attachbench import DNS, WEB, Bench, state_of
from tests.support.scenes.pair import Session

pytestmark = pytest.mark.kernel
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def applied(bench: Bench) -> Bench:
    """Policy 1 is in force: it lets WEB and DNS in."""
    bench.attach()
    assert bench.apply(state_of(WEB, DNS)) == {"eni-a": "in force", "exit": "0"}
    return bench


@contextmanager
def confirming(bench: Bench, time: str) -> Iterator[subprocess.Popen[str]]:
    """`sgdp apply --confirm` of a policy without DNS, which waits for its answer or has ended."""
    words = ("apply", bench.write(state_of(WEB)), "--bindings", bench.folder / "attached", "--confirm", time)
    command = [sys.executable, "-m", "sgdataplane", *map(str, words), "--config", str(nowhere(bench))]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    with subprocess.Popen(command, cwd=ROOT, text=True, **pipes) as process:  # type: ignore[call-overload]
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("In force for"):
                break
        yield process


def nowhere(bench: Bench) -> Path:
    """A configuration of an agent that doesn't run."""
    file = bench.folder / "agent.toml"
    file.write_text(f'socket = "{bench.folder}/agent.sock"\n', "utf-8")
    return file


def test_a_dry_run_says_what_would_change_and_end_and_changes_nothing(
    applied: Bench, web: Session, dns: Session
) -> None:
    assert dns.passes(beside=web)
    applied.read_output()
    assert applied.sgdp("apply", applied.write(state_of(WEB)), "--dry-run") == 0
    said = applied.read_output()
    assert "closes" in said
    assert "changes the policy of 1 of 1 attached ENI" in said
    assert re.search(r"^cost: 1 namespace to compile and prove, which takes \d+\.\d s here$", said, re.MULTILINE)
    assert "live sessions that the change would end: 1" in said
    assert dns.passes(beside=web)
    assert applied.sgdp("apply", applied.write(state_of(WEB)), "--diff") == 0
    assert "closes" in applied.read_output()
    assert not dns.passes(beside=web)


def test_what_is_confirmed_stays(applied: Bench, web: Session, dns: Session) -> None:
    with confirming(applied, "10m") as process:
        assert not dns.passes(beside=web)
        said, _ = process.communicate("\n", DEADLINE)
    assert (process.returncode, said) == (0, "kept\n")
    assert not dns.passes(beside=web)


@pytest.mark.parametrize("answer", ["no\n", ""], ids=["no", "end of input"])
def test_what_is_not_confirmed_goes_back(applied: Bench, web: Session, dns: Session, answer: str) -> None:
    with confirming(applied, "10m") as process:
        assert not dns.passes(beside=web)
        said, _ = process.communicate(answer, DEADLINE)
    assert process.returncode == 1
    assert "not kept: policy 1" in said
    assert dns.passes(beside=web)


def test_without_an_answer_in_time_it_goes_back(applied: Bench, web: Session, dns: Session) -> None:
    with confirming(applied, "1s") as process:
        assert process.wait(DEADLINE) == 1
    assert dns.passes(beside=web)


def test_a_command_that_is_killed_goes_back_all_the_same(applied: Bench, web: Session, dns: Session) -> None:
    """As when a terminal is cut off: nobody is there to confirm."""
    with confirming(applied, "10m") as process:
        assert not dns.passes(beside=web)
        process.kill()
    wait_until(lambda: dns.passes(beside=web))


def test_without_an_earlier_policy_or_beside_an_agent_nothing_is_applied(
    bench: Bench, web: Session, dns: Session
) -> None:
    bench.attach()
    with confirming(bench, "10m") as process:
        process.wait(DEADLINE)
    assert process.returncode == 3
    assert dns.passes(beside=web)  # nothing is enforced
    assert bench.apply(state_of(WEB, DNS)) == {"eni-a": "in force", "exit": "0"}
    (bench.folder / "agent.sock").touch()
    with confirming(bench, "10m") as process:
        process.wait(DEADLINE)
    assert process.returncode == 3
    assert dns.passes(beside=web)


def test_policies_that_were_applied_are_listed_and_can_be_applied_again(
    applied: Bench, web: Session, dns: Session
) -> None:
    assert applied.apply(state_of(WEB)) == {"eni-a": "in force", "exit": "0"}
    file = nowhere(applied)
    file.write_text(
        f'{file.read_text("utf-8")}bindings = "{applied.folder}/attached"\nstate_directory = "{applied.folder}/var"\n',
        "utf-8",
    )
    assert applied.run("policies", "--config", file) == 0
    assert "-1 rule" in applied.read_output()
    assert not dns.passes(beside=web)
    old = applied.folder / "old.yaml"
    assert applied.run("policies", "1", "-o", old, "--config", file) == 0
    assert applied.sgdp("apply", old) == 0
    assert dns.passes(beside=web)
