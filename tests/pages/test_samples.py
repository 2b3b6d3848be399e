"""The documents for users show what their commands really print, and files that are in examples/.

`--update-golden` writes what the commands print now into the pages.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from _pytest.mark import ParameterSet

from sgdataplane.statefile import load
from tests.support.documents.samples import ENVIRONMENT, EXAMPLES, ROOT, SUPERUSER, USER, Block, blocks, fits, scene
from tests.support.run.warm import COLD, warm_program

MADE = {"kernels.md"}  # by a run of the suite
PAGES = (
    ROOT / "README.md",
    *sorted(page for page in (ROOT / "docs").glob("*.md") if page.name not in MADE),
    *(ROOT / name / "README.md" for name in ("netns-lab", "netns-lab/scenarios", "systemd")),
)
SCENARIO = ROOT / "netns-lab" / "scenarios" / "20-three-tier" / "state.yaml"
# Why a block isn't run, and how many there are.
NOT_RUN = {
    "it installs Debian packages": 4,
    "it loads kernel modules": 1,
    "keys are others in each run, and the server doesn't end": 3,
    "needs a container engine": 7,
    "needs a virtual machine": 1,
    "it installs packages, and the paths differ on Windows": 1,
    "needs a Mac": 1,
    "needs an agent that has run for a while": 2,  # tests/agent/test_history_verbs.py has one
    "needs an account of AWS": 1,
    "needs a project of OpenStack": 1,
    "the server doesn't end": 1,
    "tests/traffic/test_terraform.py runs it, where Terraform is": 2,
    "it needs the cloud's command line, which isn't in Debian; tests/http/test_every_action.py runs it": 1,
    "pip fetches Ansible; tests/http/test_playbooks.py plays both": 1,
    "it doesn't end; tests/traffic/test_cli_lab_hosts.py runs it": 1,
    "needs a repository with two branches": 1,  # tests/unit/test_gate.py has one
    "needs GitHub": 1,
    "needs pre-commit": 1,
    "needs systemd": 2,
    "needs Terraform": 2,
    "needs a registry of images; tests/kernel/test_api_container.py runs it on a base of its own": 1,
    "npm fetches the SDK; tests/control/test_node_suite.py runs the tests": 1,
    "tests/control/test_etcd_members.py runs it": 1,
    "tests/control/test_etcd_partition.py runs it, on three members with TLS": 1,
    "tests/packages/test_wheel.py makes a release": 1,
    "tests/kernel/test_docker_pages.py runs it": 9,
    "tests/kernel/test_units_api.py runs it on a machine with systemd": 2,
    "tests/relay/test_full_store.py runs it, on a member that one relay has filled": 1,
    "tests/relay/test_full_store.py runs it, on that member": 1,
    "tests/relay/test_many_hosts.py runs it": 3,
    "tests/traffic/test_api.py runs it, where the SDK is installed": 2,
    "it needs hosts; tests/traffic/test_many_hosts.py makes these calls over three": 1,
    "tests/traffic/test_scenarios.py runs all scenarios": 2,
}


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def needs_root(page: Path) -> bool:
    return any(block.is_run and block.prompt == SUPERUSER for block in blocks(page))


def with_marks(page: Path) -> ParameterSet:
    return pytest.param(page, id=name_of(page), marks=[pytest.mark.traffic] if needs_root(page) else [])


RUN = [page for page in PAGES if any(block.is_run for block in blocks(page))]


@pytest.fixture(scope="module")
def sgdp(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with warm_program(tmp_path_factory.mktemp("warm"), {**os.environ, **ENVIRONMENT}) as script:
        yield script


# The others are in test_samples_more.py, for another worker.
@pytest.mark.parametrize("page", [with_marks(page) for page in RUN[::2]])
def test_a_page_shows_what_is_printed(page: Path, tmp_path: Path, sgdp: str, update_golden: bool) -> None:
    check(page, tmp_path, sgdp, update_golden=update_golden)


@pytest.mark.slow
@pytest.mark.parametrize("page", [with_marks(page) for page in RUN])
def test_a_page_shows_what_new_interpreters_print(page: Path, tmp_path: Path) -> None:
    check(page, tmp_path, COLD, update_golden=False)


def check(page: Path, tmp_path: Path, sgdp: str, *, update_golden: bool) -> None:
    before = page.read_text("utf-8")
    with scene(tmp_path, sgdp, with_root=needs_root(page)) as found:
        after = found.page(before)
        left = found.left
    if update_golden and after != before:
        page.write_text(after, "utf-8")
    assert after == before or update_golden
    assert left == [], "a reader's examples/ is as it was"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_block_is_held_to_something(page: Path) -> None:
    assert [block.text for block in blocks(page) if not is_held(block)] == []
    assert re.search(r"^ +```", page.read_text("utf-8"), re.MULTILINE) is None


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_no_output_looks_like_a_command(page: Path) -> None:
    """A reader types what follows a prompt: no line that a command prints may begin with one."""
    outputs = (output for block in blocks(page) if block.is_prompted for _, output in block.commands())
    lines = (line for output in outputs for line in output.splitlines())
    assert [line for line in lines if line.startswith((USER, SUPERUSER))] == []


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_no_command_changes_the_machines_own_network(page: Path) -> None:
    """A reader may paste what is run here: links and addresses are made in namespaces that the page makes."""
    commands = (command for block in blocks(page) if block.is_run for command, _ in block.commands())
    assert [command for command in commands if re.match(r"(ip (?!-n |netns )|nft |sysctl )", command)] == []


def is_held(block: Block) -> bool:
    """Run, the same as a file in examples/, part of one, or said not to be run."""
    if block.is_run or block.word == "not run":
        return True
    file = EXAMPLES / (block.name or block.about)
    if not file.is_file():
        return False
    text = file.read_text("utf-8")
    return block.text == text if block.name else block.text in text


def test_what_is_not_run_is_counted() -> None:
    reasons = Counter(block.about for page in PAGES for block in blocks(page) if block.word == "not run")
    assert reasons == NOT_RUN


def test_every_example_is_listed_and_in_a_document() -> None:
    for text in ((EXAMPLES / "README.md").read_text("utf-8"), "\n".join(page.read_text("utf-8") for page in PAGES)):
        assert [path.name for path in sorted(EXAMPLES.iterdir()) if path.name not in f"{text} README.md"] == []


def test_the_shop_is_the_scenario() -> None:
    """So the tutorial's shop is one whose packets are tested."""
    assert load(EXAMPLES / "shop.yaml").state == load(SCENARIO).state


@pytest.mark.parametrize(
    ("shown", "printed", "is_the_same"),
    [
        ("a\n", "a\n", True),
        ("a\n", "b\n", False),
        ("a\n...\nd\n", "a\nb\nc\nd\n", True),
        ("a\n...\nd\n", "a\nb\nc\n", False),
        ("12:38:41.578Z  a:34761   x\n", "09:00:00.001-05:00  a:60999  x\n", True),
        ("12:38:41.578Z  a:34761 > b:22\n", "09:00:00.001Z  a:60999 > b:23\n", False),
        ("12:38:41.578Z  x\n", "09:00:00.001Z  x\n09:00:00.302Z  x\n", True),
        ("x\n", "x\nx\n", False),
        ("took 2.2 s, 9 packets\n", "took 13.1 s, 9 packets\n", True),
        ("took 2.2 s, 9 packets\n", "took 2.2 s, 8 packets\n", False),
    ],
)
def test_what_counts_as_the_same_output(shown: str, printed: str, is_the_same: bool) -> None:
    assert fits(shown, printed) is is_the_same
