"""Read where base chains stand, as the kernel lists them.

Owns how that is read. It must not know which chains there should be.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from functools import lru_cache

from sgdataplane.contract import names
from sgdataplane.contract.fields import Hook
from sgdataplane.host.netlink import list_attributes, parse_attributes, text_of
from sgdataplane.nft import uapi
from sgdataplane.nft.uapi import number_of

FILTER = "filter"


@lru_cache(maxsize=1 << 13)
def read_hook(data: bytes, family: int) -> tuple[str | None, Hook | None] | None:
    """Return the name and hook of a chain as it is listed; None if it has no hook.

    Most chains are listed as before, so results are remembered.
    """
    chain = parse_attributes(data)
    return (names.recognize(chain[uapi.CHAIN_NAME]), hook_of(chain, family)) if uapi.CHAIN_HOOK in chain else None


def hook_of(chain: Mapping[int, bytes], family: int) -> Hook | None:
    """Return a base chain's hook; None for other chains.

    A chain that is no plain filter gets a hook that no chain of ours has.
    """
    if uapi.CHAIN_HOOK not in chain:
        return None
    hook, hooks = parse_attributes(chain[uapi.CHAIN_HOOK]), uapi.HOOKS[family]
    number, (priority,) = number_of(hook[uapi.HOOK_NUMBER]), struct.unpack("!i", hook[uapi.HOOK_PRIORITY])
    devices = [
        text_of(name) for kind, name in list_attributes(hook.get(uapi.HOOK_DEVICES, b"")) if kind == uapi.DEVICE_NAME
    ]
    kind = text_of(chain.get(uapi.CHAIN_TYPE, b""))
    is_plain = kind == FILTER and not number_of(chain.get(uapi.CHAIN_FLAGS, b"")) & ~uapi.CHAIN_BASE
    name = hooks[number] if number < len(hooks) else str(number)
    return Hook(name if is_plain else f"{name} ({kind})", priority, "/".join(devices))  # no device has a / in its name
