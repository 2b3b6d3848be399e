"""The page about a state: everything that `sgdp report` shows.

Owns which sections there are, and how much of a large state they show. Takes a state, its findings, and what was
observed. Must not know HTML, nor where observations come from.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from sgdataplane import __version__
from sgdataplane.analyse.reachable import Reachability
from sgdataplane.model.choices import ON_HOSTS, Choices
from sgdataplane.model.options import Options
from sgdataplane.model.state import CloudState, GroupRef, GroupType, PrefixListRef, SecurityGroup, SecurityGroupRule
from sgdataplane.model.words import pluralize
from sgdataplane.net.values import PortRange
from sgdataplane.policy.dimensions import FURTHER
from sgdataplane.policy.findings import Finding
from sgdataplane.policy.resolve import Permission, resolve_rule
from sgdataplane.report import words
from sgdataplane.report.content import FindingRow, GroupTable, Network, Observed, ReportPage, RuleRow, Unobserved
from sgdataplane.report.network import FAMILY, NetworkView

MAX_NETWORKS = 8
MAX_RULES = 600
MAX_FINDINGS = 200
MAX_TEXT = 200  # characters of a name or description
EVERY_PORT = PortRange(1, 65535)
SEVERITIES = ("high", "warning", "info")


@dataclass(frozen=True, slots=True)
class Subject:
    """What the page is about."""

    source: str
    """The state's file as the user named it."""
    state: CloudState
    findings: Sequence[Finding]
    observed: Observed | Unobserved
    choices: Choices = ON_HOSTS
    """How the state is judged."""


def report_page(subject: Subject) -> ReportPage:
    """Return the page.

    Its size is bounded, however large the state is. It says what is left out, and where.
    """
    networks = tuple(_networks(subject.state, subject.choices.options))
    groups, groups_note = _groups(subject)
    ordered = sorted(subject.findings, key=lambda finding: SEVERITIES.index(finding.severity.value))
    return ReportPage(
        title=f"Security groups: {subject.source}",
        source=subject.source,
        version=__version__,
        facts=tuple(_facts(subject)),
        networks=networks,
        networks_note=_describe_left_out(
            len({eni.vpc_id for eni in subject.state.network_interfaces}), MAX_NETWORKS, "VPC"
        ),
        groups=groups,
        groups_note=groups_note,
        findings=tuple(map(_make_finding_row, ordered[:MAX_FINDINGS])),
        findings_note=_describe_left_out(len(ordered), MAX_FINDINGS, "finding"),
        observed=subject.observed,
    )


def _describe_left_out(number: int, most: int, noun: str) -> str:
    return f"{pluralize(number - most, noun)} more: this page shows the first {most}." if number > most else ""


def _facts(subject: Subject) -> Iterator[tuple[str, str]]:
    state = subject.state
    yield "VPCs", f"{len(state.vpcs):,}"
    yield "Security groups", f"{len(state.security_groups):,}"
    yield "Rules", f"{sum(len(group.rules) for group in state.security_groups):,}"
    yield "Instances", f"{len(state.instances):,}"
    yield "ENIs", f"{len(state.network_interfaces):,}"
    severities = Counter(finding.severity.value for finding in subject.findings)
    counts = [f"{severities[name]} {name}" for name in SEVERITIES if severities[name]]
    yield "Findings", ", ".join(counts) or "none"
    yield from (("Option", words) for words in subject.choices.unlike(ON_HOSTS))


def _networks(state: CloudState, options: Options) -> Iterator[Network]:
    """Yield the VPCs with the most ENIs; a VPC without any isn't shown."""
    enis = Counter(eni.vpc_id for eni in state.network_interfaces)
    reach = Reachability(state, options)
    for number, (vpc_id, _) in enumerate(sorted(enis.items(), key=lambda entry: (-entry[1], entry[0])), 1):
        if number > MAX_NETWORKS:
            return
        yield NetworkView(state, reach, vpc_id).network(number)


def _groups(subject: Subject) -> tuple[tuple[GroupTable, ...], str]:
    """Return the groups, as long as there is room for their rules, and what is left out.

    A group is shown whole or not at all.
    """
    hits = subject.observed.hits if isinstance(subject.observed, Observed) else None
    found, rows, left_out = list[GroupTable](), 0, list[SecurityGroup]()
    for group in subject.state.security_groups:
        if rows + len(group.rules) > MAX_RULES or len(found) >= MAX_RULES:
            left_out.append(group)
            continue
        rows += len(group.rules)
        found.append(_group(subject.state, group, hits))
    note = ""
    if left_out:
        rules = pluralize(sum(len(group.rules) for group in left_out), "rule")
        note = f"{pluralize(len(left_out), 'group')} with {rules} more: this page shows up to {MAX_RULES} rules."
    return tuple(found), note


def _group(state: CloudState, group: SecurityGroup, hits: Mapping[tuple[str, str], int] | None) -> GroupTable:
    members = pluralize(len(state.enis_of_group[group.security_group_id]), "ENI")
    kind = "advanced" if group.security_group_type is GroupType.ENTERPRISE else "basic"
    inner = f"inner access policy {group.inner_access_policy.value}"
    detail = f"{kind} group of {group.vpc_id}, {members}, {inner}"
    return GroupTable(
        group.security_group_id,
        _clip(group.security_group_name or group.description),
        detail,
        tuple(_rule(state, group, rule, hits) for rule in _in_order(group)),
    )


def _in_order(group: SecurityGroup) -> list[SecurityGroupRule]:
    return sorted(
        group.rules,
        key=lambda rule: (
            rule.direction.value != "ingress", rule.priority, rule.policy.value != "drop", rule.security_group_rule_id
        ),
    )  # fmt: skip


def _rule(
    state: CloudState, group: SecurityGroup, rule: SecurityGroupRule, hits: Mapping[tuple[str, str], int] | None
) -> RuleRow:
    return RuleRow(
        rule.security_group_rule_id,
        rule.direction.value,
        rule.priority,
        rule.policy.value,
        str(rule.ip_protocol),
        _ports(rule, resolve_rule(state, group, rule)),
        _remote(rule),
        _clip(rule.description),
        None if hits is None else hits.get((group.security_group_id, rule.security_group_rule_id), 0),
    )


def _ports(rule: SecurityGroupRule, permission: Permission) -> str:
    """Return ports, and what else the rule requires (FURTHER)."""
    further = words.further(each.of_either(permission) for each in FURTHER)
    return " ".join((rule.port_list_id or _range(rule.port_range), *further))


def _range(ports: PortRange | None) -> str:
    return "all" if ports is None or ports == EVERY_PORT else words.ports(((ports.first, ports.last),))


def _remote(rule: SecurityGroupRule) -> str:
    match rule.remote:
        case GroupRef(group_id):
            text = group_id
        case PrefixListRef(prefix_list_id):
            text = prefix_list_id
        case prefix:
            text = words.block(prefix) if prefix.length else f"anyone ({FAMILY[prefix.family]})"
    return text if rule.narrowing is None else f"{text}, to or from {words.block(rule.narrowing)} alone"


def _clip(text: str) -> str:
    return text if len(text) <= MAX_TEXT else text[: MAX_TEXT - 1] + "\N{HORIZONTAL ELLIPSIS}"


def _make_finding_row(finding: Finding) -> FindingRow:
    about = " ".join(value for _, value in finding.subject)
    return FindingRow(finding.severity.value, finding.code, about, finding.message, finding.advice)
