"""What `sgdp explain --live` says of a flow is what real packets do, at both ends and in both placements."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sgdataplane.cli.main import main
from sgdataplane.lab.expect import ProbeResult
from sgdataplane.lab.probe import Probe
from sgdataplane.model.state import CloudState
from sgdataplane.net.values import Protocol, Verdict
from sgdataplane.statefile import dump_native
from tests.support.documents.schemas import assert_conforms
from tests.support.inputs.builders import make_eni, make_group, make_rule, make_state
from tests.support.scenes import labs
from tests.support.scenes.labs import enforce_policy

pytestmark = pytest.mark.traffic

DROP = Verdict.DROP


def policy() -> CloudState:
    """Each reason decides somewhere: inner accept in sg-i, rules in and out, both defaults, a tie."""
    web = [
        make_rule("ingress tcp 80/90 from sg-i", "sgr-web"),
        make_rule("ingress icmp from 10.0.0.0/16", "sgr-ping"),
        make_rule("ingress icmp from 10.0.0.1 drop", "sgr-no-ping"),
        make_rule("egress udp 53/53 to 0.0.0.0/0 drop", "sgr-no-dns"),
    ]
    enis = [
        make_eni("eni-a", "10.0.0.1 2001:db8::1", "sg-i"),
        make_eni("eni-b", "10.0.0.2", "sg-i"),
        make_eni("eni-c", "10.0.0.3 2001:db8::3", "sg-w"),
    ]
    return make_state([make_group("sg-i"), make_group("sg-w", web, inner=DROP)], enis)


def arguments(probe: Probe) -> list[str]:
    """The probe as a question to `explain`, asked at the end that is an ENI; at the sender's if both are."""
    is_sent = bool(probe.source.eni_id)
    here, there = (probe.source, probe.target) if is_sent else (probe.target, probe.source)
    asked = ["--eni", here.eni_id, "--direction", "egress" if is_sent else "ingress", "--local", str(here.address)]
    asked += ["--remote", str(there.address), "--protocol", str(Protocol(probe.service.protocol))]
    return asked + (["--port", str(probe.service.port)] if probe.service.port else [])


def ends_of(found: dict[str, Any]) -> list[dict[str, Any]]:
    return [end for end in (found, found["other_end"]) if end is not None]


def dropped_at(found: dict[str, Any]) -> str:
    """The first end on the packet's way that drops it, or ""."""
    droppers = [end["direction"] for end in ends_of(found) if end["verdict"] == "drop"]
    return "egress" if "egress" in droppers else "".join(droppers[:1])


def test_explain_says_what_packets_do(
    placement: str, make_lab_name: Callable[[], str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name, state, file = make_lab_name(), policy(), tmp_path / "state.yaml"
    file.write_text(dump_native(state), encoding="utf-8")
    seen: Counter[str] = Counter()
    with labs.running(name, state, enforce_policy, (("192.0.2.1",),), placement=placement) as lab:
        for cell in distinct(labs.matrix(lab, "tcp/80,udp/53,icmp")):
            capsys.readouterr()
            code = main(["explain", str(file), *arguments(cell.probe), "--live", "--name", name, "--json"])
            found = json.loads(capsys.readouterr().out)
            assert_conforms("explain", found)
            said = ("accept" if found["passes"] else "drop", dropped_at(found))
            assert said == (cell.observed.verdict, cell.observed.where), f"{cell.probe}: {cell.observed}"
            assert code == 0, f"{cell.probe}: the kernel's table isn't what the state says"
            seen.update((said[0], *(f"{end['verdict']} {end['reason']}" for end in ends_of(found))))
    assert set(seen) >= {"accept", "drop", "accept inner_accept", "accept default", "drop rule", "drop default"}, seen


def distinct(cells: list[ProbeResult]) -> Iterator[ProbeResult]:
    """One probe for each family, protocol, verdict and deciding cause."""
    seen = set()
    for cell in cells:
        probe, observed = cell.probe, cell.observed
        kind = (probe.family, probe.service.protocol, cell.expected.decision, observed.verdict, observed.where)
        if kind not in seen:
            seen.add(kind)
            yield cell
