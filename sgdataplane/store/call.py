"""Who asks for a commit: a call of the API with its parameters, or a command on this host.

Owns these fields, of which the audit keeps most. Must not know HTTP, signatures or actions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from sgdataplane.store.interface import Json


@dataclass(frozen=True, slots=True)
class Call:
    """One call. `parameters`: those that the action knows, nested and typed as the cloud's SDK types them:
    {"Permissions": [{"IpProtocol": "TCP", "Priority": "1"}], "MaxResults": 10, "DryRun": True}; absent ones are absent,
    and what is unknown was left out. `extensions`: parameters named Sgdp*. `key`: the id of the access key. `source`:
    the client's address. `now`: seconds since 1970. `host`: the endpoint, as the client names it."""

    action: str
    parameters: Mapping[str, Json]
    request_id: str
    key: str
    source: str
    now: float
    extensions: Mapping[str, str] = field(default_factory=dict)
    host: str = ""
