"""`sgdp lab` as people and programs use it: JSON keys, exit codes; a whole life of a lab, and `exec`, as processes."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

import pytest

from sgdataplane.cli.main import main
from sgdataplane.lab import manage
from tests.support.documents.schemas import assert_conforms
from tests.support.kernel.nft import nft
from tests.support.run.forked import run_forked_sgdp
from tests.support.scenes import labs

pytestmark = pytest.mark.traffic

ROOT = Path(__file__).parents[2]
STATE = """
version: 1
vpcs: [{vpc_id: vpc-a, cidr_blocks: [10.0.0.0/16, "2001:db8:a::/48"]}]
security_groups:
  - security_group_id: sg-a
    vpc_id: vpc-a
    security_group_type: normal
    inner_access_policy: Drop
    rules:
      - {type: ingress, ip_protocol: tcp, port_range: 22/22, cidr_ip: 10.0.0.0/16, security_group_rule_id: sgr-ssh}
      - {type: ingress, ip_protocol: tcp, port_range: 80/80, cidr_ip: 10.0.0.0/16, policy: drop,
         security_group_rule_id: sgr-no-http, priority: 7}
instances: [{instance_id: i-a, instance_name: first}, {instance_id: i-b}]
network_interfaces:
  - {network_interface_id: eni-a, instance_id: i-a, type: primary, vpc_id: vpc-a, security_group_ids: [sg-a],
     mac_address: "00:16:3e:00:00:01", private_ip_addresses: [10.0.0.1], ipv6_addresses: ["2001:db8:a::1"]}
  - {network_interface_id: eni-b, instance_id: i-b, type: primary, vpc_id: vpc-a, security_group_ids: [sg-a],
     mac_address: "00:16:3e:00:00:02", private_ip_addresses: [10.0.0.2]}
"""
CELL_KEYS = ["verdict", "reason", "security_group_id", "security_group_rule_id", "priority"]
CELL_KEYS += ["expected", "observed", "from", "to", "protocol", "port"]


@dataclass(frozen=True)
class Said:
    stdout: str
    stderr: str


def sgdp(*arguments: str, code: int = 0) -> Said:
    """Run `sgdp lab ...` in this process, which costs less than one of its own."""
    out, error = StringIO(), StringIO()
    with redirect_stdout(out), redirect_stderr(error):
        try:
            found = main(["lab", *arguments])
        except SystemExit as end:  # of argparse
            found = int(end.code or 0)
    return checked(Said(out.getvalue(), error.getvalue()), found, code)


def in_a_process(*arguments: str, code: int = 0) -> Said:
    """The same, where it is passed on what a process is given, and what it gives."""
    done = run_forked_sgdp("lab", *arguments, cwd=ROOT)
    return checked(Said(done.stdout, done.stderr), done.returncode, code)


def checked(said: Said, found: int, code: int) -> Said:
    assert found == code, said.stdout + said.stderr
    assert "Traceback" not in said.stderr
    return said


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("state") / "state.yaml"
    path.write_text(STATE)
    return path


@pytest.fixture(scope="module")
def name(make_lab_name: Callable[[], str], state: Path, placement: str) -> Iterator[str]:
    """A running lab."""
    lab = make_lab_name()
    outside = ("--external", "192.0.2.1,2001:db8:ffff::1", "192.0.2.2")
    printed = sgdp("up", str(state), "--name", lab, *outside, "--placement", placement).stdout
    assert f"lab {lab}: policy enforced in placement {placement}" in printed
    assert f"named {lab}-NODE" in printed
    yield lab
    assert f"lab {lab}: removed 5 namespaces" in sgdp("down", lab).stdout
    assert f"lab {lab}: there was nothing to remove" in sgdp("down", "--name", lab).stdout
    labs.assert_gone(lab)


def enforced_places(status: dict[str, Any]) -> dict[str, Any]:
    """The nodes or routers that enforce policy, as in the status."""
    if status["placement"] == "host":
        return dict(status["vpcs"])
    return {name: node for name, node in status["nodes"].items() if node["kind"] == "instance"}


def test_status_json_has_the_documented_keys(name: str, placement: str) -> None:
    status = json.loads(sgdp("status", "--json", "--name", name).stdout)
    assert_conforms("lab-status", status)
    places = enforced_places(status)
    assert list(places) == (["i-a", "i-b"] if placement == "instance" else ["vpc-a"])
    for place in places.values():
        use = place.pop("conntrack")
        assert list(use) == ["entries", "limit", "dropped", "evicted", "insert_failed"]
        assert 0 <= use["entries"] < use["limit"]
        assert place.pop("mark_users") == place.pop("flowtables") == []
    assert status.pop("unknown_timeouts") == []
    assert status.pop("choices") == labs.choices_at(placement).plain()
    assert status == {
        "name": name,
        "placement": placement,
        "time_scale": 1.0,
        "nodes": {
            "i-a": instance(name, "i-a", "eni-a", "00:16:3e:00:00:01", "10.0.0.1", "2001:db8:a::1"),
            "i-b": instance(name, "i-b", "eni-b", "00:16:3e:00:00:02", "10.0.0.2"),
            "ext-192.0.2.1": outside(name, "ext-192.0.2.1", ["192.0.2.1"], ["2001:db8:ffff::1"]),
            "ext-192.0.2.2": outside(name, "ext-192.0.2.2", ["192.0.2.2"], []),
        },
        "vpcs": {"vpc-a": {"netns": f"{name}-vpc-a"}},
    }


def test_status_warns_of_others_who_use_the_conntrack_mark(name: str, placement: str) -> None:
    def status() -> tuple[str, dict[str, Any]]:
        done = sgdp("status", "--json", "--name", name)
        return done.stderr, enforced_places(json.loads(done.stdout))

    place = "i-a" if placement == "instance" else "vpc-a"
    other = "add table ip other; add chain ip other c; add rule ip other c"
    nft(f"{name}-{place}", f"{other} ct state new accept")
    assert status()[0] == ""
    nft(f"{name}-{place}", f"{other} ct mark set 1")
    try:
        warnings, places = status()
        assert warnings.startswith(
            f"warning: {place}: rule 3 of chain ip other c sets the conntrack mark (ct mark set)"
        )
        user = {"family": "ip", "table": "other", "chain": "c", "handle": 3, "sets": True, "text": "ct mark set"}
        assert {name: found["mark_users"] for name, found in places.items() if found["mark_users"]} == {place: [user]}
        assert warnings.count("\n") == 1
    finally:
        nft(f"{name}-{place}", "delete table ip other")


def instance(lab: str, node: str, eni: str, mac: str, ipv4: str, *ipv6: str) -> dict[str, Any]:
    interface = {"eni": eni, "ifname": "eth0", "mac": mac, "ipv4": [ipv4], "ipv6": list(ipv6)}
    return {"kind": "instance", "netns": f"{lab}-{node}", "interfaces": [interface]}


def outside(lab: str, node: str, ipv4: list[str], ipv6: list[str]) -> dict[str, Any]:
    interface = {"ifname": "eth0", "ipv4": ipv4, "ipv6": ipv6}
    return {"kind": "external", "netns": f"{lab}-{node}", "interfaces": [interface]}


@pytest.mark.placement("instance")
def test_probe_json_has_the_documented_keys_and_values(name: str) -> None:
    ask = ("probe", "--json", "--name", name, "--from", "first", "--to", "10.0.0.2", "--protocol", "tcp", "--port")
    cell = json.loads(sgdp(*ask, "80").stdout)
    assert_conforms("lab-probe", cell)
    assert list(cell)[: len(CELL_KEYS)] == CELL_KEYS
    wanted = ("drop", "rule", "sg-a", "sgr-no-http", 7, "drop", "drop", "i-a", "i-b", "tcp", 80)
    assert tuple(cell[key] for key in CELL_KEYS) == wanted
    cell = json.loads(sgdp(*ask, "22").stdout)
    wanted = ("accept", "rule", "sg-a", "sgr-ssh", 1, "accept", "accept", "i-a", "i-b", "tcp", 22)
    assert tuple(cell[key] for key in CELL_KEYS) == wanted


def test_probe_says_what_it_saw(name: str, placement: str) -> None:
    printed = sgdp("probe", "--name", name, "--from", "i-a", "--to", "i-b", "--protocol", "icmp").stdout
    assert printed.splitlines()[0] == "i-a 10.0.0.1 -> i-b 10.0.0.2 icmp"
    assert "expected: drop at ingress by default" in printed
    seen = {
        "instance": "it reached the receiver's interface",
        "host": "it came to the receiver's policy in router vpc-a",
    }
    assert f"observed: drop at ingress ({seen[placement]}" in printed


def test_matrix_agrees_and_prints_a_table(name: str) -> None:
    printed = sgdp("matrix", "--name", name, "--ports", "tcp/22,tcp/80,icmp").stdout
    assert printed.splitlines()[0].startswith("what passes, of tcp/22, tcp/80, icmp")
    assert printed.splitlines()[1].split() == ["FROM", "TO", "PASSES"]
    assert "i-a 10.0.0.1" in printed
    assert "0 disagree with the policy" in printed.splitlines()[-1]


@pytest.mark.placement("instance")
def test_matrix_json_has_the_documented_keys(name: str) -> None:
    document = json.loads(sgdp("matrix", "--name", name, "--json").stdout)
    assert_conforms("lab-matrix", document)
    assert document["disagreements"] == 0
    assert {tuple(cell)[: len(CELL_KEYS)] for cell in document["cells"]} == {tuple(CELL_KEYS)}
    assert {(cell["protocol"], cell["port"]) for cell in document["cells"]} == {
        ("tcp", 22), ("tcp", 80), ("udp", 53), ("icmp", None), ("icmpv6", None),
    }  # fmt: skip


def test_disagreement_is_exit_1_and_explained(name: str, placement: str) -> None:
    labs.load_rules(
        f"{name}-i-b",
        "table inet saboteur {\nchain c {\ntype filter hook input priority 9\ntcp dport 22 iifname eth0 drop\n}\n}\n",
    )
    try:
        printed = sgdp("matrix", "--name", name, "--ports", "tcp/22", code=1).stdout
        probe = sgdp(
            "probe", "--name", name, "--from", "i-a", "--to", "i-b", "--protocol", "tcp", "--port", "22", code=1
        )
    finally:
        labs.run_in(f"{name}-i-b", "nft", "delete", "table", "inet", "saboteur")
    observed = {"instance": "drop at ingress", "host": "unknown"}[placement]
    assert printed.splitlines()[1].split() == ["FROM", "TO", "PASSES", "DISAGREES"]
    title = "! i-a 10.0.0.1 -> i-b 10.0.0.2 tcp/22: expected accept by sgr-ssh of sg-a (priority 1), observed"
    assert f"{title} {observed}" in printed
    assert "these disagree" in probe.stdout


@pytest.mark.placement("instance")
def test_exec_passes_output_input_and_exit_code_on(name: str) -> None:
    done = in_a_process(
        "exec", "--name", name, "first", "sh", "-c", "echo out; echo err >&2; ls /sys/class/net; exit 7", code=7
    )
    assert (done.stdout.split(), done.stderr) == (["out", "eth0", "lo"], "err\n")
    command = [sys.executable, "-m", "sgdataplane", "lab", "exec", "--name", name, "i-a", "--", "cat"]
    piped = subprocess.run(command, cwd=ROOT, input="hello", capture_output=True, text=True, check=True, timeout=30)
    assert piped.stdout == "hello"
    assert "no such command" in in_a_process("exec", "--name", name, "i-a", "no-such-command", code=127).stderr
    assert in_a_process("exec", "i-a", "--name", name, "--", "echo", "--", "-n").stdout == "-- -n\n"
    for nothing in (("--",), ("--name", "lab"), ()):
        assert "name a command" in in_a_process("exec", "--name", name, "i-a", *nothing, code=2).stderr


def test_labs_are_listed(name: str, placement: str) -> None:
    document = json.loads(sgdp("list", "--json").stdout)
    assert_conforms("lab-list", document)
    (listed,) = (each for each in document["labs"] if each["name"] == name)
    assert (listed["placement"], listed["up"], len(listed["namespaces"])) == (placement, True, 5)
    assert [name, placement, "5", "up"] in [line.split() for line in sgdp("list").stdout.splitlines()]


def test_the_lab_may_be_named_in_the_environment(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SGDP_LAB", name)
    assert json.loads(sgdp("status", "--json").stdout)["name"] == name
    monkeypatch.setenv("SGDP_LAB", "other")
    assert "lab other" in sgdp("status", code=5).stderr


LOOKING = {
    "sessions": ("sessions",),
    "counters": ("counters",),
    "log": ("log", "--follow"),
    "trace": ("trace", "--from", "first", "--to", "i-b", "--port", "tcp/22"),
    "explain": ("explain", "STATE", "first", "i-b", "tcp/22", "--live"),
}


@pytest.mark.parametrize("verb", LOOKING)
def test_whatever_looks_into_a_lab_looks_into_that_of_the_environment(
    name: str, state: Path, verb: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command = [str(state) if word == "STATE" else word for word in LOOKING[verb]]
    monkeypatch.setenv("SGDP_LAB", "no-such-lab")
    assert main(command) == 5
    assert "no-such-lab" in capsys.readouterr().err
    if verb != "log":  # which would go on
        monkeypatch.setenv("SGDP_LAB", name)
        assert main(command) == 0, capsys.readouterr().err


@pytest.mark.placement("instance")
@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("exec", "i-z", "--", "true"), 5, "node 'i-z': there is no such node; this lab has i-a, i-b, ext-192.0.2.1"),
        (("probe", "--from", "i-a", "--to", "10.0.0.9", "--protocol", "icmp"), 5, "no node of this lab has it"),
        (("probe", "--from", "i-a", "--to", "i-a", "--protocol", "icmp"), 5, "nothing would go over a wire"),
        (("probe", "--from", "ext-192.0.2.1", "--to", "ext-192.0.2.2", "--protocol", "icmp"), 5, "nothing would go"),
        (("probe", "--from", "2001:db8:a::1", "--to", "i-b", "--protocol", "icmp"), 5, "nothing would go over a wire"),
        (("probe", "--from", "i-a", "--to", "i-b", "--protocol", "tcp"), 2, "--port is needed with tcp"),
        (("probe", "--from", "i-a", "--to", "i-b", "--protocol", "tcp", "--port", "0"), 2, "the port must be 1..65535"),
        (("probe", "--from", "i-a", "--to", "i-b", "--protocol", "icmp", "--port", "1"), 2, "icmp has no ports"),
        (("matrix", "--ports", "22,80"), 2, "'22' alone could be a port (tcp/22 or udp/22) or a protocol (proto/22)"),
        (("matrix", "--ports", "tcp/22,quic"), 2, "'quic' is neither a protocol nor a service"),
        (("matrix", "--ports", ""), 2, "name at least one"),
        (("matrix", "--html", "/no/where"), 5, "InvalidTarget.NotWritable"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused(name: str, arguments: tuple[str, ...], code: int, words: str) -> None:
    verb, *rest = arguments
    assert words in sgdp(verb, "--name", name, *rest, code=code).stderr


@pytest.mark.placement("instance")
def test_up_of_a_lab_that_is_there_is_refused(name: str, state: Path) -> None:
    assert "it exists already" in sgdp("up", str(state), "--name", name, code=5).stderr


@pytest.mark.parametrize("option", ["--html", "--svg"])
def test_a_page_that_cannot_be_written_is_refused_before_anything_is_probed(lab_name: str, option: str) -> None:
    assert "NotWritable" in sgdp("matrix", "--name", lab_name, option, "/no/where", code=5).stderr


def test_verbs_of_an_unknown_lab_are_refused(lab_name: str, state: Path) -> None:
    for verb in (("status",), ("matrix",), ("apply", str(state)), ("exec", "i-a", "--", "true")):
        assert "no lab of that name is running" in sgdp(verb[0], "--name", lab_name, *verb[1:], code=5).stderr
    assert "nothing to remove" in sgdp("down", "--name", lab_name).stdout
    labs.assert_gone(lab_name)


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("--external", "10.0.0.9"), 5, "it belongs to vpc-a; choose an address outside every VPC"),
        (("--external", "nonsense"), 5, "an IPv4 or IPv6 address is expected"),
        (("--external", "192.0.2.1", "192.0.2.1"), 5, "two things of this lab would get this name"),
        (("--time-scale", "0"), 2, "is not a number above 0"),
        (("--placement", "moon"), 2, "invalid choice"),
        (("--hosts", "0"), 2, "is not a number from 1 to 32"),
    ],
)
def test_lab_that_cannot_be_is_refused_before_anything_is_made(
    lab_name: str, state: Path, arguments: tuple[str, ...], code: int, words: str
) -> None:
    assert words in sgdp("up", str(state), "--name", lab_name, *arguments, code=code).stderr
    assert manage.down(lab_name) == ()
    labs.assert_gone(lab_name)


def test_lab_names_are_checked(state: Path) -> None:
    for name in ("", "a/b", "../x", "UPPER", "x" * 33):
        assert "use 1 to 32 of a-z" in sgdp("up", str(state), "--name", name, code=5).stderr


def test_refused_state_makes_no_lab(lab_name: str, tmp_path: Path) -> None:
    (tmp_path / "state.yaml").write_text("version: 1\nvpcs: nonsense\n")
    sgdp("up", str(tmp_path / "state.yaml"), "--name", lab_name, code=5)
    labs.assert_gone(lab_name)


def test_hosts_are_shown(lab_name: str, state: Path) -> None:
    printed = sgdp("up", str(state), "--name", lab_name, "--hosts", "2", "--placement", "host").stdout
    try:
        assert "i-b on host 2" in printed
        assert f"router of vpc-a on host 2: {lab_name}-vpc-a.host2" in printed
        status = json.loads(sgdp("status", "--json", "--name", lab_name).stdout)
        assert {name: node.get("host") for name, node in status["nodes"].items()} == {
            "i-a": None, "i-b": 2, "ext-198.51.100.7": None,
        }  # fmt: skip
        routers = status["vpcs"]["vpc-a"]
        assert (routers["netns"], routers["hosts"]["2"]["netns"]) == (f"{lab_name}-vpc-a", f"{lab_name}-vpc-a.host2")
        assert {"conntrack", "mark_users", "flowtables"} <= routers.keys() & routers["hosts"]["2"].keys()
    finally:
        assert "removed 5 namespaces" in sgdp("down", "--name", lab_name).stdout
    labs.assert_gone(lab_name)


def test_apply_changes_the_policy(lab_name: str, placement: str, state: Path, tmp_path: Path) -> None:
    in_a_process("up", str(state), "--name", lab_name, "--placement", placement)
    try:
        other = tmp_path / "other.yaml"
        other.write_text(STATE.replace("22/22", "23/23"))
        assert "in force for 2 ENIs" in in_a_process("apply", str(other), "--name", lab_name).stdout
        cell = in_a_process(
            "probe", "--json", "--name", lab_name, "--from", "i-a", "--to", "i-b", "--protocol", "tcp", "--port", "22"
        )
        assert json.loads(cell.stdout)["observed"] == "drop"
    finally:
        in_a_process("down", "--name", lab_name)
    labs.assert_gone(lab_name)
