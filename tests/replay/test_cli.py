"""`sgdp replay` as people and programs use it: JSON keys, exit codes, real processes, nothing left behind."""

from __future__ import annotations

import gzip
import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from sgdataplane.cli.main import main
from sgdataplane.host import netns
from sgdataplane.lab import manage
from sgdataplane.lab.manage import enforce_policy
from sgdataplane.lab.record import LABS_DIR
from tests.replay.generator import KINDS, OPEN, SERVER, SHUT, STATE, scenes, write_pcap
from tests.support.documents.schemas import assert_conforms
from tests.support.probes.flood import wait_until
from tests.support.scenes.labs import assert_gone, state_of

pytestmark = pytest.mark.replay

ROOT = Path(__file__).parents[2]


def start(*arguments: object) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "sgdataplane", "replay", *map(str, arguments)]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, cwd=ROOT, stdin=pipe, stdout=pipe, stderr=pipe)


def sgdp(*arguments: object, code: int = 0, stdin: bytes = b"") -> tuple[str, str]:
    """What `sgdp replay` prints on both streams. The lab that it makes is gone when it ends."""
    process = start(*arguments)
    out, error = (text.decode() for text in process.communicate(stdin, timeout=120))
    assert process.returncode == code, out + error
    assert "Traceback" not in error
    assert_gone(f"replay-{process.pid}")
    return out, error


@pytest.fixture
def state(tmp_path: Path) -> Path:
    path = tmp_path / "state.yaml"
    path.write_text(STATE)
    return path


@pytest.fixture
def capture(tmp_path: Path) -> Path:
    packets = [packet for scene in scenes(11) for packet in KINDS["tcp_session"](scene).packets]
    return write_pcap(tmp_path / "capture.pcap", packets)


def ports(flows: list[dict[str, Any]]) -> dict[int, tuple[int, int, str]]:
    return {flow["dport"]: (flow["packets"], flow["delivered"], flow["verdict"]) for flow in flows}


def test_json_is_as_documented_and_tells_whose_fate_changes_against_another_state(
    state: Path, capture: Path, tmp_path: Path
) -> None:
    new = tmp_path / "new.yaml"
    new.write_text(STATE.replace(f"{OPEN}/{OPEN}, cidr_ip", f"{SHUT}/{SHUT}, cidr_ip"))  # over IPv4 alone
    page = tmp_path / "page.html"
    out, _ = sgdp(capture, "--state", state, "--against", new, "--json", "--html", page)
    found = json.loads(out)
    assert_conforms("replay", found)
    assert ports(found["flows"]) == {OPEN: (8, 8, "accept"), SHUT: (8, 0, "drop")}
    assert found["disagreements"] == 0
    assert {entry["node"] for entry in found["mapped"]} == {"i-server"}
    changes = {change["dport"]: (change["before"], change["after"]) for change in found["changes"]}
    assert set(changes) == {OPEN, SHUT}
    assert all(":" not in change["dst"] for change in found["changes"])
    assert [fate["delivered"] for fate in changes[OPEN]] == [8, 0]
    assert [fate["security_group_rule_id"] for fate in changes[SHUT]] == [None, "sgr-t4"]
    shown = page.read_text(encoding="utf-8")
    assert f"What changes with {new}" in shown
    assert shown.count("sgr-t4 of sg-r (priority 1)") == 4  # of each state, and of each change
    assert "! disagrees" not in shown


def test_a_capture_comes_through_a_pipe_in_gzip_and_is_replayed_twice(
    state: Path, capture: Path, tmp_path: Path
) -> None:
    new = tmp_path / "new.yaml"
    new.write_text(STATE.replace(f"{OPEN}/{OPEN}, cidr_ip", f"{SHUT}/{SHUT}, cidr_ip"))
    piped = gzip.compress(capture.read_bytes())
    found = json.loads(sgdp("/dev/stdin", "--state", state, "--against", new, "--json", stdin=piped)[0])
    assert ports(found["flows"]) == {OPEN: (8, 8, "accept"), SHUT: (8, 0, "drop")}
    assert ports(found["against"]["flows"])[SHUT][1] in (0, 8)
    assert (found["disagreements"], len(found["changes"])) == (0, 2)


def test_a_capture_that_cannot_be_used_ends_with_5(state: Path, capture: Path) -> None:
    octets = capture.read_bytes()
    empty, error = sgdp("-", "--state", state, stdin=octets[:24], code=5)
    assert ("nothing was replayed" in empty, error) == (True, "")
    cut = gzip.compress(octets)[:-9]
    assert (
        "capture standard input: packet 33, at octet 6093: the gzip stream is cut off"
        in sgdp("-", "--state", state, stdin=cut, code=5)[1]
    )


def test_a_running_lab_is_used_and_left_as_it_was(lab_name: str, capture: Path) -> None:
    manage.up(manage.default_record(lab_name), state_of(STATE), enforce_policy)
    try:
        before = [entry for entry in netns.list_names() if entry.startswith(lab_name)]
        mapped = ("--name", lab_name, "--map", f"{scenes(11)[0].client}=ext-198.51.100.7")
        found = json.loads(sgdp(capture, *mapped, "--json")[0])
        assert_conforms("replay", found)
        assert ports(found["flows"])[OPEN] == (8, 8, "accept")
        assert "no node of this lab has the address" in found["left_out"][0]["reason"]
        text, _ = sgdp(capture, *mapped)  # what the first run left in conntrack changes nothing
        assert "sgr-t4 of sg-r (priority 1)" in text
        assert "all as expected" in text
        assert [entry for entry in netns.list_names() if entry.startswith(lab_name)] == before
    finally:
        manage.down(lab_name)
        assert_gone(lab_name)


def test_killed_it_leaves_nothing(state: Path, capture: Path) -> None:
    process = start(capture, "--state", state, "--real-time")
    name = f"replay-{process.pid}"
    wait_until(lambda: netns.exists(f"{name}-i-server"))
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)
    wait_until(lambda: not (LABS_DIR / name).exists())
    assert_gone(name)


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        ((), 2, "one of the arguments --state --name is required"),
        (("--name", "nolab"), 5, "no lab of that name is running"),
        (("--name", "nolab", "--against", "x"), 2, "give --state, not --name"),
        (("--state", "nosuch.yaml"), 5, "nosuch.yaml"),
        (("--state", "STATE", "--html", "/no/where"), 5, "InvalidTarget.NotWritable"),
        (("--state", "STATE", "--map", "banana=i-server"), 2, "'banana' is not an IP address; expected IP=NODE"),
        (("--state", "STATE", "--map", "192.0.2.1"), 2, "IP=NODE is expected"),
        (("--state", "STATE", "--map", "192.0.2.1=nobody"), 5, "there is no such node"),
        (("--state", "STATE", "--map", f"{SERVER}=2001:db8::1"), 5, "of different families"),
        (("--state", "STATE", "--map", f"192.0.2.1={SERVER}", "--map", "192.0.2.1=i-other"), 2, "mapped twice"),
    ],
)
def test_mistakes_are_refused_in_words(  # noqa: PLR0917  # fixtures are arguments
    state: Path, capture: Path, arguments: tuple[str, ...], code: int, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [str(state) if argument == "STATE" else argument for argument in arguments]
    try:
        found = main(["replay", str(capture), *given])
    except SystemExit as usage:
        found = int(usage.code or 0)
    assert (found, words in capsys.readouterr().err) == (code, True)
