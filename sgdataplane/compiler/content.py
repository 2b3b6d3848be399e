"""Chains named after what they hold, so that a name never changes its meaning.

Owns how such a name is made. Is given rules. Must not know what they are for.

Every set or map without a name has to stand in such a chain. The kernel fills one of ranges a moment after the commit
that makes its rule, and empties a map in the commit that deletes it, also for packets that are still on their way
through the old rules; what finds nothing goes on with the next rule. (Measured, kernel 6.18, 400,000 packets a second:
287 let through in 1,000 commits that made a set of ranges, 6 in 1,000 that deleted a map.) So these chains are never
changed: a new one is made before anything leads to it, and the old one goes when no packet can be in it.
"""

from __future__ import annotations

from sgdataplane.contract import names
from sgdataplane.nft.ir import Chain, Rule
from sgdataplane.nft.text import rule_text


def content_chain(prefix: str, rules: tuple[Rule, ...], comment: str = "", origin: str = "") -> Chain:
    """A chain whose name is the prefix and a hash of its rules and comment."""
    texts = tuple(map(rule_text, rules))
    text = "\n".join([*texts, *([comment] if comment else [])])
    return Chain(f"{prefix}-{names.digest(text)}", rules, comment=comment, origin=origin).with_texts(texts)
