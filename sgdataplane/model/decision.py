"""Decision: whether a packet passes, and why. Everything that answers that uses this type.

Owns the record, and the names of causes that come from rules. Must not know how anything is decided, counted or worded.

    cause                                direction's rules      who knows of it
    rule, inner_accept, default          were asked             everybody
    audited                              were asked             everybody: its ENI is in audit mode
    spoofed, discovery, midstream, ...   were not asked         `decide()`: semantics.CLAUSES
    always, invalid, icmp-error, ...     were not asked         the kernel alone: docs/reference/causes.md
    fence.tagged, fence.other, ...       were not asked         the fence: the same page
    absent                               there are none         a comparison with a state that has no such ENI
"""

from __future__ import annotations

from dataclasses import dataclass

from sgdataplane.net.values import Direction, Verdict

RULE, INNER_ACCEPT, DEFAULT, AUDITED = OF_RULES = ("rule", "inner_accept", "default", "audited")
FENCE = "fence."  # the causes of the fence begin with it
ABSENT = "no-eni"


@dataclass(frozen=True, slots=True)
class Decision:
    """A verdict and why. `direction`: whose rules or checks decided. The ids name the rule, or the group of the inner
    accept; only a rule has a `priority`. `would`: if the packet passes as its ENI is in audit mode, what would drop it
    otherwise."""

    direction: Direction
    verdict: Verdict
    cause: str
    security_group_id: str = ""
    security_group_rule_id: str = ""
    priority: int = 0
    would: Decision | None = None

    @classmethod
    def audited(cls, refusal: Decision) -> Decision:
        """Return the decision of an ENI in audit mode, in place of a refusal by rules."""
        return cls(refusal.direction, Verdict.ACCEPT, AUDITED, would=refusal)

    @property
    def enforced(self) -> Decision:
        """What decides if the ENI is in mode enforce."""
        return self.would or self

    @property
    def is_fixed(self) -> bool:
        """Whether it was decided before any rule was asked."""
        return self.cause not in OF_RULES

    @property
    def reason(self) -> str:
        """The cause as command-line.md names it: `always` or `never` for everything that is fixed."""
        if not self.is_fixed:
            return self.cause
        return "always" if self.verdict is Verdict.ACCEPT else "never"

    @property
    def clause(self) -> str:
        """The cause of a fixed decision, which documents give beside the reason; "" if rules were asked."""
        return self.cause.removeprefix(FENCE) if self.is_fixed else ""

    def as_json(self) -> dict[str, object]:
        """With the keys of command-line.md."""
        found: dict[str, object] = {
            "verdict": self.verdict.value,
            "reason": self.reason,
            "security_group_id": self.security_group_id or None,
            "security_group_rule_id": self.security_group_rule_id or None,
            "priority": self.priority or None,
        }
        return found if self.would is None else {**found, "would": self.would.as_json()}
