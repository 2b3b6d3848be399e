"""Holds what a command prints with --json to the schema that is documented for it."""

from __future__ import annotations

import json
from functools import cache
from importlib import resources

from jsonschema import Draft202012Validator


def assert_conforms(command: str, document: object) -> None:
    """AssertionError that names each place of the document where it isn't what `sgdataplane/schemas` says."""
    errors = [f"{error.json_path}: {error.message}" for error in _validator(command).iter_errors(document)]
    assert not errors, "\n".join(errors)


@cache
def _validator(command: str) -> Draft202012Validator:
    schema = json.loads((resources.files("sgdataplane") / "schemas" / f"{command}.schema.json").read_text("utf-8"))
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema)
