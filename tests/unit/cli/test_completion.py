"""`sgdp completion`: what a shell gets is what the package installs, and it completes."""

from __future__ import annotations

import subprocess

import pytest

from sgdataplane.cli.completion import SHELLS, completion
from sgdataplane.cli.main import main

COMPLETE = """
source /dev/stdin
COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1))
_shtab_sgdp sgdp "${COMP_WORDS[COMP_CWORD]}" ""
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.mark.parametrize("shell", SHELLS)
def test_it_prints_what_is_made_from_the_parser(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", shell]) == 0
    printed = capsys.readouterr().out
    assert printed == completion(shell)
    assert "explain" in printed


@pytest.mark.parametrize(
    ("words", "offers"),
    [(["expl"], {"explain"}), (["lab", "pro"], {"probe"}), (["explain", "--exit-c"], {"--exit-code"})],
    ids=" ".join,
)
def test_bash_completes_by_it(words: list[str], offers: set[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", "bash"]) == 0
    command = ["bash", "-c", COMPLETE, "bash", "sgdp", *words]
    done = subprocess.run(command, input=capsys.readouterr().out, text=True, capture_output=True, check=True)
    assert set(done.stdout.split()) == offers


def test_another_shell_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["completion", "tcsh"])
    assert ended.value.code == 2
    assert "invalid choice: 'tcsh'" in capsys.readouterr().err
