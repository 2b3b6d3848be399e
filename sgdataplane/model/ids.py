"""What an id looks like.

Owns its grammar, which is the same wherever ids come from: a file, the API, a relay. Must not know what has one.
"""

from __future__ import annotations

import re

# Ids become part of nft comments (128 bytes for group and rule together) and of namespace names.
ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
ID_EXPECTED = "letters, digits, dots, dashes and underscores, beginning with a letter or digit, at most 63 characters"


def is_id(value: str) -> bool:
    """Return whether a text is a valid id, wherever it comes from."""
    return ID.fullmatch(value) is not None
