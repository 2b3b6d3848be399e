"""What a page becomes on the site, and that a link that leads nowhere is noticed. `make docs` builds and checks it."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tools.site import ROOT, faults, links, page_text, place

NAVIGATION: list[dict[str, Any]] = tomllib.loads((ROOT / "zensical.toml").read_text("utf-8"))["project"]["nav"]


@pytest.mark.parametrize(
    ("name", "text", "becomes"),
    [
        ("docs/hosts.md", "[a](policy.md#words)", "[a](policy.md#words)"),
        ("docs/hosts.md", "[a](../SECURITY.md)", "[a](SECURITY.md)"),
        ("docs/hosts.md", "[a](../systemd/agent.toml)", "[a](systemd/agent.toml.md)"),
        ("docs/hosts.md", "![a](../netns-lab/report.png)", "![a](netns-lab/report.png)"),
        ("docs/decisions/README.md", "[a](../../README.md)", "[a](../index.md)"),
        ("README.md", "[a](docs/policy.md) [b](netns-lab)", "[a](policy.md) [b](netns-lab/README.md)"),
        ("README.md", "[a](https://example.org/x) [b](#here)", "[a](https://example.org/x) [b](#here)"),
        ("README.md", "`[a](docs/policy.md)`", "`[a](docs/policy.md)`"),
        ("README.md", "```\n[a](docs/policy.md)\n```", "```\n[a](docs/policy.md)\n```"),
        ("docs/state.md", "```\n$ sgdp\nok\n```", "```console\n$ sgdp\nok\n```"),
        ("docs/state.md", "```yaml office.yaml\na: 1\n```", '```yaml title="office.yaml"\na: 1\n```'),
    ],
)
def test_what_a_page_becomes(name: str, text: str, becomes: str) -> None:
    assert page_text(text, name) == becomes


def test_what_a_page_links_to_is_followed() -> None:
    assert list(links("[a](policy.md) `[b](c.md)` [d](https://example.org)", "docs/hosts.md")) == ["docs/policy.md"]


def test_every_page_of_the_navigation_is_there() -> None:
    pages = {place(str(path.relative_to(ROOT))) for path in ROOT.rglob("*") if not {".venv", "build"} & {*path.parts}}
    assert sorted(set(entries(NAVIGATION)) - pages) == []


def entries(navigation: list[dict[str, Any]]) -> Iterator[str]:
    for entry in navigation:
        for to in entry.values():
            yield from [to] if isinstance(to, str) else entries(to)


def test_links_that_lead_nowhere_are_noticed(tmp_path: Path) -> None:
    (tmp_path / "a.html").write_text(
        '<h1 id="here">x</h1><a href="#here">1</a><a href="b.html#there">2</a><a href="https://example.org">3</a>'
        '<a href="#nowhere">4</a><a href="b.html#nowhere">5</a><a href="c.html">6</a>'
        '<script src="https://example.org/x.js"></script>'
    )
    (tmp_path / "b.html").write_text('<p id="there">')
    assert sorted(faults(tmp_path)) == [
        "a.html: #nowhere leads nowhere",
        "a.html: b.html#nowhere leads nowhere",
        "a.html: c.html leads nowhere",
        "a.html: loads https://example.org/x.js",
    ]
