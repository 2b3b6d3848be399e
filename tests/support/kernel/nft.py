"""The `nft` program and libnftables' own binding in a test's namespace: another person's hands and eyes."""

from __future__ import annotations

import re
import subprocess
from functools import cache

import nftables
import pytest

from sgdataplane.host import netns

MAX_LISTINGS = 10  # that are made of one table; a hash map is moved within some milliseconds


def nft(namespace: str, *lines: str) -> str:
    """Run the lines as one batch (or one line of options and a command) there; what it printed."""
    with netns.inside(namespace):
        if len(lines) == 1 and lines[0].startswith("-"):
            command, text = ["nft", *lines[0].split()], None
        else:
            command, text = ["nft", "-f", "-"], "\n".join(lines) + "\n"
        done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@cache
def _knows_ports_of_sessions() -> bool:
    """Nft 1.0.6 prints them and can't read them: to it they have no type."""
    text = "table inet t { chain c { ct reply proto-dst 22 accept; }; }\n"
    done = subprocess.run(["unshare", "--net", "nft", "-c", "-f", "-"], input=text, text=True, check=False)
    return done.returncode == 0


def skip_unless_read(text: str) -> None:
    """Skip the test if this nft can't read text of ours."""
    if "proto-" in text and not _knows_ports_of_sessions():
        pytest.skip("this nft can't read the ports of a session")


def load_text(namespace: str, text: str) -> None:
    """Load it there as people's own programs would: by the official Python binding."""
    skip_unless_read(text)
    with netns.inside(namespace):
        code, _, errors = nftables.Nftables().cmd(text)
    assert code == 0, errors


def listing(namespace: str, table: str, family: str = "inet") -> str:
    """Return the table as nft prints it, without what differs between two that do the same: counts, whose sessions are
    counted, and the generation.

    Elements are sorted: nft prints hash maps in the order of their buckets. The kernel moves a hash map that has just
    been filled to more buckets, without a new generation. A list that was being read meanwhile may lack an element. So
    this reads until two lists in a row are equal.

    Raises:
        AssertionError: No two in a row of MAX_LISTINGS were equal.
    """
    previous = ""
    for _ in range(MAX_LISTINGS):
        found = _list_once(namespace, table, family)
        if found == previous:
            return found
        previous = found
    raise AssertionError(f"table {family} {table} has changed during each of {MAX_LISTINGS} lists")


def _list_once(namespace: str, table: str, family: str) -> str:
    text = nft(namespace, f"-s list table {family} {table}")
    text = re.sub(r"\n\t\telements = \{[^}]* ct count over [^}]*\}", "", text)
    text = re.sub(r"elements = \{([^}]*)\}", _sorted_elements, text)
    blocks = re.split(r"\n\n", text.removeprefix(f"table {family} {table} {{\n").removesuffix("}\n"))
    return "\n\n".join(sorted(block.strip("\n") for block in blocks))


def _sorted_elements(found: re.Match[str]) -> str:
    elements = sorted(" ".join(element.split()) for element in found[1].split(","))
    return "elements = {" + ", ".join(e for e in elements if not e.startswith("0x00000005 :")) + "}"
