"""Reference pages that are made from JSON Schemas: what commands print with --json.

Owns how a schema becomes a table: a row for each key, with the keys inside it below. Is given schemas as they are in
sgdataplane/schemas. Must not know what they describe.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tools.commands import table

FOLDER = Path(__file__).resolve().parent.parent / "sgdataplane" / "schemas"
OUTPUT = "sgdp "  # how the title of a schema begins that describes what a command prints
Schema = Mapping[str, Any]


def output_parts() -> Iterator[str]:
    """The parts of the page about --json, below its title."""
    yield (
        "Every command that answers a question has `--json`. The output has every key below that isn't optional; later"
        " versions may add keys. `[]` stands for each element of a list, `*` for any key. The schemas themselves are in"
        " [sgdataplane/schemas](../../sgdataplane/schemas/README.md)."
    )
    for path in sorted(FOLDER.glob("*.schema.json")):
        schema = json.loads(path.read_text("utf-8"))
        if schema.get("title", "").startswith(OUTPUT):
            yield from section(schema)


def section(schema: Schema) -> Iterator[str]:
    yield f"## {schema['title']}"
    if "description" in schema:
        yield schema["description"]
    yield table(("key", "type", "means"), rows(schema, schema, "", ()))


def rows(node: Schema, root: Schema, prefix: str, inside: tuple[str, ...]) -> Iterator[tuple[str, str, str]]:
    """A row for each key of `node`. `inside`: the definitions that it is in, which aren't entered again."""
    for part in alternatives(node, root):
        inner = (*inside, part["$ref"]) if "$ref" in part else inside
        if len(set(inner)) < len(inner):
            continue
        resolved = definition(part, root)
        if resolved is not part:
            yield from rows(resolved, root, prefix, inner)
            continue
        for key, value in part.get("properties", {}).items():
            (name, kind, words), *below = key_rows(f"{prefix}{key}", value, root, inner)
            needed = key in part.get("required", ())
            yield name, ", ".join(filter(None, (kind, "" if needed else "optional"))), words
            yield from below
        if isinstance(part.get("additionalProperties"), dict):
            yield from key_rows(f"{prefix}*", part["additionalProperties"], root, inner)


def key_rows(name: str, value: Schema, root: Schema, inside: tuple[str, ...]) -> Iterator[tuple[str, str, str]]:
    yield f"`{name}`", type_of(value, root), value.get("description", "")
    yield from rows(value, root, f"{name}.", inside)
    for part in alternatives(value, root):
        if isinstance(definition(part, root).get("items"), dict):
            yield from rows(definition(part, root)["items"], root, f"{name}[].", inside)


def definition(node: Schema, root: Schema) -> Schema:
    found: Schema = root["$defs"][node["$ref"].rpartition("/")[2]] if "$ref" in node else node
    return found


def alternatives(node: Schema, root: Schema) -> Iterator[Schema]:
    """The node, and all that it consists of or may be instead."""
    yield node
    for word in ("allOf", "oneOf", "anyOf"):
        for part in node.get(word, ()):
            yield from alternatives(part, root)


def type_of(node: Schema, root: Schema) -> str:
    """In words; "" if the schema doesn't say."""
    node = definition(node, root)
    if "const" in node:
        return f"`{json.dumps(node['const'])}`"
    if "enum" in node:
        return " or ".join(f"`{json.dumps(each).strip(chr(34))}`" for each in node["enum"])
    if "type" not in node:
        kinds = [type_of(part, root) for word in ("oneOf", "anyOf", "allOf") for part in node.get(word, ())]
        return " or ".join(dict.fromkeys(filter(None, kinds)))
    kind = node["type"] if isinstance(node["type"], str) else " or ".join(node["type"])
    if kind == "array" and isinstance(node.get("items"), dict):
        return f"list of {type_of(node['items'], root) or 'any'}"
    return kind
