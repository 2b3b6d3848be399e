from __future__ import annotations

import argparse
import io
import json
import logging
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from time import tzset

import pytest

from sgdataplane.cli import main
from sgdataplane.terminal.output import (
    MAX_FITTED,
    Columns,
    Exit,
    Guard,
    choose_colour,
    complain,
    guard_output,
    iso_time,
    local_time,
    localize_times,
    log_shown,
    paint,
    print_json,
    render_table,
    say,
    say_block,
    say_hanging,
    warn,
    whole_seconds,
)
from sgdataplane.terminal.progress import Progress
from sgdataplane.visible import visible_block

HOSTILE = "x\r\x1b[2K\x1b]52;c;aGk=\x07\x9b31m\u202e"
SHOWN = "x\\r\\x1b[2K\\x1b]52;c;aGk=\\x07\\x9b31m\\u202e"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@contextmanager
def at_a_terminal() -> Iterator[Terminal]:
    """Where both streams of a command go meanwhile."""
    terminal = Terminal()
    with redirect_stdout(terminal), redirect_stderr(terminal), guard_output():
        yield terminal


@pytest.fixture(autouse=True)
def _plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")


def test_a_table_is_aligned_and_numbers_stand_to_the_right() -> None:
    table = render_table(("from", "port", "note"), [("i-web1", "22", ""), ("ext", "8080", "long note")])
    assert table == "from    port  note\ni-web1    22\next     8080  long note"


def test_addresses_stand_to_the_left() -> None:
    table = render_table(("node", "address"), [("web", "10.0.0.1"), ("db", "192.0.2.77")])
    assert table == "node  address\nweb   10.0.0.1\ndb    192.0.2.77"


def test_a_row_is_one_line_in_a_pipe(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS")
    rows = [("a" * 60, "b" * 60)] * 3
    assert render_table(("A", "B"), rows).splitlines()[1:] == [f"{'a' * 60}  {'b' * 60}"] * 3
    with at_a_terminal():
        assert len(render_table(("A", "B"), rows).splitlines()) > 4


LONG = [("eni-web", "sgr-0123456789abcdef of sg-web (priority 1)"), ("eni-db", "[red]default[/red] :smile:")]


@pytest.mark.parametrize("columns", [40, 50, 80])
def test_a_table_fits_the_terminal(columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    rows = [(name, why, why, why) for name, why in LONG]
    lines = render_table(("ENI", "BEFORE", "AFTER", "THEN"), rows, indent=2).split("\n")
    assert max(map(len, lines)) <= columns
    assert len(lines) > 3
    assert all(line.startswith("  ") and line == line.rstrip() for line in lines)


def test_a_row_of_very_many_stays_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    assert render_table(("A", "B"), [("x " * 40, "y " * 40)] * (MAX_FITTED + 1)).count("\n") == MAX_FITTED + 1
    assert render_table(("A", "B"), [("x " * 40, "y " * 40)] * 3).count("\n") > 4


@pytest.mark.parametrize("columns", [60, 300])
def test_what_others_named_means_nothing_to_the_layout(columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """No markup, no emoji, no link, no highlighted number; and no escape of theirs."""
    monkeypatch.setenv("COLUMNS", str(columns))
    words = "[bold red]x[/] :smile: [link=http://a]10.0.0.1[/link] " + HOSTILE
    with at_a_terminal() as terminal:
        say_block(render_table(("NAME", "WHY"), [("a", words), ("b", words)]))
    said = terminal.getvalue()
    assert "\x1b" not in said
    assert "".join(said.split()).count("".join(words.replace(HOSTILE, SHOWN).split())) == 2


def test_a_colour_goes_on_in_each_line_of_its_cell(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    with at_a_terminal() as terminal:
        say_block(render_table(("A", "B"), [(paint("one two three four five six seven", "red"), "x y z " * 4)]))
    lines = terminal.getvalue().splitlines()
    assert len(lines) > 2
    assert all(line.startswith("\x1b[31m") and line.count("\x1b[0m") == 1 for line in lines[1:])


def test_a_table_that_fits_needs_no_library() -> None:
    text = "import sys; from sgdataplane.terminal.output import render_table; render_table(('a',), [('b',)]);"
    text += "from sgdataplane.daemon import agent; sys.exit('rich' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", text], check=False).returncode == 0


@pytest.mark.parametrize(
    ("choice", "has_colour"), [("always", True), ("never", False), ("auto", True)], ids=["always", "never", "auto"]
)
def test_colours_at_a_terminal_are_what_was_chosen(choice: str, has_colour: bool) -> None:
    with at_a_terminal() as terminal:
        choose_colour(choice)
        say(paint("x", "red"))
    assert ("\x1b[31m" in terminal.getvalue()) is has_colour


def test_a_pipe_has_colours_only_if_they_are_always_wanted(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    for choice, said in (("auto", "x\n"), ("always", "\x1b[31mx\x1b[0m\n"), ("never", "x\n")):
        with guard_output():
            choose_colour(choice)
            say(paint("x", "red"))
        assert capsys.readouterr().out == said


def test_a_text_hangs_beside_what_leads_it(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    say_hanging("high  ", "word " * 30)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert lines[0].startswith("high  word")
    assert all(line.startswith("      word") and len(line) <= 60 for line in lines[1:])


def test_colour_in_a_cell_takes_no_width() -> None:
    with at_a_terminal() as terminal:
        say_block(render_table(("verdict", "x"), [(paint("drop", "red"), "a"), ("accept", "b")]))
    assert terminal.getvalue().splitlines() == [
        "verdict  x",
        "\x1b[31mdrop\x1b[0m     a",
        "accept   b",
    ]


def test_wide_letters_and_marks_are_aligned() -> None:
    assert render_table(("a", "b"), [("東京", "x"), ("e\u0301", "y")]) == "a     b\n東京  x\ne\u0301     y"


def test_a_cell_is_one_line_and_harmless() -> None:
    table = render_table(("name", "port"), [(HOSTILE, "1"), ("a\nb", "2")])
    space = " " * (len(SHOWN) - 4)
    assert table.splitlines() == [f"name{space}  port", f"{SHOWN}     1", f"a\\nb{space}     2"]


def test_lines_that_come_one_by_one_are_aligned_as_far_as_widths_are_known() -> None:
    columns, rows = Columns(5), [("eni-a", "10.0.0.1:22", "default"), ("e", "8.8.8.8:5", "spoofed")]
    assert [columns.line(row) for row in rows] == ["eni-a  10.0.0.1:22  default", "e      8.8.8.8:5  spoofed"]
    with at_a_terminal():
        assert [columns.line(row) for row in rows] == ["eni-a  10.0.0.1:22  default", "e      8.8.8.8:5    spoofed"]


def test_a_table_without_rows_is_its_header() -> None:
    assert render_table(("a", "bb"), []) == "a  bb"


def test_colour_is_for_terminals() -> None:
    with at_a_terminal() as terminal:
        say(f"{paint('x', 'green')} {paint('y', 'green', io.StringIO())}")
    assert terminal.getvalue() == "\x1b[32mx\x1b[0m y\n"
    assert paint("x", "green", Terminal()) == "x"  # nobody would turn it into a colour


def test_nobody_else_has_our_colours() -> None:
    with at_a_terminal() as terminal:
        say(f"{paint(HOSTILE, 'red')} \x1b[32mhealthy\x1b[0m")
    assert terminal.getvalue() == f"\x1b[31m{SHOWN}\x1b[0m \\x1b[32mhealthy\\x1b[0m\n"


def test_a_line_is_one_line() -> None:
    with at_a_terminal() as terminal:
        say(f"not healthy\nhealthy\t{HOSTILE}")
    assert terminal.getvalue() == f"not healthy\\nhealthy\\t{SHOWN}\n"


def test_no_line_of_an_error_looks_like_another_error() -> None:
    with at_a_terminal() as terminal:
        complain(f"{HOSTILE}\nerror: forged\n  at: x")
        warn("a\nb")
    red, yellow = "\x1b[31merror:\x1b[0m", "\x1b[33mwarning:\x1b[0m"
    assert terminal.getvalue() == f"{red} {SHOWN}\n  error: forged\n  at: x\n{yellow} a\n  b\n"


def test_what_comes_by_another_way_is_made_visible() -> None:
    with at_a_terminal() as terminal:
        sys.stderr.write(HOSTILE)
        sys.stdout.writelines(["\n", "\ta\n", HOSTILE])
    assert terminal.getvalue() == f"{SHOWN}\n\ta\n{SHOWN}"


def test_main_guards_both_streams(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def run(_: argparse.Namespace) -> int:
        assert isinstance(sys.stdout, Guard)
        assert isinstance(sys.stderr, Guard)
        raise LookupError(HOSTILE)

    def add_verbs(parser: argparse.ArgumentParser, _: object) -> None:
        parser.add_subparsers().add_parser("x").set_defaults(run=run)

    monkeypatch.setattr(main, "add_verbs", add_verbs)
    assert main.main(["--debug", "x"]) == Exit.INTERNAL
    shown = capsys.readouterr().err
    assert f"LookupError: {SHOWN}\n" in shown
    with pytest.raises(SystemExit):
        main.main([HOSTILE])
    assert visible_block(shown := shown + capsys.readouterr().err) == shown


@pytest.mark.parametrize(("name", "value"), [("NO_COLOR", "1"), ("TERM", "dumb")])
def test_colour_can_be_switched_off(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, value)
    with at_a_terminal() as terminal:
        say(paint("x", "green"))
    assert terminal.getvalue() == "x\n"


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


def test_a_label_is_harmless() -> None:
    clock = iter([0.0, 2.0])
    with at_a_terminal() as terminal, Progress(HOSTILE, 1, clock=lambda: next(clock)) as progress:
        progress.advance()
    assert terminal.getvalue() == f"\r\x1b[K{SHOWN} 1/1\r\x1b[K"


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


def test_both_streams_in_one_pipe_keep_the_order_in_which_all_was_said() -> None:
    code = "from sgdataplane.terminal.output import *\nwith guard_output(): say('first'); warn('second'); say('third')"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, check=True, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert done.stdout == "first\nwarning: second\nthird\n"


def test_an_error_is_told_also_where_stdout_is_closed() -> None:
    command = ["sh", "-c", 'exec "$0" -m sgdataplane explain nowhere.yaml a b icmp >&-', sys.executable]
    done = subprocess.run(command, check=False, text=True, capture_output=True)
    assert (done.returncode, "nowhere.yaml" in done.stderr, "Traceback" in done.stderr) == (5, True, False)


NEPAL, UTC_, STAMP = "Asia/Kathmandu", "UTC", 1_800_000_000.25  # 2027-01-15T08:00:00.25Z


@pytest.mark.parametrize(
    ("zone", "time", "text", "short"),
    [
        (UTC_, STAMP, "2027-01-15T08:00:00.250Z", "2027-01-15T08:00:00Z"),
        (NEPAL, STAMP, "2027-01-15T13:45:00.250+05:45", "2027-01-15T13:45:00+05:45"),
        (NEPAL, "2027-01-15T08:00:00.250Z", "2027-01-15T13:45:00.250+05:45", "2027-01-15T13:45:00+05:45"),
        ("America/St_Johns", STAMP, "2027-01-15T04:30:00.250-03:30", "2027-01-15T04:30:00-03:30"),
        (NEPAL, "yesterday", "yesterday", "yesterday"),
    ],
)  # fmt: skip
def test_a_time_for_people_is_local_and_has_its_offset(
    zone: str, time: str | float, text: str, short: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", zone)
    tzset()
    try:
        assert (local_time(time), whole_seconds(time)) == (text, short)
        assert iso_time(STAMP) == "2027-01-15T08:00:00.250Z"
        held = "policy 1 is held until 2027-01-15T08:00:00Z, as v2027-01-15T08:00:00Zx says"
        assert localize_times(held) == held.replace("2027-01-15T08:00:00Z,", f"{whole_seconds(STAMP)},")
    finally:
        monkeypatch.undo()
        tzset()


def test_no_time_is_no_text() -> None:
    assert (whole_seconds(None), whole_seconds("")) == ("", "")
