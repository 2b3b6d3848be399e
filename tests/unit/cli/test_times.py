"""Spans of time as arguments: the same words everywhere."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from sgdataplane.cli.main import build_parser
from sgdataplane.history.span import parse_time
from sgdataplane.terminal.output import local_time


@pytest.fixture
def tokyo(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The local time zone is nine hours before UTC."""
    with monkeypatch.context() as changed:
        changed.setenv("TZ", "JST-9")
        time.tzset()
        yield
    time.tzset()


@pytest.mark.usefixtures("tokyo")
def test_a_time_is_read_as_outputs_show_it() -> None:
    eight = 1_798_066_800.0
    assert local_time(eight, "%Y-%m-%dT%H:%M") == "2026-12-24T08:00+09:00"
    for text in ("2026-12-24T08:00", "2026-12-24T08:00+09:00", "2026-12-23T23:00Z", "2026-12-24T00:00+01:00"):
        assert parse_time(text, 0.0) == eight, text


@pytest.mark.parametrize(("text", "seconds"), [("30m", 1800), ("24h", 86400), ("2w", 14 * 86400), ("30d", 30 * 86400)])
def test_a_trial_runs_for_a_span(text: str, seconds: int) -> None:
    assert build_parser().parse_args(["trial", "start", "new.yaml", "--for", text]).seconds == seconds


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("31d", "'31d' is more than 30d"),
        ("5w", "'5w' is more than 30d"),
        ("1y", "a number and s, m, h, d or w"),
        ("0s", "0s"),
    ],
)
def test_a_trial_has_an_end(text: str, words: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        build_parser().parse_args(["trial", "start", "new.yaml", "--for", text])
    assert words in " ".join(capsys.readouterr().err.split())
