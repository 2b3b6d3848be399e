"""The Debian package under a real systemd: installed, booted, upgraded, purged; and `make install`."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

import pytest

from tests.support.probes.flood import wait_until
from tests.support.scenes.attachbench import WEB
from tests.support.scenes.bootedhost import AGENT, BOOT, CONFIG, DEB, STATE, outcomes, pid, rules, status, write
from tests.support.servers.booted import Booted

pytestmark = [pytest.mark.daemon, pytest.mark.slow]
API = "sgdataplane-api.service"
ROOT = Path(__file__).resolve().parents[2]
RUNTIME = """[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/true
[Install]
WantedBy=multi-user.target
"""


def test_installed_it_runs_and_starts_at_boot(host: Booted) -> None:
    for unit, sub in ((AGENT, "running"), (BOOT, "exited")):
        assert host.run("systemctl", "is-enabled", unit) == "enabled\n"
        assert (host.property(unit, "ActiveState"), host.property(unit, "SubState")) == ("active", sub)
    assert host.property(AGENT, "StatusText") == "1 ENI, healthy"
    found = status(host)
    assert (found["healthy"], found["pid"]) == (True, pid(host))
    assert "egress" in rules(host)
    assert host.path("/usr/lib/modules-load.d/sgdataplane.conf").exists()


def test_the_journal_has_the_fields_of_its_lines_and_still_its_lines(host: Booted) -> None:
    """Those of a process that has ended, too: journald knows by its stderr which unit it was."""
    host.run("journalctl", "--sync")
    (line, *_) = host.run("journalctl", "-u", AGENT, "SGDP_ENI=eni-a", "-o", "cat").splitlines()
    assert line.startswith('eni eni=eni-a at="eth0 of netns w" outcome="in force"')
    assert host.run("journalctl", "SGDP_ENI=eni-b", "-o", "cat", check=False) in ("", "-- No entries --\n")
    found = json.loads(host.run("journalctl", "-u", BOOT, "SGDP_EVENT=cycle", "-o", "json").splitlines()[-1])
    assert (found["SGDP_POLICY"], found["PRIORITY"], found["SYSLOG_IDENTIFIER"]) == ("closed", "6", "sgdp")


def test_container_runtimes_find_the_cni_plugin(host: Booted) -> None:
    asked = "CNI_COMMAND=VERSION /usr/lib/cni/sgdataplane < /dev/null"
    assert "1.1.0" in json.loads(host.run("sh", "-c", asked))["supportedVersions"]


def test_boot_unit_enforces_what_is_attached_by_the_last_good_policy(host: Booted) -> None:
    host.run("systemctl", "stop", AGENT, BOOT)
    host.run("ip", "netns", "exec", "w", "nft", "flush", "ruleset")
    write(host, STATE, "no state\n")
    host.run("systemctl", "start", BOOT)
    assert f"rule.sg-a.sgr-{WEB}" in rules(host)
    assert 'policy="last good"' in host.run("journalctl", "-u", BOOT)
    assert host.property(AGENT, "ActiveState") == "inactive"


def test_boot_unit_closes_what_is_attached_where_there_is_no_policy(host: Booted) -> None:
    host.run("systemctl", "stop", AGENT, BOOT)
    host.run("ip", "netns", "exec", "w", "nft", "flush", "ruleset")
    host.path(STATE).unlink()
    host.path("/var/lib/sgdataplane/last-good.yaml").unlink()
    host.run("systemctl", "start", BOOT)
    assert "rule.sg-a" not in rules(host)
    assert "policy=closed" in host.run("journalctl", "-u", BOOT)


def test_at_boot_it_is_there_before_the_network_and_before_containers(host: Booted) -> None:
    write(host, "/etc/systemd/system/docker.service", RUNTIME)
    host.run("systemctl", "enable", "docker.service")
    write(host, STATE, "no state\n")
    host.end()
    host.boot()

    def moment(unit: str, name: str) -> int:
        return int(host.property(unit, f"{name}TimestampMonotonic"))

    assert 0 < moment(BOOT, "ActiveEnter") <= moment("network-pre.target", "ActiveEnter")
    assert moment(BOOT, "ActiveEnter") <= moment(AGENT, "InactiveExit")
    assert 0 < moment(AGENT, "ActiveEnter") <= moment("docker.service", "InactiveExit")
    assert status(host)["state"]["origin"] == "last good"
    assert status(host)["enis"] == []
    host.run("systemctl", "disable", "--now", "docker.service")


def test_runtime_that_asks_for_the_agent_does_not_start_without_it(host: Booted) -> None:
    write(host, "/run/systemd/system/containerd.service", RUNTIME)
    drop_in = "[Unit]\nRequires=sgdataplane.service\nAfter=sgdataplane.service\n"
    write(host, "/run/systemd/system/containerd.service.d/agent.conf", drop_in)
    host.run("systemctl", "stop", AGENT)
    host.run("systemctl", "daemon-reload")
    write(host, CONFIG, "no configuration\n")
    assert "dependency" in host.run("systemctl", "start", "containerd.service", check=False)
    assert host.property("containerd.service", "ActiveState") == "inactive"
    write(host, CONFIG, "")
    wait_until(lambda: host.property(AGENT, "ActiveState") == "active")  # it is tried again each second
    host.run("systemctl", "start", "containerd.service")


def test_upgraded_it_is_another_process_and_the_rules_stay(host: Booted, package: Path, tmp_path: Path) -> None:
    subprocess.run(["dpkg-deb", "--raw-extract", package, tmp_path / "newer"], check=True)
    control = tmp_path / "newer/DEBIAN/control"
    text = control.read_text("utf-8")
    control.write_text(re.sub(r"^Version: .*$", "Version: 99", text, flags=re.MULTILINE), "utf-8")
    subprocess.run(["dpkg-deb", "--build", tmp_path / "newer", host.path(DEB)], check=True, capture_output=True)
    before, held = pid(host), rules(host)
    host.run("dpkg", "--install", DEB)
    assert pid(host) not in (0, before)
    assert (outcomes(host), rules(host)) == ({"eni-a": "in force"}, held)


def test_make_install_runs_under_systemd_and_is_undone(systemd_machine: Booted) -> None:
    where = {**os.environ, "DESTDIR": str(systemd_machine.path("")), "PREFIX": "/usr/local"}
    subprocess.run(["tools/install.sh"], cwd=ROOT, env=where, check=True)
    systemd_machine.run("systemctl", "daemon-reload")
    systemd_machine.run("systemctl", "enable", "--now", BOOT, AGENT)
    assert [systemd_machine.property(unit, "ActiveState") for unit in (AGENT, BOOT)] == ["active", "active"]
    assert systemd_machine.property(AGENT, "FragmentPath").startswith("/usr/local/")
    assert f"pid {pid(systemd_machine)}" in systemd_machine.run("/usr/local/bin/sgdp", "status", check=False)
    for tool in ("systemd-sysusers", "systemd-tmpfiles --create"):  # as on a machine without DESTDIR
        systemd_machine.run(*tool.split(), "sgdataplane-api.conf")
    systemd_machine.run("/usr/local/bin/sgdp", "api", "keys", "create")
    systemd_machine.run("systemctl", "start", API)
    assert systemd_machine.property(API, "ActiveState") == "active"
    systemd_machine.run("systemctl", "disable", "--now", BOOT, AGENT, API)
    subprocess.run(["tools/install.sh", "uninstall"], cwd=ROOT, env=where, check=True)
    systemd_machine.run("systemctl", "daemon-reload")
    assert [systemd_machine.property(unit, "LoadState") for unit in (AGENT, API)] == ["not-found"] * 2
    systemd_machine.run("rm", "-r", "/etc/sgdataplane", "/var/lib/sgdataplane-api", "/run/sgdataplane-api")


def test_purged_nothing_is_left_but_the_rules_and_what_users_wrote(host: Booted) -> None:
    held = rules(host)
    host.run("dpkg", "--remove", "sgdataplane")
    assert host.path(CONFIG).exists()
    assert host.path("/run/sgdataplane/attached/bindings.json").exists()
    assert host.path("/var/lib/sgdataplane/last-good.yaml").exists()
    assert host.property(AGENT, "LoadState") in ("not-found", "masked")
    host.run("dpkg", "--purge", "sgdataplane")
    places = ("/etc", "/usr/bin", "/usr/lib", "/usr/share", "/var/lib", "/var/cache", "/run")
    left = host.run("find", *places, "(", "-name", "*sgdataplane*", "-o", "-name", "sgdp", ")", "-print", "-prune")
    assert left.splitlines() == ["/etc/sgdataplane"]
    assert sorted(path.name for path in host.path("/etc/sgdataplane").iterdir()) == ["state.yaml"]
    assert rules(host) == held
