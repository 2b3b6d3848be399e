"""`sgdp report --name` and `sgdp lab matrix --html --svg` of a running lab: the page shows what the kernel counted."""

from __future__ import annotations

import re
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from sgdataplane.cli.main import main
from sgdataplane.host import netns
from sgdataplane.lab.manage import Lab
from tests.support.inputs.pages import THREE_TIER, three_tier
from tests.support.scenes import labs
from tests.support.scenes.labs import enforce_policy

pytestmark = pytest.mark.traffic
COUNTED = re.compile(
    r'^<tr><th scope="row"><span class="id">(sgr-[^<]*)</span>.*class="number">([\d,]+)</td></tr>$', re.MULTILINE
)


@pytest.fixture(scope="module")
def lab(make_lab_name: Callable[[], str], placement: str) -> Iterator[Lab]:
    outside = (("192.0.2.10",), ("192.0.2.66",))
    with labs.running(make_lab_name(), three_tier(), enforce_policy, outside, placement=placement) as found:
        yield found


def connected(lab: Lab, stack: ExitStack) -> None:
    """A session from lb1 to web1 that stays open as long as the stack."""
    with netns.inside(lab.find_node("web1").netns):
        listener = stack.enter_context(closing(socket.create_server(("10.20.2.11", 8080))))
    with netns.inside(lab.find_node("lb1").netns):
        stack.enter_context(closing(socket.create_connection(("10.20.2.11", 8080), timeout=20)))
    stack.enter_context(closing(listener.accept()[0]))


def report(lab: Lab, state: Path, target: Path) -> str:
    assert main(["report", str(state), "--html", str(target), "--name", lab.record.name]) == 0
    return target.read_text(encoding="utf-8")


def hits(page: str) -> dict[str, int]:
    return {rule: int(number.replace(",", "")) for rule, number in COUNTED.findall(page)}


def test_hits_and_sessions_are_those_of_the_packets(
    lab: Lab, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = hits(report(lab, THREE_TIER, tmp_path / "before.html"))
    assert len(before) == 11
    page, picture = tmp_path / "matrix.html", tmp_path / "matrix.svg"
    asked = ("lab", "matrix", "--name", lab.record.name, "--ports", "tcp/22,tcp/8080")
    assert main([*asked, "--html", str(page), "--svg", str(picture)]) == 0
    assert "0 disagree with the policy" in capsys.readouterr().out
    with ExitStack() as stack:
        connected(lab, stack)
        after = report(lab, THREE_TIER, tmp_path / "after.html")
    grown = {rule: number - before[rule] for rule, number in hits(after).items()}
    for rule in ("sgr-office-ssh", "sgr-from-lb", "sgr-lost-laptop", "sgr-no-tcp-out"):
        assert grown[rule] > 0, grown
    for rule in ("sgr-https", "sgr-abuse", "sgr-from-web", "sgr-office-ping"):
        assert grown[rule] == 0, grown
    row = next(line for line in after.partition('id="sessions"')[2].splitlines() if "10.20.2.11:8080<" in line)
    assert "ESTABLISHED" in after.partition('id="sessions"')[2]
    assert "sgr-from-lb of sg-web (priority 1)" in after.partition('id="sessions"')[2]
    assert "passes" in row
    assert "None: every packet met the verdict that the rules give." in page.read_text()
    assert "tcp/8080" in picture.read_text()


def test_another_state_than_the_one_in_force_is_told_of(lab: Lab, tmp_path: Path) -> None:
    other = tmp_path / "state.yaml"
    other.write_text(THREE_TIER.read_text().replace("port_range: 8080/8080", "port_range: 8081/8081"))
    assert "where another state is in force" in report(lab, other, tmp_path / "x.html")


def test_a_lab_that_is_not_there_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(THREE_TIER), "--html", str(tmp_path / "x.html"), "--name", "nosuchlab"]) == 5
    assert "no lab of that name is running" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
