"""Builds the documentation's site into build/site: `make docs`.

Owns where a file of the repository stands on the site, and what of a page is rewritten for it. A page may link to any
file of the repository: linked pages become part of the site, and a linked source file becomes a page that shows it.
The build fails if a link leads nowhere, or if a page would load anything from elsewhere. Must not know what a page
says; zensical.toml has the navigation.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

ROOT = Path(__file__).resolve().parent.parent
STAGED, BUILT = ROOT / "build" / "pages", ROOT / "build" / "site"
# A link, and code, in which nothing is a link: a block, or a part of a line.
LINK = re.compile(r"(?P<code>^ *```.*?^ *```$|`[^`\n]+`)|(?P<text>\]\()(?P<to>[^)\s]+)\)", re.MULTILINE | re.DOTALL)
NAMED_BLOCK = re.compile(r"^```(\w+) ([\w./-]+)$", re.MULTILINE)
COMMANDS = re.compile(r"^```\n(?=[$#] )", re.MULTILINE)
IMAGES, PAGE = {".svg", ".png"}, ".md"
LANGUAGES = {".py": "python", ".toml": "toml", ".yml": "yaml", ".yaml": "yaml", ".sh": "sh", ".json": "json"}
STYLE = """\
.md-typeset table:not([class]) td, .md-typeset table:not([class]) th { padding: .5em .8em; }
.md-typeset table:not([class]) code { white-space: nowrap; }
.md-grid { max-width: 72rem; }
.md-typeset pre > code { font-size: .8em; } /* a line of 100 columns, as the samples are, fits beside both lists */
.md-typeset .highlight pre:has(.gp) :is(.m, .nb) { color: inherit; } /* of others than the shell's */
/* The copy button takes the text that is shown while the block has this attribute: only commands. */
.highlight code[data-md-copying]:has(.gp) :is(.gp, .go) { display: none; }
.highlight .gp { user-select: none; }
"""


def main() -> int:
    shutil.rmtree(STAGED, ignore_errors=True)
    shutil.rmtree(BUILT, ignore_errors=True)
    stage(("README.md", *(str(page.relative_to(ROOT)) for page in (ROOT / "docs").rglob("*.md"))))
    (STAGED / "site.css").write_text(STYLE, "utf-8")
    subprocess.run([sys.executable, "-m", "zensical", "build", "--clean"], cwd=ROOT, check=True)
    wrong = sorted(set(faults(BUILT)))
    print(*wrong, sep="\n", end="\n" if wrong else "")
    print(f"{len(list(BUILT.rglob('*.html')))} pages in {BUILT.relative_to(ROOT)}, {len(wrong)} faults")
    return 1 if wrong else 0


# staging


def stage(names: tuple[str, ...]) -> None:
    """Writes these files and all that they link to."""
    waiting, done = list(names), set(names)
    while waiting:
        found = set(stage_file(waiting.pop())) - done
        waiting += found
        done |= found


def stage_file(name: str) -> tuple[str, ...]:
    """The files that it links to."""
    source, target = ROOT / name, STAGED / place(name)
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.suffix in IMAGES:
        shutil.copy(source, target)
        return ()
    text = source.read_text("utf-8") if source.exists() else listed(source.parent)
    target.write_text(page_text(text, name) if source.suffix == PAGE else shown(text, name), "utf-8")
    return tuple(links(text, name)) if source.suffix == PAGE else ()


def place(name: str) -> str:
    """Where a file of the repository stands among the staged pages."""
    if name == "README.md":
        return "index.md"
    path = name.removeprefix("docs/")
    return path if Path(path).suffix in {*IMAGES, PAGE} else f"{path}.md"


def listed(folder: Path) -> str:
    """The page of a folder that has none."""
    pages = sorted(path for path in folder.iterdir() if path.suffix == PAGE)
    rows = (f"- [{path.read_text('utf-8').partition(chr(10))[0].lstrip('# ')}]({path.name})" for path in pages)
    return "\n".join((f"# {folder.relative_to(ROOT)}", "", *rows, ""))


def shown(text: str, name: str) -> str:
    """A page that shows a source file."""
    return f"# {name}\n\n````{LANGUAGES.get(Path(name).suffix, 'text')}\n{text.rstrip()}\n````\n"


def page_text(text: str, name: str) -> str:
    linked = LINK.sub(lambda found: placed(found, name), text)
    return COMMANDS.sub("```console\n", NAMED_BLOCK.sub(r'```\1 title="\2"', linked))


def placed(found: re.Match[str], name: str) -> str:
    """A link as it leads from the staged page."""
    to = None if found["code"] else target_of(found["to"], name)
    if to is None:
        return found[0]
    _, hash_, anchor = found["to"].partition("#")
    return f"{found['text']}{os.path.relpath(place(to), Path(place(name)).parent)}{hash_}{anchor})"


def links(text: str, name: str) -> Iterator[str]:
    """The files of the repository that a page links to."""
    for found in LINK.finditer(text):
        to = None if found["code"] else target_of(found["to"], name)
        if to is not None:
            yield to


def target_of(link: str, name: str) -> str | None:
    """The file that a link of `name` leads to; None if it leads out of the repository, or into the page itself. A
    folder stands for its README.md."""
    path = link.partition("#")[0]
    if not path or urlsplit(link).scheme:
        return None
    target = os.path.normpath(Path(name).parent / path)
    return f"{target}/README.md" if (ROOT / target).is_dir() else target


# checking


class Page(HTMLParser):
    """What a built page links to and loads, and which anchors it has."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loads: list[str] = []
        self.anchors: set[str] = set()
        self.feed(path.read_text("utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        about = {name: value or "" for name, value in attrs}
        self.anchors |= {about[name] for name in ("id", "name") if name in about}
        if tag == "a" and "href" in about:
            self.links.append(about["href"])
        elif tag == "link" and about.get("rel") in {"stylesheet", "icon", "preload"}:
            self.loads.append(about["href"])
        elif "src" in about:
            self.loads.append(about["src"])


@cache
def read_page(path: Path) -> Page:
    return Page(path)


def faults(site: Path) -> Iterator[str]:
    """A line for each link that leads nowhere, and for each thing that a page would load from elsewhere."""
    for path in site.rglob("*.html"):
        if path.name != "404.html":  # its links are written for the root of a server
            page, name = read_page(path), path.relative_to(site)
            yield from (f"{name}: loads {load}" for load in page.loads if urlsplit(load).netloc)
            yield from (f"{name}: {link} leads nowhere" for link in page.links + page.loads if not leads(link, path))


def leads(link: str, path: Path) -> bool:
    parts = urlsplit(link)
    if parts.scheme or parts.netloc:
        return True
    target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
    if not target.is_file():
        return False
    return not parts.fragment or target.suffix != ".html" or unquote(parts.fragment) in read_page(target).anchors


if __name__ == "__main__":
    sys.exit(main())
