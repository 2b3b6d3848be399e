"""Three members of etcd in namespaces of their own, with TLS and roles, and a network between them that is cut."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from unittest.mock import patch

import pytest

from sgdataplane.host import netns
from sgdataplane.store.etcd import summaries
from sgdataplane.store.etcd.access import EtcdAccess
from sgdataplane.store.etcd.store import EtcdStore
from sgdataplane.store.interface import Token, UnavailableError, Write
from sgdataplane.store.opening import open_store
from tests.support.servers.certificates import Authority, Signed
from tests.support.servers.etcdload import Load
from tests.support.servers.etcdserver import DEADLINE_S, FAST, Member, Members, control, leader, started, until, within
from tests.support.servers.storewriting import FOREVER

pytestmark = pytest.mark.kernel

FORWARD = Path("/proc/sys/net/ipv4/ip_forward")
NETWORK = "10.99"


@dataclass(frozen=True)
class Site:
    """`signed`: certificates of clients, by name."""

    members: Members
    namespaces: dict[str, str]  # name of a member -> namespace
    authority: Authority
    signed: dict[str, Signed]

    def store(self, client: str, name: str, *members: Member) -> str:
        """As `--store` names it."""
        at = ",".join(member.address for member in members or self.members.all)
        one = self.signed[client]
        return f"etcd://{at}/{name}?ca={self.authority.certificate}&cert={one.certificate}&key={one.key}"


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, make_lab_name: Callable[[], str]) -> Iterator[Site]:
    """This namespace is the router between the members', and where clients are."""
    folder = tmp_path_factory.mktemp("site")
    authority = Authority(folder / "tls")
    signed = {name: authority.sign(name) for name in ("root", "api", "relay", "nobody")}
    signed["stranger"] = Authority(folder / "other").sign("api")
    members, namespaces = [], {}
    with ExitStack() as stack:
        before = FORWARD.read_text()
        FORWARD.write_text("1")
        stack.callback(FORWARD.write_text, before)
        for number in range(3):
            namespace = make_lab_name()
            stack.enter_context(_joined(namespace, number))
            members.append(_member(f"m{number}", f"{NETWORK}.{number}.2", namespace, folder, authority))
            namespaces[members[-1].name] = namespace
        site = Site(stack.enter_context(started(members)), namespaces, authority, signed)
        _give_roles(members[0])
        yield site


@contextmanager
def _joined(namespace: str, number: int) -> Iterator[None]:
    """A namespace with a link to this one."""
    netns.create(namespace)
    try:
        ip("link", "add", f"etcd{number}", "type", "veth", "peer", "name", "eth0", "netns", namespace)
        ip("address", "add", f"{NETWORK}.{number}.1/24", "dev", f"etcd{number}")
        ip("link", "set", f"etcd{number}", "up")
        for words in (
            f"address add {NETWORK}.{number}.2/24 dev eth0",
            "link set eth0 up",
            "link set lo up",
            f"route add default via {NETWORK}.{number}.1",
        ):
            ip("-n", namespace, *words.split())
        yield
    finally:
        netns.remove(namespace)


def _member(name: str, host: str, namespace: str, folder: Path, authority: Authority) -> Member:
    own, root = authority.sign(name, host), Signed(authority.folder / "root.pem", authority.folder / "root.key")
    flags = ("--cert-file", own.certificate, "--key-file", own.key, "--trusted-ca-file", authority.certificate)
    ctl = ("--cacert", authority.certificate, "--cert", root.certificate, "--key", root.key)
    return Member(
        name,
        folder / name,
        host,
        (*FAST, *map(str, flags), "--client-cert-auth"),
        ("ip", "netns", "exec", namespace),
        tuple(map(str, ctl)),
    )


def _give_roles(member: Member) -> None:
    """As docs/design/store.md says."""
    for words in (
        "role add api",
        "role grant-permission api readwrite --prefix sgdp/",
        "role grant-permission api readwrite --prefix second/",
        "role grant-permission api readwrite --prefix idle/",
        "role add relay",
        "role grant-permission relay read sgdp/head",
        "role grant-permission relay read sgdp/pending",
        "role grant-permission relay read --prefix sgdp/doc/",
        "role grant-permission relay read --prefix sgdp/guard/",
        "role grant-permission relay read --prefix sgdp/log/",
        "role grant-permission relay read --prefix sgdp/parcel/",
        "role add relay-1",
        "role grant-permission relay-1 readwrite sgdp/summary/r1",
        "user add root --no-password",
        "user add api --no-password",
        "user add relay --no-password",
        "user grant-role root root",
        "user grant-role api api",
        "user grant-role relay relay",
        "user grant-role relay relay-1",
        "auth enable",
    ):
        control(member, *words.split())


@contextmanager
def cut_off(site: Site, member: Member) -> Iterator[None]:
    """From the other members, but not from clients."""
    others = ", ".join(one.host for one in site.members.all if one is not member)
    rules = f"""
        table inet cut {{
            chain in {{ type filter hook input priority 0; ip saddr {{ {others} }} drop; }}
            chain out {{ type filter hook output priority 0; ip daddr {{ {others} }} drop; }}
        }}
    """
    nft = ["ip", "netns", "exec", site.namespaces[member.name], "nft"]
    subprocess.run([*nft, "-f", "-"], input=rules, text=True, check=True)
    try:
        yield
    finally:
        subprocess.run([*nft, "delete", "table", "inet", "cut"], check=True)


# a partition


def test_the_minority_answers_nobody_and_all_goes_on_at_the_majority(site: Site) -> None:
    """The leader is cut off. Neither side commits what the other doesn't know."""
    load = Load(site.store("api", "sgdp"))
    alone = leader(site.members)
    with closing(EtcdStore(EtcdAccess.of(site.store("api", "sgdp", alone)))) as minority:
        assert minority.snapshot().revision == 0  # control
        with load.running():
            load.progress()
            with cut_off(site, alone):
                for use in (minority.snapshot, partial(minority.commit, Write({}))):
                    load.progress()
                    with within(3), pytest.raises(UnavailableError):
                        use()
            load.progress()


def test_a_watch_at_the_minority_is_told(site: Site) -> None:
    """Though its member goes on to answer that nothing has happened."""
    alone = leader(site.members)
    with closing(EtcdStore(EtcdAccess.of(site.store("api", "idle", alone)))) as store, ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(list, store.watch(0, timeout=DEADLINE_S))
        until(lambda: store._notifier.notices > 0, "etcd to make the watch")
        with cut_off(site, alone), pytest.raises(UnavailableError):
            waiting.result(DEADLINE_S)


@pytest.mark.slow
def test_a_member_that_was_cut_off_joins_again(site: Site) -> None:
    """Each in turn. etcd needs 2 to 30 s for it."""
    load = Load(site.store("api", "second"))
    with load.running():
        for alone in site.members.all:
            with closing(EtcdStore(EtcdAccess.of(site.store("api", "second", alone)))) as one:
                with cut_off(site, alone):
                    load.progress()
                until(partial(_reads, one), "it to join again")
                load.progress()


def _reads(store: EtcdStore) -> bool:
    try:
        return store.snapshot().revision > 0
    except UnavailableError:
        return False


# who may do what


def test_a_relay_reads_and_watches_and_writes_nothing_but_summaries(site: Site) -> None:
    with (
        closing(open_store(site.store("api", "sgdp"))) as api,
        closing(open_store(site.store("relay", "sgdp"), private=False)) as relay,
    ):
        revision = api.commit(Write({}, {"kind/relayed": {"n": 1}}))
        assert relay.snapshot().documents["kind/relayed"] == {"n": 1}
        assert next(relay.watch(revision - 1)).puts == {"kind/relayed": {"n": 1}}
        for write in (Write({}), Write({}, {"kind/1": {}}), Write({}, deletes=frozenset({"kind/relayed"}))):
            with pytest.raises(UnavailableError, match=r"etcd refuses: .*permission denied"):
                relay.commit(write)
        assert api.snapshot().revision == revision
        with patch.object(summaries, "COMPACT_S", 0.0):
            for number in range(3):  # etcd's history is compacted between them
                relay.put_summary("r1", {"n": number})
        assert api.summaries() == {"r1": {"n": 2}}
        assert relay.summary("r1") == {"n": 2}
        with pytest.raises(UnavailableError, match=r"etcd refuses: .*permission denied"):
            relay.put_summary("r2", {"n": 1})  # another relay's


def test_a_relay_cannot_read_access_keys_answers_or_the_audit(site: Site) -> None:
    """Its role doesn't let it, whatever it asks; what else was in the same commit, it reads."""
    key, other = "access_key/LTAI-1", "kind/beside"
    write = Write({}, {key: {"sealed": "secret"}, other: {"n": 1}}, token=Token("t", "d", {"Id": "a"}, FOREVER))
    with (
        closing(open_store(site.store("api", "sgdp"))) as api,
        closing(open_store(site.store("relay", "sgdp"), private=False)) as relay,
        closing(open_store(site.store("relay", "sgdp"))) as curious,
    ):
        revision = api.commit(write)
        assert api.snapshot().documents[key] == {"sealed": "secret"}
        assert next(api.watch(revision - 1)).puts == write.puts
        assert key not in relay.snapshot().documents
        assert next(relay.watch(revision - 1)).puts == {other: {"n": 1}}
        asked: tuple[Callable[[], object], ...] = (
            curious.snapshot,
            lambda: next(curious.watch(revision - 1)),
            relay.events,
            lambda: relay.find_answer("t"),
        )
        for ask in asked:
            with pytest.raises(UnavailableError, match=r"etcd refuses: .*permission denied"):
                ask()


def test_nobody_comes_out_of_their_own_keys(site: Site) -> None:
    with pytest.raises(UnavailableError, match=r"etcd refuses: .*permission denied"):
        open_store(site.store("api", "other"))


def test_a_certificate_that_is_no_user_s_opens_nothing(site: Site) -> None:
    with pytest.raises(UnavailableError, match="etcd refuses: "):
        open_store(site.store("nobody", "sgdp"))


def test_who_does_not_share_the_authority_is_not_connected(site: Site, tmp_path: Path) -> None:
    """A client of another authority, one without a certificate, and one that believes in another authority."""
    at, one = f"etcd://{site.members.all[0].address}", site.signed["api"]
    other = Authority(tmp_path / "other").certificate
    texts = (
        site.store("stranger", "sgdp"),
        f"{at}?ca={site.authority.certificate}",
        f"{at}?ca={other}&cert={one.certificate}&key={one.key}",
    )
    with ThreadPoolExecutor(3) as pool:
        assert list(pool.map(_refusal, texts)) == ["etcd doesn't answer: unavailable"] * 3
    assert _refusal(site.store("api", "sgdp")) == "none"  # control


def _refusal(text: str) -> str:
    try:
        with closing(open_store(text)):
            return "none"
    except UnavailableError as error:
        return ":".join(str(error).split(":")[:2])


def test_the_api_may_compact_what_it_does_not_need(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    with closing(EtcdStore(EtcdAccess.of(site.store("api", "sgdp")), kept=10)) as store:
        for _ in range(20):
            store.commit(Write({}, {"kind/id": {}}))
    assert caplog.records == []
