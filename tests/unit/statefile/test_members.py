"""An ENI that a state knows only as a member of groups: it has no policy, and such a state isn't whole."""

from __future__ import annotations

from pathlib import Path

import pytest

from sgdataplane.errors import StateFileError
from sgdataplane.model.naming import names_of_enis
from sgdataplane.statefile import dump_ecs, dump_native
from tests.unit.statefile.documents import load_text

A_MEMBER = """
vpcs: [{vpc_id: v}]
security_groups: [{security_group_id: g, vpc_id: v}]
network_interfaces:
  - {network_interface_id: eni-1, vpc_id: v, security_group_ids: [g], private_ip_addresses: [10.0.0.1]}
  - {network_interface_id: eni-2, vpc_id: v, security_group_ids: [g], private_ip_addresses: [10.0.0.2],
     member_only: true}
"""


def test_a_member_only_has_no_policy_and_needs_no_mac(tmp_path: Path) -> None:
    state = load_text(tmp_path, A_MEMBER).state
    assert [eni.network_interface_id for eni in state.enis_of_group["g"]] == ["eni-1", "eni-2"]
    assert [eni.network_interface_id for eni in state.judged_enis] == ["eni-1"] == [*names_of_enis(state)]
    assert [bool(eni.mac_address) for eni in state.network_interfaces] == [True, False]
    assert load_text(tmp_path, dump_native(state)).state == state


def test_a_part_of_a_state_isnt_taken_for_the_whole(tmp_path: Path) -> None:
    with pytest.raises(StateFileError) as raised:
        dump_ecs(load_text(tmp_path, A_MEMBER).state)
    assert [(problem.code, problem.value) for problem in raised.value.problems] == [
        ("InvalidState.MemberOnly", "eni-2")
    ]
