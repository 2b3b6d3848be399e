"""The origin of a commit: a call of the API with its parameters, or a command on this host.

Owns these fields, of which the audit keeps most. Must not know HTTP, signatures or actions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from sgdataplane.store.interface import Json


@dataclass(frozen=True, slots=True)
class Call:
    """One call."""

    action: str
    parameters: Mapping[str, Json]
    """Parameters that the action knows.

    They are nested and typed as the cloud's SDK types them, such as {"Permissions": [{"IpProtocol": "TCP", "Priority":
    "1"}], "MaxResults": 10, "DryRun": True}. Absent ones are absent, and unknown ones were left out.
    """
    request_id: str
    key: str
    """The id of the access key."""
    source: str
    """The client's address."""
    now: float
    """When the call came, in seconds since 1970."""
    extensions: Mapping[str, str] = field(default_factory=dict)
    """Parameters named Sgdp*."""
    host: str = ""
    """The endpoint, as the client names it."""
