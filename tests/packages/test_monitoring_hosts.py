"""Alert rules and the dashboard for many hosts: they name what API, relays and syncs export, promtool accepts them, and
each alert fires for what it is about and for nothing else."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from sgdataplane.control.hosts.status import HostStanding
from sgdataplane.control.http.metrics import API_METRICS, ApiMetrics
from sgdataplane.control.http.metrics import PREFIX as API_PREFIX
from sgdataplane.relay.metrics import INFO, RELAY_METRICS, RELAY_PREFIX, SYNC_METRICS, SYNC_PREFIX
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
RULES, DASHBOARD = MONITORING / "sgdataplane-hosts-alerts.yml", MONITORING / "grafana-hosts-dashboard.json"
ALERTS = alerts_of(RULES)
BOARD: dict[str, Any] = json.loads(DASHBOARD.read_text("utf-8"))
PANELS = [panel for panel in BOARD["panels"] if panel["type"] != "row"]
QUERIES = [target["expr"] for panel in PANELS for target in panel["targets"]]
OF_HOSTS = {**RELAY_METRICS, **SYNC_METRICS}
NAMES = {
    *(f"{API_PREFIX}_{name}" for name in API_METRICS),
    *(f"{RELAY_PREFIX}_{name}" for name in (*RELAY_METRICS, INFO)),
    *(f"{SYNC_PREFIX}_{name}" for name in (*SYNC_METRICS, INFO)),
}
OF_SEVERAL = re.compile(r"sgdataplane_\(api\|relay\|sync\)_(\w+)")
NAME = re.compile(r"\bsgdataplane_\w+")
STANDINGS = [one.value.lower() for one in HostStanding]
API, RELAY, SYNC = (f'instance="h", job="sgdataplane-{name}"' for name in ("api", "relay", "sync"))
NOW = "0+60x300"  # the time, a sample each minute
LATER = f"{300 * 86_400}x300"
WELL: Mapping[str, str] = {  # series of a site where all is well
    **{f"up{{{at}}}": "1x300" for at in (API, RELAY, SYNC)},
    f'{API_PREFIX}_hosts{{{API}, standing="enforced"}}': "3x300",
    **{f'{API_PREFIX}_hosts{{{API}, standing="{one}"}}': "0x300" for one in STANDINGS if one != "enforced"},
    f"{API_PREFIX}_hosts_lag_seconds{{{API}}}": "0x300",
    f"{API_PREFIX}_relays{{{API}}}": "2x300",
    f"{API_PREFIX}_store_full{{{API}}}": "0x300",
    f"{API_PREFIX}_certificate_expiry_timestamp_seconds{{{API}}}": "0x300",
    f"{RELAY_PREFIX}_streams{{{RELAY}}}": "3x300",
    **{
        f"{RELAY_PREFIX}_{name}{{{RELAY}}}": "0x300"
        for name in ("lagging_hosts", "failing_hosts", "left_hosts", "claims_refused", "name_taken", "store_full")
    },
    f"{RELAY_PREFIX}_revision{{{RELAY}}}": "0+1x300",
    f"{RELAY_PREFIX}_epoch{{{RELAY}}}": "7x300",
    f"{RELAY_PREFIX}_revisions_total{{{RELAY}}}": "0+1x300",
    f"{RELAY_PREFIX}_store_snapshots_total{{{RELAY}}}": "0x300",
    f"{RELAY_PREFIX}_store_read_timestamp_seconds{{{RELAY}}}": NOW,
    f'{RELAY_PREFIX}_answers_total{{{RELAY}, kind="resumed"}}': "0x236 3x300",  # the relay was restarted
    f'{RELAY_PREFIX}_answers_total{{{RELAY}, kind="snapshot"}}': "3x300",
    f'{RELAY_PREFIX}_streams_ended_total{{{RELAY}, reason="closed"}}': "0+1x300",
    f'{RELAY_PREFIX}_streams_ended_total{{{RELAY}, reason="revoked"}}': "0+6x300",
    f'{RELAY_PREFIX}_streams_ended_total{{{RELAY}, reason="bad message"}}': "0x300",
    f'{RELAY_PREFIX}_messages_total{{{RELAY}, kind="report"}}': "0+18x300",
    f"{RELAY_PREFIX}_received_bytes_total{{{RELAY}}}": "0+1800x300",
    f"{RELAY_PREFIX}_sent_bytes_total{{{RELAY}}}": "0+900x300",
    f'{RELAY_PREFIX}_errors_total{{{RELAY}, kind="store"}}': "0x300",
    f'{RELAY_PREFIX}_certificate_expiry_timestamp_seconds{{{RELAY}, certificate="own"}}': LATER,
    f"{SYNC_PREFIX}_connected{{{SYNC}}}": "1x300",
    f"{SYNC_PREFIX}_relay_heard_timestamp_seconds{{{SYNC}}}": NOW,
    **{
        f'{SYNC_PREFIX}_{name}{{{SYNC}, stage="{stage}"}}': values
        for name, values in (("revision", "0+1x300"), ("epoch", "7x300"))
        for stage in ("received", "written", "enforced")
    },
    f"{SYNC_PREFIX}_generations_total{{{SYNC}}}": "0+1x300",
    f'{SYNC_PREFIX}_failures_total{{{SYNC}, kind="ended"}}': "0+1x300",
    f'{SYNC_PREFIX}_failures_total{{{SYNC}, kind="publish"}}': "0x300",
    **{
        f"{SYNC_PREFIX}_{name}{{{SYNC}}}": value
        for name, value in (("failed_enis", "0x300"), ("attached_enis", "2x300"), ("claims_refused", "0x300"))
    },
    f"{SYNC_PREFIX}_error{{{SYNC}}}": "0x300",
    f'{SYNC_PREFIX}_certificate_expiry_timestamp_seconds{{{SYNC}, certificate="authority"}}': LATER,
    f'{RELAY_PREFIX}_{INFO}{{{RELAY}, version="1", python="3"}}': "1x300",
    f"process_cpu_seconds_total{{{RELAY}}}": "0+1x300",
    f"process_resident_memory_bytes{{{RELAY}}}": "1x300",
}
HOUR_4 = 4 * 3600
# What changes where an alert has to fire: a part of the series' name -> its values.
ILL: Mapping[str, Mapping[str, str]] = {
    "SgdataplaneHostsBehind": {"api_hosts_lag": "301x300"},
    "SgdataplaneHostsFailed": {'"failed"': "1x300"},
    "SgdataplaneHostsUnknown": {'"unknown"': "1x300"},
    "SgdataplaneNoRelay": {"api_relays": "0x300"},
    "SgdataplaneHostsProgramDown": {f"up{{{SYNC}": "0x300"},
    "SgdataplaneRelayWithoutStore": {"store_read": f"{HOUR_4 - 61}x300"},
    "SgdataplaneStoreFull": {"relay_store_full": "1x300"},
    "SgdataplaneRelayFallsBehind": {"store_snapshots": "0+1x300"},
    "SgdataplaneRelayNameTaken": {"name_taken": "1x300"},
    "SgdataplaneStreamsRefused": {'"bad message"': "0+1x300"},
    "SgdataplaneHostsReconnect": {'"resumed"': "0+5x300"},
    "SgdataplaneSyncCutOff": {"relay_heard": f"{HOUR_4 - 400}x300"},
    "SgdataplaneSyncNotEnforced": {f'sync_revision{{{SYNC}, stage="enforced"': "7x300"},
    "SgdataplaneSyncRefuses": {'"publish"': "0+1x300"},
    "SgdataplaneClaimRefused": {"sync_claims_refused": "1x300"},
    "SgdataplaneCertificateEnds": {"relay_certificate": f"{HOUR_4 + 29 * 86_400}x300"},
}


def queries() -> Iterator[str]:
    yield from (alert["expr"] for alert in ALERTS)
    yield from QUERIES
    yield from (variable["definition"] for variable in BOARD["templating"]["list"] if "definition" in variable)


def names_in(query: str) -> set[str]:
    """Of metrics; where it asks for all of a name, those that there are."""
    several = {
        f"sgdataplane_{which}_{name}" for name in OF_SEVERAL.findall(query) for which in ("api", "relay", "sync")
    }
    return several | set(NAME.findall(OF_SEVERAL.sub("", query)))


def test_every_metric_that_they_name_is_exported_and_documented() -> None:
    named = {name for query in queries() for name in names_in(query)}
    assert named - NAMES == set()
    page = (ROOT / "docs/reference/metrics.md").read_text("utf-8")
    assert [name for name in NAMES if f"`{name}`" not in page] == []


def test_every_metric_of_hosts_is_on_the_dashboard() -> None:
    shown = {name for query in QUERIES for name in names_in(query)}
    of_requests = {f"{API_PREFIX}_{name}" for name in ("requests_total", "request_seconds", "in_flight")}
    assert NAMES - shown == of_requests


def test_every_label_and_value_that_they_name_is_one_of_a_metric() -> None:
    labels = {told.label for told in OF_HOSTS.values()} | OF_PROMETHEUS | {"standing", "__name__"}
    asked = {label for query in queries() for label in LABEL.findall(query)}
    asked |= {label for query in queries() for part in BY.findall(query) for label in part.split(", ")}
    assert asked - labels == set()
    known = {(told.label, value) for told in OF_HOSTS.values() for value in told.values}
    known |= {("standing", value) for value in STANDINGS}
    found = {pair for query in queries() for pair in re.findall(r'\b(standing|kind|reason|stage)=~?"([^"]+)"', query)}
    assert found
    assert {(label, value) for label, values in found for value in values.split("|")} - known == set()


def test_each_alert_is_documented_and_says_what_to_run() -> None:
    page = (ROOT / "docs/operations.md").read_text("utf-8")
    rows = re.findall(r"^\| `(Sgdataplane\w+)` \| (\w+) ", page, re.MULTILINE)
    assert rows == [(alert["alert"], alert["labels"]["severity"]) for alert in ALERTS]
    for alert in ALERTS:
        assert "$labels.instance" in alert["annotations"]["summary"]
        assert "Run" in alert["annotations"]["description"], alert["alert"]


def test_the_dashboards_panels_are_complete_and_dont_overlap() -> None:
    assert layout_faults(BOARD) == []


def test_promtool_accepts_them() -> None:
    done = checker(MONITORING, "promtool", "check", "rules", f"/mnt/{RULES.name}")
    assert (done.returncode, done.stderr) == (0, "")
    assert f"{len(ALERTS)} rules found" in done.stdout
    done = checker(MONITORING, "promtool", "check", "config", "/mnt/prometheus.yml")
    assert done.returncode == 0, done.stderr
    assert f"{RULES.name}" in done.stdout


def test_promtool_accepts_what_the_api_says(tmp_path: Path) -> None:
    (tmp_path / "metrics").write_bytes(ApiMetrics().text(0))
    done = checker(tmp_path, "sh", "-c", "promtool check metrics < /mnt/metrics")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_each_alert_fires_for_its_fault_and_none_where_all_is_well(tmp_path: Path) -> None:
    each_fires_alone(tmp_path, RULES, WELL, ILL)


def test_no_alert_fires_where_there_are_no_hosts(tmp_path: Path) -> None:
    """An API that serves one host alone, or none."""
    none = {f'api_hosts{{{API}, standing="enforced"': "0x300", "api_relays": "0x300"}
    alone = [one for one in series(WELL, none) if "sgdataplane-api" in one["series"]]
    judge(tmp_path, RULES, [{"interval": "1m", "input_series": alone, "promql_expr_test": [at_4h("ALERTS", {})]}])


def test_each_panel_of_the_dashboard_shows_something(tmp_path: Path) -> None:
    """At a site where everything is wrong: some panels show only what is."""
    more = {"api_store_full": "1x300", 'kind="store"': "0+1x300", "sync_error": "1x300"}
    changed = more | {part: new for fault in ILL.values() for part, new in fault.items() if "up{" not in part}
    values = {"$relay": ".*", "$host": ".*", "$__rate_interval": "5m", "$__range": "1h"}
    plain = [re.sub(r"\$\w+", lambda found: values[found[0]], query) for query in QUERIES]
    tests = [at_4h(f"count({query}) > bool 0", {"{}": 1}) for query in plain]
    judge(tmp_path, RULES, [{"interval": "1m", "input_series": series(WELL, changed), "promql_expr_test": tests}])
