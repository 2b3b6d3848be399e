"""`python -m bench.agentscale`: what the real agent costs with many ENIs, each in a namespace of its own.

Owns the scene (a namespace for each ENI, in network, mount and process namespaces that belong to the run) and what is
measured. Must not know how the agent works: it asks the agent as a user does, and the kernel reports its commits.

    scene         making the namespaces; not the agent's work
    cold start    from the agent's start until it says that all ENIs are in force, with nothing in the kernel
    restart       the same, with everything in the kernel already
    change rule, change member
                  from the rename of the state file until the last ENI that it concerns has its new policy
    change any    CPU of the agent for each change, with what it does afterwards
    resync        a resync request: all rules are written again
    look          the regular look at everything, with --look
"""

from __future__ import annotations

import argparse
import json
import os
import select
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.costs import begin, tell
from bench.errors import BenchError
from bench.isolation import isolate
from sgdataplane.attach.registry import Binding, Registry
from sgdataplane.contract.stamp import STAMP_MAP
from sgdataplane.contract.tables import TABLE
from sgdataplane.daemon.control import Request, ask
from sgdataplane.errors import HostError
from sgdataplane.host import netns
from sgdataplane.host.events import Subscription, number_of
from sgdataplane.host.identity import hold_namespace, identity_of
from sgdataplane.host.nfsocket import NETLINK_NETFILTER
from sgdataplane.model.state import CloudState, Eni, GroupRef, SecurityGroup, SecurityGroupRule, Vpc
from sgdataplane.net.values import Address, Direction, PortRange, Prefix, Protocol
from sgdataplane.nft.commits import EVENT_GROUP, CommitReader
from sgdataplane.statefile import dump_native

RULES, DEADLINE_S, POLL_S = 20, 600.0, 0.1  # to be asked costs the agent CPU, too
VPC = "vpc-scale"
TCP = Protocol.parse("tcp")


def eni_id(number: int) -> str:
    return f"eni-{number:05}"


def state_of(enis: int, per_group: int) -> CloudState:
    """Each group has RULES rules, one of them for the members of the next group, and `per_group` ENIs."""
    count = max(1, enis // per_group)
    groups = tuple(_group(number, count) for number in range(count))
    made = tuple(eni_of(number, number % count) for number in range(enis))
    return CloudState((Vpc(VPC),), security_groups=groups, network_interfaces=made)


def _group(number: int, count: int) -> SecurityGroup:
    rules = [_rule(n, Prefix.parse(f"192.0.{n}.0/24"), 1000 * (1 + n)) for n in range(RULES - 1)]
    rules.append(_rule(RULES - 1, GroupRef(f"sg-{(number + 1) % count:05}"), 8080))
    return SecurityGroup(f"sg-{number:05}", VPC, rules=tuple(rules))


def _rule(number: int, remote: Prefix | GroupRef, port: int) -> SecurityGroupRule:
    return SecurityGroupRule(f"sgr-{number:05}", Direction.INGRESS, TCP, remote, PortRange(port, port + 9))


def eni_of(number: int, group: int) -> Eni:
    address = Address.parse(f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}")
    mac = f"02:00:00:{number >> 16:02x}:{number >> 8 & 255:02x}:{number & 255:02x}"
    return Eni(eni_id(number), VPC, mac, (address,), (f"sg-{group:05}",))


def with_port(state: CloudState, group: int, port: int) -> CloudState:
    """The state with another port in the group's first rule."""
    old = state.security_groups[group]
    rules = (replace(old.rules[0], port_range=PortRange(port, port)), *old.rules[1:])
    groups = list(state.security_groups)
    groups[group] = replace(old, rules=rules)
    return replace(state, security_groups=tuple(groups))


def with_member(state: CloudState, group: int, number: int) -> CloudState:
    """The state with one more ENI in that group, on another host."""
    return replace(state, network_interfaces=(*state.network_interfaces, eni_of(number, group)))


class Scene:
    """The attached namespaces, and the agent's files in a folder."""

    def __init__(self, folder: Path, state: CloudState, *, is_folder: bool) -> None:
        self.folder, self.enis = folder, state.network_interfaces
        self._state = folder / ("state" if is_folder else "state.yaml")
        self._texts: dict[Path, str] = {}
        for number, eni in enumerate(self.enis):
            make_namespace(number, eni)
        registry = Registry(folder / "attached")
        with registry.lock():
            registry.store(binding_of(number, eni) for number, eni in enumerate(self.enis))
        keys = {
            "state": self._state,
            "bindings": folder / "attached",
            "state_directory": folder / "var",
            "socket": folder / "agent.sock",
        }
        self._keys = {key: str(path) for key, path in keys.items()}
        self.write(state)

    def configure(self, **more: object) -> None:
        lines = [f"{key} = {json.dumps(value)}\n" for key, value in {**self._keys, **more}.items()]
        (self.folder / "agent.toml").write_text("".join(lines), encoding="utf-8")

    def write(self, state: CloudState) -> float:
        """Write the state and return when that began. In a folder, each group and its ENIs have a file, and only files
        that change are written."""
        texts = _files(self._state, state) if self._state.suffix == "" else {self._state: dump_native(state)}
        changed = {path: text for path, text in texts.items() if self._texts.get(path) != text}
        self._texts = texts
        for number, (path, text) in enumerate(changed.items()):
            path.parent.mkdir(exist_ok=True)
            (self.folder / f"beside-{number}").write_text(text, encoding="utf-8")
        began = time.monotonic()
        for number, path in enumerate(changed):
            (self.folder / f"beside-{number}").replace(path)
        return began


def _files(folder: Path, state: CloudState) -> dict[Path, str]:
    found = {folder / "vpcs.yaml": dump_native(CloudState(state.vpcs))}
    for group in state.security_groups:
        enis = tuple(eni for eni in state.network_interfaces if eni.security_group_ids[0] == group.security_group_id)
        part = CloudState(security_groups=(group,), network_interfaces=enis)
        found[folder / f"{group.security_group_id}.yaml"] = dump_native(part)
    return found


def make_namespace(number: int, eni: Eni) -> None:
    name = f"w{number}"
    netns.create(name)
    add = f"link add v{number} up type veth peer name eth0 address {eni.mac_address} netns {name}"
    subprocess.run(["ip", *add.split()], check=True)
    inside = f"address add {eni.addresses[0]}/32 dev eth0\nlink set eth0 up\n"
    subprocess.run(["ip", "-n", name, "-batch", "-"], input=inside.encode(), check=True)


def binding_of(number: int, eni: Eni) -> Binding:
    path = str(netns.path_of(f"w{number}"))
    with hold_namespace(path) as place:
        return Binding(eni.network_interface_id, "eth0", f"netns w{number}", path, identity_of(place))


class Ear:
    """Hears when a namespace's policy changes."""

    def __init__(self, count: int) -> None:
        self._rules = Subscription(NETLINK_NETFILTER, (EVENT_GROUP,))
        self._commits = CommitReader(TABLE)
        self._numbers = {number_of(f"w{number}"): number for number in range(count)}

    def wait(self, numbers: Collection[int]) -> float:
        """When all of these namespaces' policies have changed."""
        left, deadline = set(numbers), time.monotonic() + DEADLINE_S
        while left:
            if not select.select([self._rules], [], [], deadline - time.monotonic())[0]:
                raise BenchError(f"nothing was heard of {len(left)} namespaces")
            left -= set(self._told())
        return time.monotonic()

    def drain(self) -> None:
        while select.select([self._rules], [], [], 0)[0]:
            list(self._told())

    def _told(self) -> Iterator[int]:
        messages, is_lossy = self._rules.read()
        if is_lossy:
            raise BenchError("events were lost")
        for message in messages:
            if message.number in self._numbers:
                for commit in self._commits.read(message.number, message.kind, message.payload):
                    if any(what.endswith(f": {STAMP_MAP}") for what, _ in commit.changes):
                        yield self._numbers[message.number]


class Agent:
    """The agent's process."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self._socket = folder / "agent.sock"
        command = [*os.environ.get("SGDP_BENCH_PROFILE", "").split(), "-m", "sgdataplane", "agent"]
        with open(folder / "agent.log", "ab") as log:
            arguments = [sys.executable, *command, "--config", str(folder / "agent.toml")]
            self.process = subprocess.Popen(arguments, stdout=log, stderr=log)
        stack.callback(self.end)

    def end(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(60)

    def status(self) -> dict[str, object]:
        found = ask(self._socket, Request.STATUS)["status"]
        assert isinstance(found, dict)
        return found

    def cycle(self) -> dict[str, object]:
        """The last status; {} while the agent doesn't answer."""
        try:
            found = self.status()["cycle"]
        except HostError:
            return {}
        assert isinstance(found, dict)
        return found

    def wait(self, condition: Callable[[dict[str, object]], bool]) -> dict[str, object]:
        deadline = time.monotonic() + DEADLINE_S
        while not condition(found := self.cycle()):
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise BenchError("the agent doesn't get there")
            time.sleep(POLL_S)
        return found

    def settle(self) -> None:
        """Wait until the agent has nothing more to do."""
        last = None
        while (number := self.cycle().get("number")) != last or number is None:
            last = number
            time.sleep(0.5)

    def resync(self) -> None:
        wanted = ask(self._socket, Request.RESYNC)["cycle"]
        assert isinstance(wanted, int)
        self.wait(lambda cycle: int(str(cycle.get("number", 0))) >= wanted)

    @property
    def cpu_s(self) -> float:
        fields = Path(f"/proc/{self.process.pid}/stat").read_text("ascii").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def memory_mb(self, word: str = "VmRSS") -> float:
        text = Path(f"/proc/{self.process.pid}/status").read_text("ascii")
        return int(text.partition(f"\n{word}:")[2].split()[0]) / 1024


def started(scene: Scene, stack: ExitStack) -> tuple[Agent, float]:
    """The agent, and how long it took until all ENIs were in force."""
    began = time.monotonic()
    agent = Agent(scene.folder, stack)
    agent.wait(lambda cycle: int(str(cycle.get("number", 0))) > 0)
    took = time.monotonic() - began
    enis = agent.status()["enis"]
    assert isinstance(enis, list)
    if len(enis) != len(scene.enis) or any(eni["outcome"] != "in force" for eni in enis):
        raise BenchError(f"not all are in force: {[eni for eni in enis if eni['outcome'] != 'in force'][:3]}")
    agent.settle()
    return agent, took


def changes(scene: Scene, agent: Agent, state: CloudState, count: int) -> dict[str, list[float]]:
    """Milliseconds of each change, each to a state that the agent has never had. A rule concerns the ENIs of its group.
    A member also concerns those of the group before, which has a rule for it."""
    ear, found = Ear(len(scene.enis)), {"rule": list[float](), "member": list[float]()}
    groups = len(state.security_groups)
    for step in range(count):
        for kind, samples in found.items():
            group = step * 7 % groups
            affected = {group} if kind == "rule" else {group, (group - 1) % groups}
            is_rule = kind == "rule"
            state = with_port(state, group, 20_000 + step) if is_rule else with_member(state, group, 100_000 + step)
            agent.settle()
            ear.drain()
            began = scene.write(state)
            numbers = [number for number in range(len(scene.enis)) if number % groups in affected]
            samples.append(1000 * (ear.wait(numbers) - began))
    return found


def measure(options: argparse.Namespace, folder: Path) -> None:
    say = told if options.json else shown
    state = state_of(options.enis, options.per_group)
    began = time.monotonic()
    scene = Scene(folder, state, is_folder=not options.one_file)
    say("scene", s=time.monotonic() - began)
    scene.configure()
    if options.json:
        begin("cold_start_s")
    with ExitStack() as stack:
        agent, took = started(scene, stack)
        say("cold_start", s=took, cpu_s=agent.cpu_s, mb=agent.memory_mb())
        before = agent.cpu_s
        for kind, found in changes(scene, agent, state, options.changes).items():
            say(f"change_{kind}", ms=found)
        agent.settle()
        say("change_any", cpu_ms=1000 * (agent.cpu_s - before) / (2 * options.changes))
        say("agent", mb=agent.memory_mb(), most_mb=agent.memory_mb("VmHWM"))
        before = agent.cpu_s
        agent.resync()
        agent.settle()
        say("resync", cpu_s=agent.cpu_s - before)
    scene.configure(resync=options.look or 3600.0)
    if options.json:
        begin("restart_s")
    with ExitStack() as stack:
        agent, took = started(scene, stack)
        say("restart", s=took, cpu_s=agent.cpu_s, mb=agent.memory_mb())
        before = agent.cpu_s
        if options.look:
            agent.wait(lambda cycle: cycle.get("causes") == ["timer"])
            say("look", cpu_s=agent.cpu_s - before)


def told(what: str, **figures: float | list[float]) -> None:
    """To `bench`."""
    tell(**{f"{what}_{unit}": value for unit, value in figures.items()})


def shown(what: str, **figures: float | list[float]) -> None:
    """To a person."""
    cells = (f"{_cell(value)} {unit.replace('_', ' ')}" for unit, value in figures.items())
    print(f"{what.replace('_', ' '):16}{', '.join(cells)}", flush=True)


def _cell(value: float | list[float]) -> str:
    if isinstance(value, list):
        return f"median {statistics.median(value):.0f}, most {max(value):.0f} of {len(value)},"
    return f"{value:.2f}"


def main() -> int:
    parser = argparse.ArgumentParser(prog="bench.agentscale", description=__doc__.partition("\n")[0])
    parser.add_argument("--enis", type=int, default=1000)
    parser.add_argument("--per-group", type=int, default=10, help="ENIs with the same group (default 10)")
    parser.add_argument("--changes", type=int, default=20, help="of each kind (default 20)")
    parser.add_argument("--one-file", action="store_true", help="the state is a file, not a folder with one a group")
    parser.add_argument("--look", type=float, default=0.0, help="wait for the timer's look, after these seconds")
    parser.add_argument("--json", action="store_true", help="all samples, for `bench`")
    options = parser.parse_args()
    if options.enis < 2 * options.per_group:
        parser.error("at least two groups: each has a rule for the next one's members")
    isolate("bench.agentscale")
    with TemporaryDirectory() as folder:
        measure(options, Path(folder))
    return 0


if __name__ == "__main__":
    sys.exit(main())
