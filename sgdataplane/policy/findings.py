"""Define findings: something odd about a state that isn't wrong. No finding ever makes a policy accept more.

Owns Finding, and the code of every finding with its meaning and what to do about it. It must not know how one is found.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from sgdataplane.model.state import SecurityGroup, SecurityGroupRule


class Severity(enum.Enum):
    """How bad a finding is.

    `info` is worth knowing, `warning` is probably a mistake, `high` is probably an open door.
    """

    INFO = "info"
    WARNING = "warning"
    HIGH = "high"


@dataclass(frozen=True, slots=True)
class FindingKind:
    """What a code stands for."""

    severities: tuple[Severity, ...]
    """The severities that it can have. If there are two, the meaning says when which one holds."""
    meaning: str
    """What is odd, for people."""
    advice: str
    """What to do about it."""
    is_blind: bool = False
    """Whether it is about something that can't be judged, so that nobody may conclude that nothing opens."""


# These are all codes. `make docs` writes docs/reference/findings.md from this.
KINDS: Mapping[str, FindingKind] = {
    "WideOpenIngress": FindingKind(
        (Severity.HIGH,),
        "a sensitive TCP port is open to the internet",
        "accept only the addresses that need it, or a group or prefix list, or drop the port with a stronger rule",
    ),
    "WideOpenEgress": FindingKind(
        (Severity.INFO,),
        "a rule lets an advanced group send anything to the internet",
        "accept only the protocols, ports and destinations that the instances need",
    ),
    "ShadowedRule": FindingKind(
        (Severity.WARNING,),
        "the rule never decides: a rule of the opposite action comes first",
        "remove it or, if it is meant to decide, give it a stronger priority than the rules that hide it",
    ),
    "VoidDrop": FindingKind(
        (Severity.WARNING, Severity.INFO),
        "inner accept comes before a drop, between members (info: the drop is for everyone)",
        "set the group's inner_access_policy to Drop and write rules for what its members need from each other,"
        " or remove the ENI that you want to block from the group",
    ),
    "RemoteMatchesNothing": FindingKind(
        (Severity.WARNING,),
        "the remote has no address: an empty list, or a group that is without members or of another VPC",
        "remove the rule, or fill or correct its remote",
    ),
    "UnknownRemote": FindingKind(
        (Severity.WARNING,),
        "a rule names a group that the state doesn't have, such as one of another account. Nobody is in it here; who"
        " really is can't be judged, so `diff` says what a change would let them do",
        "add the group and its members to the state, or look at what the rule lets them do",
        is_blind=True,
    ),
    "RuleNeverMatches": FindingKind(
        (Severity.WARNING,),
        "the rule contradicts itself, or is narrowed to an address that none of the group's ENIs has",
        "remove the rule, or correct what contradicts itself",
    ),
    "TieDecidedByDrop": FindingKind(
        (Severity.INFO,),
        "an accept and a drop of equal priority match one packet, and the drop decides",
        "give the two rules different priorities, so that the order is written down",
    ),
    "RedundantRule": FindingKind(
        (Severity.INFO,),
        "no verdict changes if the rule is removed",
        "remove it, or keep it as documentation: removing all redundant rules changes no verdict",
    ),
    "UnusedGroup": FindingKind(
        (Severity.INFO,),
        "no ENI is in the group, and no rule names it",
        "remove the group, or put ENIs into it",
    ),
    "NearQuota": FindingKind(
        (Severity.INFO, Severity.WARNING),
        "at least nine tenths of a quota are used (warning: all of it)",
        "split the group, or remove rules, members or lists that nothing needs: a state that exceeds a quota"
        " is refused",
    ),
    "NotExamined": FindingKind(
        (Severity.HIGH, Severity.INFO),
        "rules overlap in too many ways to be compared with each other (high: so what they open isn't known)",
        "use fewer combinations of ports and addresses in these rules; nothing else is wrong with them",
    ),
    "MaskedHostBits": FindingKind(
        (Severity.WARNING,),
        "a CIDR block has host bits, which are read as 0",
        "write the block without host bits, or the single address that was meant",
    ),
    "IgnoredRemote": FindingKind(
        (Severity.HIGH,),
        "a rule gives several remotes, and another one wins; if that one is wider, the rule does more than was meant",
        "remove the ignored remote, or write a rule of its own for it",
    ),
    "KnownAfterApply": FindingKind(
        (Severity.HIGH,),
        "a value in a Terraform plan is known only after `terraform apply`, so what depends on it accepts nothing here,"
        " and can't be judged",
        "write the value into the configuration, or apply the plan and look again",
        is_blind=True,
    ),
    "AddressKnownAfterApply": FindingKind(
        (Severity.WARNING,),
        "an interface in a Terraform plan gets its address only from `terraform apply`, so it is left out of the state;"
        " `check` and `diff` judge it as one that may have any address",
        "write the address into the configuration if rules depend on it",
    ),
    "MadeUpMac": FindingKind(
        (Severity.INFO,),
        "Terraform doesn't say which MAC an ENI has, so it has one that is made from its id",
        "don't bind these ENIs by MAC",
    ),
    "InAuditMode": FindingKind(
        (Severity.WARNING,),
        "the ENI is in audit mode: what its rules refuse passes",
        "look at what would be dropped (`sgdp counters --audited`, `sgdp log`), then put it into mode enforce",
    ),
    "UnreadableMode": FindingKind(
        (Severity.WARNING,),
        "a tag that should say an ENI's mode can't be read, so the ENI is in mode enforce",
        "correct the tag, or remove it",
    ),
    "IgnoredRules": FindingKind(
        (Severity.HIGH, Severity.WARNING),
        "rules belong to a group that the Terraform state doesn't have, so they can't be judged (high: one of them"
        " accepts traffic to the group)",
        "import the group as well, or remove the rules",
        is_blind=True,
    ),
    "OtherCloud": FindingKind(
        (Severity.INFO,),
        "the groups are those of another cloud, which differs in what rules aren't about",
        "see docs/other-clouds.md; nothing is wrong",
    ),
    "Widened": FindingKind(
        (Severity.WARNING,),
        "a rule of another cloud can't be said exactly, and `--inexact widen` made it accept more. The rule that stands"
        " for it decides only where no exact rule does, and its id ends in `-widened`",
        "read verdicts that name the rule as `may pass`",
        is_blind=True,
    ),
    "Narrowed": FindingKind(
        (Severity.HIGH,),
        "something of another cloud can't be said exactly, and `--inexact narrow` left it out. Packets that a rule may"
        " accept there are dropped by one whose id ends in `-narrowed`",
        "read verdicts that name the rule as `may be dropped`, or use `--inexact widen`",
        is_blind=True,
    ),
    "PortZero": FindingKind(
        (Severity.INFO,),
        "a rule of another cloud is also about TCP or UDP port 0, which no range of ports has here",
        "nothing: programs can't listen at port 0",
    ),
    "Stateless": FindingKind(
        (Severity.WARNING,),
        "a group of another cloud is stateless. Here, answers to a session that its rules accept always pass",
        "read verdicts about answers as `may pass`",
        is_blind=True,
    ),
    "Unfiltered": FindingKind(
        (Severity.WARNING,),
        "an interface of another cloud is in no security group, so it isn't part of the state",
        "put it into a group, if its traffic is to be filtered",
    ),
    "IgnoredAnswer": FindingKind(
        (Severity.INFO,),
        "a file answers no call that a state is made of",
        "remove the file, or fetch the answer again",
    ),
    "AssumedBasic": FindingKind(
        (Severity.WARNING,),
        "only the answer about a single group is there, which doesn't say whether the group is basic or advanced",
        "add the answer of DescribeSecurityGroups, which has the type",
    ),
    "AssumedMaxEntries": FindingKind(
        (Severity.INFO,),
        "the answers don't say how large a port list may become",
        "add the answer of DescribePortRangeLists, which has the size",
    ),
    "DuplicateRule": FindingKind(
        (Severity.INFO,),
        "a group has the same rule twice, without ids",
        "remove one of the two",
    ),
}


@dataclass(frozen=True, slots=True)
class Finding:
    """One finding about a state."""

    code: str
    """One of KINDS."""
    severity: Severity
    message: str
    subject: tuple[tuple[str, str], ...] = ()
    """The objects concerned: sorted (field, id) pairs such as ("security_group_id", "sg-web")."""
    basis: str = field(default="", repr=False)
    """What it was found in, so that findings of two states can be compared."""

    @property
    def advice(self) -> str:
        """What to do about it."""
        return KINDS[self.code].advice


def not_judged(before: Iterable[Finding], after: Iterable[Finding]) -> tuple[Finding, ...]:
    """Return the findings that keep a comparison of two states from being the whole truth.

    They are in one of the states only. Values that aren't known yet count in the second one, even if they weren't known
    in the first either; in the first, they accept nothing, so the comparison tells too much rather than too little.
    (Groups that a state lacks aren't among these findings: the comparison itself shows where they matter.)
    """
    old, new = ([finding for finding in some if KINDS[finding.code].is_blind] for some in (before, after))
    unknown = [finding for finding in new if not finding.basis or finding not in old]
    return (*unknown, *(finding for finding in old if finding.basis and finding not in new))


def subject(**ids: str) -> tuple[tuple[str, str], ...]:
    """Return the subject of a finding; empty ids are left out."""
    return tuple(sorted((name, value) for name, value in ids.items() if value))


def about(group: SecurityGroup, rule: SecurityGroupRule) -> tuple[tuple[str, str], ...]:
    """Return the subject of a finding about one rule."""
    ids = {"security_group_id": group.security_group_id, "security_group_rule_id": rule.security_group_rule_id}
    return subject(**ids)
