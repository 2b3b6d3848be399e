"""Writes the tables of the cloud's actions from the model classes of its official Python SDK.

    .venv/bin/python -m tools.ecs_tables FOLDER [ACTION...]

FOLDER has the SDK's package. The tables keep their actions; each ACTION comes on top. Owns the tables' format: for each
field its type, and whether it is a list, required, or made of other fields. Reads the SDK's source text, and never runs
it. Must not know what an action means.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TypeAlias

Field: TypeAlias = "dict[str, object]"
Fields: TypeAlias = "dict[str, Field]"

ROOT = Path(__file__).resolve().parent.parent
TABLES = ROOT / "sgdataplane" / "control" / "calls" / "tables"
PACKAGE = "alibabacloud_ecs20140526"
TYPES = {"str": "string", "int": "integer", "bool": "boolean", "float": "number"}
# Parameters of the account that calls; the SDK itself doesn't explain them.
LEFT_OUT = {"OwnerAccount", "OwnerId", "ResourceOwnerAccount", "ResourceOwnerId"}
_CLASS = re.compile(r"^class (\w+)\(", re.MULTILINE)
_ARGUMENT = re.compile(r"^        (\w+): (.+) = None,$", re.MULTILINE)
_COMMENTED = re.compile(r"((?:^        #.*\n)*)^        self\.(\w+) = \2$", re.MULTILINE)
_NAME_ON_WIRE = re.compile(r"if self\.(\w+) is not None:\n\s+(?:for k1 in self\.\1:\n\s+)?result\['([\w.]+)'\]")
_TYPE = re.compile(r"(?P<list>List\[)?(?:main_models\.(?P<model>\w+)|(?P<plain>\w+))\]?")


class Sdk:
    """The SDK's model classes, by name."""

    def __init__(self, package: Path) -> None:
        self._texts: dict[str, str] = {}
        for path in sorted((package / "models").glob("_*.py")):
            _, *parts = _CLASS.split(path.read_text(encoding="utf-8"))
            self._texts.update(zip(parts[::2], parts[1::2], strict=True))

    def actions(self) -> list[str]:
        """Every action that the SDK has."""
        requests = (name.removesuffix("Request") for name in self._texts if name.endswith("Request"))
        return sorted(name for name in requests if not name.endswith("Shrink"))

    def fields(self, model: str) -> Fields:
        text = self._texts[model]
        names = dict(_NAME_ON_WIRE.findall(text))
        required = {name for comment, name in _COMMENTED.findall(text) if "This parameter is required." in comment}
        pairs = ((names[name], self._field(kind, name in required)) for name, kind in _ARGUMENT.findall(text))
        return dict(sorted(pairs))

    def _field(self, kind: str, is_required: bool) -> Field:
        found = _TYPE.fullmatch(kind)
        if found is None:
            raise ValueError(f"a type that the tables can't hold: {kind}")
        field: Field = {"fields": self.fields(found["model"])} if found["model"] else {"type": TYPES[found["plain"]]}
        return field | ({"list": True} if found["list"] else {}) | ({"required": True} if is_required else {})


def known_actions() -> list[str]:
    return sorted(json.loads((TABLES / "requests.json").read_text(encoding="utf-8")))


def requests(sdk: Sdk, actions: Iterable[str]) -> dict[str, Fields]:
    return {action: _without(LEFT_OUT, sdk.fields(f"{action}Request")) for action in actions}


def _without(names: set[str], fields: Fields) -> Fields:
    return {name: field for name, field in fields.items() if name not in names}


def responses(sdk: Sdk, actions: Iterable[str]) -> dict[str, Fields]:
    return {action: sdk.fields(f"{action}ResponseBody") for action in actions}


def text(table: Mapping[str, Fields]) -> str:
    """One line a field, so that a diff shows what is new."""
    return "{\n" + ",\n".join(_action(name, fields) for name, fields in sorted(table.items())) + "\n}\n"


def _action(name: str, fields: Fields) -> str:
    lines = ",\n".join(f"  {json.dumps(field)}: {json.dumps(value)}" for field, value in fields.items())
    return f" {json.dumps(name)}: {{\n{lines}\n }}"


def flat(fields: Mapping[str, object], head: str = "") -> Iterator[str]:
    """Each field on a line, lists with .N: how two tables are compared."""
    for name, field in fields.items():
        assert isinstance(field, dict)
        path = f"{head}{name}{'.N' if field.get('list') else ''}"
        yield f"{path} {field.get('type', 'object')}{' required' if field.get('required') else ''}"
        yield from flat(field.get("fields", {}), f"{path}.")


def main() -> None:
    sdk, actions = Sdk(Path(sys.argv[1]) / PACKAGE), {*known_actions(), *sys.argv[2:]}
    for name, table in (("requests", requests(sdk, actions)), ("responses", responses(sdk, actions))):
        (TABLES / f"{name}.json").write_text(text(table), encoding="utf-8")


if __name__ == "__main__":
    main()
