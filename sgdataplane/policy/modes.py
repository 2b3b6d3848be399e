"""Turn a profile into what an ENI in audit mode has of it: what refuses lets pass.

Owns that change. It is for answers about a state: tables have one profile for ENIs of both modes. It must not know who
asks.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from sgdataplane.model.decision import Decision
from sgdataplane.model.state import Eni
from sgdataplane.net.values import Verdict
from sgdataplane.policy.resolve import Permission, Profile


def of_mode(profile: Profile, eni: Eni) -> Profile:
    """Return the profile as the ENI's mode has it."""
    if not eni.is_audited:
        return profile
    return replace(profile, ingress=_audit(profile.ingress), egress=_audit(profile.egress))


def _audit(permissions: Iterable[Permission]) -> tuple[Permission, ...]:
    return tuple(
        replace(p, decision=Decision.audit(p.decision)) if p.decision.verdict is Verdict.DROP else p
        for p in permissions
    )
