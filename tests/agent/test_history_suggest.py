"""`sgdp suggest --history`: what a real agent has recorded becomes rules."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from sgdataplane.cli.main import main
from tests.support.documents.schemas import assert_conforms
from tests.support.scenes.attachbench import WEB
from tests.support.scenes.historyscene import seen_at

pytestmark = pytest.mark.daemon


def test_what_the_agent_has_recorded_is_carried(
    make_lab_name: Callable[[], str], tmp_path: Path, capsys: pytest.CaptureFixture[str], placement: str
) -> None:
    with seen_at(placement, make_lab_name, tmp_path) as kept:
        capsys.readouterr()
        config, new = str(kept.scene.agent.config), str(tmp_path / "new")
        assert main(["suggest", "--history", "--since", "1h", "--config", config, "--json", "-o", new]) == 0
        document = json.loads(capsys.readouterr().out)
        assert_conforms("suggest", document)
        web = [one for one in document["rules"] if one["rule"].get("port_range") == f"{WEB}/{WEB}"]
        (rule,) = (one for one in web if one["rule"]["type"] == "ingress")
        assert rule["security_group_id"] == "sg-a"
        assert len(web) == (2 if placement == "host" else 1), "a router sees the sender's end, too"
        assert rule["evidence"]["sessions"] == 6
        assert document["dropped_sessions"] == 3
        assert document["diff"]["changes"] != []
        assert main(["check", new]) == 0
        with pytest.raises(SystemExit):
            main(["suggest", "--since", "1h", "--live", "--config", config])
        assert "--since needs --history" in capsys.readouterr().err
