"""Pages and pictures as text, made from the templates.

Owns the template engine: nothing of a state can become markup, or reverse the direction of the page's text. Takes
pages. Must not know states.

A page is one file: its style and pictures are in it, it has no script, and it refers to nothing elsewhere. Its own
policy (Content-Security-Policy) tells the browser so.
"""

from __future__ import annotations

from functools import cache

from jinja2 import Environment, PackageLoader, StrictUndefined

from sgdataplane.report.content import FlowsPage, MatrixPage, Picture, ReplayPage, ReportPage, TrialPage
from sgdataplane.visible import visible_block

TEMPLATES = {
    ReportPage: "report.html.j2",
    MatrixPage: "matrix.html.j2",
    ReplayPage: "replay.html.j2",
    FlowsPage: "flows.html.j2",
    TrialPage: "trial.html.j2",
}


@cache
def _environment() -> Environment:
    """Return the template engine.

    It escapes everything, whatever a template is called. A name that isn't there is an error.
    """
    return Environment(
        loader=PackageLoader("sgdataplane.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def render_page(page: ReportPage | MatrixPage | ReplayPage | FlowsPage | TrialPage) -> str:
    """Return the page as a whole HTML document."""
    return _render(TEMPLATES[type(page)], page=page)


def render_picture(picture: Picture) -> str:
    """Return the picture as a whole SVG document."""
    return _render("picture.svg.j2", picture=picture)


def _render(template: str, **values: object) -> str:
    return visible_block(_environment().get_template(template).render(**values))
