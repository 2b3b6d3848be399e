"""Whole rulesets, few and readable: they show how a change affects the text. Other tests check what it means."""

from __future__ import annotations

import difflib
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from sgdataplane.compiler.compile import compile_policy
from sgdataplane.enforce import Desired
from sgdataplane.model.options import DEFAULTS, Placement
from sgdataplane.net.values import Family
from sgdataplane.nft.text import render_table
from sgdataplane.policy.resolve import interfaces_of, resolve
from sgdataplane.statefile import load
from tests.support.inputs.building import table_of
from tests.support.inputs.hardpolicies import host, targets
from tests.support.kernel.nft import skip_unless_read

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
    text = (case / "ruleset.nft").read_text()
    skip_unless_read(text)
    assert loaded(text) == (0, "")


@pytest.mark.kernel
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_nothing_but_ports_of_sessions_keeps_an_old_nft_from_loading_it(case: Path) -> None:
    """Nft 1.0.6 knows their type where the same rule has compared the protocol. (Ours can't: an ICMP error has the
    ports of its session, and another protocol.)"""
    assert loaded(with_protocols((case / "ruleset.nft").read_text())) == (0, "")


@pytest.mark.kernel
def test_nor_from_loading_a_router_of_many_enis() -> None:
    state = host(0, 10)
    interfaces = {eni.network_interface_id: f"h{number}" for number, eni in enumerate(targets(state))}
    table = table_of(Desired(state, interfaces, placement=Placement.HOST))
    assert loaded(with_protocols(render_table(table))) == (0, "")


def with_protocols(text: str) -> str:
    return re.sub(r"(?=ct (original|reply) proto-(src|dst) )", "meta l4proto 6 ", text)


def loaded(text: str) -> tuple[int, str]:
    """What nft says of it, in a namespace of its own."""
    nft = shutil.which("nft")
    assert nft
    command = ["unshare", "--net", nft, "-f", "-"]
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    return done.returncode, done.stderr


def test_every_case_speaks_of_both_families() -> None:
    for case in CASES:
        families = {a.family for eni in load(case / "state.yaml").state.network_interfaces for a in eni.addresses}
        assert families == set(Family), case.name
