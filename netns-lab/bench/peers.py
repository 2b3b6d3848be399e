"""Other packet filters: how each is given the policy, and the commands with which its users load and change it.

Owns this as data, in one Peer for each. It is given rules. Must not know the path, or how commands are run.

Where a filter tries rules in order, the probe's rules come last. Each filter keeps its defaults, but drops silently.
Where ENIs or members grow instead of rules: morepeers.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from bench.policy import CHANGE, Rule, policy

Files = Mapping[str, str]  # path -> content


@dataclass(frozen=True, slots=True)
class Peer:
    """A filter from these Debian packages (words). The benchmark writes `files` for a size, runs `start`, then measures
    `load`; after `unload` the next load begins from nothing. `add` and `remove` put CHANGE in force and take it
    back."""

    name: str
    packages: str
    files: Callable[[int], Files]
    load: str
    unload: str
    add: str
    remove: str
    start: str = "true"


def _by_rules(files: Callable[[Sequence[Rule]], Files]) -> Callable[[int], Files]:
    return lambda size: files(policy(size))


# nftables by hand: one chain, one line a rule


def nft_rule(rule: Rule) -> str:
    return f"ip saddr {rule.source} {rule.protocol} dport {rule.port} accept"


def _nft_files(rules: Sequence[Rule]) -> Files:
    lines = "\n".join(map(nft_rule, rules))
    chain = f"type filter hook input priority 0; policy drop;\nct state established,related accept\n{lines}"
    return {"/bench/policy.nft": f"table inet filter {{\nchain input {{\n{chain}\n}}\n}}\n"}


NFTABLES = Peer(
    name="nftables, linear",
    packages="nftables",
    files=_by_rules(_nft_files),
    load="nft -f /bench/policy.nft",
    unload="nft delete table inet filter",
    add=f"nft add rule inet filter input {nft_rule(CHANGE)}",
    remove="nft delete rule inet filter input handle "
    f"$(nft -a list chain inet filter input | sed -n 's/.* dport {CHANGE.port} .*# handle //p')",
)


# iptables (Debian's is the nft variant), with the sources in ipsets


def restorable(lines: Iterable[str], chain: str = "INPUT") -> str:
    """A file for iptables-restore. `lines` come after the rule for what is established."""
    established = f"-A {chain} -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT"
    chains = (":INPUT DROP [0:0]", ":FORWARD DROP [0:0]", ":OUTPUT ACCEPT [0:0]")
    return "\n".join(("*filter", *chains, established, *lines, "COMMIT", ""))


def _set_rule(name: str, rule: Rule) -> str:
    return f"INPUT -p {rule.protocol} --dport {rule.port} -m set --match-set {name} src -j ACCEPT"


def _set_a_rule_files(rules: Sequence[Rule]) -> Files:
    sets = [f"create rule{n} hash:net\nadd rule{n} {rule.source}" for n, rule in enumerate(rules)]
    lines = [f"-A {_set_rule(f'rule{n}', rule)}" for n, rule in enumerate(rules)]
    return {"/bench/policy.ipset": "\n".join((*sets, "")), "/bench/policy.iptables": restorable(lines)}


LOAD_SETS = "ipset restore -file /bench/policy.ipset && iptables-restore /bench/policy.iptables"
UNLOAD_SETS = "iptables -P INPUT ACCEPT && iptables -F && ipset destroy"
IPTABLES = Peer(
    name="iptables, an ipset a rule",
    packages="iptables ipset",
    files=_by_rules(_set_a_rule_files),
    load=LOAD_SETS,
    unload=UNLOAD_SETS,
    add=f"ipset create change hash:net && ipset add change {CHANGE.source}"
    f" && iptables -A {_set_rule('change', CHANGE)}",
    remove=f"iptables -D {_set_rule('change', CHANGE)} && ipset destroy change",
)


def _entry(rule: Rule) -> str:
    return f"{rule.source},{rule.protocol}:{rule.port}"


def _one_set_files(rules: Sequence[Rule]) -> Files:
    elements = [f"add allowed {_entry(rule)}" for rule in rules]
    lines = ["-A INPUT -m set --match-set allowed src,dst -j ACCEPT"]
    return {
        "/bench/policy.ipset": "\n".join(("create allowed hash:net,port", *elements, "")),
        "/bench/policy.iptables": restorable(lines),
    }


IPTABLES_ONE_SET = Peer(
    name="iptables, one ipset",
    packages="iptables ipset",
    files=_by_rules(_one_set_files),
    load=LOAD_SETS,
    unload=UNLOAD_SETS,
    add=f"ipset add allowed {_entry(CHANGE)}",
    remove=f"ipset del allowed {_entry(CHANGE)}",
)


# firewalld: rich rules, on a bus of its own


def _zone(rules: Sequence[Rule]) -> str:
    lines = [
        f'<rule family="ipv4" priority="{priority}"><source address="{rule.source}"/>'
        f'<port port="{rule.port}" protocol="{rule.protocol}"/><accept/></rule>'
        for priority, rule in enumerate(rules, 1)
    ]
    return "\n".join(('<zone target="DROP">', '<interface name="eth0"/>', *lines, "</zone>", ""))


RICH_RULE = (
    f'rule family="ipv4" priority="32000" source address="{CHANGE.source}" '
    f'port port="{CHANGE.port}" protocol="{CHANGE.protocol}" accept'
)
START_FIREWALLD = """
    mkdir -p /run/dbus /etc/firewalld/zones /etc/firewalld/ipsets
    dbus-daemon --system --nofork --nopidfile >/var/log/dbus.log 2>&1 &
    firewalld --nofork --nopid >/var/log/firewalld.out 2>&1 &
    for _ in $(seq 150); do firewall-cmd --state >/dev/null 2>&1 && break; sleep 0.2; done
    firewall-cmd --state"""
FIREWALLD = Peer(
    name="firewalld",
    packages="firewalld",
    files=_by_rules(lambda rules: {"/bench/public.xml": _zone(rules)}),
    start=f"{START_FIREWALLD} && cp /bench/public.xml /etc/firewalld/zones/",
    load="firewall-cmd --reload",
    unload="true",  # a reload begins from nothing
    add=f"firewall-cmd --add-rich-rule='{RICH_RULE}'",
    remove=f"firewall-cmd --remove-rich-rule='{RICH_RULE}'",
)


# foomuuri: the rules' file is edited, and all of it reloaded


def _zones(rules: Sequence[Rule]) -> str:
    lines = "\n".join(f"  {rule.protocol} {rule.port} saddr {rule.source}" for rule in rules)
    return (
        "zone {\n  localhost\n  public eth0\n}\n"
        f"public-localhost {{\n{lines}\n  drop\n}}\nlocalhost-public {{\n  accept\n}}\n"
    )


FOOMUURI = Peer(
    name="foomuuri",
    packages="foomuuri",
    files=_by_rules(
        lambda rules: {
            "/etc/foomuuri/policy.conf": _zones(rules),
            "/bench/base": _zones(rules),
            "/bench/wider": _zones((*rules, CHANGE)),
        }
    ),
    load="foomuuri start",
    unload="foomuuri stop",
    add="cp /bench/wider /etc/foomuuri/policy.conf && foomuuri reload",
    remove="cp /bench/base /etc/foomuuri/policy.conf && foomuuri reload",
)


# ufw: its own file of rules, as it writes it itself


def _tuples(rules: Sequence[Rule]) -> str:
    return "\n".join(
        f"\n### tuple ### allow {rule.protocol} {rule.port} 0.0.0.0/0 any {rule.source} in\n"
        f"-A ufw-user-input -p {rule.protocol} --dport {rule.port} -s {rule.source} -j ACCEPT\n"
        for rule in rules
    )


ALLOW = f"allow proto {CHANGE.protocol} from {CHANGE.source} to any port {CHANGE.port}"
UFW = Peer(
    name="ufw",
    packages="ufw",
    files=_by_rules(lambda rules: {"/bench/rules": _tuples(rules)}),
    start="sed -i '/^### RULES ###/r /bench/rules' /etc/ufw/user.rules",
    load="ufw --force enable",
    unload="ufw --force disable",
    add=f"ufw {ALLOW}",
    remove=f"ufw delete {ALLOW}",
)

PEERS = (NFTABLES, IPTABLES, IPTABLES_ONE_SET, FIREWALLD, FOOMUURI, UFW)
