from __future__ import annotations

import io
import json
import logging

import pytest

from sgdataplane.cli.output import Progress, log_shown, paint, print_json, render_table


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def _plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")


def test_a_table_is_aligned_and_numbers_stand_to_the_right() -> None:
    table = render_table(("from", "port", "note"), [("i-web1", "22", ""), ("ext", "8080", "long note")])
    assert table == "from    port  note\ni-web1    22\next     8080  long note"


def test_colour_in_a_cell_takes_no_width() -> None:
    red = paint("drop", "red", Terminal())
    assert render_table(("verdict", "x"), [(red, "a"), ("accept", "b")]).splitlines() == [
        "verdict  x",
        f"{red}     a",
        "accept   b",
    ]


def test_a_table_without_rows_is_its_header() -> None:
    assert render_table(("a", "bb"), []) == "a  bb"


def test_colour_is_for_terminals() -> None:
    assert paint("x", "green", Terminal()) == "\x1b[32mx\x1b[0m"
    assert paint("x", "green", io.StringIO()) == "x"


@pytest.mark.parametrize(("name", "value"), [("NO_COLOR", "1"), ("TERM", "dumb")])
def test_colour_can_be_switched_off(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, value)
    assert paint("x", "green", Terminal()) == "x"


def test_json_keeps_the_order_of_keys_and_all_letters(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"b": 1, "a": "ü"})
    text = capsys.readouterr().out
    assert json.loads(text) == {"b": 1, "a": "ü"}
    assert text.index('"b"') < text.index('"a"')
    assert "ü" in text


def progress_text(stream: io.StringIO, times: list[float]) -> str:
    """What is shown when the work starts at times[0] and each further time is one step."""
    clock = iter(times)
    with Progress("probing", total=len(times) - 1, stream=stream, clock=lambda: next(clock)) as progress:
        for _ in times[1:]:
            progress.advance()
    return stream.getvalue()


def test_progress_shows_nothing_for_work_under_a_second() -> None:
    assert progress_text(Terminal(), [0.0, 0.3, 0.6, 0.9]) == ""


def test_progress_shows_after_a_second_not_too_often_and_clears_its_line() -> None:
    assert progress_text(Terminal(), [0.0, 0.5, 1.0, 1.01, 1.2]) == ("\r\x1b[Kprobing 2/4\r\x1b[Kprobing 4/4\r\x1b[K")


def test_progress_shows_nothing_where_no_terminal_is() -> None:
    assert progress_text(io.StringIO(), [0.0, 2.0, 3.0]) == ""


def test_logged_warnings_are_shown_meanwhile_in_words_where_there_are_some(capsys: pytest.CaptureFixture[str]) -> None:
    logger = logging.getLogger("sgdataplane.conntrack")
    with log_shown():
        logger.warning("event a=%d", 1)
        logger.warning("event a=2", extra={"sentence": "there are two"})
        logger.info("event a=3")
    assert not logging.getLogger("sgdataplane").handlers
    assert capsys.readouterr().err == "warning: event a=1\nwarning: there are two\n"
