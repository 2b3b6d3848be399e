"""What a finding is: something odd about a state that isn't wrong; it never makes anything accept more.

Owns Finding, and the code of every finding with what to do about it. Must not know how one is found.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from sgdataplane.model.state import SecurityGroup, SecurityGroupRule


class Severity(enum.Enum):
    """`info` is worth knowing, `warning` is probably a mistake, `high` probably an open door."""

    INFO = "info"
    WARNING = "warning"
    HIGH = "high"


# Every code, and what to do about a finding that has it.
ADVICE = {
    "WideOpenIngress": "accept only the addresses that need it, or a group or prefix list, or drop the port by a rule"
    " that is stronger",
    "WideOpenEgress": "accept only the protocols, ports and destinations that the instances need",
    "ShadowedRule": "remove it; or, if it is meant to decide, give it a stronger priority than the rules that hide it",
    "VoidDrop": "set the group's inner_access_policy to Drop and accept by rules what its members need of each other;"
    " or take the ENI that is to be kept out of the group",
    "RemoteMatchesNothing": "remove the rule, or fill or correct its remote",
    "RuleNeverMatches": "remove the rule, or correct what contradicts itself",
    "TieDecidedByDrop": "give both rules different priorities, so that the order is written down; a drop wins a tie",
    "RedundantRule": "remove it, or keep it for its readers: no packet's fate changes, also if all that are reported so"
    " are removed together",
    "UnusedGroup": "remove the group, or put ENIs into it",
    "NearQuota": "split the group, or remove rules, members or lists that nothing needs: more than a quota is refused",
    "NotExamined": "split the rules over fewer combinations of ports and addresses; nothing else is wrong with them",
    "MaskedHostBits": "write the block as it is read, or the single address that was meant",
    "IgnoredRemote": "remove the ignored remote, or make a rule of its own of it",
    "IgnoredRules": "import the group, too, or remove the rules",
    "IgnoredAnswer": "leave the file out, or fetch the answer again",
    "AssumedMaxEntries": "add the answer of DescribePortRangeLists, which tells the size",
    "DuplicateRule": "remove one of the two",
}


@dataclass(frozen=True, slots=True)
class Finding:
    """`subject` names the objects concerned: sorted (field, id) pairs such as ("security_group_id", "sg-web"). `code`
    is one of ADVICE."""

    code: str
    severity: Severity
    message: str
    subject: tuple[tuple[str, str], ...] = ()

    @property
    def advice(self) -> str:
        """What to do about it."""
        return ADVICE[self.code]


def subject(**ids: str) -> tuple[tuple[str, str], ...]:
    """The subject of a finding; empty ids are left out."""
    return tuple(sorted((name, value) for name, value in ids.items() if value))


def about(group: SecurityGroup, rule: SecurityGroupRule) -> tuple[tuple[str, str], ...]:
    """The subject of a finding about one rule."""
    ids = {"security_group_id": group.security_group_id, "security_group_rule_id": rule.security_group_rule_id}
    return subject(**ids)
