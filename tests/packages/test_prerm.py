"""What a removal of the package says about rules that stay in force."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

PRERM = Path(__file__).parents[2] / "debian" / "prerm"
BINDINGS = '{"version": 1, "bindings": [{"eni": "eni-a", "named": "netns web"}]}'


def run(folder: Path, bindings: str | None, why: str) -> subprocess.CompletedProcess[str]:
    """The script as dpkg runs it, with the bindings in a folder of the test's own."""
    path, script = folder / "bindings.json", folder / "prerm"
    if bindings is not None:
        path.write_text(bindings, "utf-8")
    text = PRERM.read_text("utf-8")
    assert text.count("/run/sgdataplane/attached/bindings.json\n") == 1
    script.write_text(text.replace("/run/sgdataplane/attached/bindings.json", str(path)), "utf-8")
    return subprocess.run(["sh", str(script), why], check=True, text=True, capture_output=True)


def test_a_removal_says_that_rules_stay_and_how_to_remove_them(tmp_path: Path) -> None:
    said = run(tmp_path, BINDINGS, "remove").stderr
    assert "the rules in force stay" in said
    assert "sgdp clear" in said
    assert "nft delete table inet sgdataplane; nft delete table netdev sgdataplane" in said


@pytest.mark.parametrize(
    ("bindings", "why"),
    [(BINDINGS, "upgrade"), (None, "remove"), ('{"version": 1, "bindings": []}', "remove")],
    ids=["an upgrade", "never attached", "nothing attached"],
)
def test_where_no_rule_is_left_behind_nothing_is_said(bindings: str | None, why: str, tmp_path: Path) -> None:
    done = run(tmp_path, bindings, why)
    assert (done.stdout, done.stderr) == ("", "")
