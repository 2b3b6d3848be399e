"""The alert rules and the dashboard: they name what the agent exports, promtool accepts them, and each alert fires for
what it is about and for nothing else."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from sgdataplane.daemon.metrics import METRICS, PREFIX, Metrics
from sgdataplane.daemon.status import Status
from tests.support.documents.alerting import (
    BY,
    LABEL,
    MONITORING,
    OF_PROMETHEUS,
    alerts_of,
    at_4h,
    each_fires_alone,
    judge,
    layout_faults,
    series,
)
from tests.support.documents.checkers import checker

ROOT = Path(__file__).resolve().parents[2]
RULES, DASHBOARD = MONITORING / "sgdataplane-alerts.yml", MONITORING / "grafana-dashboard.json"
ALERTS = alerts_of(RULES)
BOARD: dict[str, Any] = json.loads(DASHBOARD.read_text("utf-8"))
PANELS = [panel for panel in BOARD["panels"] if panel["type"] != "row"]
QUERIES = [target["expr"] for panel in PANELS for target in panel["targets"]]
NAME = re.compile(rf"\b{PREFIX}_\w+")
HERE = 'instance="h", job="sgdataplane"'
WELL: Mapping[str, str] = {  # series of a host where all is well
    f"up{{{HERE}}}": "1x300",
    f"sgdataplane_healthy{{{HERE}}}": "1x300",
    f"sgdataplane_state_refused{{{HERE}}}": "0x300",
    f'sgdataplane_eni_in_force{{{HERE}, eni="e", namespace="n"}}': "1x300",
    f'sgdataplane_eni_auditing{{{HERE}, eni="e", namespace="n"}}': "0x300",
    f'sgdataplane_audited_packets_total{{{HERE}, eni="e", namespace="n", direction="ingress", group="g", rule="r"}}': (
        "0+1x300"
    ),
    f'sgdataplane_eni_epoch{{{HERE}, eni="e", namespace="n"}}': "1x300",
    f'sgdataplane_enis{{{HERE}, outcome="in force"}}': "1x300",
    f'sgdataplane_enis{{{HERE}, outcome="gone"}}': "0x300",
    f'sgdataplane_enis{{{HERE}, outcome="disturbed"}}': "0x300",
    f'sgdataplane_errors_total{{{HERE}, kind="proof"}}': "0x300",
    f'sgdataplane_errors_total{{{HERE}, kind="cycle"}}': "0x300",
    f"sgdataplane_drift_commits_total{{{HERE}}}": "0x300",
    f"sgdataplane_drift_repairs_total{{{HERE}}}": "0x300",
    f"sgdataplane_drift_delays_total{{{HERE}}}": "0x300",
    f"sgdataplane_tampering_total{{{HERE}}}": "0x300",
    f"sgdataplane_history_healthy{{{HERE}}}": "1x300",
    f"sgdataplane_history_bytes{{{HERE}}}": "1000000x300",
    f"sgdataplane_history_unlogged_total{{{HERE}}}": "0x300",
    f"sgdataplane_history_cpu_seconds_total{{{HERE}}}": "0+1x300",
    f'sgdataplane_operations_total{{{HERE}, step="staged"}}': "0+10x300",
    f'sgdataplane_dropped_packets_total{{{HERE}, namespace="n", direction="ingress", cause="default"}}': "0+600x300",
    f'sgdataplane_dropped_packets_total{{{HERE}, namespace="n", direction="egress", cause="spoofed"}}': "0x300",
    f'sgdataplane_dropped_packets_total{{{HERE}, namespace="n", direction="egress", cause="session-limit"}}': "0x300",
    f'sgdataplane_eni_dropped_packets_total{{{HERE}, eni="e", namespace="n", direction="ingress"}}': "0+600x300",
    f'sgdataplane_sessions{{{HERE}, namespace="n"}}': "7x300",
    f'sgdataplane_session_limit{{{HERE}, namespace="n"}}': "100x300",
    f'sgdataplane_conntrack_dropped_packets_total{{{HERE}, namespace="n"}}': "0x300",
    f'sgdataplane_neighbour_entries{{{HERE}, family="ipv4"}}': "10x300",
    f'sgdataplane_neighbour_limit{{{HERE}, family="ipv4"}}': "100x300",
    f'sgdataplane_neighbours_refused_total{{{HERE}, family="ipv4"}}': "0x300",
    f"sgdataplane_read_seconds{{{HERE}}}": "0.1x300",
    f"sgdataplane_unread_namespaces{{{HERE}}}": "0x300",
    f'sgdataplane_build_info{{{HERE}, version="1", python="3"}}': "1x300",
    f"process_cpu_seconds_total{{{HERE}}}": "0+1x300",
    f"process_resident_memory_bytes{{{HERE}}}": "1x300",
    **{
        f'sgdataplane_{name}_seconds_bucket{{{HERE}, le="{le}"}}': "0+10x300"
        for name in ("cycle", "apply")
        for le in ("1", "10", "+Inf")
    },
}
# What changes where an alert has to fire: a part of the series' name -> its values.
ILL: Mapping[str, Mapping[str, str]] = {
    "SgdataplaneDown": {"up{": "0x300"},
    "SgdataplaneNotHealthy": {"sgdataplane_healthy": "0x300"},
    "SgdataplaneHistoryNotKept": {"history_healthy": "0x300"},
    "SgdataplaneStateRefused": {"state_refused": "1x300"},
    "SgdataplaneEniNotInForce": {"in_force": "0x300"},
    "SgdataplaneAuditing": {"eni_auditing": "1x300"},
    "SgdataplaneEnisGone": {'"gone"': "2x300"},
    "SgdataplanePolicyRefused": {'"proof"': "0+1x300"},
    "SgdataplaneCycleFailed": {'"cycle"': "0+1x300"},
    "SgdataplaneDrift": {"drift_commits": "0+1x300"},
    "SgdataplaneTampering": {"tampering": "0+1x300"},
    "SgdataplaneDisturbed": {'"disturbed"': "1x300"},
    "SgdataplaneConntrackFull": {"conntrack_dropped": "0+5x300"},
    "SgdataplaneConntrackNearlyFull": {"sgdataplane_sessions": "81x300"},
    "SgdataplaneSessionLimit": {'"session-limit"': "0+5x300"},
    "SgdataplaneNeighboursNearlyFull": {"neighbour_entries": "81x300"},
    "SgdataplaneNeighboursRefused": {"neighbours_refused": "0+1x300"},
    "SgdataplaneSpoofing": {'"spoofed"': "0+120x300"},
    "SgdataplaneManyDrops": {'"default"': "0x230 0+6000x70"},
    "SgdataplaneSlowCycles": {'cycle_seconds_bucket{instance="h", job="sgdataplane", le="1"': "0x300"},
    "SgdataplaneUnread": {"unread": "3x300"},
}


def queries() -> Iterator[str]:
    yield from (alert["expr"] for alert in ALERTS)
    yield from QUERIES
    yield from (variable["definition"] for variable in BOARD["templating"]["list"] if "definition" in variable)


def named() -> set[str]:
    return {name for query in queries() for name in NAME.findall(query)}


def exported() -> str:
    """What the agent says before its first cycle: it has the head of each metric."""
    found = Metrics(Status(Path("/state"), Path("/config"), Path("/last-good"))).text()
    assert found is not None
    return found[1].decode()


def test_every_metric_that_they_name_is_exported_and_documented() -> None:
    families = set(re.findall(r"^# TYPE (\w+)", exported(), re.MULTILINE))
    names = {re.sub(r"_seconds_(bucket|sum|count)$", "_seconds", name) for name in named()}
    assert names - families == set()
    page = (ROOT / "docs/reference/metrics.md").read_text("utf-8")
    assert [name for name in names if f"`{name}`" not in page] == []


def test_every_metric_is_on_the_dashboard() -> None:
    shown = {name for query in QUERIES for name in NAME.findall(query)}
    assert [name for name in METRICS if not any(used.startswith(f"{PREFIX}_{name}") for used in shown)] == []


def test_every_label_that_they_name_is_one_of_a_metric() -> None:
    labels = {label for metric in METRICS.values() for label in metric.labels} | OF_PROMETHEUS
    asked = {label for query in queries() for label in LABEL.findall(query)}
    asked |= {label for query in queries() for part in BY.findall(query) for label in part.split(", ")}
    assert asked - labels == set()


def test_every_value_that_they_name_is_one_of_its_label() -> None:
    asked = {found for query in queries() for found in re.findall(r'\b(outcome|kind)[!=]=?~?"([^"]+)"', query)}
    known = {(label, value) for metric in METRICS.values() for label in metric.labels for value in metric.values}
    assert {(label, value) for label, values in asked for value in values.split("|")} - known == set()


def test_each_alert_is_documented_and_says_what_to_run() -> None:
    page = (ROOT / "docs/monitoring.md").read_text("utf-8")
    assert re.findall(r"^\| `(\w+)` \| (\w+) ", page, re.MULTILINE) == [
        (alert["alert"], alert["labels"]["severity"]) for alert in ALERTS
    ]
    for alert in ALERTS:
        assert "$labels.instance" in alert["annotations"]["summary"]
        assert re.search(r"Run: |Raise |Ask less", alert["annotations"]["description"]), alert["alert"]


def test_the_dashboards_panels_are_complete_and_dont_overlap() -> None:
    assert layout_faults(BOARD) == []


def test_promtool_accepts_them() -> None:
    for command in (("check", "rules", "/mnt/sgdataplane-alerts.yml"), ("check", "config", "/mnt/prometheus.yml")):
        done = checker(MONITORING, "promtool", *command)
        assert done.returncode == 0, done.stderr
        assert f"{len(ALERTS)} rules found" in done.stdout


def test_promtool_accepts_what_the_agent_says(tmp_path: Path) -> None:
    (tmp_path / "metrics").write_text(exported(), "utf-8")
    done = checker(tmp_path, "sh", "-c", "promtool check metrics < /mnt/metrics")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_each_alert_fires_for_its_fault_and_none_where_all_is_well(tmp_path: Path) -> None:
    each_fires_alone(tmp_path, RULES, WELL, ILL, ["SgdataplaneAuditing"])


def test_each_panel_of_the_dashboard_shows_something(tmp_path: Path) -> None:
    """On a host where everything is wrong: some panels show only what is."""
    changed = {part: new for fault in ILL.values() for part, new in fault.items() if part != "up{"}
    values = {"$instance": ".*", "$namespace": ".*", "$__rate_interval": "5m", "$__range": "1h"}
    plain = [re.sub(r"\$\w+", lambda found: values[found[0]], query) for query in QUERIES]
    tests = [at_4h(f"count({query}) > bool 0", {"{}": 1}) for query in plain]
    judge(tmp_path, RULES, [{"interval": "1m", "input_series": series(WELL, changed), "promql_expr_test": tests}])
