"""Whole rulesets, few and readable: they show how a change affects the text. Other tests check what it means."""

from __future__ import annotations

import difflib
import shutil
import subprocess
from pathlib import Path

import pytest

from sgdataplane.compiler.compile import compile_policy
from sgdataplane.model.options import DEFAULTS
from sgdataplane.net.values import Family
from sgdataplane.nft.text import render_table
from sgdataplane.policy.resolve import interfaces_of, resolve
from sgdataplane.statefile import load
from tests.support.nft import skip_unless_read

CASES = sorted((Path(__file__).parent / "cases").iterdir())


def compiled(case: Path) -> str:
    """The ruleset of the namespace that holds the state's first ENI."""
    state = load(case / "state.yaml").state
    interfaces = interfaces_of(state, state.network_interfaces[0])
    return render_table(compile_policy(resolve(state, interfaces, DEFAULTS), DEFAULTS))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_ruleset_is_the_golden_one(case: Path, update_golden: bool) -> None:
    golden, text = case / "ruleset.nft", compiled(case)
    before = golden.read_text() if golden.exists() else ""
    if update_golden and text != before:
        print("".join(difflib.unified_diff(before.splitlines(True), text.splitlines(True), "before", "now")))
        golden.write_text(text)
    assert golden.read_text() == text


@pytest.mark.kernel
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_golden_ruleset_loads(case: Path) -> None:
    nft = shutil.which("nft")
    assert nft
    skip_unless_read((case / "ruleset.nft").read_text())
    command = ["unshare", "--net", nft, "-f", str(case / "ruleset.nft")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_every_case_speaks_of_both_families() -> None:
    for case in CASES:
        families = {a.family for eni in load(case / "state.yaml").state.network_interfaces for a in eni.addresses}
        assert families == set(Family), case.name
