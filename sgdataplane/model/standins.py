"""Rules that stand for what another cloud means, and that no user wrote: their ids say what they are.

Owns these names. Must not know clouds.
"""

from __future__ import annotations

from sgdataplane.net.values import Family, Verdict

WIDENED, NARROWED = "widened", "narrowed"  # the id of a rule that isn't exact ends so
MARKS = tuple(f"-{mark}{more}" for mark in (WIDENED, NARROWED) for more in ("", "-ipv6"))
OWN_MEMBERS = ".self"  # the id of a group for the members of one that names itself
CLOSING = {family: f"nothing-else-{family.value}" for family in Family}  # rules that drop what no rule accepts


def is_stand_in(rule_id: str, verdict: Verdict) -> bool:
    """Return whether a rule is the drop that another cloud has as its default, or marks a rule that was left out."""
    is_named_so = rule_id in CLOSING.values() or rule_id.removesuffix("-ipv6").endswith(f"-{NARROWED}")
    return verdict is Verdict.DROP and is_named_so
