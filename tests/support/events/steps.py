"""A sequence of states in which some traffic of a session lab is judged the same at each step, and all else changes.

Towards `eni-a` and from it, from and to both other hosts: TCP and UDP of ALLOWED ports always pass, and those of DENIED
ports never. Around them rules come and go, ports and CIDRs are narrowed, priorities turn, members, groups, prefix lists
and an inner policy change.
"""

from __future__ import annotations

from sgdataplane.model.state import CloudState, PrefixList, SecurityGroup
from sgdataplane.net.values import Verdict
from tests.support.inputs.builders import make_eni, make_group, make_prefix_list, make_state
from tests.support.scenes.sessionlab import FAR, OUTSIDE, make_enis

ALLOWED, DENIED = range(5000, 5200), range(6000, 6008)
HOSTS = (*FAR.split(), *OUTSIDE.split())
FIRST = 0  # the step to begin with


def state_at(step: int, allowed: str = "5000/5199") -> CloudState:
    """Each step differs from the one before it. `allowed` may be set to other ports, for a control."""
    near = "sg-more sg-near" if step // 5 % 2 else "sg-near"
    others = [make_eni(f"eni-x{n}", f"10.0.9.{n} 2001:db8:9::{n}", "sg-others") for n in range(1, 2 + step // 3 % 4)]
    shared = make_eni("eni-y", "10.0.8.1", "sg-more sg-others" if step % 4 else "sg-more")
    state = make_state(_groups(step, allowed), [*make_enis(near, "sg-far"), *others, shared])
    return _with_lists(state, (make_prefix_list("pl-a", f"10.1.{step % 6}.0/24 10.2.0.0/16"),))


def _groups(step: int, allowed: str) -> list[SecurityGroup]:
    fixed = [
        rule
        for host in HOSTS
        for protocol in ("tcp", "udp")
        for rule in (
            f"ingress {protocol} {allowed} from {host} 10",
            f"egress {protocol} {allowed} to {host} 10",
            f"egress {protocol} 6000/6999 to {host} drop 20",
        )
    ]
    changing = [
        "ingress tcp 22/22 from sg-others" if step % 2 else "ingress tcp 22/22 from 192.0.2.0/24",
        f"ingress udp {4000 + step % 7}/{4900 - step % 3} from 10.0.{step % 5}.0/24 drop {1 + step % 9}",
        f"ingress tcp 8000/{8000 + step % 11} from 10.0.0.0/{24 + step % 5} 2",
        f"egress tcp {1 + step % 13}/99 to 2001:db8:{step % 4:x}::/48 drop",
        *(["ingress all from pl-a 30"] if step % 3 else []),
        *([f"egress udp 53/53 to 198.51.100.7 drop {1 + step % 2}"] if step % 8 < 4 else []),
    ]
    return [
        make_group("sg-near", [*fixed, *changing]),
        make_group("sg-more", ["egress tcp 25/25 to ::/0 drop"], inner=(Verdict.ACCEPT, Verdict.DROP)[step // 7 % 2]),
        make_group("sg-others"),
        make_group("sg-far"),
    ]


def _with_lists(state: CloudState, lists: tuple[PrefixList, ...]) -> CloudState:
    return CloudState(
        state.vpcs, lists, state.port_lists, state.security_groups, state.instances, state.network_interfaces
    )
