"""Hosts that follow one control plane: what its API says is what packets between them show, whatever fails."""

from __future__ import annotations

import functools
import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from sgdataplane.contract.tables import TRIALS
from sgdataplane.control.http.client import RefusedError
from sgdataplane.errors import HostError
from sgdataplane.lab.hosts import guests
from sgdataplane.lab.hosts.authority import Authority
from sgdataplane.lab.hosts.hostslab import CLIENT_PORT, FIRST_HOST, FIRST_MEMBER, start_all
from sgdataplane.lab.hosts.sandbox import sgdp
from sgdataplane.lab.hosts.wires import management_address
from tests.support.events.hostsfailing import Turning, cut_off, kill_each_second, restored, saved, stopped
from tests.support.kernel.nft import nft
from tests.support.probes.flood import PacedFlood, wait_until
from tests.support.probes.streams import CHUNK, Streams
from tests.support.probes.trialtraffic import Opener
from tests.support.probes.witness import Watch, grown
from tests.support.scenes.hostscloud import Cloud, rule
from tests.support.scenes.hostsscene import PLACES, Scene
from tests.support.servers.sdks import Driver

pytestmark = [pytest.mark.traffic, pytest.mark.slow]

SQL, WEB, STREAM = 5432, 8080, 8081
WEBS = f"{WEB}/{STREAM}"
NOW_OPEN, ON_TRIAL = 7001, 7002  # ports of UDP
ALLOWED, DENIED = range(5000, 5400), range(5400, 5800)  # so many that each session has expired before its turn comes
SILENT_S = 15.0
DURATION_S = float(os.environ.get("SGDP_KILLS_S", "30"))
OWN_S = 10.0  # with our own client in place of the SDK


def groups_of(cloud: Cloud) -> list[dict[str, Any]]:
    """All of them, page by page: five minutes make more than one has."""
    groups: list[dict[str, Any]] = []
    page: dict[str, str] = {}
    while True:
        found = cloud.ask("DescribeSecurityGroups", VpcId=cloud.vpc, MaxResults=100, **page)
        groups += found["SecurityGroups"]["SecurityGroup"]
        if not found.get("NextToken"):
            return groups
        page = {"NextToken": found["NextToken"]}


def test_a_rule_that_goes_ends_a_session_between_hosts_at_its_next_packet(scene: Scene, tmp_path: Path) -> None:
    """Beside it, another session goes on; a host that the rule doesn't concern hears nothing. Once the rule is back,
    the same session goes on."""
    cloud, group = scene.cloud, scene.groups["db"]
    assert not scene.reaches("web", "db", SQL)
    cloud.open(group, rule(SQL), rule(WEBS))
    cloud.settle()
    assert scene.reaches("web", "db", SQL)
    watches = tuple(Watch(name, (f"tcp dport {port}",)) for name, port in (("sql", SQL), ("web", STREAM)))
    witness = scene.witness("db", watches)
    elsewhere, here = scene.generation("far"), scene.generation("db")
    with Streams(tmp_path, [scene.route(SQL), scene.route(STREAM)]) as streams:
        cloud.shut(group, rule(SQL))
        assert set(cloud.settle()["Enforced"]) == {host.name for host in scene.lab.hosts}
        before = witness.counts()
        more = [count + 64 * CHUNK for count in streams.received()[2:]]
        wait_until(lambda: all(now > then for now, then in zip(streams.received()[2:], more, strict=True)))
        wait_until(lambda: grown(before, witness.counts())["in_before", "sql"] > 0)
        counts = grown(before, witness.counts())
        assert counts["in_after", "sql"] == 0
        assert counts["in_after", "web"] > 0
        cloud.open(group, rule(SQL))
        cloud.settle()
        streams.wait_for_more()
    streams.check()
    assert scene.generation("far") == elsewhere
    assert scene.generation("db") != here
    cloud.shut(group, rule(SQL), rule(WEBS))


def test_an_eni_moves_from_host_to_host_with_its_policy(scene: Scene) -> None:
    """As soon as it's another host's, the first one lets nothing pass any more at the workload that it still has. A
    bridge knows where it is once it has sent something."""
    cloud = scene.cloud
    group = cloud.group(rule(SQL))
    made = cloud.ask("CreateNetworkInterface", VSwitchId=cloud.switch, SecurityGroupId=group)
    eni = str(made["NetworkInterfaceId"])
    found = cloud.eni(NetworkInterfaceId=[eni])
    instances = {name: instance_of(cloud, name) for name in ("web", "far")}
    cloud.ask("AttachNetworkInterface", NetworkInterfaceId=eni, InstanceId=instances["web"])
    first = cloud.place("moving", found, scene.host("web"))
    cloud.start(["moving"])
    cloud.settle()
    wait_until(lambda: scene.reaches("db", "moving", SQL))
    assert not scene.reaches("db", "moving", WEB)

    cloud.ask("DetachNetworkInterface", NetworkInterfaceId=eni, InstanceId=instances["web"])
    cloud.ask("AttachNetworkInterface", NetworkInterfaceId=eni, InstanceId=instances["far"])
    cloud.settle()
    wait_until(lambda: scene.host("web").outcomes()[eni] == "closed")
    assert not scene.reaches("db", "moving", SQL)
    guests.end(scene.lab.sandbox, first)
    cloud.place("moving", found, scene.host("far"))
    cloud.start(["moving"])
    cloud.settle()
    assert scene.host("far").outcomes()[eni] == "in force"
    wait_until(lambda: scene.reaches("db", "moving", SQL))
    assert not scene.reaches("db", "moving", WEB)
    wait_until(lambda: scene.reaches("far", "moving", SQL))


def instance_of(cloud: Cloud, name: str) -> str:
    (found,) = cloud.ask("DescribeInstances", InstanceName=name)["Instances"]["Instance"]
    return str(found["InstanceId"])


# what fails, and what then (everything else of the scene goes on meanwhile)


def test_with_the_whole_control_plane_down_enforcement_goes_on(scene: Scene, tmp_path: Path) -> None:
    """Agents that start then have the last good policy, even without the folder that they read; writes are refused,
    and the next change arrives once all is back."""
    cloud, lab, group = scene.cloud, scene.lab, scene.groups["db"]
    cloud.open(group, rule(WEBS))
    cloud.settle()
    with Streams(tmp_path, [scene.route(STREAM)]) as streams:
        for component in (*lab.members, *lab.relays):
            component.kill()
        for _ in lab.apis:
            with pytest.raises(RefusedError, match="ServiceUnavailable"):
                cloud.ask_once("CreateSecurityGroup", VpcId=cloud.vpc)
        for component in lab.components:
            component.kill()
        for host in lab.hosts:
            host.folder.rename(host.folder.with_name("away"))
        start_all([host.agent for host in lab.hosts])
        for name in PLACES:
            wait_until(lambda name=name: "in force" in scene.host(name).outcomes().values())  # type: ignore[misc]
        assert scene.reaches("web", "db", WEB)
        assert not scene.reaches("web", "db", SQL)
        streams.wait_for_more()
        for host in lab.hosts:
            host.folder.with_name("away").rename(host.folder)
        start_all(lab.components)
        cloud.open(group, rule(SQL))
        cloud.settle()
        assert scene.reaches("web", "db", SQL)
        streams.wait_for_more()
    streams.check()
    cloud.shut(group, rule(SQL), rule(WEBS))


def test_without_a_majority_of_the_store_nothing_is_written_and_without_one_member_all_is(scene: Scene) -> None:
    cloud, group = scene.cloud, scene.groups["db"]
    with cut_off(scene.lab, FIRST_MEMBER):
        cloud.open(group, rule(WEBS))
        cloud.settle()
        assert scene.reaches("web", "db", WEB)
        with cut_off(scene.lab, FIRST_MEMBER + 1):
            for _ in scene.lab.apis:
                with pytest.raises(RefusedError, match="ServiceUnavailable"):
                    cloud.ask_once("AuthorizeSecurityGroup", SecurityGroupId=group, Permissions=[rule(SQL)])
            assert scene.reaches("web", "db", WEB)
            assert not scene.reaches("web", "db", SQL)
    cloud.shut(group, rule(WEBS))
    cloud.settle()
    assert not scene.reaches("web", "db", WEB)


def test_a_host_that_is_cut_off_is_unknown_and_never_done_and_catches_up(scene: Scene, tmp_path: Path) -> None:
    cloud, group, name = scene.cloud, scene.groups["db"], scene.host("db").name
    cloud.open(group, rule(WEBS))
    cloud.settle()
    with Streams(tmp_path, [scene.route(STREAM)]) as streams:
        with cut_off(scene.lab, FIRST_HOST + PLACES["db"]):
            cloud.open(group, rule(SQL))
            answer = cloud.ask("SgdpWait", Timeout=60)
            assert (answer["Unknown"], answer["Lagging"], answer["Failed"]) == ([name], [], [])
            (found,) = cloud.ask("SgdpDescribeHosts", HostName=[name])["Hosts"]["Host"]
            assert found["AgeSeconds"] >= SILENT_S
            assert not scene.reaches("web", "db", SQL)
            streams.wait_for_more()
        wait_until(lambda: name in cloud.ask("SgdpWait", Timeout=1)["Enforced"])
        assert scene.reaches("web", "db", SQL)
    streams.check()
    cloud.shut(group, rule(SQL), rule(WEBS))


def test_a_host_s_certificate_opens_nothing_at_etcd(scene: Scene) -> None:
    """For some of what it does, as to compact its history, etcd asks for no user: a certificate of its authority is
    enough. So that authority signs for nobody else."""

    def compacted(authority: Authority) -> str:
        """What etcd says to somebody who is no user of it."""
        signed = authority.sign("host-7")
        files = ("--cacert", lab.etcd_authority.certificate, "--cert", signed.certificate, "--key", signed.key)
        at = f"https://{management_address(FIRST_MEMBER)}:{CLIENT_PORT}"
        words = ["etcdctl", "--endpoints", at, "--command-timeout", "5s", *map(str, files), "compaction", "1"]
        try:
            return lab.sandbox.run(words)
        except HostError as error:
            return str(error)

    lab = scene.lab
    assert "compacted" in compacted(lab.etcd_authority), "control"
    assert "compacted" not in compacted(lab.authority)


def test_relays_that_missed_a_compaction_begin_anew(scene: Scene) -> None:
    """They are stopped meanwhile, so that their watches come back too late."""
    cloud, group = scene.cloud, scene.groups["db"]
    cloud.settle()
    with stopped(scene.lab.relays):
        for ports in (SQL, WEBS):
            cloud.open(group, rule(ports))
        cloud.shut(group, rule(SQL))
        fields = json.loads(scene.lab.run_etcdctl("get", "/", "--write-out=json"))
        scene.lab.run_etcdctl("compaction", "--physical", str(fields["header"]["revision"]))
    wait_until(lambda: scene.host("db").name in cloud.ask("SgdpWait", Timeout=1)["Enforced"])
    assert scene.reaches("web", "db", WEB)
    assert not scene.reaches("web", "db", SQL)
    cloud.shut(group, rule(WEBS))


def test_hosts_keep_what_is_newer_than_a_restored_store_until_an_operator_says_so(scene: Scene) -> None:
    cloud, lab, group = scene.cloud, scene.lab, scene.groups["db"]
    cloud.open(group, rule(SQL))
    cloud.settle()
    copy = saved(lab)
    cloud.open(group, rule(WEBS))
    cloud.settle()
    for component in (*lab.apis, *lab.relays, *lab.members):
        component.kill()
    restored(lab, copy)
    generation, heard = scene.generation("db"), len(scene.sync_log("db"))
    start_all([*lab.members, *lab.relays])
    wait_until(lambda: "accept-epoch" in scene.sync_log("db")[heard:])
    assert scene.generation("db") == generation
    assert scene.reaches("web", "db", WEB)
    lab.sandbox.run(sgdp("api", "restored", "--store", lab.store("api")))
    start_all(lab.components)
    cloud.settle()
    assert not scene.reaches("web", "db", WEB)
    assert scene.reaches("web", "db", SQL)
    cloud.shut(group, rule(SQL))


@pytest.mark.optional
def test_killing_a_component_each_second_leaks_and_loses_nothing_by_the_sdk(
    scene: Scene, sdk: Driver, tmp_path: Path
) -> None:
    """As its user asks for it, in a process of its own."""
    with scene.cloud.through(sdk):
        leaks_and_loses_nothing(scene, tmp_path, DURATION_S)


def test_killing_a_component_each_second_leaks_and_loses_nothing(scene: Scene, tmp_path: Path) -> None:
    leaks_and_loses_nothing(scene, tmp_path, min(OWN_S, DURATION_S))


def leaks_and_loses_nothing(scene: Scene, folder: Path, seconds: float) -> None:
    """Any of etcd's members, APIs, relays, syncs and agents is killed by kill -9. Meanwhile a rule comes and goes:
    whenever the API says that it is in force, packets of a running session say so, too. Calls whose answer was lost
    are made once."""
    cloud, group = scene.cloud, scene.groups["db"]
    cloud.open(group, rule(f"{ALLOWED[0]}/{ALLOWED[-1]}", "UDP"), rule(WEBS))
    cloud.settle()
    address, places = cloud.address("db"), (cloud.netns("web"), cloud.netns("db"))
    allowed, denied = ([(address, port) for port in ports] for ports in (ALLOWED, DENIED))
    turning = Turning(cloud, group, scene.host("db").name)
    streams = Streams(folder, [scene.route(STREAM)])
    asked, again = cloud.asked, cloud.sent_again
    with PacedFlood(folder, *places, allowed, denied) as flood, streams, turning:
        killed = kill_each_second(scene.lab, seconds)
    start_all(scene.lab.components)
    print(flood.allowed, flood.denied, killed.total(), killed, turning)
    print(f"answered: {cloud.asked - asked}, sent again: {cloud.sent_again - again}")
    assert turning.wrong == []
    assert min(turning.shown.values()) > 0, "neither was seen in force"
    assert (flood.denied.received, flood.allowed.sent - flood.allowed.received) == (0, 0)
    assert flood.denied.sent > 100 * seconds
    streams.check()
    cloud.settle()
    names = [one["SecurityGroupName"] for one in groups_of(cloud)]
    assert sorted(name for name in names if name.startswith(turning.prefix)) == sorted(turning.made)
    assert killed.total() > 0.5 * seconds


def test_a_trial_counts_at_the_members_on_all_hosts(scene: Scene) -> None:
    """One group has a member on each of three hosts. What the API says in the end is what was sent."""
    cloud = scene.cloud
    group = cloud.group(rule(NOW_OPEN, "UDP"))
    cloud.ask("ModifySecurityGroupPolicy", SecurityGroupId=group, InnerAccessPolicy="Drop")
    for name in PLACES:
        cloud.ask("JoinSecurityGroup", SecurityGroupId=group, NetworkInterfaceId=cloud.workloads[name].eni_id)
    cloud.settle()
    cloud.ask("SgdpTrialStart", SecurityGroupId=group, Permissions=[rule(ON_TRIAL, "UDP")])
    shown = functools.partial(cloud.ask, "SgdpTrialShow", SecurityGroupId=group)
    wait_until(lambda: [host["Counting"] for host in shown()["Hosts"]["Host"]] == [True] * len(PLACES))
    sent: Counter[int] = Counter()
    for sender, receiver in (("web", "db"), ("db", "far"), ("far", "web")):
        opener = Opener(cloud.netns(sender), cloud.address(receiver), (NOW_OPEN, ON_TRIAL), seed=3)
        opener.send(60)
        sent += opener.sent
    wait_until(lambda: (shown()["Opens"], shown()["Closes"]) == (sent[ON_TRIAL], sent[NOW_OPEN]))
    answer = shown()
    assert {line["host"] for line in answer["Lines"] if line["packets"]} == {host.name for host in scene.lab.hosts}
    assert sum(line["packets"] for line in answer["Lines"]) == sent.total()
    assert sent.total() == 180
    cloud.ask("SgdpTrialStop", SecurityGroupId=group)
    cloud.settle()
    for name in PLACES:
        cloud.ask("LeaveSecurityGroup", SecurityGroupId=group, NetworkInterfaceId=cloud.workloads[name].eni_id)
        wait_until(lambda name=name: TRIALS not in nft_at(scene, name))  # type: ignore[misc]
    cloud.ask("DeleteSecurityGroup", SecurityGroupId=group)


def nft_at(scene: Scene, name: str) -> str:
    """The tables where that instance's policy is enforced."""
    guest = scene.cloud.workloads[name]
    return nft(guest.router if scene.lab.placement.is_outside else guest.netns, "list tables")
