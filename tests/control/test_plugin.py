"""The fixture `sgdp_api` of the pytest plugin, used as a user's tests use it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from sgdataplane.api import load
from sgdataplane.pytest_plugin import TestedApi
from tests.support.servers.sdks import driver

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("turn", [1, 2])
def test_each_test_begins_with_a_default_vpc_and_nothing_else(sgdp_api: TestedApi, turn: int) -> None:
    assert sgdp_api.ask("DescribeSecurityGroups")["TotalCount"] == 0, turn
    sgdp_api.ask("CreateSecurityGroup")
    assert [one["IsDefault"] for one in sgdp_api.ask("DescribeVpcs")["Vpcs"]["Vpc"]] == [True]


def test_it_is_emptied_within_a_test_too(sgdp_api: TestedApi) -> None:
    sgdp_api.ask("CreateSecurityGroup")
    vpc = sgdp_api.reset()
    assert sgdp_api.ask("DescribeSecurityGroups")["TotalCount"] == 0
    assert [one["VpcId"] for one in sgdp_api.ask("DescribeVpcs")["Vpcs"]["Vpc"]] == [vpc]


def test_other_clients_find_it(sgdp_api: TestedApi) -> None:
    key, secret = sgdp_api.access_key_id, sgdp_api.access_key_secret
    with driver("drive_today.py", sgdp_api.url.removeprefix("https://"), key, secret, sgdp_api.authority) as ask:
        made = ask("CreateSecurityGroup")["SecurityGroupId"]
    command = [sys.executable, "-m", "sgdataplane", "group", "list"]
    variables = {"PATH": os.environ["PATH"], **sgdp_api.environment}
    done = subprocess.run(command, cwd=ROOT, env=variables, capture_output=True, text=True, check=False)
    assert made in done.stdout, done.stderr


def test_it_begins_with_a_state_if_one_is_given(sgdp_api: TestedApi) -> None:
    path = ROOT / "examples" / "db.yaml"
    for state in (str(path), path, load(path)):
        sgdp_api.reset(state)
        groups = sgdp_api.ask("DescribeSecurityGroups")["SecurityGroups"]["SecurityGroup"]
        assert [one["SecurityGroupId"] for one in groups] == ["sg-db"]
        sgdp_api.reset()
        assert sgdp_api.ask("DescribeSecurityGroups")["TotalCount"] == 0
