"""What the copy button of the documentation's site takes from a block of commands: neither prompts nor output.

The button marks the block, takes the text that is shown, and unmarks it (`xf` in the theme's bundle does just that).
"""

from __future__ import annotations

import html
from pathlib import Path

import pytest

from tests.support.documents.browser import Browser
from tools.site import STYLE

pytestmark = pytest.mark.kernel
COPIED = """(() => { const code = document.querySelector("code"); code.setAttribute("data-md-copying", "");
    const text = code.innerText; code.removeAttribute("data-md-copying"); return text.trimEnd(); })()"""
PROMPT, OUTPUT = '<span class="gp">{}</span>', '<span class="go">{}\n</span>'


def page(folder: Path, style: str, code: str) -> Path:
    path = folder / "page.html"
    block = f'<div class="md-typeset"><div class="highlight"><pre><code>{code}</code></pre></div></div>'
    path.write_text(f"<!doctype html><style>{style}</style>{block}", "utf-8")
    return path


SESSION = (
    f"{PROMPT.format('# ')}sgdp apply shop.yaml\n{OUTPUT.format('eni-web: in force')}"
    f"{PROMPT.format('$ ')}sgdp status\n{OUTPUT.format('healthy')}"
)


def test_commands_are_copied_without_prompt_and_output(chromium: Browser, tmp_path: Path) -> None:
    chromium.open(page(tmp_path, STYLE, SESSION))
    assert chromium.value(COPIED).splitlines() == ["sgdp apply shop.yaml", "sgdp status"]
    shown = chromium.value("document.querySelector('code').innerText")
    assert "# sgdp apply shop.yaml" in shown
    assert "healthy" in shown


def test_what_has_no_prompt_is_copied_as_it_is(chromium: Browser, tmp_path: Path) -> None:
    text = "version: 1\n# a comment\nvpcs: []"
    chromium.open(page(tmp_path, STYLE, html.escape(text)))
    assert chromium.value(COPIED) == text


def test_without_the_style_the_prompt_is_copied(chromium: Browser, tmp_path: Path) -> None:
    """What the site did; so the test sees it."""
    chromium.open(page(tmp_path, "", SESSION))
    assert chromium.value(COPIED).startswith("# sgdp apply")
