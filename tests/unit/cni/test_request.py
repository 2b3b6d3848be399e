"""What a runtime may ask for, and what is refused: everything comes from outside."""

from __future__ import annotations

import json

import pytest

from sgdataplane.attach.manage import describe_attachment
from sgdataplane.attach.workload import Naming, Workload
from sgdataplane.cni.request import (
    MAX_BYTES,
    MAX_VALID,
    VERSIONS,
    CniCode,
    CniCommand,
    CniError,
    CniRequest,
    name_attachment,
    read_request,
    read_state,
    version_in,
)

ENVIRONMENT = {
    "CNI_CONTAINERID": "c1",
    "CNI_NETNS": "/run/netns/c1",
    "CNI_IFNAME": "eth0",
    "CNI_ARGS": "SGDP_ENI=eni-a",
}
CONFIG: dict[str, object] = {"cniVersion": "1.1.0", "name": "podnet", "type": "sgdataplane"}
ANNOTATED = {"io.kubernetes.cri.pod-annotations": {"sgdataplane/eni": "eni-a", "other": "x"}}


def read(command: str = "ADD", *, config: object = None, **environment: str) -> CniRequest:
    text = config if isinstance(config, bytes) else json.dumps({**CONFIG, **(config or {})}).encode()  # type: ignore[dict-item]
    return read_request({**ENVIRONMENT, **environment, "CNI_COMMAND": command}, text)


def refused(code: CniCode, command: str = "ADD", *, config: object = None, **environment: str) -> str:
    with pytest.raises(CniError) as raised:
        read(command, config=config, **environment)
    assert raised.value.code is code
    return raised.value.message


def test_an_add_is_read() -> None:
    asked = read(config={"prevResult": {"cniVersion": "1.1.0", "ips": []}})
    previous = {"cniVersion": "1.1.0", "ips": []}
    wanted = CniRequest(CniCommand.ADD, "1.1.0", "podnet", "podnet/c1", "eth0", "/run/netns/c1", "eni-a", previous)
    assert asked == wanted


NAMED = {
    "CNI_ARGS among others": ({}, "IgnoreUnknown=1;K8S_POD_NAME=web;SGDP_ENI=eni-a"),
    "args.cni": ({"args": {"cni": {"eni": "eni-a"}}}, ""),
    "runtimeConfig": ({"runtimeConfig": {"eni": "eni-a"}}, ""),
    "annotation": ({"runtimeConfig": ANNOTATED}, ""),
    "several that agree": ({"runtimeConfig": {"eni": "eni-a", **ANNOTATED}}, "SGDP_ENI=eni-a"),
}


@pytest.mark.parametrize(("config", "arguments"), NAMED.values(), ids=NAMED)
def test_where_an_eni_is_named(config: dict[str, object], arguments: str) -> None:
    assert read(config=config, CNI_ARGS=arguments).eni == "eni-a"


def test_an_engines_number_is_shortened_as_engines_do_it_in_a_gc_too() -> None:
    number = "0123456789abcdef" * 4
    assert read(CNI_CONTAINERID=number).attachment == "podnet/0123456789ab"
    listed = [{"containerID": number, "ifname": "eth0"}]
    assert read("GC", config={"cni.dev/valid-attachments": listed}).valid == {("podnet/0123456789ab", "eth0")}
    assert read(CNI_CONTAINERID=number[1:]).attachment == f"podnet/{number[1:]}"


def test_an_eni_is_needed_to_add_only() -> None:
    message = refused(CniCode.CONFIGURATION, CNI_ARGS="")
    assert "annotation sgdataplane/eni" in message
    assert [read(command, CNI_ARGS="").eni for command in ("DEL", "CHECK")] == ["", ""]


BAD_ENIS: list[object] = [7, None, [], "", "a b", "a\nb", "\u202ea", "x" * 129, "-a", "../a", "a/b", "$(id)", {"a": 1}]


@pytest.mark.parametrize("eni", BAD_ENIS, ids=repr)
def test_an_eni_has_to_be_a_word(eni: object) -> None:
    refused(CniCode.CONFIGURATION, config={"args": {"cni": {"eni": eni}}}, CNI_ARGS="")


@pytest.mark.parametrize("arguments", ["SGDP_ENI=eni-b", "SGDP_ENI=", "SGDP_ENI"])
def test_enis_that_disagree_are_refused(arguments: str) -> None:
    refused(CniCode.CONFIGURATION, config={"args": {"cni": {"eni": "eni-a"}}}, CNI_ARGS=arguments)


NAMESPACED = "IgnoreUnknown=1;SGDP_ENI=eni-a;K8S_POD_NAMESPACE={};K8S_POD_NAME={};K8S_POD_INFRA_CONTAINER_ID=c1"


def test_a_pod_is_named_as_the_kubelet_does_it() -> None:
    assert read(CNI_ARGS=NAMESPACED.format("shop", "web-0.a")).pod == "shop/web-0.a"
    assert read().pod == ""


BAD_PODS = {
    "no namespace": ("", "web"),
    "no name": ("shop", ""),
    "a path": ("../..", "web"),
    "a control sequence": ("shop", "\x1b[2Jweb"),
    "a line": ("shop", "web\n"),
    "a bracket": ("shop", "web)"),
    "letters of others": ("shop", "w\u202eeb"),
    "too long": ("s" * 64, "web"),
    "far too long": ("shop", "w" * 254),
}


@pytest.mark.parametrize(("namespace", "name"), BAD_PODS.values(), ids=BAD_PODS)
def test_what_can_be_no_pods_name_is_left_out_and_refuses_nothing(namespace: str, name: str) -> None:
    asked = read(CNI_ARGS=NAMESPACED.format(namespace, name))
    assert (asked.eni, asked.pod) == ("eni-a", "")


BAD_VARIABLES = {
    "CNI_COMMAND": ["", "add", "ADD\n", "UPDATE"],
    "CNI_CONTAINERID": ["", "a/b", "../x", "a b", "a\x1b[2J", "x" * 129, "-x"],
    "CNI_IFNAME": ["", ".", "eth0/1", "a b", "x" * 16, "eth0\n", "a\udcff"],
    "CNI_NETNS": ["", "run/netns/a", "/run/netns/a\nb", "/" + "x" * 4096, "/a\udcff"],
}


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, values in BAD_VARIABLES.items() for value in values], ids=repr
)
def test_a_bad_variable_is_named(name: str, value: str) -> None:
    environment = {**ENVIRONMENT, "CNI_COMMAND": "ADD", name: value}
    with pytest.raises(CniError, match=name) as raised:
        read_request(environment, json.dumps(CONFIG).encode())
    assert raised.value.code is CniCode.ENVIRONMENT
    assert raised.value.message.isprintable()


def test_a_del_needs_no_namespace() -> None:
    assert read("DEL", CNI_NETNS="").netns == ""
    refused(CniCode.ENVIRONMENT, "CHECK", CNI_NETNS="")


BAD_TEXTS = {
    "nothing": b"",
    "no JSON": b"{",
    "not UTF-8": b'{"name": "\xff"}',
    "a list": b"[]",
    "deep": b"[" * 100_000,
    "a huge number": b'{"cniVersion": ' + b"9" * 10_000 + b"}",
    "no number": b'{"cniVersion": NaN}',
}


@pytest.mark.parametrize("text", BAD_TEXTS.values(), ids=BAD_TEXTS)
def test_what_is_no_object_of_json_cannot_be_decoded(text: bytes) -> None:
    refused(CniCode.UNDECODABLE, config=text)
    assert version_in(text) == VERSIONS[-1]


def test_a_configuration_is_of_a_bounded_size() -> None:
    whole = json.dumps({**CONFIG, "more": ""}).encode()
    filled = whole.replace(b'""', b'"' + b"x" * (MAX_BYTES - len(whole)) + b'"')
    assert read(config=filled).eni == "eni-a"
    refused(CniCode.UNREADABLE, config=filled + b" ")


@pytest.mark.parametrize("version", [None, "", "0.1.0", "0.2.0", "1.2.0", 1, ["1.0.0"], "1.0.0\n"], ids=repr)
def test_other_versions_are_incompatible(version: object) -> None:
    refused(CniCode.INCOMPATIBLE, config={"cniVersion": version})


@pytest.mark.parametrize(("command", "version"), [("CHECK", "0.3.1"), ("GC", "1.0.0"), ("STATUS", "1.0.0")])
def test_a_version_has_only_its_own_commands(command: str, version: str) -> None:
    refused(CniCode.INCOMPATIBLE, command, config={"cniVersion": version})
    assert version_in(json.dumps({**CONFIG, "cniVersion": version}).encode()) == version


BAD_VALUES: dict[str, dict[str, object]] = {
    "no name": {"name": None},
    "a bad name": {"name": "a/b"},
    "a previous result": {"prevResult": []},
    "runtimeConfig": {"runtimeConfig": "x"},
    "annotations": {"runtimeConfig": {"io.kubernetes.cri.pod-annotations": ["x"]}},
    "args": {"args": 1},
    "args.cni": {"args": {"cni": [1]}},
}


@pytest.mark.parametrize("config", BAD_VALUES.values(), ids=BAD_VALUES)
def test_a_value_of_the_wrong_kind_is_refused(config: dict[str, object]) -> None:
    refused(CniCode.CONFIGURATION, config=config)


def test_a_gc_lists_what_stays() -> None:
    listed = [{"containerID": "c1", "ifname": "eth0"}, {"containerID": "c2", "ifname": "net1"}]
    asked = read("GC", config={"cni.dev/valid-attachments": listed})
    assert asked.valid == {("podnet/c1", "eth0"), ("podnet/c2", "net1")}


@pytest.mark.parametrize(
    "listed",
    [None, {}, "x", [1], [{"containerID": "c1"}], [{"containerID": "a/b", "ifname": "eth0"}], [{}] * (MAX_VALID + 1)],
    ids=["none", "object", "text", "number", "no interface", "bad id", "too many"],
)
def test_a_gc_without_a_clear_list_removes_nothing(listed: object) -> None:
    refused(CniCode.CONFIGURATION, "GC", config={"cni.dev/valid-attachments": listed})


STATE = {"ociVersion": "1.0.2", "id": "9f3a", "status": "creating", "pid": 4711, "bundle": "/b", "annotations": {}}
BOUND = {"sgdataplane/bind": "eni-a"}


def test_the_state_of_an_oci_container_is_read() -> None:
    text = json.dumps({**STATE, "annotations": {**BOUND, "sgdataplane/interface": "net1"}}).encode()
    asked = read_state(text, is_binding=True)
    wanted = CniRequest(CniCommand.ADD, "1.1.0", "", "oci:9f3a", "net1", "/proc/4711/ns/net", "eni-a", {})
    assert asked == wanted
    assert read_state(json.dumps({"id": "9f3a", "pid": 0}).encode(), is_binding=False).attachment == "oci:9f3a"


BAD_STATES: dict[str, dict[str, object]] = {
    "no id": {"id": None, "annotations": BOUND},
    "an id that is a path": {"id": "../x", "annotations": BOUND},
    "no process": {"pid": 0, "annotations": BOUND},
    "true": {"pid": True, "annotations": BOUND},
    "a text": {"pid": "1/../2", "annotations": BOUND},
    "a huge number": {"pid": 1 << 40, "annotations": BOUND},
    "no annotations": {},
    "annotations of a kind": {"annotations": ["sgdataplane/bind"]},
    "an ENI that is no word": {"annotations": {"sgdataplane/bind": "a\nb"}},
    "an interface that is no name": {"annotations": {**BOUND, "sgdataplane/interface": "a/b"}},
}


@pytest.mark.parametrize("state", BAD_STATES.values(), ids=BAD_STATES)
def test_a_bad_state_of_a_container_is_refused(state: dict[str, object]) -> None:
    with pytest.raises(CniError) as raised:
        read_state(json.dumps({**STATE, **state}).encode(), is_binding=True)
    assert raised.value.code is CniCode.CONFIGURATION


def test_no_network_and_no_id_names_another_ones_attachment() -> None:
    """A network may be named like whatever else binds, and an id may look like what is shown of another one."""
    made = "9f3a61c0b2d4" + 52 * "0"
    of_hook = read_state(json.dumps({"id": made}).encode(), is_binding=False).attachment
    networks = ("oci", "docker", "podman", "lab", "container", "netns")
    others = [name_attachment(network, made) for network in networks]
    others += [name_attachment("oci", made[:12]), read_state(b'{"id": "9f3a61c0b2d4"}', is_binding=False).attachment]
    assert of_hook == "oci:9f3a61c0b2d4"
    assert len({of_hook, *others}) == 1 + len(others)
    words = {*map(str, (Workload(naming, f"oci:{made[:12]}") for naming in Naming))}
    assert describe_attachment(of_hook) not in words
