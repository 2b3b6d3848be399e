"""Man pages and completions: every verb and option is in them, and those who read them find nothing odd."""

from __future__ import annotations

import argparse
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from sgdataplane.cli.main import build_parser
from sgdataplane.cni import hook, plugin, runtime
from tests.support.documents.checkers import checker

COMPLETE = r"""
source "$1"; shift
COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1))
complete -p sgdp | grep -q 'complete .*-F _shtab_sgdp' && _shtab_sgdp sgdp "${COMP_WORDS[COMP_CWORD]}" ""
printf '%s\n' "${COMPREPLY[@]}"
"""


def verbs(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    yield parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for verb in action.choices.values():
                yield from verbs(verb)


PARSERS = {
    parser.prog.replace(" ", "-"): parser
    for parser in (*verbs(build_parser()), plugin.build_parser(), hook.build_parser(), runtime.build_parser())
}


def shown(page: Path) -> str:
    """As somebody sees it on a wide terminal; a warning of groff's is a failure."""
    done = subprocess.run(
        ["groff", "-man", "-Tutf8", "-ww", "-rLL=500n", "-P-cbou", page], capture_output=True, text=True, check=True
    )
    assert done.stderr == ""
    return " ".join(done.stdout.replace("\N{HYPHEN}", "-").split())


def test_every_verb_has_a_page_and_every_page_a_verb(share: Path) -> None:
    assert {path.stem for path in (share / "man/man1").iterdir()} == PARSERS.keys()


@pytest.mark.parametrize("name", PARSERS)
def test_a_page_says_what_help_says(share: Path, name: str) -> None:
    text, parser = shown(share / "man/man1" / f"{name}.1"), PARSERS[name]
    assert f"NAME {name} - " in text
    for action in parser._actions:
        for part in (*action.option_strings, action.metavar or ""):
            assert str(part) in text
        if action.help and "%" not in action.help:
            assert " ".join(action.help.split()) in text.replace("\N{RIGHT SINGLE QUOTATION MARK}", "'")
    above = name.rpartition("-")[0].replace("sgdataplane", "sgdp")
    assert f"{above}(1)" in text or not above


def test_a_page_for_each_verb_is_named_where_one_looks_first(share: Path) -> None:
    text = shown(share / "man/man1/sgdp.1")
    verbs_of_sgdp = [name for name in PARSERS if re.fullmatch(r"sgdp-\w+", name)]
    assert [name for name in verbs_of_sgdp if f"{name}(1)" not in text] == []
    assert "EXAMPLES sgdp " in text
    assert "EXIT STATUS 0 the command did its work" in text
    variables = {name for parser in PARSERS.values() for name in re.findall(r"\bSGDP_\w+", parser.format_help())}
    assert variables <= set(text.partition(" ENVIRONMENT ")[2].split())


def test_mandoc_finds_nothing_odd(share: Path) -> None:
    pages = sorted(f"/mnt/man/man1/{path.name}" for path in (share / "man/man1").iterdir())
    done = checker(share, "mandoc", "-T", "lint", "-W", "warning", *pages)
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.parametrize(
    ("words", "offers"),
    [
        (("ex",), {"explain", "export"}),
        (("lab", "ma"), {"matrix"}),
        (("check", "--str"), {"--strict", "--strict-syn"}),
        (("check", "--profile", ""), {"seed", "2026", "unlimited"}),
        (("check", "sta"), {"state.yaml"}),
        (("apply", "--bindings", ""), {"folder"}),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_shells_offer_what_fits(share: Path, tmp_path: Path, words: tuple[str, ...], offers: set[str]) -> None:
    (tmp_path / "state.yaml").touch()
    (tmp_path / "folder").mkdir()
    file = str(share / "bash-completion/completions/sgdp")
    line = ["bash", "-c", COMPLETE, "bash", file, "sgdp", *words]
    done = subprocess.run(line, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert (set(done.stdout.split()), done.stderr) == (offers, "")


def test_fish_offers_the_same(share: Path) -> None:
    script = "source /mnt/fish/vendor_completions.d/sgdp.fish; complete -C"
    assert "explain\tsay whether a packet passes" in checker(share, "fish", "-c", f"{script} 'sgdp ex'").stdout
    assert {*checker(share, "fish", "-c", f"{script} 'sgdp check --profile '").stdout.split()} >= {"seed", "2026"}


def test_zsh_finds_it_and_can_read_it(share: Path) -> None:
    script = (
        "fpath=(/mnt/zsh/site-functions $fpath); autoload -Uz compinit; compinit -u -D; autoload +X _sgdp"
        " && print $_comps[sgdp]"
    )
    done = checker(share, "zsh", "-f", "-c", script)
    assert (done.returncode, done.stdout, done.stderr) == (0, "_sgdp\n", "")
