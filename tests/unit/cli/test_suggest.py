"""`sgdp suggest`: what it prints and writes, and that `check` and `diff` take what it writes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from scapy.layers.inet import IP, TCP
from scapy.layers.l2 import Ether
from scapy.utils import wrpcap

from sgdataplane.cli.main import main
from sgdataplane.statefile import load
from tests.support.documents.schemas import assert_conforms

ROOT = Path(__file__).resolve().parents[3]
SHOP, DAY = ROOT / "examples/shop.yaml", ROOT / "examples/shop-day.pcap"


def run(*arguments: object) -> int:
    return main(["suggest", *(str(argument) for argument in arguments)])


def test_the_days_suggestion_is_a_state_that_check_and_diff_take(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(SHOP, "--capture", DAY, "-o", tmp_path / "new") == 0
    assert capsys.readouterr().err.endswith("nothing was applied\n")
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["state.yaml"]
    assert main(["check", str(tmp_path / "new"), "--fail-on", "high"]) == 0
    assert main(["diff", str(SHOP), str(tmp_path / "new"), "--fail-on-any-open"]) == 0
    assert capsys.readouterr().out.splitlines()[-1].endswith(" 0 open, 68 close")


def test_json_says_the_same_and_conforms(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(SHOP, "--capture", DAY, "--json") == 0
    document = json.loads(capsys.readouterr().out)
    assert_conforms("suggest", document)
    assert_conforms("diff", {**document["diff"], "choices": document["choices"]})
    assert document["evidence"]["first"] == "2023-11-14T22:13:20Z"
    (rule,) = (one for one in document["rules"] if one["rule"].get("dest_security_group_id") == "sg-web")
    assert rule["replaces"] == ["default"]
    assert (rule["members_seen"], rule["members"]) == (2, 2)
    assert rule["evidence"]["sessions"] == rule["evidence"]["answered"] == 24
    assert [one["security_group_rule_id"] for one in document["unused_rules"] if not one["stays"]] == [
        "sgr-office-ping", "sgr-http", "sgr-https-v6",
    ]  # fmt: skip


def test_the_evidence_is_kept_beside_its_rule(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(SHOP, "--capture", DAY, "--describe", "-o", tmp_path / "new") == 0
    groups = load(tmp_path / "new").state.group
    found = {rule.port_range and rule.port_range.first: rule.description for rule in groups["sg-lb"].rules}
    assert found[8080] == "24 sessions of 2 ends seen 2023-11-14 to 2023-11-15"
    assert found[443] == "", "a rule that stays as it is keeps its description"
    assert run(SHOP, "--capture", DAY, "-o", tmp_path / "plain") == 0
    assert main(["diff", str(tmp_path / "plain"), str(tmp_path / "new")]) == 0
    assert capsys.readouterr().out.endswith("no traffic changes its verdict\n")


def test_only_named_groups_change(tmp_path: Path) -> None:
    for name, option in (("web servers", "--group"), ("web1", "--eni")):
        assert run(SHOP, "--capture", DAY, option, name, "-o", tmp_path / name) == 0
        before, after = load(SHOP).state.group, load(tmp_path / name).state.group
        changed = {group_id for group_id in before if before[group_id] != after[group_id]}
        assert changed == ({"sg-web"} if option == "--group" else {"sg-web", "sg-admin"})


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        pytest.param([SHOP], 2, "name the evidence: --capture FILE, --live, --history", id="no evidence"),
        pytest.param(["--capture", DAY], 2, "name a STATE", id="no state"),
        pytest.param([SHOP, "--capture", DAY, "--name", "lab"], 2, "with --live", id="a lab without --live"),
        pytest.param([SHOP, "--capture", DAY, "--map", "10.0.0.1"], 2, "is not of the form IP=ENI", id="half a map"),
        pytest.param([SHOP, "--capture", DAY, "--map", "10.0.0.1=nobody"], 5, "nobody", id="a map to nobody"),
        pytest.param([SHOP, "--capture", DAY, "--group", "webs"], 5, "a group, such as sg-web", id="no such group"),
        pytest.param([SHOP, "--capture", SHOP], 5, "a pcap or pcapng file is expected", id="no capture"),
        pytest.param([SHOP, "--capture", DAY, "--eni", "web1", "--group", "sg-web"], 2, "not allowed with", id="both"),
        pytest.param([SHOP, "--capture", DAY, "-o", ROOT], 5, "the folder isn't empty", id="a folder with files"),
    ],
)
def test_bad_arguments(arguments: list[object], code: int, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    try:
        found = run(*arguments)
    except SystemExit as exit_:
        found = int(exit_.code or 0)
    output = capsys.readouterr()
    assert (found, output.out) == (code, "")
    assert message in output.err


def capture(path: Path, *flows: tuple[str, str, int, str]) -> Path:
    """SYNs, and answers with these flags."""
    frames = []
    for number, (source, target, port, answer) in enumerate(flows):
        ends = {"sport": 40000 + number, "dport": port}
        frames.append(Ether() / IP(src=source, dst=target) / TCP(**ends, flags="S"))
        if answer:
            back = TCP(sport=port, dport=40000 + number, flags=answer)
            frames.append(Ether() / IP(src=target, dst=source) / back)
    wrpcap(str(path), frames)
    return path


def test_nothing_of_this_state_is_input_that_cant_be_used(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = capture(tmp_path / "other.pcap", ("192.0.2.1", "192.0.2.2", 80, "SA"))
    assert run(SHOP, "--capture", other) == 5
    assert "no session in it belongs to an ENI of the state" in capsys.readouterr().err


def test_what_passed_and_what_nobody_answered_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = capture(
        tmp_path / "x.pcap",
        ("198.51.100.9", "10.20.1.10", 443, "SA"), ("198.51.100.7", "10.20.1.10", 80, ""),
        ("198.51.100.8", "10.20.2.11", 23, "SA"), ("198.51.100.8", "10.20.2.11", 24, ""),
    )  # fmt: skip
    assert run(SHOP, "--capture", path) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "refused by STATE, though it passed (--allow-audited makes rules for it):" in out
    assert "eni-web1 ingress tcp/23 198.51.100.8 1 default" in out
    assert "1 rule carries sessions that nobody answered: a scan, perhaps" in out
    assert "left out: 1 session that STATE refuses, as nothing says that any passed" in out
    assert run(SHOP, "--capture", path, "--allow-audited", "-o", tmp_path / "new") == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "new, as asked, though STATE refuses it:" in out
    assert "sg-web ingress tcp/23 198.51.100.8/32 1 1 1 1" in out
    assert "refused by STATE" not in out
    assert main(["diff", str(SHOP), str(tmp_path / "new"), "--fail-on-any-open"]) == 1, "what is asked for does open"
    assert "ingress of eni-web1, eni-web2\n" in capsys.readouterr().out, "they share the group"


def test_files_of_captures_work_without_the_kernels_libraries(tmp_path: Path) -> None:
    """As on a laptop that has neither."""
    script = f"""
import sys
for name in ("pyroute2", "nftables", "scapy", "inotify_simple"):
    sys.modules[name] = None
from sgdataplane.cli.main import main
sys.exit(main(["suggest", {str(SHOP)!r}, "--capture", {str(DAY)!r}, "-o", {str(tmp_path / "new")!r}]))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.splitlines()[-1][-19:]) == (0, "nothing was applied")
