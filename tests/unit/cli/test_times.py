"""Spans of time as arguments: the same words everywhere."""

from __future__ import annotations

import pytest

from sgdataplane.cli.main import build_parser


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
