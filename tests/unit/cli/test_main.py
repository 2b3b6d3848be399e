"""The entry of `sgdp`: exit codes, messages, pipes and Ctrl-C; and no verb waits for the modules of others."""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from sgdataplane import __version__
from sgdataplane.cli import main
from sgdataplane.cli.lab import ACTIONS
from sgdataplane.errors import (
    BusyError,
    ContainedError,
    HostError,
    InternalError,
    KernelError,
    LabError,
    LimitError,
    PrivilegeError,
    Problem,
    SgDataplaneError,
    StateFileError,
    UnsupportedError,
    Where,
)
from sgdataplane.terminal import arguments
from sgdataplane.terminal.output import Exit
from tests.support.probes.flood import DEADLINE

PROBLEMS = (
    Problem(Where("a.yaml", 3, "/rules/0/port_range"), "InvalidPortRange.Malformed", "not a range", "x", "from/to"),
    Problem(Where("a.yaml", 9, "/rules/1"), "MissingParameter", "no remote"),
)


def run(arguments: argparse.Namespace) -> int:
    raise NotImplementedError


def failing(error: BaseException) -> Callable[[argparse.Namespace], int]:
    def fail(_: argparse.Namespace) -> int:
        raise error

    return fail


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (LimitError("group sg-1", 200, 201), 5),
        (LabError("lab x", "there is none"), 5),
        (KernelError("no"), 3),
        (BusyError("in use"), 3),
        (UnsupportedError("ct timeout", "CONFIG_NF_CT_NETLINK_TIMEOUT"), 3),
        (HostError("veth0", "no such device"), 3),
        (PrivilegeError("root", "sudo sgdp lab up"), 4),
        (InternalError("overlap"), 70),
        (KeyError("x"), 70),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else str(value),
)
def test_an_error_is_one_message_and_its_exit_code(
    error: Exception, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.run_verb(failing(error), argparse.Namespace()) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    assert str(error) in captured.err
    assert "Traceback" not in captured.err


def test_every_error_of_the_tree_has_an_exit_code() -> None:
    def tree(kind: type[SgDataplaneError]) -> list[type[SgDataplaneError]]:
        return [kind, *(leaf for child in kind.__subclasses__() for leaf in tree(child))]

    for kind in tree(SgDataplaneError):
        assert any(issubclass(kind, listed) for listed, _ in main.EXIT_CODES)


def test_each_problem_of_a_refused_state_is_a_block_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run_verb(failing(StateFileError(PROBLEMS)), argparse.Namespace()) == 5
    assert capsys.readouterr().err == (
        "error: InvalidPortRange.Malformed: not a range\n"
        "  at:       a.yaml:3 /rules/0/port_range\n"
        "  value:    x\n"
        "  expected: from/to\n"
        "error: MissingParameter: no remote\n"
        "  at:       a.yaml:9 /rules/1\n"
    )


def test_a_bug_says_where_it_is_and_asks_for_a_report(capsys: pytest.CaptureFixture[str]) -> None:
    main.run_verb(failing(ZeroDivisionError("by nothing")), argparse.Namespace())
    text = capsys.readouterr().err
    assert text.startswith("internal error: ZeroDivisionError: by nothing\n  in:      test_main.py:")
    assert "Please report it" in text
    assert __version__ in text


def test_a_lack_of_memory_is_not_called_a_bug(capsys: pytest.CaptureFixture[str]) -> None:
    main.run_verb(failing(MemoryError()), argparse.Namespace())
    text = capsys.readouterr().err
    assert "No memory was left." in text
    assert "bug" not in text
    assert str(ContainedError(MemoryError(), "walk.py:1 _end")) == "no memory was left (in walk.py:1 _end)"


def test_debug_adds_the_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    main.run_verb(failing(ZeroDivisionError("by nothing")), argparse.Namespace(debug=True))
    assert "Traceback" in capsys.readouterr().err


def test_a_verbs_own_exit_code_is_returned() -> None:
    assert main.run_verb(lambda _: 42, argparse.Namespace()) == 42


@pytest.mark.parametrize("argv", [["--debug", "up"], ["up", "--debug"]], ids=["before the verb", "after the verb"])
def test_debug_may_stand_before_or_after_the_verb(argv: list[str]) -> None:
    parser = arguments.Parser(prog="sgdp")
    parser.add_subparsers().add_parser("up").set_defaults(run=run)
    assert parser.parse_args(argv).debug


@pytest.mark.parametrize("argv", [[], ["no-such-verb"], ["--no-such-option"]], ids=["none", "verb", "option"])
def test_usage_errors_exit_with_2(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        main.main(argv)
    assert exit_.value.code == Exit.USAGE
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 2
    assert said[0].startswith("error: ")
    assert said[1] == "help:  sgdp --help"


def test_every_verb_is_listed_with_what_its_module_says() -> None:
    listed = main.build_parser(["--help"]).format_help()
    assert listed == main.build_parser().format_help()
    for summaries in main.VERBS.values():
        for verb, (what, example) in summaries.items():
            assert f"  {verb:12}{what.split(' ')[0]} " in listed
            assert f"  {example}\n" in listed
            assert example.removeprefix("sudo ").startswith(f"sgdp {verb}")


def test_every_verb_is_in_one_group() -> None:
    grouped = [verb for verbs in main.GROUPS.values() for verb in verbs]
    assert sorted(grouped) == sorted(verb for summaries in main.VERBS.values() for verb in summaries)


def test_the_help_of_a_verb_is_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main.main(["check", "--help"])
    said = capsys.readouterr().out
    assert "policy options" in said
    assert "write a policy" not in said


def test_help_fits_80_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert max(map(len, main.build_parser(["--help"]).format_help().splitlines())) <= 80


@pytest.mark.parametrize(
    ("argv", "module"),
    [(["check", "x"], "state"), (["--debug", "lab", "status"], "lab"), (["status"], "agent"), (["--help"], "")],
    ids=["verb", "option before", "one of several", "none"],
)
def test_only_the_module_of_the_verb_is_imported(argv: list[str], module: str) -> None:
    text = "import sys; from sgdataplane.cli.main import build_parser, VERBS; build_parser(sys.argv[1:]);"
    text += "print(*(name for name in VERBS if f'sgdataplane.cli.{name}' in sys.modules))"
    done = subprocess.run([sys.executable, "-c", text, *argv], stdout=subprocess.PIPE, text=True, check=True)
    assert done.stdout.split() == module.split()


def test_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        main.main(["--version"])
    assert exit_.value.code == 0
    assert capsys.readouterr().out == f"sgdp {__version__}\n"


def test_require_root_says_what_to_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(sys, "argv", ["/usr/bin/sgdp", "lab", "up", "x.yaml"])
    with pytest.raises(PrivilegeError, match=r"root \(a lab\)\n  run: sudo sgdp lab up x\.yaml"):
        arguments.require_root("a lab")


def test_require_root_is_content_with_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    arguments.require_root("a lab")


@contextmanager
def verb_process(body: str) -> Iterator[subprocess.Popen[str]]:
    """A process of its own that runs a verb with this body through the frame."""
    text = f"import argparse, sys\nfrom sgdataplane.cli.main import run_verb\ndef verb(_):\n    {body}\n"
    text += "sys.exit(run_verb(verb, argparse.Namespace()))\n"
    with subprocess.Popen(
        [sys.executable, "-c", text], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def test_a_reader_who_goes_away_is_no_error_message() -> None:
    with verb_process("for i in range(10**6): print(i)") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "0\n"
        process.stdout.close()
        assert process.wait(DEADLINE) == Exit.BROKEN_PIPE
        assert process.stderr is not None
        assert process.stderr.read() == ""


def test_a_reader_who_went_before_the_last_flush_is_no_error_message() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    text = "import sys; from sgdataplane.cli.main import run_verb; sys.exit(run_verb(lambda _: print(1) or 0, None))"
    run = subprocess.run([sys.executable, "-c", text], stdout=writing, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writing)
    assert (run.returncode, run.stderr) == (Exit.BROKEN_PIPE, "")


def test_ctrl_c_ends_with_130_and_no_traceback() -> None:
    with verb_process("import signal; print('ready', flush=True); signal.pause()") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGINT)
        assert process.wait(DEADLINE) == Exit.INTERRUPTED
        assert process.stderr is not None
        assert process.stderr.read() == "interrupted: nothing was changed\n"


def test_ctrl_c_while_it_is_imported_ends_with_130_and_no_traceback() -> None:
    """A real signal, as the first module of the command line is looked for."""
    text = (
        "import os, signal, sys\n"
        "class Finder:\n"
        "    def find_spec(self, name, *_):\n"
        "        if name == 'sgdataplane.terminal.arguments': os.kill(os.getpid(), signal.SIGINT)\n"
        "sys.meta_path.insert(0, Finder())\n"
        "from sgdataplane.__main__ import main\n"
        "sys.exit(main())\n"
    )
    run = subprocess.run([sys.executable, "-c", text, "--version"], capture_output=True, text=True, check=False)
    assert (run.returncode, run.stdout, run.stderr) == (Exit.INTERRUPTED, "", "interrupted\n")


def test_what_is_said_after_ctrl_c_is_of_verbs_that_there_are() -> None:
    verbs = {verb for summaries in main.VERBS.values() for verb in summaries} | {f"lab {verb}" for verb in ACTIONS}
    assert verbs >= main.AFTER_INTERRUPT.keys()


@pytest.mark.parametrize(
    ("arguments", "meant"),
    [
        (("chek", "x"), "did you mean check?"),
        (("lab", "stats"), "did you mean status?"),
        (
            ("diff", "--markdwn", "a", "b"),
            "error: unrecognized arguments: --markdwn; did you mean --markdown?\nhelp:  sgdp diff --help\n",
        ),
        (("lab", "up", "x", "--placment=host"), "did you mean --placement?"),
        (("compile", "x", "--placement", "hst"), "did you mean host?"),
    ],
)
def test_what_is_misspelt_is_refused_with_what_was_meant(
    arguments: tuple[str, ...], meant: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        main.main(arguments)
    assert caught.value.code == 2
    assert meant in capsys.readouterr().err


def test_nothing_is_guessed_where_nothing_is_near(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main.main(("zzzz",))
    assert "did you mean" not in capsys.readouterr().err
