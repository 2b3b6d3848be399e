"""Decision: whether a packet passes, and why. There is one type for that, whoever asks.

Owns the record, and the names of causes that rules know of. Must not know how anything is decided, counted or worded.

    cause                                direction's rules      who knows of it
    rule, inner_accept, default          were asked             everybody
    spoofed, discovery, midstream, ...   were not asked         `decide()`: semantics.CLAUSES
    always, invalid, icmp-error, ...     were not asked         the kernel alone: docs/reference/causes.md
    fence.tagged, fence.other, ...       were not asked         the fence: the same page
    absent                               there are none         a comparison with a state that hasn't got the ENI
"""

from __future__ import annotations

from dataclasses import dataclass

from sgdataplane.net.values import Direction, Verdict

RULE, INNER_ACCEPT, DEFAULT = OF_RULES = ("rule", "inner_accept", "default")
FENCE = "fence."  # what causes of the fence begin with
ABSENT = "absent"


@dataclass(frozen=True, slots=True)
class Decision:
    """A verdict and why. `direction`: whose rules or checks decided. The ids say which rule, or whose inner accept;
    `priority` is a rule's."""

    direction: Direction
    verdict: Verdict
    cause: str
    security_group_id: str = ""
    security_group_rule_id: str = ""
    priority: int = 0

    @property
    def is_fixed(self) -> bool:
        """Whether it was decided before any rule was asked."""
        return self.cause not in OF_RULES

    @property
    def reason(self) -> str:
        """The cause as cli.md has it, in which all that is fixed is `always` or `never`."""
        if not self.is_fixed:
            return self.cause
        return "always" if self.verdict is Verdict.ACCEPT else "never"

    @property
    def clause(self) -> str:
        """The cause of what is fixed, as documents have it beside the reason; "" if rules were asked."""
        return self.cause.removeprefix(FENCE) if self.is_fixed else ""

    def as_json(self) -> dict[str, str | int | None]:
        """With the keys of cli.md."""
        return {
            "verdict": self.verdict.value,
            "reason": self.reason,
            "security_group_id": self.security_group_id or None,
            "security_group_rule_id": self.security_group_rule_id or None,
            "priority": self.priority or None,
        }
