"""A whole lab of hosts: etcd, API servers and relays, and hosts with `sgdp sync` and `sgdp agent` each.

Owns which component runs where, with which certificate, and in which order they are started. Must not know actions, or
what the policy says.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from sgdataplane.lab.hosts import components, wires
from sgdataplane.lab.hosts.authority import Authority, Signed
from sgdataplane.lab.hosts.components import Component
from sgdataplane.lab.hosts.sandbox import SHARED, HostNamespace, Sandbox, sgdp
from sgdataplane.model.options import Placement

MEMBERS, APIS, RELAYS = 3, 2, 2
IMPORT_S = 120.0
FIRST_MEMBER, FIRST_API, FIRST_RELAY, FIRST_HOST = 11, 21, 31, 101  # numbers of their host namespaces
CLIENT_PORT, PEER_PORT, HEALTH_PORT, API_PORT, RELAY_PORT = 2379, 2380, 2381, 8443, 8444
LOOPBACK = ("127.0.0.1", "::1")
TLS, ETCD_TLS, KEY_FILE = SHARED / "tls", SHARED / "etcd-tls", SHARED / "api.key"
FOLDER, AGENT_CONFIG = Path("/run/sgdataplane/state"), Path("/run/sgdataplane/agent.toml")
AGENT_SOCKET = Path("/run/sgdataplane/agent.sock")
AGENT = f"""state = "{FOLDER}/current"
state_directory = "/run/sgdataplane/kept"
"""
IN_ROUTERS = f"""placement = "{Placement.HOST.value}"
uplinks = ["{wires.UPLINK}"]
"""
# Who may do what in etcd (docs/etcd.md).
ROLES = """
role add api
role grant-permission api readwrite --prefix sgdp/
role add relay
role grant-permission relay read sgdp/head
role grant-permission relay read sgdp/pending
role grant-permission relay read --prefix sgdp/doc/
role grant-permission relay read --prefix sgdp/guard/
role grant-permission relay read --prefix sgdp/log/
role grant-permission relay read --prefix sgdp/parcel/
user add root --no-password
user add api --no-password
user grant-role root root
user grant-role api api
auth enable
"""
# And one relay, which writes its own summary and nothing else.
ROLES_OF_RELAY = """
role add {relay}
role grant-permission {relay} readwrite sgdp/summary/{relay}
user add {relay} --no-password
user grant-role {relay} relay
user grant-role {relay} {relay}
"""


@dataclass(frozen=True)
class Host:
    """One host of the lab."""

    number: int
    """Counts from 1."""
    namespace: HostNamespace
    agent: Component
    sync: Component | None
    """None in a lab without relays."""
    placement: Placement = Placement.INSTANCE
    """Where its agent enforces policies."""

    @property
    def name(self) -> str:
        """The name of its host namespace, which is its host name too."""
        return self.namespace.name

    @property
    def agent_socket(self) -> Path:
        """Its agent's socket, as a path outside the sandbox."""
        return self.namespace.path(AGENT_SOCKET)

    def outcomes(self) -> dict[str, str]:
        """Return the agent's outcome for each ENI, by ENI; {} if the agent doesn't answer."""
        return {eni["eni"]: eni["outcome"] for eni in components.agent_status(self.agent_socket).get("enis", ())}

    @property
    def folder(self) -> Path:
        """The folder where its policy is written, as a path outside the sandbox."""
        return self.namespace.path(FOLDER)


@dataclass
class HostsLab:
    """A lab of hosts with all its components."""

    sandbox: Sandbox
    authority: Authority
    """Signs for APIs, relays and hosts."""
    etcd_authority: Authority
    """Signs for etcd's members and users alone, so that a host's certificate opens nothing there."""
    fabric: HostNamespace
    """The host namespace of the networks between the hosts."""
    placement: Placement = Placement.INSTANCE
    """Where all hosts enforce policies."""
    members: list[Component] = field(default_factory=list)
    apis: list[Component] = field(default_factory=list)
    relays: list[Component] = field(default_factory=list)
    hosts: list[Host] = field(default_factory=list)
    key: tuple[str, str] = ("", "")
    """An access key and its secret."""
    _certificates: dict[str, Signed] = field(default_factory=dict)  # of etcd's users

    @property
    def components(self) -> tuple[Component, ...]:
        """All components: etcd's members, APIs, relays, and those of the hosts."""
        of_hosts = (component for host in self.hosts for component in (host.sync, host.agent) if component)
        return (*self.members, *self.apis, *self.relays, *of_hosts)

    @property
    def api_targets(self) -> tuple[tuple[str, int], ...]:
        """The addresses and ports at which APIs serve."""
        numbers = range(FIRST_API, FIRST_API + len(self.apis))
        return tuple((wires.management_address(number), API_PORT) for number in numbers)

    @property
    def api_urls(self) -> tuple[str, ...]:
        """The URL of each API; the sandbox itself can reach them."""
        return tuple(f"https://{address}:{port}" for address, port in self.api_targets)

    @property
    def authority_file(self) -> Path:
        """The authority's certificate, as a path outside the sandbox."""
        return self.sandbox.namespace.path(self.authority.certificate)

    def store(self, user: str) -> str:
        """Return the value of `--store` for that user of etcd."""
        numbers = range(FIRST_MEMBER, FIRST_MEMBER + MEMBERS)
        at = ",".join(f"{wires.management_address(number)}:{CLIENT_PORT}" for number in numbers)
        one = self.certificate(user)
        return f"etcd://{at}?ca={self.etcd_authority.certificate}&cert={one.certificate}&key={one.key}"

    def certificate(self, user: str) -> Signed:
        """Return the one certificate of a user of etcd."""
        if user not in self._certificates:
            self._certificates[user] = self.etcd_authority.sign(user)
        return self._certificates[user]

    def import_state(self, file: Path) -> None:
        """Put all of a state into the store. HostError, with what `sgdp api import` says, if it is refused."""
        self.sandbox.run(sgdp("api", "import", str(file), "--store", self.store("api")), seconds=IMPORT_S)

    def run_etcdctl(self, *words: str, user: str = "root") -> str:
        """Run `etcdctl` as a user of etcd, at its first member. HostError if it fails."""
        own, at = self.certificate(user), f"https://{wires.management_address(FIRST_MEMBER)}:{CLIENT_PORT}"
        files = ("--cacert", self.etcd_authority.certificate, "--cert", own.certificate, "--key", own.key)
        return self.sandbox.run(["etcdctl", "--endpoints", at, *map(str, files), *words])

    def host(self, name: str) -> Host:
        """Return the host of that name."""
        return next(host for host in self.hosts if host.name == name)


@contextmanager
def hosts_lab(
    hosts: int, placement: Placement = Placement.INSTANCE, *, apis: int = APIS, relays: int = RELAYS
) -> Iterator[HostsLab]:
    """Build a lab with so many hosts, which is up while the block runs.

    However this process ends, nothing of the lab is left.

    Raises:
        HostError: A component isn't well in time; the message has the end of its log.
    """
    with ExitStack() as stack:
        sandbox = stack.enter_context(Sandbox())
        wires.make_management(sandbox.namespace)
        tls, etcd_tls = (Authority(sandbox.namespace.path(folder), folder) for folder in (TLS, ETCD_TLS))
        lab = HostsLab(sandbox, tls, etcd_tls, sandbox.make_namespace("fabric"), placement)
        _add_members(lab)
        start_all(lab.members)
        _give_roles(lab, ROLES)
        lab.key = _make_key(lab)
        _add_apis(lab, apis)
        _add_relays(lab, relays)
        for number in range(1, hosts + 1):
            lab.hosts.append(_make_host(lab, number))
        start_all([*lab.relays, *lab.apis])
        _add_to_store(lab)
        start_all(lab.components)
        yield lab


def start_all(found: Sequence[Component]) -> None:
    """Start all of these components, then wait until each is well."""
    for component in found:
        component.start()
    for component in found:
        component.wait_well()


def _namespace(
    lab: HostsLab, name: str, number: int, *more: str, authority: Authority | None = None
) -> tuple[HostNamespace, str, Signed]:
    """Make a host namespace on the management network.

    Returns:
        The host namespace, its address, and a certificate of its name that is valid there and at `more` addresses.
    """
    namespace, address = lab.sandbox.make_namespace(name), wires.management_address(number)
    wires.join_management(lab.sandbox.namespace, namespace, number)
    return namespace, address, (authority or lab.authority).sign(name, address, *more)


def _add_members(lab: HostsLab) -> None:
    numbers = range(FIRST_MEMBER, FIRST_MEMBER + MEMBERS)
    peers = {f"etcd{index}": wires.management_address(number) for index, number in enumerate(numbers, 1)}
    for number, name in zip(numbers, peers, strict=True):
        namespace, address, own = _namespace(lab, name, number, authority=lab.etcd_authority)
        health = f"http://127.0.0.1:{HEALTH_PORT}"
        trusted = lab.etcd_authority.certificate
        files = ("cert-file", own.certificate), ("key-file", own.key), ("trusted-ca-file", trusted)
        tls = [word for prefix in ("--", "--peer-") for flag, file in files for word in (prefix + flag, str(file))]
        client, peer = f"https://{address}:{CLIENT_PORT}", f"https://{address}:{PEER_PORT}"
        command = [
            *("etcd", "--name", name, "--data-dir", str(SHARED / name)),
            *("--listen-client-urls", client, "--advertise-client-urls", client),
            *("--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer),
            *("--initial-cluster", ",".join(f"{one}=https://{at}:{PEER_PORT}" for one, at in peers.items())),
            *("--listen-metrics-urls", health, "--log-level", "warn"),
            *(*tls, "--client-cert-auth", "--peer-client-cert-auth"),
        ]
        lab.members.append(Component(name, lab.sandbox, namespace, command, components.health_page(f"{health}/health")))


def _give_roles(lab: HostsLab, roles: str) -> None:
    """Run each line by `etcdctl`."""
    for line in filter(None, roles.split("\n")):
        lab.run_etcdctl(*line.split())


def _make_key(lab: HostsLab) -> tuple[str, str]:
    """Create an access key in the store; return its id and secret."""
    command = sgdp("api", "keys", "create", "--store", lab.store("api"), "--key-file", str(KEY_FILE), "--json")
    made = json.loads(lab.sandbox.run(command))
    return made["access_key_id"], made["access_key_secret"]


def _add_apis(lab: HostsLab, count: int) -> None:
    for index in range(count):
        name = f"api{index + 1}"
        namespace, address, own = _namespace(lab, name, FIRST_API + index, *LOOPBACK)
        where = ("--store", lab.store("api"), "--key-file", str(KEY_FILE), "--listen", f"{address}:{API_PORT}")
        command = sgdp("api", *where, "--tls-cert", str(own.certificate), "--tls-key", str(own.key))
        lab.apis.append(
            Component(
                name, lab.sandbox, namespace, command, components.accepts_tls(address, API_PORT, lab.authority_file)
            )
        )


def _add_relays(lab: HostsLab, count: int) -> None:
    for index in range(count):
        name = f"relay{index + 1}"
        namespace, address, own = _namespace(lab, name, FIRST_RELAY + index)
        _give_roles(lab, ROLES_OF_RELAY.format(relay=name))
        where = ("--name", name, "--store", lab.store(name), "--listen", f"{address}:{RELAY_PORT}")
        command = sgdp("relay", *where, *_tls(lab, own))
        lab.relays.append(
            Component(
                name, lab.sandbox, namespace, command, components.accepts_tls(address, RELAY_PORT, lab.authority_file)
            )
        )


def _make_host(lab: HostsLab, number: int) -> Host:
    name = f"host{number}"
    namespace, _, own = _namespace(lab, name, FIRST_HOST + number - 1)
    namespace.path(AGENT_CONFIG).write_text(AGENT + (IN_ROUTERS if lab.placement.is_outside else ""), "utf-8")
    agent = Component(
        f"{name}.agent",
        lab.sandbox,
        namespace,
        sgdp("agent", "--config", str(AGENT_CONFIG)),
        components.agent_answers(namespace.path(AGENT_SOCKET)),
    )
    return Host(number, namespace, agent, _sync(lab, name, namespace, own) if lab.relays else None, lab.placement)


def _add_to_store(lab: HostsLab) -> None:
    """Add the hosts to the store: before that, relays refuse them."""
    for host in lab.hosts if lab.relays else ():
        lab.sandbox.run(sgdp("hosts", "add", host.name, "--store", lab.store("api")))


def _sync(lab: HostsLab, name: str, namespace: HostNamespace, own: Signed) -> Component:
    numbers = range(FIRST_RELAY, FIRST_RELAY + len(lab.relays))
    urls = [word for n in numbers for word in ("--relay", f"wss://{wires.management_address(n)}:{RELAY_PORT}")]
    command = sgdp("sync", *urls, "--folder", str(FOLDER), *_tls(lab, own))
    return Component(f"{name}.sync", lab.sandbox, namespace, command)


def _tls(lab: HostsLab, own: Signed) -> tuple[str, ...]:
    files = {"cert": own.certificate, "key": own.key, "ca": lab.authority.certificate}
    return tuple(word for flag, file in files.items() for word in (f"--tls-{flag}", str(file)))
