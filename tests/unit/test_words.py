"""The product's names and sentences keep to the field's words: what was renamed doesn't come back."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

import pytest

from tests.support.documents.sources import modules

# Words that a name of the product must not have as a part, and the field's term for each.
REPLACED = {
    "kin": "group set",
    "kins": "group sets",
    "capsule": "sandbox",
    "undertaker": "reaper",
    "patience": "timeout",
    "parcel": "chunk",
    "needless": "redundant",
    "turnstile": "rate limiter",
    "parcels": "chunks",
    "wish": "request",
    "wishes": "preferences, or request",
    "complaint": "warning",
    "complaints": "warnings",
    "throttle": "token buckets, or rate limiter",
    "turned": "changed, or dirty",
    "letters": "characters",
    "door": "socket, listener, endpoint or port forwarder",
    "most": "max",
}
# A bound is `MAX_...`; functions and variables may say `most`.
ONLY_CONSTANTS = {"most"}
# Participles that don't tell what a function returns.
SILENT = {"said", "told", "meant", "held"}
UNNAMED = set[str]()
# Participles whose form doesn't show that they are some, as far as no verb in the imperative has the same form.
IRREGULAR = {
    "beaten", "begun", "bound", "built", "chosen", "done", "drawn", "driven", "fallen", "forgotten", "found", "given",
    "gone", "grown", "heard", "held", "hidden", "kept", "known", "laid", "led", "left", "lost", "made", "meant", "met",
    "paid", "said", "seen", "sent", "shown", "sold", "sought", "spelt", "spent", "taken",
    "thrown", "told", "undone", "unmet", "unspent", "withdrawn", "won", "worn", "written",
}  # fmt: skip
IMPERATIVES = {"embed", "exceed", "feed", "heed", "need", "proceed", "seed", "shed", "speed", "succeed"}
# An operation of the lab's protocol is called by its name.
OPERATIONS = {"lab.prober": {"counted", "watched"}}
PART = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")
CAPTION = re.compile(r"(?:^|[.:] )Of (?!equal|two|course)[a-z]", re.MULTILINE)

# What nobody says who explains something to a colleague.
DIALECT = re.compile(
    r"\b(?:this|it|that|answer|text) is no (?!longer)[A-Za-z]|\brules are asked\b|\bour (?:rules|routers|chains)\b"
    r"|\bbug of ours\b|nobody answers|\bput back\b|hold expectations|there is no other|is noted as"
    r"|: `[^`]*` (?:makes it|makes one|binds)"
)


def names(tree: ast.AST) -> Iterator[str]:
    """Every name that a module gives to something."""
    for node in ast.walk(tree):
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                yield name
            case ast.Name(id=name, ctx=ast.Store()) | ast.Attribute(attr=name, ctx=ast.Store()) | ast.arg(arg=name):
                yield name


def replaced_words(name: str) -> list[str]:
    """The words in a name that the field doesn't use."""
    found = [part.lower() for part in PART.findall(name)]
    return [word for word in found if word in REPLACED and (name.isupper() or word not in ONLY_CONSTANTS)]


def functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """All that are called; properties are nouns."""
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and not any(
            "property" in ast.unparse(each) for each in node.decorator_list
        ):
            yield node


def docstrings(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            yield node.value.value


def test_names_are_the_field_s() -> None:
    found = {(module, name, *replaced_words(name)) for module, tree in modules().items() for name in names(tree)}
    assert sorted(each for each in found if len(each) > 2) == []


@pytest.mark.parametrize("name", ["KIN_MAPS", "_Capsule", "by_kin", "MOST_ENIS", "_open_door"])
def test_such_a_name_is_found(name: str) -> None:
    assert replaced_words(name)


@pytest.mark.parametrize("name", ["kind", "most_cells", "outdoor", "MAX_ENIS", "almost"])
def test_a_name_that_only_looks_so_is_none(name: str) -> None:
    assert not replaced_words(name)


def test_no_function_is_named_by_a_participle_that_says_nothing() -> None:
    found = [(module, node.name) for module, tree in modules().items() for node in functions(tree)]
    assert [each for each in found if each[1].strip("_") in SILENT] == []


def is_participle(name: str) -> bool:
    """Return whether a function's first word is a past participle."""
    first = name.strip("_").split("_")[0]
    return first in IRREGULAR or (first.endswith("ed") and first not in IMPERATIVES)


def test_functions_are_verbs() -> None:
    found = {(module, node.name) for module, tree in modules().items() for node in functions(tree)}
    allowed = {(module, name) for module, names_of in OPERATIONS.items() for name in names_of}
    assert allowed <= found
    wrong = {(module, name) for module, name in found - allowed if is_participle(name)}
    assert sorted(wrong) == []


@pytest.mark.parametrize("name", ["_named", "built_lab", "written", "unmatched", "spelled_alike", "given"])
def test_a_participle_is_found(name: str) -> None:
    assert is_participle(name)


@pytest.mark.parametrize("name", ["need", "seed_sessions", "read_named", "put", "find_bound", "_heed"])
def test_a_verb_is_no_participle(name: str) -> None:
    assert not is_participle(name)


def test_no_sentence_begins_with_what_it_is_about() -> None:
    """Who reads "Of X, Y" has to keep X until the sentence ends."""
    found = [(module, text) for module, tree in modules().items() for text in docstrings(tree) if CAPTION.search(text)]
    assert found == []


def outputs(tree: ast.AST) -> Iterator[str]:
    """All texts of a module that aren't docstrings; ellipses stand for what is filled in."""
    described = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    filled = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
    hidden = described | filled
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            yield "".join(str(part.value) if isinstance(part, ast.Constant) else "..." for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in hidden:
            yield node.value


def test_outputs_speak_as_people_do() -> None:
    found = [(module, text) for module, tree in modules().items() for text in outputs(tree) if DIALECT.search(text)]
    assert found == []


@pytest.mark.parametrize(
    "text",
    [
        'f"end {name}: this is no IP address"',
        '"its session isn\'t accepted yet, so the rules are asked"',
        '"others have changed our rules"',
        'f"no ENI is attached: `sgdp attach` binds an interface to one"',
    ],
)
def test_such_a_text_is_found(text: str) -> None:
    assert [each for each in outputs(ast.parse(f"say({text})")) if DIALECT.search(each)]
