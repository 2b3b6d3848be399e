"""load(): the straight line from a path to a checked CloudState.

Owns the order of the steps. Must not know the details of any.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TypeAlias

from sgdataplane.errors import Where
from sgdataplane.model.pending import PendingEni
from sgdataplane.model.state import CloudState
from sgdataplane.policy.findings import Finding
from sgdataplane.statefile.aws import add_aws, is_aws
from sgdataplane.statefile.document import Document, are_too_many, parse, with_lines
from sgdataplane.statefile.ecs import add_ecs
from sgdataplane.statefile.ecs_answers import is_ecs
from sgdataplane.statefile.memory import Memory
from sgdataplane.statefile.native import add_native
from sgdataplane.statefile.openstack import add_openstack
from sgdataplane.statefile.openstack_objects import is_openstack
from sgdataplane.statefile.owner import SoleOwner
from sgdataplane.statefile.places import Origins, places_of
from sgdataplane.statefile.problems import EnoughProblemsError, Problems
from sgdataplane.statefile.records import read_drafts, with_macs
from sgdataplane.statefile.resources import is_plan, is_terraform
from sgdataplane.statefile.sections import Drafts, Sections
from sgdataplane.statefile.source import SourceText, read_sources
from sgdataplane.statefile.terraform import add_terraform
from sgdataplane.statefile.validate import validate

# A function for a format, which adds the objects of documents to sections, and returns what was odd.
Add: TypeAlias = Callable[[list[Document], Sections, Problems], list[Finding]]


@dataclass(frozen=True, slots=True)
class Loaded:
    """A checked state, and what was odd in how it was written."""

    state: CloudState
    findings: tuple[Finding, ...]
    """What was odd: host bits that were masked, remotes that were ignored, ..."""
    pending: tuple[PendingEni, ...] = ()
    """The interfaces that a Terraform plan makes and that have no address yet."""
    origin: str = "native"
    """The format that it was read from."""
    places: Origins = field(default_factory=Origins, compare=False)
    """Where its objects come from."""
    sources: tuple[SourceText, ...] = field(default=(), compare=False)
    """The texts that it was read from, if places were asked for."""


@dataclass(frozen=True, slots=True)
class LoadOptions:
    """How texts are read."""

    profile: str = "seed"
    """The set of quotas that applies."""
    inexact: str = "refuse"
    """What becomes of another cloud's rules that can't be expressed exactly: "refuse", "widen" or "narrow".

    "import" refuses them, and says that `sgdp import` has this choice.
    """
    prior: bool = False
    """Read from a Terraform plan what exists before it, not what it makes."""
    is_placed: bool = False
    """Remember where objects stand, which takes memory."""


def load(
    path: Path, *, profile: str = "seed", inexact: str = "refuse", memory: Memory | None = None, waits: bool = False
) -> Loaded:
    """Load a file or folder in any format (state-format.md).

    `inexact` says what becomes of another cloud's rules that can't be expressed exactly (`LoadOptions`). `memory` has
    what earlier loads of similar files left, which makes this one faster. If the path is a pipe and `waits` is set,
    wait for its writer.

    Raises:
        StateFileError: says everything that is wrong in it.
    """
    problems, memory = Problems(), memory or Memory()
    memory.begin()
    loaded = load_sources(read_sources(path, problems, waits=waits), LoadOptions(profile, inexact), problems, memory)
    memory.accept()
    return loaded


def load_placed(path: Path, *, profile: str = "seed", inexact: str = "refuse") -> Loaded:
    """Load as `load` does, waiting for the writer of a pipe; `places` says where each object stands."""
    problems = Problems()
    sources = read_sources(path, problems, waits=True)
    return load_sources(sources, LoadOptions(profile, inexact, is_placed=True), problems, Memory())


def load_owned(path: Path, owner: SoleOwner | None, *, profile: str, memory: Memory) -> Loaded:
    """Load a state that will be enforced.

    If `owner` is given, refuse files that others than one user could change; it then knows who that is. Rules of other
    clouds that can't be expressed exactly are refused: what is enforced must say itself what it accepts.

    Raises:
        StateFileError: says everything that is wrong in it.
    """
    problems = Problems()
    memory.begin()
    loaded = load_sources(read_sources(path, problems, owner=owner), LoadOptions(profile, "import"), problems, memory)
    memory.accept()
    return loaded


def load_text(text: str, *, file: str, profile: str = "seed") -> Loaded:
    """Load a text; `file` is the name that errors give it."""
    return load_sources((SourceText(file, text),), LoadOptions(profile), Problems(), Memory())


def load_native(document: dict[str, object], *, profile: str = "seed", memory: Memory | None = None) -> Loaded:
    """Check a native document that is in memory already.

    `memory` has what earlier calls left; objects that are the same, at the same places, aren't read again.

    Raises:
        StateFileError: as from `load`, with pointers instead of lines.
    """
    problems, memory = Problems(), memory or Memory()
    memory.begin()
    sections = Sections(memory=memory)
    try:
        add_native([Document(SourceText("", ""), document)], sections, problems)
        drafts = read_drafts(sections, problems)
        validate(sections, drafts, profile, problems)
    except EnoughProblemsError:
        raise problems.as_error() from None
    if problems.count:
        raise problems.as_error()
    memory.accept()
    return Loaded(as_state(drafts), tuple(drafts.findings))


def load_plan(
    path: Path, *, profile: str = "seed", inexact: str = "refuse", waits: bool = False, before: Path | None = None
) -> tuple[Loaded, Loaded]:
    """Load a Terraform plan: the state that exists before it, and the one that it makes.

    If the path isn't a plan, return the state `before`, and the one at the path.

    Raises:
        StateFileError: something is wrong in them, or the path isn't a plan and there is no `before`.
    """
    problems, reading = Problems(), LoadOptions(profile, inexact)
    sources = read_sources(path, problems, waits=waits)
    parsed = [parse(source, Problems()) for source in sources]
    if sources and not all(document and is_plan(document.mapping) for document in parsed):
        if before is not None:
            old = load(before, profile=profile, inexact=inexact, waits=waits)
            return old, load_sources(sources, reading, problems, Memory())
        expected = "what `terraform show -json PLANFILE` prints, or two states (SGDP_STATE may name the first)"
        problems.add(Where(str(path)), "InvalidSource.NotAPlan", "not a Terraform plan", expected=expected)
    prior = load_sources(sources, replace(reading, prior=True), problems, Memory())
    return prior, load_sources(sources, reading, problems, Memory())


def load_sources(sources: tuple[SourceText, ...], reading: LoadOptions, problems: Problems, memory: Memory) -> Loaded:
    """Return the state that texts hold.

    Raises:
        StateFileError: has all problems.
    """
    try:
        loaded = _load_sources(sources, reading, problems, memory)
    except EnoughProblemsError:
        loaded = None
    if loaded is None or problems.count:
        with_lines(problems, sources)
        raise problems.as_error()
    return loaded


def _load_sources(sources: tuple[SourceText, ...], reading: LoadOptions, problems: Problems, memory: Memory) -> Loaded:
    """Take every step in order; the result counts only if none has found a problem."""
    if are_too_many(sources, problems):
        raise EnoughProblemsError
    parsed = [memory.document(source, partial(parse, source, problems)) for source in sources]
    documents = [document for document in parsed if document]
    sections = Sections(is_complete=not problems.count, inexact=reading.inexact, memory=memory)
    findings = add_documents(documents, sections, problems, prior=reading.prior)
    drafts = read_drafts(sections, problems)
    if sections.is_complete:
        validate(sections, drafts, reading.profile if sections.has_quotas else "unlimited", problems)
    origin = format_of(documents[0]) if documents else "native"
    origin = "aws" if origin == "terraform" and not sections.has_quotas else origin
    places = places_of(sections, drafts, with_places=reading.is_placed)
    found = (*findings, *drafts.findings)
    return Loaded(
        as_state(drafts), found, tuple(sections.pending), origin, places, sources if reading.is_placed else ()
    )


def add_documents(
    documents: Iterable[Document], sections: Sections, problems: Problems, *, prior: bool
) -> list[Finding]:
    """Add all documents' objects to `sections`; documents must be of one format."""
    adding: dict[str, Add] = {
        "native": add_native,
        "ecs": add_ecs,
        "terraform": partial(add_terraform, prior=prior),
        "aws": add_aws,
        "openstack": add_openstack,
    }
    found: dict[str, list[Document]] = {}
    for document in documents:
        found.setdefault(format_of(document), []).append(document)
    for document in chain.from_iterable(list(found.values())[1:]):
        message, expected = "the folder holds files of several formats", "files of one format in a folder"
        problems.add(Where(document.file), "InvalidSource.MixedFormats", message, expected=expected)
    return [finding for name, of_format in found.items() for finding in adding[name](of_format, sections, problems)]


def format_of(document: Document) -> str:
    """Return the format of a document, which its keys tell."""
    if is_aws(document.mapping):
        return "aws"
    if is_openstack(document.mapping):
        return "openstack"
    if is_ecs(document):
        return "ecs"
    return "terraform" if is_terraform(document.mapping) else "native"


def as_state(drafts: Drafts) -> CloudState:
    """Return the state of all records, sorted by id."""
    enis = sorted((draft.record for draft in drafts.network_interfaces), key=lambda eni: eni.network_interface_id)
    return CloudState(
        tuple(sorted((draft.record for draft in drafts.vpcs), key=lambda vpc: vpc.vpc_id)),
        tuple(sorted((draft.record for draft in drafts.prefix_lists), key=lambda entry: entry.prefix_list_id)),
        tuple(sorted((draft.record for draft in drafts.port_lists), key=lambda entry: entry.port_list_id)),
        tuple(sorted((draft.record for draft in drafts.security_groups), key=lambda group: group.security_group_id)),
        tuple(sorted((draft.record for draft in drafts.instances), key=lambda entry: entry.instance_id)),
        with_macs(enis),
    )
