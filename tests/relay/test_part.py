"""What a host has, and what changes make of it: whole steps only, never back, and bounded."""

from __future__ import annotations

from pathlib import Path

import pytest

from sgdataplane.handover.publishing import Publisher
from sgdataplane.relay import part as module
from sgdataplane.relay.part import HostPart, OlderError, Receiving
from sgdataplane.relay.sync import Folder
from sgdataplane.relay.wire import BadMessageError, HostChange, Objects, digest_of
from sgdataplane.statefile import load_native
from sgdataplane.store.documents import Fields
from sgdataplane.store.history import Version
from tests.support.servers.relaying import document_in


def vpcs(*names: str, block: str = "10.0.0.0/8") -> Objects:
    return {f"vpc/{name}": {"vpc_id": name, "cidr_blocks": [block]} for name in names}


def received(part: HostPart, *changes: HostChange, may_go_back: bool = False) -> HostPart:
    receiving = Receiving(part, may_go_back=may_go_back)
    for change in changes:
        receiving.take(change, 100)
    return receiving.part


ONE = received(HostPart(), HostChange(Version(0, 5), vpcs("vpc-1", "vpc-2")))


def test_a_change_puts_and_deletes() -> None:
    after = received(ONE, HostChange(Version(0, 6), vpcs("vpc-3"), ("vpc/vpc-1", "vpc/vpc-none")))
    assert (after.version, set(after.objects)) == (Version(0, 6), {"vpc/vpc-2", "vpc/vpc-3"})
    assert set(ONE.objects) == {"vpc/vpc-1", "vpc/vpc-2"}, "the one before is as it was"


def test_nothing_of_a_change_counts_before_its_last_part() -> None:
    receiving = Receiving(ONE)
    assert not receiving.take(HostChange(Version(0, 6), vpcs("vpc-3"), ("vpc/vpc-1",), has_more=True), 1)
    assert receiving.part is ONE
    assert receiving.take(HostChange(Version(0, 6), vpcs("vpc-4")), 1)
    assert set(receiving.part.objects) == {"vpc/vpc-2", "vpc/vpc-3", "vpc/vpc-4"}


def test_parts_of_two_versions_are_no_change() -> None:
    receiving = Receiving(ONE)
    receiving.take(HostChange(Version(0, 6), has_more=True), 1)
    with pytest.raises(BadMessageError, match="several versions"):
        receiving.take(HostChange(Version(0, 7)), 1)


@pytest.mark.parametrize("older", [Version(0, 4), Version(0, 0)])
def test_an_older_revision_is_refused_until_an_operator_says_so(older: Version) -> None:
    with pytest.raises(OlderError, match=r"revision \d, which is older than revision 5 here.*sgdp api restored"):
        received(ONE, HostChange(older))
    receiving = Receiving(ONE, may_go_back=True)
    assert receiving.take(HostChange(older), 1)
    with pytest.raises(OlderError):  # this one time
        receiving.take(HostChange(Version(0, 0) if older.revision else Version(0, -1)), 1)


def test_an_older_epoch_is_refused_whatever_the_revision_and_a_newer_one_taken() -> None:
    restored = received(ONE, HostChange(Version(9, 1)))
    assert restored.version == Version(9, 1)
    with pytest.raises(OlderError):
        received(restored, HostChange(Version(8, 1_000)))


def test_what_is_too_large_for_a_host_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_OBJECTS", 3)
    received(ONE, HostChange(Version(0, 6), vpcs("vpc-3")))
    with pytest.raises(BadMessageError, match="more than 3 objects"):
        received(ONE, HostChange(Version(0, 6), vpcs("vpc-3", "vpc-4")))
    monkeypatch.setattr(module, "MAX_CHARACTERS", 200)
    with pytest.raises(BadMessageError, match="characters"):
        received(ONE, HostChange(Version(0, 6), {"vpc/vpc-1": {"vpc_id": "vpc-1", "cidr_blocks": ["x" * 200]}}))


def take_for_ever(receiving: Receiving) -> None:
    for _ in range(100):
        receiving.take(HostChange(Version(0, 6), vpcs("vpc-1"), has_more=True), 100)


def test_parts_without_an_end_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """They would fill the memory."""
    monkeypatch.setattr(module, "MAX_CHARACTERS", 1_000)
    receiving = Receiving(ONE)
    with pytest.raises(BadMessageError, match="more than 2000 characters"):
        take_for_ever(receiving)


def test_the_document_is_a_state_with_ids_first_and_is_read_back() -> None:
    document = ONE.document()
    assert [vpc.vpc_id for vpc in load_native(dict(document)).state.vpcs] == ["vpc-1", "vpc-2"]
    again = HostPart.of(Version(0, 5), document)
    assert again == ONE
    assert again.hello("1").digests == {path: digest_of(fields) for path, fields in ONE.objects.items()}


ENI: Fields = {"network_interface_id": "eni-1", "vpc_id": "vpc-1", "private_ip_addresses": ["10.0.0.1"]}
GROUPS: Fields = {"security_group_ids": ["sg-1"]}
FAR: Objects = {
    **vpcs("vpc-1"),
    "security_group/sg-1": {"security_group_id": "sg-1", "vpc_id": "vpc-1"},
    "network_interface/eni-1": {**ENI, **GROUPS},
    "network_interface/eni-2": {
        **ENI,
        **GROUPS,
        "network_interface_id": "eni-2",
        "private_ip_addresses": ["10.0.0.2"],
        "mac_address": "00:16:3e:00:00:02",
    },
}


def test_an_eni_of_another_host_is_said_to_be_a_member_only() -> None:
    """A relay sends it without a MAC."""
    part = received(HostPart(), HostChange(Version(0, 5), FAR))
    document = part.document()
    enis = load_native(dict(document)).state.eni
    assert {name: eni.member_only for name, eni in enis.items()} == {"eni-1": True, "eni-2": False}
    assert HostPart.of(Version(0, 5), document) == part, "the relay's digests are of what it sent"


def test_what_an_earlier_program_wrote_in_another_way_is_written_anew(tmp_path: Path) -> None:
    part = received(HostPart(), HostChange(Version(0, 5), FAR))
    document = part.document()
    for eni in document["network_interfaces"]:  # type: ignore[attr-defined]
        eni.pop("member_only", None)
    Publisher(tmp_path).publish(Version(0, 5), document)
    for generations in (1, 0):
        folder = Folder.open(tmp_path)
        assert (folder.published, folder.is_damaged) == (part, bool(generations))
        folder.publish(part, may_go_back=False)
        assert folder.generations == generations
        found = document_in(tmp_path)["network_interfaces"]
        assert {eni["network_interface_id"] for eni in found if eni.get("member_only")} == {"eni-1"}


@pytest.mark.parametrize(
    "document", [{"x": []}, {"vpcs": {}}, {"vpcs": [7]}, {"vpcs": [{}]}, {"vpcs": [{"vpc_id": 7}]}]
)
def test_what_we_have_not_written_is_not_read_back(document: dict[str, object]) -> None:
    with pytest.raises(BadMessageError):
        HostPart.of(Version(0, 5), document)
