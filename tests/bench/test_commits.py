"""What `bench.commits` says of commits' times, and that it measures each kind of change on the kernel."""

from __future__ import annotations

import pytest
from bench import commits
from bench.commits import HOST_KINDS, KINDS, Row, arguments


def test_the_fastest_round_counts_as_other_work_only_makes_it_longer() -> None:
    row = Row("here", "a rule comes", 3, 1_000_000, took=[0.2, 0.1, 0.9], plain=[0.02, 0.01, 0.09])
    assert (row.ms, row.ratio) == (100, 10)
    assert row.markdown() == "| here | a rule comes | 3 | 100.00 | 10.0 | 1,000,000 |"
    assert row.as_json()["took"] == [0.2, 0.1, 0.9]


@pytest.mark.parametrize(
    ("argv", "members", "enis"),
    [
        ([], [256, 4096, 65536], [50, 1000]),
        (["--members", "256", "--enis", ""], [256], []),
        (["--members", "", "--enis", "60,70"], [], [60, 70]),
    ],
    ids=["all", "members alone", "ENIs alone"],
)
def test_sizes_can_be_chosen(argv: list[str], members: list[int], enis: list[int]) -> None:
    options = arguments(argv)
    assert (options.members, options.enis, options.rules) == (members, enis, 200)


@pytest.mark.kernel
def test_each_kind_of_change_has_a_row(lab_name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    made = commits.namespace
    monkeypatch.setattr(commits, "namespace", lambda name: made(f"{lab_name}-{name}"))
    found = list(commits.rows(arguments(["--members", "32", "--enis", "50", "--rules", "20", "--rounds", "2"])))
    assert [row.change for row in found] == [*KINDS.values(), "an ENI comes", *HOST_KINDS, "an unrelated goto"]
    for row in found:
        assert len(row.took) == len(row.plain) == 2
        assert min(row.took + row.plain) > 0
        assert row.commits >= 1
        assert row.paths > 100
