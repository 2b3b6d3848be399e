"""What virtual machines left, as a page."""

from __future__ import annotations

import json
from pathlib import Path

from tests.vm.report import Case, MachineResult, SuiteResult, add, page, read, read_suite, take_over, take_over_cases
from tests.vm.suites import FLOWTABLES, SUITES, on_user_mode_kernel, suite_of, usual

JUNIT = """<testsuites><testsuite name="pytest" time="61.5">
<testcase classname="tests.kernel.test_a" name="test_passes"/>
<testcase classname="tests.kernel.test_a" name="test_fails"><failure message="assert 1 == 2&#10;x"></failure></testcase>
<testcase classname="tests.kernel.test_a" name="test_breaks"><error message="no such fixture"/></testcase>
<testcase classname="tests.kernel.test_a" name="test_skips"><skipped message="needs a flowtable"/></testcase>
</testsuite></testsuites>"""


def test_junit_is_read_with_the_first_line_of_each_reason(tmp_path: Path) -> None:
    (tmp_path / "kernel.xml").write_text(JUNIT, "utf-8")
    assert read_suite(tmp_path / "kernel.xml") == SuiteResult(
        "kernel",
        1,
        61.5,
        (
            Case("tests/kernel/test_a::test_fails", "assert 1 == 2"),
            Case("tests/kernel/test_a::test_breaks", "no such fixture"),
        ),
        (Case("tests/kernel/test_a::test_skips", "needs a flowtable"),),
    )


def test_what_a_job_left_is_read(tmp_path: Path) -> None:
    (tmp_path / "kernel.xml").write_text(JUNIT, "utf-8")
    (tmp_path / "kernel").write_text("6.1.0-1\n", "utf-8")
    row = {"where": "256 members", "change": "a member joins", "ms": 3.25, "ratio": 12.4, "took": [0.003]}
    (tmp_path / "commits.json").write_text(json.dumps({"rows": [row]}), "utf-8")
    (tmp_path / "demo").write_text("...\n434 probes: 434 accepted, 0 disagree with the policy\n...\n", "utf-8")
    add(tmp_path, "abc", "", 90.4)
    found = read("6.1-uml", tmp_path)
    assert found.commits == {"256 members: a member joins": {"ms": 3.25, "ratio": 12.4}}
    assert (found.kernel, found.commit, len(found.suites), found.has_failed) == ("6.1.0-1", "abc", 1, True)
    assert (found.demo, found.seconds) == ("434 probes: 434 accepted, 0 disagree with the policy", 90.0)
    assert "- 2 minutes from its start to its end\n- `make demo`, straight after boot: 434 probes" in page([found])


def test_machine_that_never_came_up_has_failed_and_stands_on_the_page(tmp_path: Path) -> None:
    add(tmp_path, "abc", "Its job ended with exit code 1.", 3)
    found = read("6.1-uml", tmp_path)
    assert found.has_failed
    text = page([found])
    assert "| 6.1-uml | did not come up | abc | - | - | - | - | - |" in text
    assert "Its job ended with exit code 1." in text


def test_the_page_has_counts_failures_and_skips_by_reason() -> None:
    skips = (Case("a", "no vlan"), Case("b", "no vlan"), Case("c", "no bridge"))
    suite = SuiteResult("edges", 7, 90.0, (Case("tests/x::test_y", "boom"),), skips)
    text = page([MachineResult("m", "6.1", "abc", suites=(suite,))])
    assert "| m | 6.1 | abc | edges | 7 | 1 | 3 | 1.5 |" in text
    assert "- failed: tests/x::test\\_y: boom" in text
    assert "- skipped 2: no vlan" in text
    assert "- skipped 1: no bridge" in text


def test_commits_stand_beside_each_other() -> None:
    here = MachineResult("m1", "6.1", commits={"a rule comes": {"ms": 9.0, "ratio": 30.0}})
    more = {"a rule comes": {"ms": 3.0, "ratio": 10.0}, "an ENI comes": {"ms": 1.0, "ratio": 3.0}}
    there = MachineResult("m2", "6.12", commits=more)
    text = page([here, there])
    assert "| commit | m1 (6.1) | m2 (6.12) | m2 : m1 |" in text
    assert "| a rule comes | 9.00 (30 x) | 3.00 (10 x) | 0.3 |" in text
    assert "| an ENI comes | - | 1.00 (3 x) | - |" in text
    assert "| a rule comes | 9.00 (30 x) |\n" in page([here])


def test_what_tests_print_becomes_no_markup_and_no_control_character() -> None:
    suite = SuiteResult("s", 0, 0.0, (Case("t", "<img src=x> `a` [b](c) \x1b[2J |"),))
    text = page([MachineResult("m", "k", suites=(suite,))])
    assert "\x1b" not in text
    assert " <img" not in text
    assert "\\<img src=x\\>" in text


def test_a_part_takes_the_place_of_what_was_there_and_says_of_which_commit(tmp_path: Path) -> None:
    whole, some = tmp_path / "whole", tmp_path / "some"
    for folder, commit, text in ((whole, "abc", JUNIT), (some, "def", "<testsuite><testcase name='t'/></testsuite>")):
        folder.mkdir()
        (folder / "edges.xml").write_text(text, "utf-8")
        add(folder, commit, "Its job ended with exit code 1." if commit == "abc" else "", 60)
    (whole / "fence.xml").write_text(JUNIT, "utf-8")
    take_over(some, whole)
    found = read("m", whole)
    assert {suite.name: (suite.commit, suite.passed) for suite in found.suites} == {
        "edges": ("def", 1),
        "fence": ("", 1),
    }
    assert (found.note, found.commit, found.seconds) == ("", "abc", 60.0)


def test_a_part_makes_the_page_of_a_machine_that_has_never_run(tmp_path: Path) -> None:
    some = tmp_path / "some"
    some.mkdir()
    (some / "edges.xml").write_text(JUNIT, "utf-8")
    (some / "kernel").write_text("6.1.0-1\n", "utf-8")
    add(some, "def", "", 60)
    take_over(some, tmp_path / "m" / "results")
    found = read("m", tmp_path / "m" / "results")
    assert (found.kernel, [(suite.name, suite.commit) for suite in found.suites]) == ("6.1.0-1", [("edges", "def")])


def test_a_test_that_is_run_again_takes_its_own_place_and_a_new_one_stands_beside(tmp_path: Path) -> None:
    whole, some = tmp_path / "whole", tmp_path / "some"
    again = """<testsuite>
<testcase classname="tests.kernel.test_a" name="test_fails"/>
<testcase classname="tests.kernel.test_b" name="test_new"/>
<testcase classname="tests.edges.test_c" name="test_of_a_suite_that_never_ran"/>
</testsuite>"""
    for folder, name, text, commit in ((whole, "kernel", JUNIT, "abc"), (some, "chosen", again, "def")):
        folder.mkdir()
        (folder / f"{name}.xml").write_text(text, "utf-8")
        add(folder, commit, "", 60)
    take_over_cases(some, whole, suite_of)
    (suite,) = read("m", whole).suites
    assert (suite.passed, [case.name for case in suite.failed], suite.commit) == (
        3,
        ["tests/kernel/test_a::test_breaks"],
        "abc, 2 of them def",
    )


def test_modules_belong_to_suites() -> None:
    found = [
        suite_of(f"tests.{name}") for name in ("agent.test_x", "traffic.test_scenarios", "traffic.test_y", "unit.x")
    ]
    assert found == ["agent", "scenarios", "", ""]


def test_what_tries_our_own_code_runs_on_the_first_kernel() -> None:
    first, others = (usual(is_first=is_first) for is_first in (True, False))
    assert {*first} - {*others} == {"agent", "hostile"}
    assert first == [name for name in SUITES if name != FLOWTABLES]  # which is for whoever asks
    job = on_user_mode_kernel(["agent"])
    assert "tests/agent" in job
    assert "tests/kernel" not in job
