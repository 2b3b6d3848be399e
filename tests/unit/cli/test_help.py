"""Files and schemas that help texts name are installed, and every verb has a description."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from sgdataplane.cli.main import build_parser
from sgdataplane.cli.state import schemas

PACKAGE = Path(__file__).parents[3] / "sgdataplane"
# the user's own
EXAMPLES = {"state.yaml", "state.schema.json", "new.yaml", "before.yaml", "after.yaml", "expectations.txt"}
INSTALLED = {
    "/etc/sgdataplane/api.toml",
    "/etc/sgdataplane/agent.toml",
    "/etc/sgdataplane/relay.toml",
    "/etc/sgdataplane/sync.toml",
    "agent.toml",
}  # tools/install.sh; tests/vm looks at the package itself
FILE = re.compile(r"[\w./-]+\.(?:json|toml|md|yaml|yml|py|txt)\b")
SCHEMA = re.compile(r"sgdp schema ([a-z][\w-]*)")


def parsers(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    yield parser
    for action in parser._actions:  # argparse has no other way to its verbs
        if isinstance(action, argparse._SubParsersAction):
            for verb in action.choices.values():
                yield from parsers(verb)


HELP = {parser.prog: " ".join(parser.format_help().split()) for parser in parsers(build_parser())}


@pytest.mark.parametrize("verb", HELP)
def test_files_and_schemas_that_help_names_are_installed(verb: str) -> None:
    for name in FILE.findall(HELP[verb]):
        assert name in INSTALLED | EXAMPLES or (
            name.startswith("sgdataplane/") and (PACKAGE.parent / name).is_file()
        ), name
    for name in SCHEMA.findall(HELP[verb]):
        assert name in schemas()
    assert "pydoc" not in HELP[verb], "the package's folder isn't where pydoc looks"


@pytest.mark.parametrize("name", ["agent", "api", "relay", "sync"])
def test_no_configuration_leads_to_a_page_that_is_not_there(name: str) -> None:
    assert "pydoc" not in (PACKAGE.parent / "systemd" / f"{name}.toml").read_text("utf-8")


@pytest.mark.parametrize("name", schemas())
def test_no_schema_leads_to_a_page_that_is_not_there(name: str) -> None:
    assert "pydoc" not in (PACKAGE / "schemas" / f"{name}.schema.json").read_text("utf-8")


def test_every_verb_has_a_description() -> None:
    assert len(HELP) > 20
    for parser in parsers(build_parser()):
        assert parser.description, parser.prog
