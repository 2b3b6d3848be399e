"""Holds what a command prints with --json to the schema that is documented for it."""

from __future__ import annotations

import json
from importlib import resources

from jsonschema import Draft202012Validator


def assert_conforms(command: str, document: object) -> None:
    """AssertionError that names each place of the document where it isn't what `sgdataplane/schemas` says."""
    schema = json.loads((resources.files("sgdataplane") / "schemas" / f"{command}.schema.json").read_text())
    Draft202012Validator.check_schema(schema)
    errors = [f"{error.json_path}: {error.message}" for error in Draft202012Validator(schema).iter_errors(document)]
    assert not errors, "\n".join(errors)
