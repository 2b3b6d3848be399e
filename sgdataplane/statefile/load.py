"""load(): the straight line from a path to a checked CloudState.

Owns the order of the steps. Must not know the details of any.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeAlias

from sgdataplane.errors import Where
from sgdataplane.model.state import CloudState
from sgdataplane.policy.findings import Finding
from sgdataplane.statefile.document import Document, are_too_many, parse, with_lines
from sgdataplane.statefile.ecs import add_ecs
from sgdataplane.statefile.ecs_answers import is_ecs
from sgdataplane.statefile.memory import Memory
from sgdataplane.statefile.native import add_native
from sgdataplane.statefile.problems import EnoughProblemsError, Problems
from sgdataplane.statefile.records import read_drafts, with_macs
from sgdataplane.statefile.sections import Drafts, Sections
from sgdataplane.statefile.source import SourceText, read_sources
from sgdataplane.statefile.terraform import add_terraform
from sgdataplane.statefile.validate import validate

# A format: adds the objects of documents to sections, and says what was odd.
Add: TypeAlias = Callable[[Iterable[Document], Sections, Problems], list[Finding]]


@dataclass(frozen=True, slots=True)
class Loaded:
    """A checked state, and what was odd in how it was written (masked host bits, ignored remotes, ...)."""

    state: CloudState
    findings: tuple[Finding, ...]


def load(path: Path, *, profile: str = "seed", memory: Memory | None = None, waits: bool = False) -> Loaded:
    """Load a file or folder of either format of state.md; StateFileError with everything wrong in it. `memory`: what
    earlier loads of similar files left, which makes this one faster. `waits`: if the path is a pipe, wait for its
    writer."""
    return load_with(add_documents, path, profile, memory, waits=waits)


def load_terraform(path: Path, *, profile: str = "seed", waits: bool = False) -> Loaded:
    """Load a Terraform state (terraform.tfstate, version 4); StateFileError with everything wrong in it."""
    return load_with(add_terraform, path, profile, waits=waits)


def load_with(add: Add, path: Path, profile: str, memory: Memory | None = None, *, waits: bool = False) -> Loaded:
    problems, memory = Problems(), memory or Memory()
    memory.begin()
    sources = read_sources(path, problems, waits=waits)
    try:
        loaded = load_sources(add, sources, profile, problems, memory)
    except EnoughProblemsError:
        loaded = None
    if loaded is None or problems.count:
        with_lines(problems, sources)
        raise problems.as_error()
    memory.accept()
    return loaded


def load_sources(add: Add, sources: tuple[SourceText, ...], profile: str, problems: Problems, memory: Memory) -> Loaded:
    """Every step in order; the result counts only if none has found a problem."""
    if are_too_many(sources, problems):
        raise EnoughProblemsError
    parsed = [memory.document(source, partial(parse, source, problems)) for source in sources]
    documents = [document for document in parsed if document]
    sections = Sections(is_complete=not problems.count, memory=memory)
    findings = add(documents, sections, problems)
    drafts = read_drafts(sections, problems)
    if sections.is_complete:
        validate(sections, drafts, profile, problems)
    return Loaded(as_state(drafts), (*findings, *drafts.findings))


def add_documents(documents: Iterable[Document], sections: Sections, problems: Problems) -> list[Finding]:
    """Add all documents' objects to `sections`, each by its own format."""
    answers: list[Document] = []
    native: list[Document] = []
    for document in documents:
        (answers if is_ecs(document) else native).append(document)
    for document in native:
        if answers:
            message = "the folder holds native documents and the cloud's answers"
            expected = "files of one format in a folder"
            problems.add(Where(document.file), "InvalidSource.MixedFormats", message, expected=expected)
        add_native(document, sections, problems)
    return add_ecs(answers, sections, problems) if answers else []


def as_state(drafts: Drafts) -> CloudState:
    """The records, sorted by id."""
    enis = sorted((draft.record for draft in drafts.network_interfaces), key=lambda eni: eni.network_interface_id)
    return CloudState(
        tuple(sorted((draft.record for draft in drafts.vpcs), key=lambda vpc: vpc.vpc_id)),
        tuple(sorted((draft.record for draft in drafts.prefix_lists), key=lambda entry: entry.prefix_list_id)),
        tuple(sorted((draft.record for draft in drafts.port_lists), key=lambda entry: entry.port_list_id)),
        tuple(sorted((draft.record for draft in drafts.security_groups), key=lambda group: group.security_group_id)),
        tuple(sorted((draft.record for draft in drafts.instances), key=lambda entry: entry.instance_id)),
        with_macs(enis),
    )
