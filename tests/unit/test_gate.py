"""What gates a pull request: the steps of action.yml, in a real repository, and the hooks for pre-commit.

GitHub itself isn't here: its expressions are replaced by what the inputs are, and `gh` by a program that writes down
how it was called.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
import yaml

from tests.support.run.warm import warm_program

ROOT = Path(__file__).resolve().parents[2]
ACTION: dict[str, Any] = yaml.safe_load((ROOT / "action.yml").read_text("utf-8"))
HOOKS: list[dict[str, Any]] = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text("utf-8"))
STATE = """\
version: 1
vpcs: [{vpc_id: vpc-a}]
security_groups:
  - security_group_id: sg-a
    vpc_id: vpc-a
    rules:
      - {security_group_rule_id: sgr-ssh, type: ingress, ip_protocol: tcp, port_range: 3389/3389, cidr_ip: 10.9.0.0/16}
instances: [{instance_id: i-a}]
network_interfaces:
  - {network_interface_id: eni-a, instance_id: i-a, vpc_id: vpc-a, private_ip_addresses: [10.0.0.1],
     security_group_ids: [sg-a]}
"""
OPEN = STATE.replace("10.9.0.0/16", "0.0.0.0/0")
EXPECTED = "10.9.1.1 -> i-a tcp/3389 accept\n198.51.100.7 -> i-a tcp/3389 drop\n"
EXPRESSION = re.compile(r"\$\{\{ *([\w.-]+) *\}\}")


class Checkout:
    """A repository with a base and a change, and programs as a runner has them."""

    def __init__(self, folder: Path, sgdp: str) -> None:
        self.folder, self.bin, self.temp = folder / "repository", folder / "bin", folder / "temp"
        for each in (self.folder, self.bin, self.temp):
            each.mkdir()
        self.program("sgdp", sgdp)
        self.program("gh", f'printf "%s\\n" "$@" > {shlex.quote(str(self.temp / "gh"))}')
        self.git("init", "-q")

    def program(self, name: str, script: str) -> None:
        path = self.bin / name
        path.write_text(f"#!/bin/sh\n{script}\n", "utf-8")
        path.chmod(0o755)

    @property
    def environment(self) -> dict[str, str]:
        identity = {
            f"GIT_{who}_{what}": "x@example.org" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")
        }
        found = {"PATH": f"{self.bin}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT), "HOME": str(self.temp)}
        runner = {
            "RUNNER_TEMP": str(self.temp),
            "GITHUB_OUTPUT": str(self.temp / "output"),
            "GITHUB_STEP_SUMMARY": str(self.temp / "summary"),
            "GITHUB_ACTION_PATH": str(ROOT),
        }
        return found | identity | runner | {"GIT_CONFIG_GLOBAL": "/dev/null", "LC_ALL": "C.UTF-8"}

    def git(self, *arguments: str) -> str:
        command = ["git", *arguments]
        return subprocess.run(
            command, cwd=self.folder, env=self.environment, check=True, text=True, stdout=subprocess.PIPE
        ).stdout.strip()

    def commit(self, **files: str) -> str:
        for name, text in files.items():
            (self.folder / name).write_text(text, "utf-8")
        self.git("add", "-A")
        self.git("commit", "-q", "-m", "a change")
        return self.git("rev-parse", "HEAD")

    def run(self, script: str, **more: str) -> subprocess.CompletedProcess[str]:
        """As a runner runs a step."""
        return subprocess.run(
            ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", script],
            cwd=self.folder, env=self.environment | more, check=False, text=True, capture_output=True,
        )  # fmt: skip

    @property
    def outputs(self) -> dict[str, str]:
        path = self.temp / "output"
        lines = path.read_text("utf-8").splitlines() if path.exists() else []
        return dict(line.split("=", 1) for line in lines)


@pytest.fixture(scope="module")
def sgdp(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with warm_program(tmp_path_factory.mktemp("warm"), {**os.environ, "LC_ALL": "C.UTF-8"}) as script:
        yield script


@pytest.fixture
def checkout(tmp_path: Path, sgdp: str) -> Checkout:
    return Checkout(tmp_path, sgdp)


def step(name: str) -> dict[str, Any]:
    found: dict[str, Any] = next(each for each in ACTION["runs"]["steps"] if each.get("name") == name)
    return found


def values(inputs: Mapping[str, str], base: str) -> dict[str, str]:
    """What the expressions of a step stand for."""
    given = {**{name: str(about.get("default", "")) for name, about in ACTION["inputs"].items()}, **inputs}
    return {**{f"inputs.{name}": value for name, value in given.items()}, "inputs.base": base}


def gate(checkout: Checkout, base: str, **inputs: str) -> subprocess.CompletedProcess[str]:
    known = values({name.replace("_", "-"): value for name, value in inputs.items()}, base)
    asked = step("Check, test and compare")
    environment = {name: EXPRESSION.sub(lambda found: known[found[1]], text) for name, text in asked["env"].items()}
    return checkout.run(asked["run"], **environment)


def test_a_change_that_opens_nothing_passes_and_is_described(checkout: Checkout) -> None:
    base = checkout.commit(policy=STATE, expected=EXPECTED)
    checkout.commit(policy=STATE.replace("10.9.0.0/16", "10.8.0.0/15"))
    done = gate(checkout, base, state="policy", expectations="expected")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "ok: 1 VPC" in done.stdout
    assert "2 expectations: 2 hold, 0 fail" in done.stdout
    summary = (checkout.temp / "summary").read_text("utf-8")
    assert "| opens | tcp | 3389 | 10.8.0.0/16 | default | sgr-ssh of sg-a (priority 1) |" in summary
    assert Path(checkout.outputs["markdown"]).read_text("utf-8") == summary
    assert ET.parse(checkout.outputs["junit"]).getroot().get("tests") == "2"
    assert checkout.git("worktree", "list").count("\n") == 0


def test_a_port_that_opens_to_the_internet_fails_and_all_else_is_still_said(checkout: Checkout) -> None:
    base = checkout.commit(policy=STATE, expected=EXPECTED)
    checkout.commit(policy=OPEN)
    done = gate(checkout, base, state="policy", expectations="expected")
    assert done.returncode == 1
    assert "2 expectations: 1 holds, 1 fails" in done.stdout
    assert "> Opens to the internet: **tcp 3389 over ipv4**" in (checkout.temp / "summary").read_text("utf-8")
    assert gate(checkout, base, state="policy", fail_on_open="false", fail_on="none").returncode == 0
    assert gate(checkout, base, state="policy", fail_on_open="false", strict="true").returncode == 1


def test_an_open_port_is_a_finding_that_fails_even_if_nothing_is_compared(checkout: Checkout) -> None:
    base = checkout.commit(policy=OPEN)
    found = gate(checkout, base, state="policy")
    assert (found.returncode, "WideOpenIngress" in found.stdout) == (1, True)
    assert gate(checkout, base, state="policy", fail_on="none").returncode == 0
    assert gate(checkout, "", state="policy", fail_on_open="false").returncode == 1


def test_a_state_that_is_refused_fails(checkout: Checkout) -> None:
    base = checkout.commit(policy=STATE)
    checkout.commit(policy=STATE.replace("port_range", "port"))
    done = gate(checkout, base, state="policy")
    assert done.returncode == 1
    assert "InvalidDocument.UnknownKey" in done.stderr
    assert "markdown" not in checkout.outputs


def test_a_new_state_is_compared_with_an_empty_one(checkout: Checkout) -> None:
    base = checkout.commit(other="x")
    checkout.commit(policy=STATE, open=OPEN)
    assert gate(checkout, base, state="policy").returncode == 0
    assert "| opens | tcp | 3389 | 10.9.0.0/16 |" in (checkout.temp / "summary").read_text("utf-8")
    assert gate(checkout, base, state="open", fail_on="none").returncode == 1
    assert "Opens to the internet: **tcp 3389" in (checkout.temp / "summary").read_text("utf-8")


def test_nothing_to_compare_with_fails_unless_that_is_meant(checkout: Checkout) -> None:
    checkout.commit(policy=STATE)
    done = gate(checkout, "", state="policy")
    assert (done.returncode, "BASE is empty" in done.stderr) == (1, True)
    assert gate(checkout, "", state="policy", fail_on_open="false").returncode == 0


def script(checkout: Checkout, **variables: str) -> subprocess.CompletedProcess[str]:
    """tools/gate.sh with nothing but these of its variables."""
    return checkout.run(shlex.quote(str(ROOT / "tools" / "gate.sh")), **variables)


def closed_gate(base: str) -> dict[str, str]:
    return {
        "STATE": "policy", "EXPECTATIONS": "", "BASE": base, "PROFILE": "seed", "INEXACT": "refuse",
        "FAIL_ON": "high", "STRICT": "false",
        "FAIL_ON_OPEN": "true",
    }  # fmt: skip


VARIABLES = tuple(closed_gate(""))


def test_the_gate_takes_what_the_action_gives_it() -> None:
    assert set(step("Check, test and compare")["env"]) == set(VARIABLES)


@pytest.mark.parametrize("missing", [*((name,) for name in VARIABLES), VARIABLES], ids="-".join)
def test_a_variable_that_is_not_set_fails(missing: tuple[str, ...], checkout: Checkout) -> None:
    base = checkout.commit(policy=STATE)
    given = closed_gate(base)
    assert script(checkout, **given).returncode == 0
    done = script(checkout, **{name: value for name, value in given.items() if name not in missing})
    assert done.returncode == 1
    assert all(f"{name} is not set" in done.stderr for name in missing)
    assert done.stdout == ""


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("FAIL_ON_OPEN", "yes"), ("FAIL_ON_OPEN", ""), ("FAIL_ON_OPEN", "True"), ("STRICT", ""), ("STRICT", "1"),
        ("FAIL_ON", ""), ("FAIL_ON", "High"), ("PROFILE", ""), ("INEXACT", ""), ("INEXACT", "Widen"),
        ("STATE", ""), ("STATE", "--help"), ("STATE", "absent"),
        ("STATE", "../repository/policy"), ("EXPECTATIONS", "--help"), ("BASE", "--help"), ("BASE", ""),
    ],
)  # fmt: skip
def test_a_word_that_the_gate_does_not_know_fails(name: str, value: str, checkout: Checkout) -> None:
    base = checkout.commit(policy=STATE)
    done = script(checkout, **{**closed_gate(base), name: value})
    assert (done.returncode, done.stdout) == (1, "")
    assert value in done.stderr


@pytest.mark.parametrize("commit", ["no-such-branch", "0" * 40])
def test_a_base_that_is_nowhere_fails(commit: str, checkout: Checkout) -> None:
    checkout.commit(policy=STATE)
    assert script(checkout, **closed_gate(commit)).returncode not in (0, 2)


def test_a_gate_for_anything_that_opens(checkout: Checkout) -> None:
    base = checkout.commit(policy=STATE)
    checkout.commit(policy=STATE.replace("10.9.0.0/16", "10.8.0.0/15"))
    assert script(checkout, **closed_gate(base)).returncode == 0
    assert script(checkout, **{**closed_gate(base), "FAIL_ON_OPEN": "any"}).returncode == 1


def test_a_base_that_a_shallow_checkout_lacks_is_fetched(tmp_path: Path, sgdp: str) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    origin, shallow = Checkout(tmp_path / "a", sgdp), Checkout(tmp_path / "b", sgdp)
    base = origin.commit(policy=STATE)
    origin.commit(policy=OPEN)
    origin.git("config", "uploadpack.allowAnySHA1InWant", "true")
    shallow.git("remote", "add", "origin", f"file://{origin.folder}")
    shallow.git("fetch", "-q", "--depth", "1", "origin", "HEAD")
    shallow.git("checkout", "-q", "FETCH_HEAD")
    assert gate(shallow, base, state="policy").returncode == 1
    assert "Opens to the internet" in (shallow.temp / "summary").read_text("utf-8")


def test_the_comment_is_edited_or_made(checkout: Checkout) -> None:
    asked = step("Comment")
    done = checkout.run(asked["run"], NUMBER="7", MARKDOWN="some file.md", GH_TOKEN="t")
    assert done.returncode == 0
    said = (checkout.temp / "gh").read_text("utf-8").splitlines()
    assert said == ["pr", "comment", "7", "--edit-last", "--create-if-none", "--body-file", "some file.md"]


@pytest.mark.parametrize(
    ("hook", "arguments", "code"),
    [
        ("sgdp-check", ["policy"], 0),
        ("sgdp-check", ["broken"], 1),
        ("sgdp-check", ["open"], 1),
        ("sgdp-check", [], 2),
        ("sgdp-test", ["expected", "--state", "policy"], 0),
        ("sgdp-test", ["expected", "--state", "open"], 1),
    ],
)
def test_the_hooks_for_pre_commit_run(hook: str, arguments: list[str], code: int, checkout: Checkout) -> None:
    checkout.commit(policy=STATE, open=OPEN, broken=STATE.replace("port_range", "port"), expected=EXPECTED)
    found = next(each for each in HOOKS if each["id"] == hook)
    assert found["pass_filenames"] is False
    assert checkout.run(f"{found['entry']} {shlex.join(arguments)}").returncode == code
    assert re.search(found["files"], "policies/state.yaml")
    assert re.search(found["files"], "terraform.tfstate.gz")
    assert not re.search(found["files"], "README.md")
