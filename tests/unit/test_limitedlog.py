"""What peers do wrong is logged, and no peer can fill the log."""

from __future__ import annotations

from sgdataplane.limitedlog import EVERY_S, MAX_LENGTH, MAX_SUBJECTS, RateLimitedLog


class Log:
    def __init__(self) -> None:
        self.lines: list[str] = []
        self.now = 0.0
        self.limited = RateLimitedLog(self.lines.append, lambda: self.now)

    def note(self, subject: str, line: str, after: float = 0.0) -> None:
        self.now += after
        self.limited.write(subject, line)


def test_about_one_subject_there_is_one_line_in_a_while() -> None:
    log = Log()
    for number in range(1_000):
        log.note("host-1", f"wrong: {number}", after=EVERY_S / 128)
    assert log.lines == [f"wrong: {number}" for number in range(0, 1_000, 128)]


def test_the_same_is_said_once_until_it_was_over() -> None:
    log = Log()
    log.note("host-1", "wrong")
    log.note("host-1", "wrong", after=10 * EVERY_S)
    log.note("host-2", "wrong")
    assert log.lines == ["wrong", "wrong"]
    log.limited.forget("host-1")
    log.note("host-1", "wrong")
    assert log.lines == ["wrong"] * 3


def test_lines_and_memory_are_bounded() -> None:
    log = Log()
    for number in range(3 * MAX_SUBJECTS):
        log.note(f"host-{number}", "x" * 2 * MAX_LENGTH)
    assert max(map(len, log.lines)) == MAX_LENGTH
    assert len(log.limited._last) <= MAX_SUBJECTS
