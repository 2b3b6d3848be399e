"""Reference pages that are made from JSON Schemas: what commands print with --json, and what a state may say.

Owns how a schema becomes tables, and what a quota is called. Is given schemas as they are in sgdataplane/schemas. Must
not know what they describe.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from sgdataplane.statefile.quotas import PROFILES, Quotas
from tools.commands import table

FOLDER = Path(__file__).resolve().parent.parent / "sgdataplane" / "schemas"
OUTPUT = "sgdp "  # how the title of a schema begins that describes what a command prints
Schema = Mapping[str, Any]
ACRONYMS = {"vpc"}
ID = "^[A-Za-z0-9]["  # how the pattern of an id begins
QUOTAS = {
    "groups_per_eni": "groups of an ENI",
    "rules_per_group": "rules of a group",
    "rules_per_eni": "rules of an ENI, over all its groups",
    "group_remotes": "rules of a basic group that have a group as remote",
    "members_basic": "members of a basic group",
    "members_classic": "members of a basic group in the classic network",
    "members_advanced": "members of an advanced group",
    "prefix_lists": "prefix lists",
    "entries_per_list": "entries of a prefix list (`max_entries`)",
}


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


# the native format of states


def state_parts() -> Iterator[str]:
    """The parts of the page about a state's keys, below its title."""
    schema = json.loads((FOLDER / "state.schema.json").read_text("utf-8"))
    yield (
        "All keys of the [native format](../state.md#the-native-format), with what they mean and what holds without"
        " them. Values of fixed words are read in upper and lower case. An unknown key is refused. `sgdp schema` prints"
        " the same as a JSON Schema, for editors."
    )
    yield "## A state"
    yield keys_of(schema)
    for name, of in schema["$defs"].items():
        yield f"## {heading(name)}"
        yield keys_of(of)
    yield "## Quotas"
    yield (
        "A state that exceeds them is refused. From nine tenths on there is a finding, `NearQuota`. `--profile` chooses"
        " a column. A rule with a prefix list or port list counts as `max_entries` rules, with both as their product."
    )
    profiles = [(f"`{name}`", quotas) for name, quotas in PROFILES.items()]
    named = (((words, *(limit(quotas, key) for _, quotas in profiles))) for key, words in QUOTAS.items())
    yield table(("at most", *(name for name, _ in profiles)), named)


def keys_of(node: Schema) -> str:
    required = node.get("required", ())
    found = ((f"`{key}`", shape(of), default(of, key in required), of.get("description", "")) for key, of in
             node["properties"].items())  # fmt: skip
    return table(("key", "value", "default", "means"), found)


def heading(name: str) -> str:
    """A definition's name, as the heading of its section."""
    words = name.replace("_", " ")
    return words.upper() if words in ACRONYMS else words.capitalize()


def default(node: Schema, is_required: bool) -> str:
    if is_required:
        return "required"
    return f"`{json.dumps(node['default']).strip(chr(34))}`" if "default" in node else "-"


def shape(node: Schema) -> str:
    """What a key takes, in words; what text must look like is in its description."""
    match node:
        case {"$ref": str() as to}:
            words = to.rpartition("/")[2].replace("_", " ")
            return f"[{words}](#{words.replace(' ', '-')})"
        case {"enum": [*values]}:
            return " or ".join(f"`{value}`" for value in values)
        case {"const": value}:
            return f"`{value}`"
        case {"anyOf": [first, *_]}:
            return shape(first)
        case {"type": "array", "items": items}:
            return f"list of {shape(items)}"
        case {"type": "integer", "minimum": least, **more}:
            return f"{least} to {more['maximum']}" if "maximum" in more else f"a number from {least}"
        case {"pattern": pattern} if pattern.startswith(ID):
            return "id"
        case {"type": str() as kind}:
            return {"string": "text", "boolean": "`true` or `false`", "object": "mapping"}.get(kind, kind)
    return ""


def limit(quotas: Quotas, key: str) -> str:
    found: int | None = getattr(quotas, key)
    return "-" if found is None else f"{found:,}"
