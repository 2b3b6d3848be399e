"""Pages as a browser shows them: on a phone, in the dark, to a screen reader, with hostile names, without a network."""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest

from sgdataplane.cli.trialtext import as_html
from sgdataplane.lab.report import matrix_page, matrix_picture
from sgdataplane.report.content import Observed, SessionRow
from sgdataplane.report.render import render_page, render_picture
from tests.support.documents.browser import Browser
from tests.support.inputs import pages
from tests.support.inputs.hardpolicies import typical
from tests.support.inputs.replays import replay_text, report_of
from tests.support.inputs.trialpages import shown_trial

pytestmark = pytest.mark.kernel  # in a network namespace of its own: nothing that a page asks for could be had

SESSION = SessionRow(
    "eni-db1", "ingress", "tcp", "10.20.2.11:40000", "10.20.3.21:5432", "ESTABLISHED", "passes", "default"
)


def three_tier() -> str:
    return pages.page_of(pages.three_tier())


def observed() -> str:
    hits = {("sg-db", "sgr-from-web"): 1234567}
    return pages.page_of(pages.three_tier(), observed=Observed("in a lab", hits, (SESSION,), 1))


def matrix() -> str:
    return render_page(matrix_page(*pages.matrix_of(pages.three_tier(), "wide", "tcp/22,tcp/8080,icmp", wrong=3)))


def replay() -> str:
    return replay_text(report_of(60, wrong=2), report_of(40, verdict="drop"))


def hostile_replay() -> str:
    name = pages.HOSTILE
    return replay_text(report_of(3, wrong=1, name=name), report_of(3, verdict="drop", name=name), name=name)


def trial() -> str:
    """Return a trial's page, with markup wherever a user's text may stand."""
    return as_html(shown_trial(pages.HOSTILE))


def large() -> str:
    return pages.page_of(typical(1))


PAGES: dict[str, Callable[[], str]] = {
    "three-tier": three_tier,
    "observed": observed,
    "matrix": matrix,
    "large": large,
    "replay": replay,
    "replay-hostile": hostile_replay,
    "trial": trial,
    "hostile": pages.hostile_page,
}


# Nothing is on it that isn't on the others, but it takes long to make and to draw.
LARGE = pytest.param("large", marks=pytest.mark.slow)


@pytest.fixture(scope="module", params=[LARGE if name == "large" else name for name in PAGES])
def page(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / f"{request.param}.html"
    path.write_text(PAGES[request.param](), encoding="utf-8")
    return path


def written(folder: Path, text: str, name: str = "page.html") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("width", [360, 768, 1280])
def test_nothing_but_tables_and_pictures_has_to_be_scrolled_sideways(chromium: Browser, page: Path, width: int) -> None:
    chromium.open(page, width, 800)
    assert chromium.value("window.innerWidth") == width
    assert chromium.value("document.documentElement.scrollWidth") == width
    wide = """[...document.querySelectorAll('.scroll')].filter(e => e.scrollWidth > e.clientWidth && e.tabIndex != 0)"""
    assert chromium.value(f"{wide}.length") == 0


def test_a_page_asks_for_nothing_and_nobody_complains(chromium: Browser, page: Path) -> None:
    chromium.open(page)
    assert chromium.requests() == [page.resolve().as_uri()]
    assert chromium.complaints() == []
    assert chromium.value("document.scripts.length") == 0
    outward = "[...document.querySelectorAll('[src], link, iframe, object, embed, image, use, form')].length"
    assert chromium.value(outward) == 0
    links = chromium.value("[...document.querySelectorAll('a')].map(a => a.getAttribute('href'))")
    assert [link for link in links if not link.startswith("#")] == []


def test_what_a_page_would_ask_for_is_noticed(chromium: Browser, tmp_path: Path) -> None:
    """The control of the test above."""
    text = three_tier().replace("</main>", '<img src="http://192.0.2.1/x.png"></main>')
    chromium.open(written(tmp_path, re.sub(r"<meta http-equiv.*", "", text)))
    assert "http://192.0.2.1/x.png" in chromium.requests()
    chromium.open(written(tmp_path, text))
    assert any("Content Security Policy" in said for said in chromium.complaints())


def test_the_structure_is_sound(chromium: Browser, page: Path) -> None:
    chromium.open(page)
    assert chromium.value("document.documentElement.lang") == "en"
    assert chromium.value("document.title") == chromium.value("document.querySelector('h1').textContent")
    levels = chromium.value("[...document.querySelectorAll('h1,h2,h3,h4')].map(h => Number(h.tagName[1]))")
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    ids = chromium.value("[...document.querySelectorAll('[id]')].map(e => e.id)")
    assert len(set(ids)) == len(ids)
    assert chromium.value("[...document.querySelectorAll('a')].every(a => document.querySelector(a.hash))")
    named = chromium.value("""[...document.querySelectorAll('[aria-labelledby], [aria-describedby]')].flatMap(
        e => [e.getAttribute('aria-labelledby'), e.getAttribute('aria-describedby')]).filter(Boolean)""")
    assert set(named) <= set(ids)
    assert chromium.value(
        "[...document.querySelectorAll('table')].every(t => t.caption && t.tHead && t.tBodies.length)"
    )
    assert chromium.value("[...document.querySelectorAll('th')].every(t => ['row', 'col'].includes(t.scope))")
    assert chromium.value(
        "[...document.querySelectorAll('svg')].every(s => s.querySelector('title') && s.querySelector('desc'))"
    )
    uneven = "t => new Set([...t.rows].map(r => r.cells.length)).size > 1"
    assert chromium.value(f"[...document.querySelectorAll('table')].filter({uneven}).length") == 0


def test_a_screen_reader_is_told_all(chromium: Browser, tmp_path: Path) -> None:
    chromium.open(written(tmp_path, three_tier()))
    told = chromium.readable()
    for role, name in (
        ("heading", "Who reaches whom in vpc-shop"),
        ("image", "Who reaches whom in vpc-shop"),
        ("table", "Rules of sg-db"),
        ("rowheader", "web1 sg-admin, sg-web"),
        ("navigation", "On this page"),
    ):
        assert (role, name) in told
    cells = [name for role, name in told if role in ("cell", "gridcell")]
    assert {"nothing", "the same", "tcp 8080", "everything"} <= {cell.strip() for cell in cells}


CONTRAST = """(() => {
  const parse = c => c.match(/[\\d.]+/g).map(Number);
  const linear = v => v <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4;
  const light = c => { const [r, g, b] = parse(c).map(v => linear(v / 255)); return .2126 * r + .7152 * g + .0722 * b };
  const under = e => {
    for (; e; e = e.parentElement) {
      const c = getComputedStyle(e).backgroundColor;
      if (parse(c)[3] !== 0) return c;
    }
    return 'rgb(255, 255, 255)';
  };
  const found = [], walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) {
    const text = walk.currentNode.textContent.trim(), e = walk.currentNode.parentElement;
    if (!text || !e.getClientRects().length || ['title', 'desc'].includes(e.tagName)) continue;
    const style = getComputedStyle(e), isDrawn = e.tagName == 'text';
    const below = isDrawn ? getComputedStyle(e.parentElement.querySelector('rect')).fill : under(e);
    const [a, b] = [light(isDrawn ? style.fill : style.color), light(below)];
    found.push([Math.round((Math.max(a, b) + .05) / (Math.min(a, b) + .05) * 100) / 100, text.slice(0, 40)]);
  }
  return found })()"""


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("name", ["observed", "matrix", "replay", "trial"])
def test_every_text_has_contrast_enough(chromium: Browser, tmp_path: Path, name: str, *, dark: bool) -> None:
    """WCAG AA: 4.5 to 1."""
    chromium.open(written(tmp_path, PAGES[name]()), dark=dark)
    found = chromium.value(CONTRAST)
    assert len(found) > 80
    assert [entry for entry in found if entry[0] < 4.5] == []
    brightness = chromium.value("getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)[0]")
    assert (brightness < 60) is dark


def test_markup_in_names_is_text(chromium: Browser, tmp_path: Path) -> None:
    chromium.open(written(tmp_path, pages.hostile_page()))
    assert chromium.value("document.title") == f"Security groups: {pages.HOSTILE}"
    assert chromium.value("document.images.length + document.scripts.length") == 0
    text = chromium.value("document.body.textContent")
    assert text.count(pages.HOSTILE) > 20
    assert chromium.value("document.querySelector('svg title').textContent") == "Who reaches whom in vpc-shop"


def test_markup_in_a_trial_s_names_is_text(chromium: Browser, tmp_path: Path) -> None:
    chromium.open(written(tmp_path, trial()))
    assert chromium.value("document.title") == "Trial tighter"
    assert chromium.value("document.images.length + document.scripts.length") == 0
    assert chromium.value("document.body.textContent").count(pages.HOSTILE) >= 4


def test_the_picture_alone_is_an_image_with_hostile_names_too(chromium: Browser, tmp_path: Path) -> None:
    lab, cells = pages.matrix_of(pages.hostile_state(), "wide", "tcp/22,tcp/8080", wrong=2)
    path = written(tmp_path, render_picture(matrix_picture(lab, cells)), "picture.svg")
    chromium.open(path, 800, 600)
    assert chromium.requests() == [path.resolve().as_uri()]
    assert chromium.complaints() == []
    assert chromium.value("document.documentElement.tagName") == "svg"
    assert chromium.value("document.querySelectorAll('.wrong .arrow').length") >= 1
    assert chromium.value("document.getElementsByTagName('script').length") == 0


def test_numbers_of_rows_are_those_of_the_state(chromium: Browser, tmp_path: Path) -> None:
    chromium.open(written(tmp_path, observed()))
    rows = "[...document.querySelectorAll('table')].map(t => [t.caption.textContent, t.tBodies[0].rows.length])"
    counts = {caption.split(".")[0]: number for caption, number in chromium.value(rows)}
    assert counts["What an ENI of the row may open to an ENI of the column"] == 1 + len(
        pages.three_tier().network_interfaces
    )
    for group in pages.three_tier().security_groups:
        assert counts[f"Rules of {group.security_group_id}"] == len(group.rules)
    assert counts["1 of 1, in a lab"] == 1
    assert "1,234,567" in chromium.value("document.querySelector('#rules').textContent")


def test_a_matrix_shows_each_disagreement_in_words(chromium: Browser, tmp_path: Path) -> None:
    chromium.open(written(tmp_path, matrix()))
    assert chromium.value("document.querySelectorAll('#disagreements dt').length") == 3
    assert chromium.value("document.querySelectorAll('#probes td.fault').length") == 3
    assert chromium.value(
        "[...document.querySelectorAll('#probes td.fault')].every(c => c.textContent.includes('expected'))"
    )
    ends = 5 + 2 + 1  # instances, one host outside in two families, and lb1 in the other family
    assert chromium.value("document.querySelectorAll('#who table tbody tr').length") == ends


def test_a_replay_shows_each_disagreement_in_words(chromium: Browser, tmp_path: Path) -> None:
    chromium.open(written(tmp_path, replay()))
    assert chromium.value("document.querySelectorAll('#run1 td.fault').length") == 2
    first = "document.querySelector('#run1 tbody tr').lastElementChild.textContent"
    assert "! disagrees packet 117: not as it should be" in chromium.value(first)
    assert chromium.value("document.querySelectorAll('#changes tbody tr').length") == 60


def test_print_leaves_out_what_paper_has_no_use_for(chromium: Browser, tmp_path: Path) -> None:
    chromium.open(written(tmp_path, three_tier()), media="print", dark=True)
    assert chromium.value("getComputedStyle(document.querySelector('nav')).display") == "none"
    assert chromium.value("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
