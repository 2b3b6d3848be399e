"""The units, and the product as `make install` puts it there, without a systemd that runs."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from importlib.metadata import distributions
from pathlib import Path

import pytest
from packaging.utils import NormalizedName, canonicalize_name

from sgdataplane import __version__
from sgdataplane.cli.main import main
from sgdataplane.host.links import Links
from sgdataplane.host.modules import NFTABLES, TRACKING
from tests.support.inputs.builders import mac_of
from tests.support.run.sandbox import bounds_of, capabilities
from tests.support.scenes.agentbench import agent_in
from tests.support.scenes.attachbench import WEB, living_nowhere, state_of

ROOT = Path(__file__).resolve().parents[2]
UNITS = ("sgdataplane.service", "sgdataplane-boot.service")
API = "sgdataplane-api.service"
VERBS = {API: "api", "sgdataplane-relay.service": "relay", "sgdataplane-sync.service": "sync"}
OF_HOSTS = tuple(VERBS)[1:]
LIBRARIES = {"api": "sgdataplane-api", "relay": "sgdataplane-hosts", "sync": "sgdataplane-hosts"}  # of verbs
STATE = ROOT / "netns-lab" / "scenarios" / "20-three-tier" / "state.yaml"
COMMAND_S = 300
EXPOSURE = {**dict.fromkeys(UNITS, 3.0), API: 1.0, **dict.fromkeys(OF_HOSTS, 1.3)}  # of 10; "OK" is below 5


def run(*command: object, **environment: str) -> subprocess.CompletedProcess[str]:
    line = [*map(str, command)]
    surroundings = {**os.environ, **environment}
    return subprocess.run(
        line, cwd=ROOT, env=surroundings, capture_output=True, text=True, timeout=COMMAND_S, check=False
    )


TRIED_HERE = {"net_admin", "net_broadcast", "sys_admin", "sys_ptrace"}


def files_below(folder: Path) -> list[str]:
    """Without what Python has compiled since."""
    found = (path for path in folder.rglob("*") if not path.is_dir() and path.suffix != ".pyc")
    return sorted(str(path.relative_to(folder)) for path in found)


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """DESTDIR, with PREFIX=/usr."""
    folder = tmp_path_factory.mktemp("installed")
    done = run("tools/install.sh", DESTDIR=str(folder), PREFIX="/usr")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    return folder


@pytest.fixture(scope="module")
def units(installed: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the units, which start what is installed where it is now."""
    folder = tmp_path_factory.mktemp("units")
    for unit in EXPOSURE:
        text = (installed / "usr/lib/systemd/system" / unit).read_text("utf-8")
        assert f"ExecStart=/usr/bin/sgdp {VERBS.get(unit, 'agent')}" in text
        (folder / unit).write_text(text.replace("/usr/bin/sgdp", str(installed / "usr/bin/sgdp")), "utf-8")
    return folder


def test_what_is_installed_runs_from_there_alone(installed: Path, tmp_path: Path) -> None:
    sgdp = installed / "usr/bin/sgdp"
    (tmp_path / "yaml.py").write_text("raise SystemExit('not to be loaded')")
    surroundings = {"PYTHONPATH": str(tmp_path), "PATH": "/usr/bin:/bin"}
    assert run(sgdp, "--version", **surroundings).stdout == f"sgdp {__version__}\n"
    checked = run(sgdp, "check", STATE, **surroundings)
    assert checked.returncode == 0, checked.stderr
    compiled = run(sgdp, "compile", STATE, "--stage", "text", "--eni", "eni-web1", **surroundings)
    assert "table inet sgdataplane" in compiled.stdout, compiled.stderr
    plugin = run(installed / "usr/lib/cni/sgdataplane", CNI_COMMAND="VERSION", **surroundings)
    assert "1.1.0" in json.loads(plugin.stdout)["supportedVersions"], plugin.stderr


def test_packages_are_the_locked_ones_and_no_others(installed: Path) -> None:
    packages = distributions(path=[str(installed / "usr/lib/sgdataplane")])
    found = {canonicalize_name(package.name): package.version for package in packages}
    needed = {"inotify-simple", "jinja2", "markupsafe", "prometheus-client", "pyroute2", "pyyaml"}
    needed |= {"markdown-it-py", "mdurl", "pygments", "rich", "shtab"}
    assert found.keys() == needed
    assert_are_locked(found)


@pytest.mark.parametrize(
    ("library", "needed"),
    [
        ("sgdataplane-api", {"anyio", "click", "h11", "idna", "starlette", "typing-extensions", "uvicorn"}),
        ("sgdataplane-hosts", {"websockets"}),
    ],
)
def test_servers_have_packages_of_their_own_and_none_that_is_compiled(
    installed: Path, library: str, needed: set[str]
) -> None:
    folder = installed / "usr/lib" / library
    found = {canonicalize_name(package.name): package.version for package in distributions(path=[str(folder)])}
    assert found.keys() == needed
    assert_are_locked(found)
    assert [path.name for path in folder.rglob("*") if path.suffix == ".so"] == []


def assert_are_locked(found: Mapping[NormalizedName, str]) -> None:
    lock = (ROOT / "requirements.lock").read_text("utf-8")
    for name, version in found.items():
        assert f"\n{name}=={version} " in lock
    licences = (ROOT / "debian/copyright").read_text("utf-8").lower().replace("_", "-")
    assert [name for name in found if name not in licences] == []


PROBE = """
import runpy, sys
def refused(name, path=None, target=None):
    if name.partition(".")[0] in ("starlette", "uvicorn", "anyio", "cryptography", "websockets"):
        print("looked for", name)
sys.meta_path.insert(0, type("Probe", (), {"find_spec": staticmethod(refused)}))
sys.argv = sys.argv[1:]
try:
    runpy.run_path(sys.argv[0], run_name="__main__")
except SystemExit:
    print(*(path for path in sys.path if "sgdataplane" in path))
"""


@pytest.mark.parametrize("verb", ["agent", "status", "apply", "group", "hosts", *LIBRARIES])
def test_only_servers_have_their_packages_on_their_path(installed: Path, tmp_path: Path, verb: str) -> None:
    """The agent, which is root, neither has them nor looks for them."""
    has_config = verb in ("agent", "status", *LIBRARIES)
    words = (verb, "--config", tmp_path / "none.toml") if has_config else (verb, "--help")
    done = run("/usr/bin/python3", "-I", "-c", PROBE, installed / "usr/bin/sgdp", *words)
    lines = done.stdout.splitlines()
    own = [LIBRARIES[verb]] if verb in LIBRARIES else []
    assert lines[-1].split() == [str(installed / "usr/lib" / name) for name in ("sgdataplane", *own)]
    assert [line for line in lines if line.startswith("looked for")] == [], done.stderr


@pytest.fixture(scope="module")
def in_opt(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with another prefix."""
    folder = tmp_path_factory.mktemp("opt")
    assert run("tools/install.sh", "install", DESTDIR=str(folder), PREFIX="/opt/sg").returncode == 0
    return folder


def test_uninstalled_only_configuration_stays(in_opt: Path, tmp_path: Path) -> None:
    folder = tmp_path / "opt"
    shutil.copytree(in_opt, folder, symlinks=True)
    kept = folder / "etc/sgdataplane/agent.toml"
    kept.write_text("# mine")
    for step in ("install", "uninstall"):
        assert run("tools/install.sh", step, DESTDIR=str(folder), PREFIX="/opt/sg").returncode == 0
        assert kept.read_text() == "# mine"
    assert files_below(folder) == [f"etc/sgdataplane/{name}.toml" for name in ("agent", "api", "relay", "sync")]
    assert kept.read_text() == "# mine"


def test_servers_are_parts_of_their_own(installed: Path, tmp_path: Path) -> None:
    """What the agent's package has is the same without them: its unit, and its packages."""
    for part in ("agent", "api", "hosts"):
        assert run("tools/install.sh", "install", part, DESTDIR=str(tmp_path / part), PREFIX="/usr").returncode == 0
    agent, api, hosts = (set(files_below(tmp_path / part)) for part in ("agent", "api", "hosts"))
    assert len(agent) + len(api) + len(hosts) == len(files_below(installed))
    assert agent | api | hosts == set(files_below(installed))
    assert "usr/bin/sgdp" in agent
    assert {file for file in hosts if not file.startswith("usr/lib/sgdataplane-hosts/")} == {
        "etc/sgdataplane/relay.toml",
        "etc/sgdataplane/sync.toml",
        "usr/lib/systemd/system/sgdataplane-relay.service",
        "usr/lib/systemd/system/sgdataplane-sync.service",
        "usr/lib/systemd/system/sgdataplane.service.d/sgdataplane-hosts.conf",
        "usr/lib/sysusers.d/sgdataplane-hosts.conf",
        "usr/lib/tmpfiles.d/sgdataplane-hosts.conf",
    }
    assert {file for file in api if not file.startswith("usr/lib/sgdataplane-api/")} == {
        "etc/sgdataplane/api.toml",
        "usr/lib/systemd/system/sgdataplane-api.service",
        "usr/lib/systemd/system/sgdataplane.service.d/sgdataplane-api.conf",
        "usr/lib/sysusers.d/sgdataplane-api.conf",
        "usr/lib/tmpfiles.d/sgdataplane-api.conf",
    }
    run("tools/install.sh", "uninstall", "api", DESTDIR=str(tmp_path / "api"), PREFIX="/usr")
    assert files_below(tmp_path / "api") == ["etc/sgdataplane/api.toml"]
    run("tools/install.sh", "uninstall", "hosts", DESTDIR=str(tmp_path / "hosts"), PREFIX="/usr")
    assert files_below(tmp_path / "hosts") == ["etc/sgdataplane/relay.toml", "etc/sgdataplane/sync.toml"]


def test_containers_have_their_hooks(installed: Path) -> None:
    folder = installed / "usr/share/containers/oci/hooks.d"
    assert sorted(path.name for path in folder.iterdir()) == ["sgdataplane-bind.json", "sgdataplane-unbind.json"]


def test_another_prefix_stands_in_the_units(in_opt: Path) -> None:
    for unit in EXPOSURE:
        text = (in_opt / "opt/sg/lib/systemd/system" / unit).read_text("utf-8")
        assert f"ExecStart=/opt/sg/bin/sgdp {VERBS.get(unit, 'agent')}" in text
        assert "/usr/" not in text


def test_limit_of_neighbours_is_raised_at_boot(installed: Path) -> None:
    text = (installed / "usr/lib/sysctl.d/sgdataplane.conf").read_text("ascii")
    limits = [line.split(" = ") for line in text.splitlines() if ".gc_thresh3" in line]
    assert [(name.split(".")[1], int(value) > 4096) for name, value in limits] == [("ipv4", True), ("ipv6", True)]


@pytest.mark.parametrize("module", [TRACKING.module, NFTABLES.module, "nfnetlink_log", "tcp_diag"])
def test_modules_that_errors_name_are_loaded_at_boot(installed: Path, module: str) -> None:
    text = (installed / "usr/lib/modules-load.d/sgdataplane.conf").read_text("ascii")
    assert module in [line for line in text.splitlines() if not line.startswith("#")]


@pytest.mark.parametrize("unit", UNITS)
def test_units_wait_for_what_is_loaded_at_boot(installed: Path, unit: str) -> None:
    text = (installed / "usr/lib/systemd/system" / unit).read_text("utf-8")
    (after,) = re.findall(r"^After=(.*)$", text, re.MULTILINE)
    assert "systemd-modules-load.service" in after.split()


def test_the_packages_version_is_the_products() -> None:
    assert (ROOT / "debian/changelog").read_text("utf-8").startswith(f"sgdataplane ({__version__}) ")


def verified(folder: Path, *units: str) -> subprocess.CompletedProcess[str]:
    """These, in that folder; others are the machine's."""
    command = ("systemd-analyze", "verify", "--man=no", "--recursive-errors=no")
    return run(*command, *units, SYSTEMD_UNIT_PATH=f"{folder}:")


def test_systemd_finds_nothing_wrong_with_the_units(units: Path) -> None:
    done = verified(units, *EXPOSURE)
    assert (done.returncode, [line for line in done.stderr.splitlines() if "sgdataplane" in line]) == (0, [])


def test_systemd_finds_what_is_wrong_with_a_unit(units: Path, tmp_path: Path) -> None:
    """The control of the one before."""
    text = (units / UNITS[0]).read_text("utf-8")
    (tmp_path / UNITS[0]).write_text(text.replace("RestrictRealtime=yes", "RestrictSurreal=yes"), "utf-8")
    assert "RestrictSurreal" in verified(tmp_path, UNITS[0]).stderr


@pytest.mark.parametrize("unit", EXPOSURE)
def test_units_expose_little(units: Path, unit: str) -> None:
    done = run("systemd-analyze", "security", "--offline=yes", "--no-pager", units / unit)
    found = re.search(r"exposure level for \S+: ([\d.]+)", done.stdout)
    assert found, done.stdout + done.stderr
    assert float(found[1]) < EXPOSURE[unit]


def test_the_api_has_a_user_without_any_right(units: Path) -> None:
    lines = (units / API).read_text("utf-8").splitlines()
    assert {"User=sgdataplane-api", "CapabilityBoundingSet=", "NoNewPrivileges=yes"} <= set(lines)
    assert [line for line in lines if line.startswith("ReadWritePaths=")] == ["ReadWritePaths=/var/lib/sgdataplane-api"]


@pytest.mark.parametrize(
    ("unit", "writes"),
    [
        ("sgdataplane-relay.service", []),
        ("sgdataplane-sync.service", ["ReadWritePaths=/var/lib/sgdataplane-sync"]),
    ],
)
def test_relay_and_sync_have_users_without_any_right(units: Path, unit: str, writes: list[str]) -> None:
    lines = (units / unit).read_text("utf-8").splitlines()
    assert {f"User={unit.removesuffix('.service')}", "CapabilityBoundingSet=", "NoNewPrivileges=yes"} <= set(lines)
    assert [line for line in lines if line.startswith("ReadWritePaths=")] == writes


def test_both_units_are_protected_alike(units: Path) -> None:
    """But that the agent has metrics, which are asked for over IP."""
    first, second = (
        (units / unit).read_text("utf-8").partition("CapabilityBoundingSet=")[2].partition("[Install]")[0]
        for unit in UNITS
    )
    assert first.replace(" AF_INET AF_INET6", "").replace("IPAddressAllow=localhost\n", "") == second != ""


def enforces(workload: int, folder: Path, allowed: set[str]) -> bool:
    """Whether one cycle by an agent with these capabilities enforces in that process' namespace. It ends by itself."""
    command = [sys.executable, "-m", "sgdataplane", "agent", "--once", "--config", folder / "agent.toml"]
    done = run("setpriv", "--bounding-set", bounds_of(allowed), "--no-new-privs", *command)
    print(done)
    tables = run("nsenter", "--target", workload, "--net", "nft", "list", "tables")
    assert tables.returncode == 0, tables.stderr
    is_there = "table inet sgdataplane" in tables.stdout
    assert done.returncode == (0 if is_there else 4 if "net_admin" not in allowed else 3)
    assert "outcome=gone" not in done.stderr
    return is_there


@pytest.mark.daemon
@pytest.mark.parametrize("missing", ["none", *sorted(TRIED_HERE)])
def test_capabilities_are_those_that_it_takes(namespace: str, tmp_path: Path, missing: str) -> None:
    """The other one, sys_chroot, in test_netns_mounts.py."""
    assert capabilities() == TRIED_HERE | {"sys_chroot"}
    with agent_in(tmp_path) as agent, living_nowhere() as workload, Links(namespace) as links:
        agent.write(state_of(WEB))
        place = f"/proc/{workload.pid}/ns/net"
        links.add_veth("peer", place, "eth0", mac_of("eni-a"))
        where = ["--pid", str(workload.pid), "--ifname", "eth0", "--bindings", str(tmp_path / "attached")]
        assert main(["attach", "--eni", "eni-a", *where]) == 0
        assert enforces(workload.pid, tmp_path, capabilities() - {missing}) == (missing == "none")
