"""How a JSON Schema becomes a table of the reference, and what the page of the commands says of a parser."""

from __future__ import annotations

import argparse
from dataclasses import fields

from sgdataplane.statefile.quotas import Quotas
from tools.commands import section, synopsis
from tools.schemas import QUOTAS, rows

NODE = {"type": "object", "required": ["name"], "properties": {"name": {"type": "string", "description": "its name"}}}
TREE = {"$ref": "#/$defs/tree"}
SCHEMA = {
    "allOf": [{"$ref": "#/$defs/node"}],
    "required": ["kind", "size"],
    "properties": {
        "kind": {"enum": ["a", "b"]},
        "size": {"type": ["integer", "null"]},
        "parts": {"type": "array", "items": TREE, "description": "what is in it"},
        "by_name": {"type": "object", "additionalProperties": {"type": "boolean"}},
    },
    "$defs": {"node": NODE, "tree": {"type": "object", "properties": {"below": {"type": "array", "items": TREE}}}},
}


def test_a_schema_is_a_row_for_each_key() -> None:
    assert list(rows(SCHEMA, SCHEMA, "", ())) == [
        ("`kind`", "`a` or `b`", ""),
        ("`size`", "integer or null", ""),
        ("`parts`", "list of object, optional", "what is in it"),
        ("`parts[].below`", "list of object, optional", ""),
        ("`by_name`", "object, optional", ""),
        ("`by_name.*`", "boolean", ""),
        ("`name`", "string", "its name"),
    ]


def test_a_command_is_its_words_and_a_row_for_each_argument() -> None:
    parser = argparse.ArgumentParser(prog="sgdp x", description="Does it.", epilog="example: sgdp x a --to b")
    parser.add_argument("state", metavar="STATE", help="a state | a folder")
    parser.add_argument("more", metavar="MORE", nargs="*", help="more of them")
    parser.add_argument("--to", required=True, choices=["b", "c"], help="where to (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    assert synopsis(parser) == "sgdp x --to b|c [OPTION...] STATE [MORE...]"
    assert list(section(parser)) == [
        "## sgdp x",
        "Does it.",
        "```text\nsgdp x --to b|c [OPTION...] STATE [MORE...]\n```",
        (
            "| argument | means |\n| --- | --- |\n| `STATE` | a state \\| a folder |\n| `[MORE...]` | more of them |\n"
            "| `--to b\\|c` | where to (default: None) |\n| `--json` | print JSON |"
        ),
        "Example: `sgdp x a --to b`",
    ]


def test_every_quota_has_a_row() -> None:
    assert set(QUOTAS) == {field.name for field in fields(Quotas)}
