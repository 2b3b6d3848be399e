"""Imports go one way. The picture is MAY_IMPORT; the rest of the file reads the sources and compares."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator
from functools import cache

import pytest

from tests.support.documents.sources import module_paths, module_tree, modules

GROUND = ("visible", "collection", "limitedlog")  # import nothing of ours; anybody may import them
# A layer may import itself and what stands here; `lab` may import anything but `cli`, which only `sgdp` itself imports.
STATE = ("errors", "net", "model")
POLICY = (*STATE, "policy")
TABLES = (*POLICY, "contract", "nft", "compiler")
ENFORCING = (*TABLES, "proof", "host", "observe", "enforce", "attach")
RUNNING = (*ENFORCING, "statefile", "settings", "analyse", "trial", "__version__")
MAY_IMPORT: dict[str, tuple[str, ...]] = {
    "errors": (),
    "net": ("errors",),
    "host": ("errors", "net"),
    "model": ("errors", "net"),
    "statefile": STATE,
    "settings": (*STATE, "statefile"),
    "policy": STATE,
    "analyse": POLICY,
    "report": (*POLICY, "analyse", "__version__"),
    "suggest": (*POLICY, "analyse", "statefile"),  # and neither kernel nor files: what is seen is given to it
    "contract": POLICY,
    "nft": ("errors", "net", "contract"),
    "compiler": TABLES,
    "proof": (*STATE, "contract", "nft"),  # and nothing of the compiler's, whose word it must not take
    "observe": (*TABLES, "host"),
    "enforce": ENFORCING[: ENFORCING.index("attach")],
    "attach": (*POLICY, "host", "enforce"),
    "trial": (*TABLES, "host", "observe", "enforce", "statefile", "analyse"),
    "history": (*ENFORCING[: ENFORCING.index("enforce")], "settings"),
    "daemon": (*RUNNING, "history"),
    "store": (*STATE, "statefile", "settings", "host"),
    "handover": (*STATE, "store", "statefile"),  # and what the agent says
    "control": (*STATE, "store", "policy", "analyse", "statefile", "settings", "host", "__version__"),
    "relay": (*STATE, "store", "handover", "statefile", "settings", "host", "__version__"),  # and nothing of `control`
    "terminal": (*STATE, "statefile", "host", "__version__"),
    "cli": (*RUNNING, "daemon", "history", "report", "terminal", "suggest"),
    "cni": (*RUNNING, "daemon", "terminal"),
    "__main__": ("cli",),
    "api": (*RUNNING, "lab"),
    "pytest_plugin": ("api", "errors", "model"),
    "__init__": ("api",),
}
# The floors of a package, the lowest one first: its modules and packages, each of which may import itself and those
# before it.
FLOORS: dict[str, tuple[str, ...]] = {
    "store": (
        *(
            "interface",
            "encoded",
            "layered",
            "sortedids",
            "finding",
            "call",
            "audit",
            "history",
            "documents",
            "bodies",
            "objects",
            "closure",
            "rulechanges",
        ),
        *("refusals", "hosts", "summaries", "sqlite", "etcd", "opening"),
    ),
    "control": ("background", "config", "calls", "access", "actions", "hosts", "service", "http"),
    "proof": ("spec", "walk", "reuse", "checks", "witness", "prove"),
}
# Single modules that may import one thing more, with the reason.
EXCEPTIONS = {
    ("nft.kernel", "host"),  # a socket belongs to the namespace it was made in
    ("nft.faults", "host"),  # which kernel runs, and what it says of itself
    ("nft.*", "host.netlink"),  # the messages of nftables are made of its attributes
    ("nft.*", "host.nfnetlink"),  # and are its
    ("statefile.*", "policy.findings"),  # what is odd in a document is a finding, too
    ("handover.agentplace", "daemon.control"),  # the agent's status, at its socket
    ("relay.metrics", "daemon.scrape"),  # served as the agent's are
    ("cli.api", "control"),
    ("cli.api", "store"),
    ("cli.relay", "store.opening"),
    ("cli.relay", "relay"),
    ("cli.sync", "relay"),
    ("cli.apiclient", "control.http.client"),
    ("cli.group", "control.http.client"),
    ("cli.call", "control.calls.products"),
    ("cli.apistore", "control"),
    ("cli.apistore", "store"),
    ("cli.hosts", "control"),
    ("cli.hosts", "store"),
    ("cli.labhosts", "control"),
    ("cli.apiserve", "store"),
    ("cli.apiserve", "handover"),
    ("cli.apiserve", "control"),  # the verbs of the control plane (imported when they run)
    ("pytest_plugin", "control.http.client"),  # a test's own client, and what others need (imported when used)
    ("pytest_plugin", "control.http.development"),
    ("pytest_plugin", "statefile.dump_native"),
    ("cli.apidev", "store"),
    ("cli.apidev", "control"),
    ("cli.apidev", "lab.hosts.authority"),
    (
        "cli.*",
        "lab",
    ),  # what is in force in a lab, as on this host (test_only_the_verbs_of_the_lab_import_it_at_the_top)
}
# Packages of others, and the only places that may import them.
FOREIGN = {
    "scapy": (),  # tests alone make packets with it
    "pyroute2": ("host", "lab"),
    "inotify_simple": ("host.watch",),
    "nftables": (),  # libnftables trusts what it finds in a namespace (docs/design/update.md)
    "jinja2": ("report.render",),
    "rich": ("terminal.layout",),  # its only door, and only for a table that is too wide (test_rich_is_for_wide_tables)
    "shtab": ("cli.completion",),
    "prometheus_client": ("daemon.metrics", "control.http.metrics", "host.processes", "relay.metrics"),
    "sqlite3": ("store.sqlite", "history"),
    "starlette": ("control.http",),  # HTTP and its libraries are an extra: `sgdataplane[api]`
    "uvicorn": ("control.http.server",),
    "cryptography": ("control.access.secrets", "lab.hosts.authority"),
    "grpc": ("store.etcd.client",),  # the store in etcd is an extra: `sgdataplane[etcd]`
    "google": ("store.etcd.messages",),
    "websockets": ("relay",),  # the streams to hosts are an extra: `sgdataplane[relay]`
    "subprocess": ("lab", "pytest_plugin"),  # the product runs no other program; a test's API is a process
}


@cache
def imports(tree: ast.AST) -> tuple[str, ...]:
    """Dotted names that a tree imports, wherever in it the import stands: `from a import b` is a.b."""
    return tuple(name for node in ast.walk(tree) for name in _own_imports(node))


def _own_imports(node: ast.AST) -> list[str]:
    match node:
        case ast.Import(names=names):
            return [alias.name for alias in names]
        case ast.ImportFrom(module=str(module), names=names):
            return [f"{module}.{alias.name}" for alias in names]
    return []


def is_in(name: str, place: str) -> bool:
    return name == place or name.startswith(place + ".")


def is_excepted(module: str, target: str) -> bool:
    return any(is_in(module, who.removesuffix(".*")) and is_in(target, what) for who, what in EXCEPTIONS)


def is_upward(module: str, target: str) -> bool:
    """Whether a module imports from a floor of its package that is above its own. A package's own docstring module has
    no floor, and imports nothing."""
    package, _, rest = module.partition(".")
    floors, there = FLOORS.get(package, ()), target.partition(".")
    if not floors or there[0] != package:
        return False
    own, other = rest.partition(".")[0], there[2].partition(".")[0]
    return not own or floors.index(other) > floors.index(own)


def may_import(layer: str, target: str) -> bool:
    if layer == "lab":
        return not is_in(target, "cli")
    return target.partition(".")[0] in (layer, *GROUND, *MAY_IMPORT.get(layer, ()))


def breaches(module: str, tree: ast.AST) -> Iterator[str]:
    """A line for every import that the picture doesn't allow."""
    layer = module.partition(".")[0]
    for name in imports(tree):
        target = name.removeprefix("sgdataplane.")
        if name.startswith("sgdataplane.") and not (may_import(layer, target) or is_excepted(module, target)):
            yield f"{module} imports {target}"
        if is_upward(module, target):
            yield f"{module} imports {target}, which is above it"
        for package, places in FOREIGN.items():
            if is_in(name, package) and not any(is_in(module, place) for place in places):
                yield f"{module} imports {package}"


@pytest.mark.parametrize("module", module_paths())
def test_module_imports_only_what_its_layer_may(module: str) -> None:
    assert sorted(set(breaches(module, module_tree(module)))) == []


@pytest.mark.parametrize(
    ("module", "text", "breach"),
    [
        ("model.state", "from sgdataplane.policy.resolve import resolve", "model.state imports policy.resolve.resolve"),
        ("nft.text", "from sgdataplane.host import netns", "nft.text imports host.netns"),
        ("nft.delta", "import nftables", "nft.delta imports nftables"),
        ("policy.resolve", "def f():\n    import sgdataplane.lab.build", "policy.resolve imports lab.build"),
        ("cli.state", "import scapy.all", "cli.state imports scapy"),
        ("host.links", "import subprocess", "host.links imports subprocess"),
        ("daemon.loop", "from sgdataplane.lab import build", "daemon.loop imports lab.build"),
        ("lab.report", "from sgdataplane.cli import scopes", "lab.report imports cli.scopes"),
        ("cni.hook", "from sgdataplane.cli.main import main", "cni.hook imports cli.main.main"),
        ("api", "def f():\n    from sgdataplane.cli import main", "api imports cli.main"),
        ("terminal.output", "from sgdataplane.cli.main import main", "terminal.output imports cli.main.main"),
        ("store.hosts", "import sgdataplane.control.config", "store.hosts imports control.config"),
        ("relay.tls", "from sgdataplane.control import config", "relay.tls imports control.config"),
        (
            "control.access.keys",
            "from sgdataplane.control.actions import engine",
            "control.access.keys imports control.actions.engine, which is above it",
        ),
        (
            "control.actions.rules",
            "def f():\n    from sgdataplane.control.http.api import Api",
            "control.actions.rules imports control.http.api.Api, which is above it",
        ),
        (
            "store.documents",
            "from sgdataplane.store.etcd.store import EtcdStore",
            "store.documents imports store.etcd.store.EtcdStore, which is above it",
        ),
        (
            "proof.walk.program",
            "from sgdataplane.proof.reuse.template import Template",
            "proof.walk.program imports proof.reuse.template.Template, which is above it",
        ),
    ],
)
def test_a_breach_is_found(module: str, text: str, breach: str) -> None:
    assert breach in set(breaches(module, ast.parse(text)))


def test_only_the_program_itself_imports_the_command_line() -> None:
    importers = {
        module for module, tree in modules().items() for name in imports(tree) if is_in(name, "sgdataplane.cli")
    }
    assert {module for module in importers if not is_in(module, "cli")} == {"__main__"}


@pytest.mark.parametrize("package", FLOORS)
def test_each_part_of_a_package_has_its_floor(package: str) -> None:
    parts = {name.split(".")[1] for name in module_paths() if name.startswith(f"{package}.")}
    assert sorted(FLOORS[package]) == sorted(parts)


def test_only_the_verbs_of_the_lab_import_it_at_the_top() -> None:
    """Each module of the command line is imported for its own verbs alone; those of the others start without a lab."""
    at_the_top = [
        f"{module} imports {name}"
        for module, tree in modules().items()
        if is_in(module, "cli") and module not in ("cli.lab", "cli.labhosts", "cli.replay")
        for statement in tree.body
        if isinstance(statement, (ast.Import, ast.ImportFrom))
        for name in imports(statement)
        if is_in(name, "sgdataplane.lab")
    ]
    assert at_the_top == []


def test_actions_get_the_types_of_documents_from_the_store() -> None:
    casting = {module for module, tree in modules().items() if "typing.cast" in imports(tree)}
    assert "store.documents" in casting  # control
    assert not {module for module in casting if is_in(module, "control.actions")}


def named_modules(tree: ast.AST, known: frozenset[str]) -> set[str]:
    """The modules of ours that a tree imports, but for those that it imports for types alone."""
    nodes = list(ast.walk(tree))
    tests = [node for node in nodes if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"]
    for_types = {id(inner) for test in tests for inner in ast.walk(test)}
    nodes = [node for node in nodes if id(node) not in for_types]
    found = (name.removeprefix("sgdataplane.") for node in nodes for name in _own_imports(node))
    return {name if name in known else name.rpartition(".")[0] for name in found} & known


def circles(graph: dict[str, set[str]]) -> list[str]:
    """The modules that lead into a circle, sorted."""
    left = dict(graph)
    while ends := [name for name, targets in left.items() if not targets & left.keys()]:
        for name in ends:
            del left[name]
    return sorted(left)


def test_no_module_leads_back_to_itself() -> None:
    known = frozenset(module_paths())
    assert circles({name: named_modules(tree, known) - {name} for name, tree in modules().items()}) == []


def test_a_circle_is_found() -> None:
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": set()}) == ["a", "b", "c"]


# Two classes that people know by one name, though they are different things.
OF_ONE_NAME = {
    "Lab",  # that of the Python API, and what the lab's own modules know of one
    "Verdict",  # a policy's, and nftables' (accept, drop, jump, goto, return)
}


def test_no_two_classes_have_one_name() -> None:
    names = Counter(
        node.name for tree in modules().values() for node in ast.walk(tree) if isinstance(node, ast.ClassDef)
    )
    assert {name for name, count in names.items() if count > 1} == OF_ONE_NAME
