"""Decision: whether a packet passes, and why. Everything that answers that uses this type.

Owns the record, and the names of causes that come from rules. Must not know how anything is decided, counted or worded.

    cause                                were rules evaluated?   who knows of it
    rule, inner_accept, default          yes                     everybody
    audited                              yes                     everybody: its ENI is in audit mode
    spoofed, discovery, midstream, ...   no                      `decide()`: semantics.CLAUSES
    always, invalid, icmp-error, ...     no                      the kernel alone: docs/reference/causes.md
    fence.tagged, fence.other, ...       no                      the fence: the same page
    no-eni                               there are none          a comparison with a state that has no such ENI
"""

from __future__ import annotations

from dataclasses import dataclass

from sgdataplane.net.values import Direction, Verdict

RULE, INNER_ACCEPT, DEFAULT, AUDITED = OF_RULES = ("rule", "inner_accept", "default", "audited")
FENCE = "fence."  # the causes of the fence begin with it
ABSENT = "no-eni"


@dataclass(frozen=True, slots=True)
class Decision:
    """A verdict and why it was reached."""

    direction: Direction
    """Which direction's rules or checks decided."""
    verdict: Verdict
    cause: str
    """What decided; the module's table lists the causes."""
    security_group_id: str = ""
    """The group of the rule or of the inner accept; "" for every other cause."""
    security_group_rule_id: str = ""
    """The rule that decided; "" for every other cause."""
    priority: int = 0
    """The priority of the rule; 0 for every other cause."""
    would: Decision | None = None
    """If the packet passes because its ENI is in audit mode, the decision that would drop it otherwise."""

    @classmethod
    def audit(cls, refusal: Decision) -> Decision:
        """Return the decision of an ENI in audit mode that replaces a refusal by rules."""
        return cls(refusal.direction, Verdict.ACCEPT, AUDITED, would=refusal)

    @property
    def enforced(self) -> Decision:
        """The decision that holds if the ENI is in mode enforce."""
        return self.would or self

    @property
    def is_fixed(self) -> bool:
        """Whether it was decided before any rule was evaluated."""
        return self.cause not in OF_RULES

    @property
    def reason(self) -> str:
        """The cause as command-line.md names it: `always` or `never` for everything that is fixed."""
        if not self.is_fixed:
            return self.cause
        return "always" if self.verdict is Verdict.ACCEPT else "never"

    @property
    def clause(self) -> str:
        """The cause of a fixed decision, which documents give beside the reason; "" if rules were evaluated."""
        return self.cause.removeprefix(FENCE) if self.is_fixed else ""

    def as_json(self) -> dict[str, object]:
        """Return the decision with the keys of command-line.md."""
        found: dict[str, object] = {
            "verdict": self.verdict.value,
            "reason": self.reason,
            "security_group_id": self.security_group_id or None,
            "security_group_rule_id": self.security_group_rule_id or None,
            "priority": self.priority or None,
        }
        return found if self.would is None else {**found, "would": self.would.as_json()}
