"""The agent of the Debian package under a real systemd: kept in, reloaded, hung, killed, stopped."""

from __future__ import annotations

import re
import time
from collections import Counter
from pathlib import Path

import pytest

from sgdataplane.lab.waiting import scale_timeout
from sgdataplane.statefile import dump_native
from tests.support.inputs.builders import mac_of
from tests.support.probes.flood import wait_until
from tests.support.probes.trialtraffic import Opener
from tests.support.scenes.attachbench import DNS, WEB, state_of
from tests.support.scenes.bootedhost import (
    AGENT,
    CONFIG,
    STATE,
    TRIAL,
    attach,
    make_workload,
    outcomes,
    pair_of,
    pid,
    rules,
    start_trial,
    status,
    trial_counts,
    write,
)
from tests.support.scenes.pair import HERE
from tests.support.servers.booted import Booted

pytestmark = [pytest.mark.daemon, pytest.mark.slow]
ROOT = Path(__file__).resolve().parents[2]


def test_it_is_kept_in(host: Booted) -> None:
    """What the unit says holds for the process: capabilities, and files."""
    text = host.path(f"/proc/{pid(host)}/status").read_text("ascii")
    bounds = re.search(r"^CapBnd:\s*(\w+)$", text, re.MULTILINE)
    assert bounds
    assert int(bounds[1], 16) == sum(1 << number for number in (11, 12, 18, 19, 21))
    inside = ["nsenter", "--target", pid(host), "--mount", "--root", "sh", "-c"]
    for path in ("/etc", "/usr", "/run", "/var", "/root", "/proc/sys/kernel/hostname"):
        target = f"{path}/x" if host.path(path).is_dir() else path
        assert "Read-only file system" in host.run(*inside, f"echo > {target}", check=False)
    host.run(*inside, "touch /run/sgdataplane/x /var/lib/sgdataplane/x && rm /run/sgdataplane/x /var/lib/sgdataplane/x")


def test_what_it_may_not_read_or_write_is_told_and_a_drop_in_allows_it(host: Booted) -> None:
    host.run("sh", "-c", f"chown nobody {STATE} && chmod 600 {STATE}")
    wait_until(lambda: "permission denied" in str(status(host)["state"]["error"]))
    assert outcomes(host) == {"eni-a": "in force"}
    host.run("chown", "root", STATE)
    host.run("cp", STATE, "/tmp/state.yaml")
    host.run("mkdir", "/srv/kept")
    write(host, CONFIG, 'state = "/tmp/state.yaml"\nstate_directory = "/srv/kept"\n')
    host.run("systemctl", "restart", AGENT)
    assert "no such file" in status(host)["state"]["error"]
    write(host, CONFIG, 'state_directory = "/srv/kept"\n')
    host.run("systemctl", "restart", AGENT)
    assert "Read-only file system" in status(host)["last_good"]["error"]
    write(host, f"/run/systemd/system/{AGENT}.d/paths.conf", "[Service]\nReadWritePaths=/srv/kept\n")
    host.run("systemctl", "daemon-reload")
    host.run("systemctl", "restart", AGENT)
    assert status(host)["healthy"]


def test_metrics_are_for_this_machine_until_a_drop_in_says_otherwise(host: Booted) -> None:
    host.run("ip", "link", "set", "lo", "up")
    host.run("ip", "address", "replace", "192.0.2.1/32", "dev", "lo")
    write(host, CONFIG, 'metrics = "0.0.0.0:9469"\n')
    host.run("systemctl", "restart", AGENT)

    def ask(address: str) -> str:
        program = f"import urllib.request as u; print(u.urlopen('http://{address}:9469/metrics', timeout=2).read())"
        return host.run("python3", "-c", program, check=False)

    assert "sgdataplane_healthy 1.0" in ask("127.0.0.1")
    assert "timed out" in ask("192.0.2.1")
    write(host, f"/run/systemd/system/{AGENT}.d/addresses.conf", "[Service]\nIPAddressAllow=192.0.2.0/24\n")
    host.run("systemctl", "daemon-reload")
    host.run("systemctl", "restart", AGENT)
    assert "sgdataplane_healthy 1.0" in ask("192.0.2.1")


def test_reload_reads_configuration_and_state_anew(host: Booted) -> None:
    before = pid(host)
    write(host, "/etc/sgdataplane/other.yaml", dump_native(state_of(DNS)))
    write(host, CONFIG, 'state = "/etc/sgdataplane/other.yaml"\n')
    host.run("systemctl", "reload", AGENT)
    wait_until(lambda: f"rule.sg-a.sgr-{DNS}" in rules(host))
    assert "reload" in status(host)["cycle"]["causes"]
    assert (pid(host), host.property(AGENT, "ActiveState")) == (before, "active")


@pytest.mark.parametrize("signal", ["KILL", "STOP"])
def test_killed_or_hung_it_is_started_anew_and_the_rules_stay(host: Booted, signal: str) -> None:
    """Hung: systemd's watchdog ends it. A slow machine may hold a healthy agent up for longer than 2 s."""
    write(host, f"/run/systemd/system/{AGENT}.d/watchdog.conf", f"[Service]\nWatchdogSec={scale_timeout(2):g}\n")
    host.run("systemctl", "daemon-reload")
    host.run("systemctl", "restart", AGENT)
    before, held = pid(host), rules(host)
    host.run("sh", "-c", f"kill -{signal} {before}")
    wait_until(lambda: status(host)["pid"] not in (0, before))
    assert ("Watchdog timeout" in host.run("journalctl", "-u", AGENT)) == (signal == "STOP")
    assert outcomes(host) == {"eni-a": "in force"}
    assert rules(host) == held


def test_stopped_the_rules_and_what_is_attached_stay(host: Booted) -> None:
    held = rules(host)
    host.run("systemctl", "stop", AGENT)
    assert host.property(AGENT, "Result") == "success"
    assert rules(host) == held
    host.run("systemctl", "start", AGENT)
    assert outcomes(host) == {"eni-a": "in force"}
    assert rules(host) == held


def test_namespace_ends_though_the_agent_has_mounts_of_its_own(host: Booted) -> None:
    host.run("ip", "netns", "delete", "w")
    wait_until(lambda: outcomes(host) == {"eni-a": "gone"})
    assert "gone" in host.run("journalctl", "-u", AGENT)


def test_interfaces_of_namespaces_that_come_later_are_bound_by_alias(host: Booted) -> None:
    """Their names are mounts, which come to the agent's own mount namespace, too."""
    host.run("sgdp", "detach", "--eni", "eni-a")
    write(host, CONFIG, 'bind = ["alias"]\n')
    host.run("systemctl", "restart", AGENT)
    host.run("ip", "netns", "add", "later")
    host.run("ip", "link", "add", "l0", "type", "veth", "peer", "eth0", "netns", "later", "address", mac_of("eni-a"))
    host.run("ip", "-n", "later", "link", "set", "eth0", "alias", "eni-a", "up")
    wait_until(lambda: outcomes(host) == {"eni-a": "in force"})
    assert "egress" in rules(host, "later")
    host.run("ip", "netns", "delete", "later")
    wait_until(lambda: outcomes(host) == {"eni-a": "gone"})


def test_routers_are_the_machines_and_outlive_the_agent(host: Booted) -> None:
    write(host, CONFIG, 'placement = "host"\n')
    host.run("systemctl", "reload", AGENT)
    wait_until(lambda: [eni["placement"] for eni in status(host)["enis"]] == ["host"])
    (router,) = re.findall(r"^sgdp-\S+", host.run("ip", "netns", "list"), re.MULTILINE)
    held = rules(host, router)
    host.run("systemctl", "stop", AGENT)
    assert rules(host, router) == held
    assert "169.254.1.1" in host.run("ip", "-n", router, "address")
    host.run("systemctl", "start", AGENT)
    assert outcomes(host) == {"eni-a": "in force"}
    host.run("sgdp", "clear")
    assert "sgdp-" not in host.run("ip", "netns", "list")


def test_a_trial_and_its_counts_are_there_after_a_power_failure(host: Booted) -> None:
    """What was read last is kept, which the agent does every ten seconds."""
    start_trial(host, DNS)
    before = open_sessions(host, seed=5)
    counted_at = time.time()
    wait_until(lambda: host.path(f"/var/lib/sgdataplane/trials/{TRIAL}.seen").stat().st_mtime > counted_at)
    host.end()
    host.boot()
    make_workload(host)
    attach(host)
    wait_until(lambda: trial_counts(host) == before)
    open_sessions(host, seed=6)


def open_sessions(host: Booted, seed: int) -> Counter[int]:
    """Some to WEB, which the policy in force lets in, others to DNS, which the trial does; returns when all count."""
    already = trial_counts(host)
    opener = Opener(pair_of(host)["peer"], HERE["instance"][0], (WEB, DNS), seed)
    opener.send(80)
    wait_until(lambda: trial_counts(host) == opener.sent + Counter(already))
    assert min(opener.sent[WEB], opener.sent[DNS]) > 20
    return opener.sent
