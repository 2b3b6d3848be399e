"""The real agent binds interfaces to the ENIs that they name. The tests begin with a new namespace and end with packets
that are dropped."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sgdataplane.cli.main import main
from sgdataplane.contract.tables import TABLE
from sgdataplane.daemon.control import Request, ask
from sgdataplane.host import netns
from sgdataplane.host.links import Links
from tests.support.inputs.builders import mac_of
from tests.support.kernel.nft import listing
from tests.support.probes.flood import wait_until
from tests.support.probes.links import veths_in
from tests.support.scenes import attachhost
from tests.support.scenes.agentbench import AgentBench
from tests.support.scenes.attachbench import DNS, WEB, Bench
from tests.support.scenes.attachhost import ENIS, ROUTER, set_up
from tests.support.scenes.pair import HERE, Pair, Session, introduce, join, plug, switch_on

pytestmark = pytest.mark.daemon
IN_FORCE = {"eni-a": "in force"}


@pytest.fixture
def pair(make_netns: Callable[[], str]) -> Pair:
    """A workload with a name and its peer, with nothing between them yet."""
    return {"peer": make_netns(), "instance": make_netns()}


@pytest.fixture
def agent(agent: AgentBench) -> AgentBench:
    """It binds by alias."""
    agent.configure(bind=["alias"])
    return agent


def call(place: str, alias: str, ifname: str = "eth0") -> None:
    with Links(place) as links:
        links.set_alias(ifname, alias)


def come(pair: Pair, alias: str) -> None:
    """The link comes to the workload with its alias, both ends down. It is made where nobody looks, since the kernel
    doesn't report an alias that is set while the link is down."""
    with Links(pair["peer"]) as links:
        links.add_veth("eth0", netns.OWN_NETNS, "new", mac_of("eni-a"))
    with Links(netns.OWN_NETNS) as links:
        links.set_alias("new", alias)
        links.move("new", pair["instance"], "eth0")


def is_unplugged(place: str) -> bool:
    """The far end of a link vanishes some time after the namespace of the near end."""
    return not veths_in(place)


def let_go(pair: Pair) -> None:
    call(pair["instance"], "")
    with Links(pair["instance"]) as links:
        links.set_up("eth0")  # this is told


def only_web_passes(pair: Pair) -> bool:
    with Session(pair, WEB) as web, Session(pair, DNS) as dns:
        return not dns.passes(beside=web)


def bound(agent: AgentBench) -> dict[str, Any]:
    """The status of the one ENI."""
    (eni,) = agent.status()["enis"]
    return dict(eni)


def refused(agent: AgentBench) -> dict[str, list[str]]:
    """ENI -> the interfaces that name it in vain, and those to which it is bound."""
    return {entry["eni"]: entry["interfaces"] for entry in agent.status()["bind"]["refused"]}


def at(place: str, ifname: str = "eth0") -> str:
    return f"{ifname} of netns {place}"


@pytest.mark.parametrize("means", ["alias", "mac"])
def test_a_namespace_that_appears_is_enforced_before_its_link_is_up(
    make_netns: Callable[[], str], agent: AgentBench, means: str
) -> None:
    agent.configure(bind=[means])
    agent.start()
    pair = {"peer": make_netns(), "instance": make_netns()}
    for _ in range(2):
        come(pair, "eni-a" if means == "alias" else "")
        wait_until(lambda: agent.outcomes() == IN_FORCE)
        assert (bound(agent)["bound_by"], bound(agent)["namespace"]) == (means, f"netns {pair['instance']}")
        switch_on(pair)
        assert only_web_passes(pair)
        netns.remove(pair["instance"])
        netns.create(pair["instance"])  # at once another one of that name
        wait_until(lambda: agent.outcomes() == {"eni-a": "gone"} and is_unplugged(pair["peer"]))
    assert not agent.status()["healthy"]
    assert agent.status()["drift"]["count"] == 0


def test_what_comes_to_an_enforced_namespace_passes_nothing_until_it_is_enforced(pair: Pair, agent: AgentBench) -> None:
    with Links(pair["peer"]) as links:
        links.add_veth("other", pair["instance"], "eth1", "")
    call(pair["instance"], "eni-b", "eth1")
    agent.start()
    assert agent.outcomes() == {"eni-b": "closed"}  # the state hasn't it
    join(pair)
    with Session(pair, WEB) as web:
        sent = web.send()
        call(pair["instance"], "eni-a")
        wait_until(lambda: agent.outcomes() == {"eni-b": "closed", **IN_FORCE})
        assert sent not in web.must_pass()
    assert only_web_passes(pair)


def test_nothing_is_bound_unless_the_configuration_says_so(pair: Pair, agent: AgentBench) -> None:
    join(pair)
    call(pair["instance"], "eni-a")
    agent.configure()
    agent.start()
    assert not only_web_passes(pair)
    for rule in ({"bind": ["alias"], "bind_in": ["none-*"]}, {"bind": ["alias"], "bind_in": ["none-*", "t*"]}):
        agent.configure(**rule)
        cycle = ask(agent.socket, Request.RELOAD)["cycle"]
        assert isinstance(cycle, int)
        wait_until(lambda cycle=cycle: agent.cycles >= cycle)  # type: ignore[misc]
        is_bound = "t*" in rule["bind_in"]
        assert agent.outcomes() == (IN_FORCE if is_bound else {})
        assert only_web_passes(pair) is is_bound


def test_two_interfaces_for_one_eni_bind_none_until_one_of_them_lets_go(
    pair: Pair, make_netns: Callable[[], str], agent: AgentBench, capsys: pytest.CaptureFixture[str]
) -> None:
    twin = {"peer": make_netns(), "instance": make_netns()}
    for each in (pair, twin):
        plug(each)
        call(each["instance"], "eni-a")
    agent.start()
    assert agent.outcomes() == {}
    assert refused(agent) == {"eni-a": [at(pair["instance"]), at(twin["instance"])]}
    assert not agent.status()["healthy"]
    assert main(["status", "--config", str(agent.config)]) == 1
    (logged,) = agent.events("not-bound")
    for told in (logged, capsys.readouterr().err):
        assert f"several interfaces name it: {at(pair['instance'])}, {at(twin['instance'])}" in told
    let_go(twin)
    wait_until(lambda: agent.outcomes() == IN_FORCE)
    assert (bound(agent)["namespace"], refused(agent)) == (f"netns {pair['instance']}", {})
    assert agent.status()["healthy"]
    switch_on(pair)
    assert only_web_passes(pair)


@pytest.mark.parametrize("way", ["alias", "attach"])
def test_what_is_bound_stays_enforced_when_another_names_its_eni(
    pair: Pair, make_netns: Callable[[], str], agent: AgentBench, tmp_path: Path, way: str
) -> None:
    join(pair)
    if way == "alias":
        call(pair["instance"], "eni-a")
    else:
        assert Bench(pair, 0, tmp_path, str).attach("--netns", pair["instance"]) == 0
    agent.start()
    assert (agent.outcomes(), bound(agent)["bound_by"]) == (IN_FORCE, way)
    twin = {"peer": make_netns(), "instance": make_netns()}
    come(twin, "eni-a")
    wait_until(lambda: bool(refused(agent)))
    assert refused(agent)["eni-a"][-1] == at(twin["instance"])
    assert refused(agent)["eni-a"][0].startswith("eth0 of netns")
    assert only_web_passes(pair)
    netns.remove(pair["instance"])
    wait_until(lambda: [eni["namespace"] for eni in agent.status()["enis"]] == [f"netns {twin['instance']}"])
    assert (agent.outcomes(), refused(agent)) == (IN_FORCE, {})
    switch_on(twin)
    assert only_web_passes(twin)


def test_alias_and_mac_that_disagree_bind_nothing(pair: Pair, agent: AgentBench) -> None:
    agent.configure(bind=["alias", "mac"])
    plug(pair)
    call(pair["instance"], "eni-b")
    agent.start()
    assert agent.outcomes() == {}
    assert refused(agent) == {eni: [at(pair["instance"])] for eni in ("eni-a", "eni-b")}
    let_go(pair)
    wait_until(lambda: agent.outcomes() == IN_FORCE)
    assert bound(agent)["bound_by"] == "mac"


def test_a_bound_interface_that_says_something_else_stays_bound(
    pair: Pair, agent: AgentBench, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    agent.configure(bind=["alias", "mac"])
    join(pair)
    call(pair["instance"], "eni-a")
    agent.start()
    assert only_web_passes(pair)
    with Links(pair["instance"]) as links:
        links.set_mac("eth0", mac_of("eni-other"))
    introduce(pair)
    call(pair["instance"], "")
    wait_until(lambda: any("MAC" in line for line in bound(agent)["warnings"]))
    assert only_web_passes(pair)
    call(pair["instance"], "eni-b")  # nor is it bound to another
    wait_until(lambda: refused(agent) == {"eni-b": [at(pair["instance"])]})
    assert agent.outcomes() == IN_FORCE
    assert only_web_passes(pair)
    agent.end()
    agent.start()  # anew, it knows as much
    assert (agent.outcomes(), bound(agent)["bound_by"]) == (IN_FORCE, "alias")
    call(pair["instance"], "")
    assert Bench(pair, 0, tmp_path, str).sgdp("detach", "--eni", "eni-a") == 0
    assert "an agent that binds by alias will bind it again" in capsys.readouterr().err
    wait_until(lambda: agent.outcomes() == {})
    assert not only_web_passes(pair)


def test_an_interface_that_is_renamed_is_followed(pair: Pair, agent: AgentBench) -> None:
    join(pair)
    call(pair["instance"], "eni-a")
    agent.start()
    with Session(pair, WEB) as web, Session(pair, DNS) as dns:
        assert not dns.passes(beside=web)
        rename(pair["instance"], "eth0", "eth7")
        sent = dns.send()
        wait_until(lambda: bound(agent)["interface"] == "eth7" and agent.outcomes() == IN_FORCE)
        assert not dns.passes(beside=web)
        assert sent not in dns.read()


def rename(place: str, ifname: str, new_ifname: str) -> None:
    """What root of the workload does: rename it, keep its addresses, set it up again."""
    with Links(place) as links:
        links.set_down(ifname)
        links.move(ifname, place, new_ifname)
        links.set_up(new_ifname)


def test_an_interface_that_is_moved_is_followed_and_where_it_was_stays_closed(
    pair: Pair, make_netns: Callable[[], str], agent: AgentBench
) -> None:
    join(pair)
    call(pair["instance"], "eni-a")
    agent.start()
    assert only_web_passes(pair)
    moved = {"peer": pair["peer"], "instance": make_netns()}
    with Links(pair["instance"]) as links:
        links.move("eth0", moved["instance"], "eth0")
    wait_until(lambda: bound(agent)["namespace"] == f"netns {moved['instance']}" and agent.outcomes() == IN_FORCE)
    switch_on(moved)
    assert only_web_passes(moved)
    assert "drop" in listing(pair["instance"], TABLE)
    assert pair["instance"] in agent.events("left-closed")[0]


def test_an_interface_that_is_gone_leaves_its_binding_until_it_is_back(pair: Pair, agent: AgentBench) -> None:
    join(pair)
    call(pair["instance"], "eni-a")
    agent.start()
    with Links(pair["instance"]) as links:
        links.delete_link("eth0")
    wait_until(lambda: agent.outcomes() == {"eni-a": "absent"})
    join(pair)  # it says nothing of the ENI
    wait_until(lambda: agent.outcomes() == IN_FORCE)
    assert only_web_passes(pair)


def test_in_host_placement_the_link_of_what_names_an_eni_goes_to_its_router(
    make_netns: Callable[[], str], agent: AgentBench, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home, pair = make_netns(), {role: make_netns() for role in ENIS}
    bench = Bench(pair, 0, tmp_path, lambda: capsys.readouterr().out)
    agent.configure(bind=["mac"], placement="host")
    agent.write(attachhost.state_of(WEB))
    agent.start()
    for role, eni in ENIS.items():
        with Links(home) as links:
            links.add_veth(f"v-{role}", pair[role], "eth0", mac_of(eni))
        set_up(pair[role], HERE[role])
    try:
        wait_until(lambda: agent.outcomes() == dict.fromkeys(ENIS.values(), "in force"))
        assert [eni["enforced_at"] for eni in agent.status()["enis"]] == [f"{eni} of {ROUTER}" for eni in ENIS.values()]
        assert only_web_passes(pair)
    finally:
        agent.end()
        bench.sgdp("clear")
