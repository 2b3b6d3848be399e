"""The real agent with one ENI under floods of allowed and denied packets, and states that change all around these.

Owns the states, the floods and what they have to show at the end. Must not know what goes wrong meanwhile.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sgdataplane.contract.tables import TABLE
from sgdataplane.enforce import Desired
from sgdataplane.model.choices import ON_HOSTS
from sgdataplane.model.state import CloudState
from tests.support.inputs.builders import make_eni, make_group, make_rule, make_state
from tests.support.inputs.building import enforce
from tests.support.kernel.nft import listing
from tests.support.probes.flood import Flood, wait_until
from tests.support.scenes.agentbench import AgentBench
from tests.support.scenes.attachbench import Bench
from tests.support.scenes.pair import HERE

ALLOWED, DENIED = range(5000, 5008), range(6000, 6008)
ADDRESS = HERE["instance"][0]
ENOUGH = 500  # packets of each kind that show that both still come


def changing_state(step: int, more: int = 0) -> CloudState:
    """What is flooded is judged the same at each step; around it all changes. `more` members of a group that a rule is
    about."""
    texts = [
        "ingress udp 5000/5999 from 0.0.0.0/0 10",
        "ingress tcp 22/22 from sg-others" if step % 2 else "ingress tcp 22/22 from 192.0.2.0/24",
        f"ingress udp {4000 + step % 7}/{4900 - step % 3} from 10.0.{step % 5}.0/24 drop 3",
        f"egress tcp {1 + step % 11}/99 to 2001:db8:{step % 4:x}::/48 drop",
    ]
    rules = [make_rule(text, f"sgr-{number}") for number, text in enumerate(texts)]
    members = range(1 + step // 3 % 4 + more)
    others = [make_eni(f"eni-{n}", f"10.9.{n // 250}.{n % 250 + 1}", "sg-others") for n in members]
    groups = [make_group("sg-web", rules), make_group("sg-others")]
    return make_state(groups, [make_eni("eni-a", " ".join(HERE["instance"]), "sg-web"), *others])


@contextmanager
def flooded(bench: Bench, agent: AgentBench) -> Iterator[Flood]:
    """From its peer to the instance, for the time of the block: what was allowed has all arrived, and nothing else."""
    targets = [[(ADDRESS, port) for port in ports] for ports in (ALLOWED, DENIED)]
    with Flood(agent.folder, bench.pair["peer"], bench.place, *targets) as flood:
        yield flood
        goes_on(flood)
    print(f"allowed {flood.allowed}, denied {flood.denied}")
    assert flood.allowed.received == flood.allowed.sent
    assert flood.denied.received == 0


def goes_on(flood: Flood) -> None:
    """Allowed packets arrive, and denied ones are sent, now."""
    allowed, denied = flood.allowed.received + ENOUGH, flood.denied.sent + ENOUGH
    wait_until(lambda: flood.allowed.received >= allowed and flood.denied.sent >= denied)


def holds(bench: Bench, state: CloudState) -> bool:
    """Whether the kernel holds what the state says, and nothing of anything else: to enforce it changes nothing."""
    held = listing(bench.place, TABLE)
    is_there = not enforce(bench.place, Desired(state, {"eni-a": "eth0"}, ON_HOSTS.options)).changed
    return is_there and listing(bench.place, TABLE) == held
