"""Findings as SARIF 2.1.0, which code scanning reads: https://docs.oasis-open.org/sarif/sarif/v2.1.0/.

Owns SARIF's names. Is given findings, or problems of a refused state. Must not judge anything.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import PurePath
from urllib.parse import quote

from sgdataplane import __version__
from sgdataplane.errors import Problem, Where
from sgdataplane.policy.findings import KINDS, Finding, Severity
from sgdataplane.statefile import Loaded
from sgdataplane.statefile.document import line_of
from sgdataplane.visible import visible

SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
LEVELS = {Severity.INFO: "note", Severity.WARNING: "warning", Severity.HIGH: "error"}
Json = dict[str, object]


def as_sarif(findings: Sequence[Finding], loaded: Loaded) -> Json:
    """Return one run with a result for each finding, at the place of its rule or group."""
    rules = [describe_kind(code) for code in sorted({finding.code for finding in findings})]
    return run_of(rules, [result_of(finding, loaded) for finding in findings])


def report_refusal(problems: Sequence[Problem]) -> Json:
    """Return one run with a result for each thing that is wrong with a state."""
    rules: list[Json] = [{"id": code} for code in sorted({problem.code for problem in problems})]
    return run_of(rules, [result_of_problem(problem) for problem in problems])


def run_of(rules: list[Json], results: list[Json]) -> Json:
    """Return a log with one run, which has these rules and results."""
    driver: Json = {"name": "sgdataplane", "version": __version__, "rules": rules}
    return {"$schema": SCHEMA, "version": "2.1.0", "runs": [{"tool": {"driver": driver}, "results": results}]}


def describe_kind(code: str) -> Json:
    """Return a kind of finding as a rule of SARIF."""
    kind = KINDS[code]
    return {
        "id": code,
        "shortDescription": {"text": kind.meaning},
        "help": {"text": kind.advice},
        "defaultConfiguration": {"level": LEVELS[kind.severities[0]]},
    }


def result_of(finding: Finding, loaded: Loaded) -> Json:
    """Return a finding as a result of SARIF."""
    ids = dict(finding.subject)
    group_id, rule_id = ids.get("security_group_id", ""), ids.get("security_group_rule_id", "")
    key = (group_id, rule_id) if rule_id else (group_id or ids.get("network_interface_id", ""),)
    name = ids.get("address") or loaded.places.address(*key) or " ".join(ids.values())
    where = loaded.places.place(*key) or Where(loaded.sources[0].file if loaded.sources else "")
    line = next((line_of(source, where.pointer) for source in loaded.sources if source.file == where.file), 0)
    text = f"{name}: {finding.message}" if name else finding.message
    return {
        "ruleId": finding.code,
        "level": LEVELS[finding.severity],
        "message": {"text": visible(text)},
        "locations": [location(where.file, line, name)],
        "partialFingerprints": {"sgdpFinding/v1": fingerprint(finding)},
    }


def result_of_problem(problem: Problem) -> Json:
    """Return a problem of a refused state as a result of SARIF."""
    more = f"; expected {problem.expected}" if problem.expected else ""
    return {
        "ruleId": problem.code,
        "level": "error",
        "message": {"text": visible(problem.message + more)},
        "locations": [location(problem.where.file, problem.where.line, problem.where.pointer)],
    }


def location(file: str, line: int, name: str) -> Json:
    """Return where something is: the file as it was named, and the object's name. Line 0 is none."""
    physical: Json = {"artifactLocation": {"uri": quote(PurePath(file or "-").as_posix())}}
    if line:
        physical["region"] = {"startLine": line}
    found: Json = {"physicalLocation": physical}
    if name:
        found["logicalLocations"] = [{"fullyQualifiedName": visible(name)}]
    return found


def fingerprint(finding: Finding) -> str:
    """Return a digest that stays the same for a finding in the next version of the state.

    It is of the finding's code and what it is about.
    """
    return hashlib.sha256(repr((finding.code, finding.subject)).encode()).hexdigest()[:32]
