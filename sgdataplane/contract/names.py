"""Make identifiers and comments, so that they are legal, short and recognisable. Only this module makes them.

It also says whether a name could be one of ours, before we use it and when the kernel reports it. Owns the limits that
nftables sets. Ids may hold any text. It must not know what names stand for.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from functools import lru_cache

from sgdataplane.errors import InternalError
from sgdataplane.net.values import IFNAME

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,126}")  # the kernel takes 127 characters for chains
MAX_NAME = 80  # the kernel takes 127 characters for chains and 255 for others; short ones read better in `nft list`
MAX_COMMENT = 120  # NFTNL_UDATA_COMMENT_MAXLEN is 128, with the final zero
LOG_PREFIX = "sgdp "  # the kernel takes 127 characters with the name after it (NF_LOG_PREFIXLEN)
_UNPRINTABLE = re.compile(r"[^\x20\x21\x23-\x5b\x5d-\x7e]")
_LEGAL = re.compile(r"[A-Za-z0-9_-]+")  # no dot: it separates


def digest(text: str, length: int = 12) -> str:
    """Return a stable short hash. With 12 hex digits, two of a million names collide with odds under 1 in 500."""
    return hashlib.sha256(text.encode()).hexdigest()[:length]


def spread(ordered: Sequence[str], count: int) -> dict[str, int]:
    """Give each of these names a place below `count`, by a hash; the next free one where that is taken.

    `ordered` must always be in the same order.
    """
    found: dict[str, int] = {}
    taken: set[int] = set()
    for name in ordered:
        place = int.from_bytes(hashlib.sha256(name.encode()).digest()[:4]) % count
        while place in taken:
            place = (place + 1) % count
        taken.add(place)
        found[name] = place
    return found


def identifier(prefix: str, *ids: str) -> str:
    """Return a legal nft name that begins with `prefix` and shows the ids.

    Where the ids aren't legal, or are too long, it has a hash of them.
    """
    body = ".".join(ids)
    is_legal = all(ids) and _LEGAL.fullmatch("".join(ids)) is not None
    if not is_legal or len(prefix) + len(body) + 1 > MAX_NAME:
        readable = re.sub(r"[^A-Za-z0-9_.-]", "_", body)[: MAX_NAME - len(prefix) - 14]
        body = f"{readable}-{digest(repr(ids))}"
    return f"{prefix}.{body}"


@lru_cache(maxsize=1 << 17)
def check_name(name: str) -> str:
    """Return the name, before it goes to people or to the kernel.

    Raises:
        InternalError: It isn't a name of ours.
    """
    if not NAME.fullmatch(name):
        raise InternalError(f"{name!r} is not a name of ours")
    return name


@lru_cache(maxsize=1 << 13)
def check_interface(name: str) -> str:
    """Return the name of an interface; one that ends in * stands for all names that begin so.

    Raises:
        InternalError: It can't be named in rules.
    """
    if not IFNAME.fullmatch(name.removesuffix("*")):
        raise InternalError(f"{name!r} is not an interface that can be named in rules")
    return name


def recognize(name: bytes) -> str | None:
    """Return a name that the kernel reports, if it could be ours; else None.

    Whoever made another name may mean harm, so nobody gets to see it.
    """
    text = name.rstrip(b"\0").decode("ascii", "replace")
    return text if NAME.fullmatch(text) else None


def interface(name: bytes) -> str | None:
    """Return a name that the kernel reports, if it could be that of an interface that we bind to an ENI; else None."""
    text = name.rstrip(b"\0").decode("ascii", "replace")
    return text if IFNAME.fullmatch(text) else None


def log_prefix(counter: str) -> str:
    """Return the prefix of logged packets, which names the counter that counted them."""
    return LOG_PREFIX + counter


def find_logged_counter(prefix: str) -> str | None:
    """Return the counter that a logged packet's prefix names; None if the rule that logged it isn't ours."""
    return prefix.removeprefix(LOG_PREFIX) if prefix.startswith(LOG_PREFIX) else None


def comment(text: str) -> str:
    """Return the text as nft accepts it in a comment: printable ASCII, no quotes or backslashes, cut to length."""
    return _UNPRINTABLE.sub("?", text)[:MAX_COMMENT]
