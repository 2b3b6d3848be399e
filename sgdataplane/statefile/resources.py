"""Terraform's resources, from its state file or from `terraform show -json` of a state or plan.

Owns the walk through modules, and what stands in where a plan doesn't know a value yet. An object that doesn't exist
gets an id that is made from its address. A reference to it gets the same id, if the plan's configuration says which
object it means. Is given documents. Must not know what resources mean. The JSON is described at
https://developer.hashicorp.com/terraform/internals/json-format.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from sgdataplane.statefile.ecs_answers import Item
from sgdataplane.visible import json_text

VERSION = 4  # the version of Terraform's state file
INDEX = re.compile(r"\[[^\]]*\]")
MODULE = re.compile(r"module\.([^.\[]+)(?:\[[^\]]*\])?\.")
MAX_STEPS = 16  # at most, from a reference through variables and outputs of modules to its object
MAX_ID = 63
# Attributes that are the id of something else which comes with an object.
MORE_IDS = {"alicloud_instance": ("network_interface_id",), "aws_instance": ("primary_network_interface_id",)}
LISTS = ("security_groups", "security_group_ids", "vpc_security_group_ids")  # attributes that are lists of ids
BLOCKS = ("ingress", "egress")  # attributes that are lists of blocks; each known block counts
GROUPS_OF_BLOCK = "security_groups"


@dataclass(frozen=True, slots=True)
class Resource:
    """One object that Terraform manages."""

    address: str
    kind: str
    """The type of the resource, such as aws_instance."""
    item: Item
    """Its attributes, as far as they are known."""
    unknown: Mapping[str, bool] = field(default_factory=dict)
    """The attributes that only `terraform apply` will tell, and whether the configuration says something about each."""


def is_terraform(mapping: Mapping[str, object]) -> bool:
    """Return whether Terraform wrote a document, even if it isn't what is needed."""
    marks = ("terraform_version", "format_version", "planned_values")
    return any(mark in mapping for mark in marks) or mapping.get("version") == VERSION


def is_plan(mapping: Mapping[str, object]) -> bool:
    """Return whether a document is a plan."""
    return "planned_values" in mapping


def resources(top: Item, *, prior: bool) -> list[Resource] | None:
    """Return the managed objects of a state or plan; None if the document is neither.

    For a plan, these are the objects that it will make or, with `prior`, those that exist before it.
    """
    if is_plan(top.mapping):
        before = top.inner("prior_state").inner("values")
        return list(_walk(before.inner("root_module"))) if prior else _Plan(top).resources()
    if "format_version" in top.mapping:
        return list(_walk(top.inner("values").inner("root_module")))
    if top.get("version") == VERSION and "resources" in top.mapping:
        return list(_of_file(top))
    return None


def _of_file(top: Item) -> Iterator[Resource]:
    for found in top.items("resources"):
        module = f"{found.text('module')}." if found.text("module") else ""
        address = f"{module}{found.text('type')}.{found.text('name')}"
        if found.text("mode") != "data":
            for instance in found.items("instances"):
                index = _index_text(instance.get("index_key"))
                yield Resource(address + index, found.text("type"), instance.inner("attributes"))


def _index_text(key: object) -> str:
    """Return how an address says which of several objects it is: `[2]` with count, `["a"]` with for_each."""
    if isinstance(key, str):
        return f"[{json_text(key)}]"
    return f"[{key}]" if isinstance(key, int) else ""


def _walk(module: Item) -> Iterator[Resource]:
    for found in module.items("resources"):
        if found.text("mode") != "data":
            yield Resource(found.text("address"), found.text("type"), found.inner("values"))
    for child in module.items("child_modules"):
        yield from _walk(child)


class _Plan:
    """A plan's objects, by address."""

    def __init__(self, top: Item) -> None:
        self.planned = list(_walk(top.inner("planned_values").inner("root_module")))
        self.at: dict[str, list[Resource]] = {}
        for each in self.planned:
            for address in {each.address, INDEX.sub("", each.address)}:
                self.at.setdefault(address, []).append(each)
        self.unknown = {
            change.text("address"): change.inner("change").inner("after_unknown").mapping
            for change in top.items("resource_changes")
        }
        self.configuration = _Module("", top.inner("configuration").inner("root_module"))

    def resources(self) -> list[Resource]:
        """Return all objects, with what the plan tells about their unknown attributes."""
        return [self.complete(each) for each in self.planned]

    def complete(self, each: Resource) -> Resource:
        """Return the object with all that other parts of the plan tell about what is unknown."""
        unknown = {name: value for name, value in self.unknown.get(each.address, {}).items() if _has_unknown(value)}
        values = {name: value for name, value in each.item.mapping.items() if name not in unknown}
        module, local = self.configuration.inside(each.address)
        left: dict[str, bool] = {}
        for name in unknown:
            if name in BLOCKS and isinstance(each.item.get(name), list):
                values[name], left[name] = self.blocks(each, name)
                continue
            found = self.find_elements(each, name) if name in LISTS else self.text(each, name, 0)
            if found is not None:
                values[name] = found
            else:
                left[name] = bool(module.references(local, name) or module.blocks(local, name))
        item = Item(each.item.file, each.item.pointer, values, each.item.problems)
        return Resource(each.address, each.kind, item, left)

    def text(self, each: Resource, name: str, steps: int) -> str | None:
        """Return an unknown attribute; None if nothing says what it will be.

        It is an id of the object's own, or the attribute of another object that its expression means.
        """
        if name == "id":
            return make_id(each.address)
        if name in MORE_IDS.get(each.kind, ()):
            return make_id(f"{each.address}.{name}")
        found = self.resolve(each, name, steps)
        return found.pop() if len(found) == 1 else None

    def find_elements(self, each: Resource, name: str) -> list[str] | None:
        """Return a list with unknown elements, if the expression says what each of them is; None otherwise."""
        given = each.item.mapping.get(name)
        elements = given if isinstance(given, list) else []
        known = {element for element in elements if isinstance(element, str)}
        found = self.resolve(each, name, 0)
        missing = len(elements) - len(known) if elements else len(found)
        ids = {element for element in found if element is not None}
        return sorted(known | ids) if found and len(ids) == len(found) and len(ids - known) == missing else None

    def blocks(self, each: Resource, name: str) -> tuple[list[object], bool]:
        """Return the blocks that are known, and whether some are left out.

        A block of which only the groups are unknown counts as known if the configuration says which they are.
        """
        marks, given = self.unknown[each.address][name], each.item.mapping[name]
        module, local = self.configuration.inside(each.address)
        written = module.blocks(local, name)
        known: list[object] = []
        given = given if isinstance(given, list) else []
        for block, mark in zip(given, marks if isinstance(marks, list) else [True] * len(given), strict=False):
            names = {key for key, value in mark.items() if _has_unknown(value)} if isinstance(mark, dict) else {""}
            if not _has_unknown(mark):
                known.append(block)
            elif names == {GROUPS_OF_BLOCK} and isinstance(block, dict):
                alike = [other for other in written if _is_alike(other, block)]
                found = (
                    self.values(module, _references(alike[0].get(GROUPS_OF_BLOCK)), 0) if len(alike) == 1 else {None}
                )
                if found and None not in found:
                    known.append({**block, GROUPS_OF_BLOCK: sorted(filter(None, found))})
        return known, len(known) < len(given)

    def resolve(self, each: Resource, name: str, steps: int) -> set[str | None]:
        """Return what the expression of an attribute refers to."""
        module, local = self.configuration.inside(each.address)
        return self.values(module, module.references(local, name), steps)

    def values(self, module: _Module, references: Iterable[str], steps: int) -> set[str | None]:
        """Return what references mean in a module; None stands for what isn't the text of one object's attribute."""
        return {self.value(module, reference, steps) for reference in references} if steps < MAX_STEPS else {None}

    def value(self, module: _Module, reference: str, steps: int) -> str | None:
        """Return what a reference means, through variables and outputs of modules."""
        kind, _, rest = reference.partition(".")
        if kind == "var":
            found = self.values(*module.argument(rest), steps + 1)
        elif kind == "module":
            found = self.values(*module.output(rest), steps + 1)
        else:
            return self.attribute(module.prefix + reference, steps)
        return found.pop() if len(found) == 1 else None

    def attribute(self, reference: str, steps: int) -> str | None:
        """Return the value of `alicloud_security_group.web.id`; None if that isn't one text."""
        address, _, name = reference.rpartition(".")
        found = self.at.get(address, ())
        if len(found) != 1:
            return None
        value = found[0].item.mapping.get(name)
        if _has_unknown(self.unknown.get(found[0].address, {}).get(name)):
            return self.text(found[0], name, steps + 1)
        return value if isinstance(value, str) else None


@dataclass(frozen=True, slots=True)
class _Module:
    """One module of the configuration."""

    prefix: str
    """What the addresses of its objects begin with."""
    item: Item
    parent: _Module | None = None
    """The module that uses it; None for the root module."""
    call: Item | None = None
    """The call by which its parent uses it."""

    def inside(self, address: str) -> tuple[_Module, str]:
        """Return the module that an address leads to, and the rest of the address without indexes."""
        module = self
        while match := MODULE.match(address):
            module, address = module.child(match[1], match[0]), address[match.end() :]
        return module, INDEX.sub("", address)

    def child(self, name: str, step: str) -> _Module:
        """Return a module that this one calls."""
        call = self.item.inner("module_calls").inner(name)
        return _Module(self.prefix + step, call.inner("module"), self, call)

    def references(self, address: str, name: str) -> Sequence[str]:
        """Return what the expression of an object's attribute refers to."""
        for resource in self.item.items("resources"):
            if resource.text("address") == address:
                return _references(resource.inner("expressions").mapping.get(name))
        return ()

    def blocks(self, address: str, name: str) -> list[dict[str, object]]:
        """Return the blocks of an object that the configuration writes under a name."""
        for resource in self.item.items("resources"):
            found = resource.inner("expressions").mapping.get(name)
            if resource.text("address") == address and isinstance(found, list):
                return [block for block in found if isinstance(block, dict)]
        return []

    def argument(self, name: str) -> tuple[_Module, Sequence[str]]:
        """Return what the parent gives for a variable, and the module in which that has its meaning."""
        if self.parent is None or self.call is None:
            return self, ()
        return self.parent, _references(self.call.inner("expressions").mapping.get(name))

    def output(self, rest: str) -> tuple[_Module, Sequence[str]]:
        """Return what `web.group_id` refers to: an output of a module that this one uses."""
        name, _, output = rest.partition(".")
        child = self.child(INDEX.sub("", name), f"module.{name}.")
        return child, _references(child.item.inner("outputs").inner(output).mapping.get("expression"))


def _references(expression: object) -> Sequence[str]:
    """Return the references of an expression, without those that are a part of another.

    Terraform lists each reference, and then what it is a part of: `a.b.id`, `a.b`.
    """
    found = expression.get("references") if isinstance(expression, dict) else None
    texts = [each for each in found if isinstance(each, str)] if isinstance(found, list) else []
    return [each for each in texts if not any(other.startswith((f"{each}.", f"{each}[")) for other in texts)]


def _is_alike(written: Mapping[str, object], block: Mapping[str, object]) -> bool:
    """Return whether a block of the configuration has the protocol and ports of a planned one."""
    for name in ("from_port", "to_port", "protocol"):
        said = written.get(name)
        if not isinstance(said, dict) or str(said.get("constant_value")) != str(block.get(name)):
            return False
    return True


def _has_unknown(value: object) -> bool:
    if isinstance(value, (dict, list)):
        return any(map(_has_unknown, value.values() if isinstance(value, dict) else value))
    return value is True


def make_id(address: str) -> str:
    """Return an id for what has none yet: its address, as far as an id can be written so."""
    text = re.sub(r"[^A-Za-z0-9._-]+", "-", address).strip("-.")
    if text == address and len(text) <= MAX_ID:
        return text
    return f"{text[: MAX_ID - 9]}-{hashlib.sha256(address.encode()).hexdigest()[:8]}"
