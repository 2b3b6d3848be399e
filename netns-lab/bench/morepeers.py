"""Filters whose ENIs or members grow, instead of their rules: how each is given them, and changed.

Owns this as data, in one Peer for each. Must not know the path, or how commands are run.

ENIs      a router filters for each interface by a chain of its own, as cloud agents that write iptables do; the ENI on
          the path has RULES_AMONG_ENIS rules and comes last, every other one OTHER_RULES
members   two rules accept from the members of one set; a change adds the stranger to it
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain

from bench.ours import OTHER_RULES, RULES_AMONG_ENIS
from bench.path import HOST_END
from bench.peers import START_FIREWALLD, Files, Peer, nft_rule, restorable
from bench.policy import CHANGE, PORT, STRANGER, Rule, member, policy

MAX_MEMBERS = 1 << 18
INSIDE = "eni-"  # the beginning of every host end's name


def host_ends(count: int) -> list[str]:
    """The interfaces of the other ENIs."""
    return [f"{INSIDE}{number:04}" for number in range(count - 1)]


def _ends(count: int) -> Iterator[tuple[str, tuple[Rule, ...]]]:
    """Each interface with the rules for what goes out by it."""
    others = tuple(Rule("tcp", 1000 + number, f"192.168.{number}.0/24") for number in range(OTHER_RULES))
    for name in host_ends(count):
        yield name, others
    yield HOST_END, policy(RULES_AMONG_ENIS)


def _nft_enis(count: int) -> Files:
    ends = dict(_ends(count))
    chains = "\n".join(f"chain {name} {{\n{_lines(map(nft_rule, rules))}\n}}" for name, rules in ends.items())
    verdicts = ", ".join(f'"{name}" : goto {name}' for name in ends)
    forward = f"""chain forward {{
        type filter hook forward priority 0; policy drop;
        ct state established,related accept
        iifname "{INSIDE}*" accept
        oifname vmap {{ {verdicts} }}
    }}"""
    return {"/bench/policy.nft": f"table inet filter {{\n{chains}\n{forward}\n}}\n"}


def _lines(lines: Iterable[str]) -> str:
    return "\n".join(lines)


NFTABLES_ENIS = Peer(
    name="nftables, a map to a chain an ENI",
    packages="nftables",
    files=_nft_enis,
    load="nft -f /bench/policy.nft",
    unload="nft delete table inet filter",
    add=f"nft add rule inet filter {HOST_END} {nft_rule(CHANGE)}",
    remove=f"nft delete rule inet filter {HOST_END} handle "
    f"$(nft -a list chain inet filter {HOST_END} | sed -n 's/.* dport {CHANGE.port} .*# handle //p')",
)


def _iptables_rule(end: str, rule: Rule) -> str:
    return f"{end} -p {rule.protocol} -s {rule.source} --dport {rule.port} -j ACCEPT"


def _iptables_enis(count: int) -> Files:
    ends = dict(_ends(count))
    chains = [f":{name} - [0:0]" for name in ends]
    jumps = [f"-A FORWARD -o {name} -g {name}" for name in ends]
    rules = [f"-A {_iptables_rule(name, rule)}" for name, rules in ends.items() for rule in rules]
    inside = f"-A FORWARD -i {INSIDE}+ -j ACCEPT"
    return {"/bench/policy.iptables": restorable(chain(chains, [inside], jumps, rules), "FORWARD")}


IPTABLES_ENIS = Peer(
    name="iptables, a jump to a chain an ENI",
    packages="iptables",
    files=_iptables_enis,
    load="iptables-restore /bench/policy.iptables",
    unload="iptables -F && iptables -X",
    add=f"iptables -A {_iptables_rule(HOST_END, CHANGE)}",
    remove=f"iptables -D {_iptables_rule(HOST_END, CHANGE)}",
)


def _nft_members(count: int) -> Files:
    elements = ", ".join(map(member, range(count)))
    return {
        "/bench/policy.nft": f"""table inet filter {{
            set members {{ type ipv4_addr; elements = {{ {elements} }}; }}
            chain input {{
                type filter hook input priority 0; policy drop;
                ct state established,related accept
                ip saddr @members udp dport {PORT}-{CHANGE.port} accept
                ip saddr @members tcp dport {PORT} accept
            }}
        }}
        """
    }


NFTABLES_MEMBERS = Peer(
    name="nftables, a set of members",
    packages="nftables",
    files=_nft_members,
    load="nft -f /bench/policy.nft",
    unload="nft delete table inet filter",
    add=f"nft add element inet filter members {{ {STRANGER} }}",
    remove=f"nft delete element inet filter members {{ {STRANGER} }}",
)


def _ipset_members(count: int) -> Files:
    made = f"create members hash:ip hashsize 65536 maxelem {MAX_MEMBERS}"
    match = "-m set --match-set members src -j ACCEPT"
    rules = (f"-A INPUT -p udp --dport {PORT}:{CHANGE.port} {match}", f"-A INPUT -p tcp --dport {PORT} {match}")
    entries = (f"add members {member(number)}" for number in range(count))
    return {"/bench/policy.ipset": "\n".join((made, *entries, "")), "/bench/policy.iptables": restorable(rules)}


IPTABLES_MEMBERS = Peer(
    name="iptables, an ipset of members",
    packages="iptables ipset",
    files=_ipset_members,
    load="ipset restore -file /bench/policy.ipset && iptables-restore /bench/policy.iptables",
    unload="iptables -P INPUT ACCEPT && iptables -F && ipset destroy",
    add=f"ipset add members {STRANGER}",
    remove=f"ipset del members {STRANGER}",
)


def _firewalld_members(count: int) -> Files:
    entries = "\n".join(f"<entry>{member(number)}</entry>" for number in range(count))
    options = f'<option name="maxelem" value="{MAX_MEMBERS}"/>'
    rules = "\n".join(
        f'<rule family="ipv4"><source ipset="members"/><port port="{ports}" protocol="{protocol}"/><accept/></rule>'
        for protocol, ports in (("udp", f"{PORT}-{CHANGE.port}"), ("tcp", f"{PORT}"))
    )
    return {
        "/bench/members.xml": f'<ipset type="hash:ip">\n{options}\n{entries}\n</ipset>\n',
        "/bench/public.xml": f'<zone target="DROP">\n<interface name="eth0"/>\n{rules}\n</zone>\n',
    }


FIREWALLD_MEMBERS = Peer(
    name="firewalld, an ipset of members",
    packages="firewalld",
    files=_firewalld_members,
    start=f"{START_FIREWALLD} && cp /bench/members.xml /etc/firewalld/ipsets/"
    " && cp /bench/public.xml /etc/firewalld/zones/",
    load="firewall-cmd --reload",
    unload="true",  # a reload begins from nothing
    add=f"firewall-cmd --ipset=members --add-entry={STRANGER}",
    remove=f"firewall-cmd --ipset=members --remove-entry={STRANGER}",
)

ENI_PEERS = (NFTABLES_ENIS, IPTABLES_ENIS)
MEMBER_PEERS = (NFTABLES_MEMBERS, IPTABLES_MEMBERS, FIREWALLD_MEMBERS)
