"""Pages and pictures as text: the templates, filled.

Owns the template engine, and that nothing of a state can become markup, or turn the page's text round. Is given pages.
Must not know states.

A page is one file: style and pictures are in it, it has no script, and refers to nothing elsewhere. Its own policy
(Content-Security-Policy) says so to the browser.
"""

from __future__ import annotations

from functools import cache

from jinja2 import Environment, PackageLoader, StrictUndefined

from sgdataplane.report.content import MatrixPage, Picture, ReportPage
from sgdataplane.report.replayed import ReplayPage
from sgdataplane.visible import visible_block


@cache
def _environment() -> Environment:
    """Everything is escaped, whatever the template's name; a name that isn't there is an error."""
    return Environment(
        loader=PackageLoader("sgdataplane.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def render_report(page: ReportPage) -> str:
    """The whole HTML document."""
    return _rendered("report.html.j2", page=page)


def render_matrix(page: MatrixPage) -> str:
    """The whole HTML document."""
    return _rendered("matrix.html.j2", page=page)


def render_replay(page: ReplayPage) -> str:
    """The whole HTML document."""
    return _rendered("replay.html.j2", page=page)


def render_picture(picture: Picture) -> str:
    """The whole SVG document."""
    return _rendered("picture.svg.j2", picture=picture)


def _rendered(template: str, **values: object) -> str:
    return visible_block(_environment().get_template(template).render(**values))
