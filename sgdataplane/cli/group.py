"""`sgdp group`: security groups by the API, for people without an SDK.

It asks the API that SGDP_API names.

Owns the arguments, the wording, and `--json`, which is the API's own answer. Must not know what a call does.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sgdataplane.cli.apiclient import DONE, client_of, find_unenforced, outcome
from sgdataplane.model.naming import list_ids, look_up
from sgdataplane.net.ports import FORMS, Traffic, parse_traffic
from sgdataplane.net.values import Prefix
from sgdataplane.terminal.arguments import Parser, Run, Summary, Verbs
from sgdataplane.terminal.output import Exit, print_json, render_table, say, say_block

if TYPE_CHECKING:
    from sgdataplane.control.http.client import ApiClient

GROUP_HELP = "the group's id or name"
REMOTE_HELP = "a CIDR block, a prefix list's id, or a group's id or name"
ACTIONS = {
    "create": Summary("create a group, without rules", "sgdp group create web --vpc vpc-1"),
    "delete": Summary("delete a group without members that no rule names"),
    "list": Summary("list the groups"),
    "show": Summary("show a group's rules and members", "sgdp group show web"),
    "clone": Summary("create a group with the rules of another one", "sgdp group clone web --name web2"),
    "authorize": Summary("add a rule", "sgdp group authorize db tcp/5432 --from web"),
    "revoke": Summary(
        "remove a rule; sessions that it let in end; exit code 1 if no rule matches",
        "sgdp group revoke db tcp/5432 --from web",
    ),
    "join": Summary("add an ENI, or an instance's primary one", "sgdp group join web web1"),
    "leave": Summary("take an ENI out, or an instance's primary one", "sgdp group leave web web1"),
}
RULE_HEADERS = ("RULE", "DIRECTION", "VERDICT", "PRIORITY", "PROTOCOL", "PORTS", "REMOTE")
GROUP_HEADERS = ("GROUP", "NAME", "TYPE", "VPC", "RULES", "INSTANCES")
EVERY_PORT = "-1/-1"
NAMED = ("Group", "PrefixList")  # remotes that have a name besides the id
# What a rule says, but for its ports' list and sources, which these commands never write.
SAID = ("Direction", "IpProtocol", "PortRange", "Policy", "Priority", "NicType", "SourcePortRange", "PortRangeListId")
ENDS = tuple(f"{v6}{side}CidrIp" for v6 in ("", "Ipv6") for side in ("Source", "Dest")) + tuple(
    f"{side}{of}Id" for side in ("Source", "Dest") for of in NAMED
)
PAGE = 100
Answer = Mapping[str, Any]


def register(verbs: Verbs) -> None:
    """Add `group` and its verbs."""
    more = (
        "SGDP_API is the API's address, such as http://127.0.0.1:8080, and ALIBABA_CLOUD_ACCESS_KEY_ID and "
        "ALIBABA_CLOUD_ACCESS_KEY_SECRET are the key. A change is stored at once, and in force when the command "
        "returns, unless --no-wait is given."
    )
    group = verbs.add("group", None, more)
    actions = Verbs.below(group, ACTIONS)
    create = _add(actions, "create", run_create, writes=True)
    create.add_argument("title", metavar="NAME", help="its name")
    create.add_argument("--vpc", metavar="ID", help="its VPC (default: the default VPC)")
    about = "add the rules that the cloud's console adds: TCP 22, 80, 443, 3389, and ICMP from everywhere"
    create.add_argument("--console-rules", action="store_true", help=about)
    create.add_argument("--type", choices=("normal", "enterprise"), default="normal", help="(default: normal)")
    _add(actions, "delete", run_delete, writes=True).add_argument("group", metavar="GROUP", help=GROUP_HELP)
    _add(actions, "list", run_list)
    _add(actions, "show", run_show).add_argument("group", metavar="GROUP", help=GROUP_HELP)
    clone = _add(actions, "clone", run_clone, writes=True)
    clone.add_argument("group", metavar="GROUP", help=GROUP_HELP)
    clone.add_argument("--name", dest="title", metavar="N", help="the new group's name (default: the same)")
    clone.add_argument("--vpc", metavar="ID", help="the new group's VPC (default: the same)")
    for name, run in (("authorize", run_authorize), ("revoke", run_revoke)):
        _add_rule(_add(actions, name, run, writes=True))
    for name in ("join", "leave"):
        member = _add(actions, name, run_member, writes=True)
        member.add_argument("group", metavar="GROUP", help=GROUP_HELP)
        member.add_argument("member", metavar="ENI|INSTANCE", help="an ENI's id, or an instance's id or name")


def _add(actions: Verbs, name: str, run: Run, *, writes: bool = False) -> Parser:
    parser = actions.add(name, run)
    parser.set_defaults(action=name)
    parser.add_json("the API's answer")
    if writes:
        parser.add_argument("--no-wait", action="store_true", help="don't wait until the change is enforced")
    return parser


def _add_rule(parser: Parser) -> None:
    parser.add_argument("group", metavar="GROUP", help=GROUP_HELP)
    parser.add_argument("what", metavar="WHAT", type=_what, help=f"{FORMS}, or all")
    remote = parser.add_mutually_exclusive_group(required=True)
    remote.add_argument("--from", dest="sender", metavar="REMOTE", help=f"what may come in from there: {REMOTE_HELP}")
    remote.add_argument("--to", dest="receiver", metavar="REMOTE", help="what may go out to there, likewise")
    parser.add_argument("--drop", action="store_true", help="a rule that drops (default: one that accepts)")
    parser.add_argument("--priority", type=int, default=1, metavar="N", help="1 (strongest, the default) to 100")


def _what(text: str) -> Traffic | None:
    """Return WHAT as traffic; None is everything. ArgumentTypeError if it is neither."""
    if text == "all":
        return None
    try:
        return parse_traffic(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


# verbs


def run_create(arguments: argparse.Namespace) -> int:
    """Create a group."""
    asked = {
        "SecurityGroupName": arguments.title,
        "VpcId": arguments.vpc,
        "SecurityGroupType": arguments.type,
        "SgdpConsole": arguments.console_rules or None,
    }
    return _change(arguments, "CreateSecurityGroup", lambda _: asked)


def run_delete(arguments: argparse.Namespace) -> int:
    """Delete a group."""
    return _change(
        arguments, "DeleteSecurityGroup", lambda client: {"SecurityGroupId": group_id(client, arguments.group)}
    )


def run_clone(arguments: argparse.Namespace) -> int:
    """Create a group with the rules of another one."""

    def make_parameters(client: ApiClient) -> Answer:
        original = group_id(client, arguments.group)
        return {"SecurityGroupId": original, "SecurityGroupName": arguments.title, "VpcId": arguments.vpc}

    return _change(arguments, "SgdpCloneSecurityGroup", make_parameters)


def run_authorize(arguments: argparse.Namespace) -> int:
    """Add a rule. One that is there already stays as it is."""
    client = client_of(arguments)
    group, rule = group_id(client, arguments.group), rule_of(client, arguments)
    there = _ids_of(client, group, rule)
    asked = {"SecurityGroupId": group, "Permissions": [_parameters(rule)]}
    done = f"{there[0]} already says this; nothing changed" if there else ""
    return _change(
        arguments,
        f"AuthorizeSecurityGroup{_side(arguments)}",
        lambda _: asked,
        lambda: done or next((f"{one} is added" for one in _ids_of(client, group, rule)), DONE),
    )


def _ids_of(client: ApiClient, group: str, rule: Answer) -> list[str]:
    """Return the ids of the group's rules that say just that."""
    return [one["SecurityGroupRuleId"] for one in rules_of(client, group) if _says(one, rule)]


def run_revoke(arguments: argparse.Namespace) -> int:
    """Remove a rule by its id. Exit 1 if no rule says what is asked.

    The API takes that as done, but a user may have made a slip.
    """
    client = client_of(arguments)
    group, rule = group_id(client, arguments.group), rule_of(client, arguments)
    found = rules_of(client, group)
    gone = [one["SecurityGroupRuleId"] for one in found if _says(one, rule)]
    if not gone:
        return _no_such_rule(arguments, group, [one for one in found if _says(one, rule, but=("Policy", "Priority"))])
    asked = {"SecurityGroupId": group, "SecurityGroupRuleId": gone}
    return _change(
        arguments, f"RevokeSecurityGroup{_side(arguments)}", lambda _: asked, lambda: f"{gone[0]} is removed"
    )


def _no_such_rule(arguments: argparse.Namespace, group: str, near: Sequence[Answer]) -> int:
    """Say that no rule matched, and which ones are near; return the exit code."""
    if arguments.json:
        print_json({"changed": False})
        return Exit.NO
    others = (f"{one['SecurityGroupRuleId']}: {one['Policy'].lower()}, priority {one['Priority']}" for one in near)
    told = f"the same with another verdict or priority: {'; '.join(others)}" if near else f"`sgdp group show {group}`"
    say(f"no rule matched; nothing changed ({told})")
    return Exit.NO


def _side(arguments: argparse.Namespace) -> str:
    """Return the end of an action's name for the rule's direction."""
    return "" if arguments.sender is not None else "Egress"


def run_member(arguments: argparse.Namespace) -> int:
    """Add an ENI to a group, or take one out."""
    action = {"join": "JoinSecurityGroup", "leave": "LeaveSecurityGroup"}[arguments.action]

    def make_parameters(client: ApiClient) -> Answer:
        return {"SecurityGroupId": group_id(client, arguments.group), **_member_of(client, arguments.member)}

    return _change(arguments, action, make_parameters)


def _member_of(client: ApiClient, name: str) -> Answer:
    """Return the parameter that names an ENI or an instance."""
    if name.startswith("eni-"):
        return {"NetworkInterfaceId": name}
    return {"InstanceId": the_one(name, instances_of(client), "instance", "InvalidInstanceId.NotFound")}


def run_list(arguments: argparse.Namespace) -> int:
    """Print all groups."""
    groups = groups_of(client_of(arguments))
    if arguments.json:
        print_json({"SecurityGroups": groups})
        return Exit.DONE
    rows = [
        (
            group["SecurityGroupId"],
            group["SecurityGroupName"] or "-",
            group["SecurityGroupType"],
            group["VpcId"] or "classic",
            str(group["RuleCount"]),
            str(group["EcsCount"]),
        )
        for group in groups
    ]
    say_block(render_table(GROUP_HEADERS, rows) if rows else "no group yet; run `sgdp group create` to create one")
    return Exit.DONE


def run_show(arguments: argparse.Namespace) -> int:
    """Print a group's rules, and who is in it."""
    client = client_of(arguments)
    wanted = group_id(client, arguments.group)
    answer = client.ask("DescribeSecurityGroupAttribute", SecurityGroupId=wanted)
    if arguments.json:
        print_json(answer)
        return Exit.DONE
    said = client.ask("DescribeNetworkInterfaces", SecurityGroupId=wanted, PageSize=PAGE)
    members = said["NetworkInterfaceSets"]["NetworkInterfaceSet"]
    say(f"{wanted} {answer['SecurityGroupName']}, inner access policy {answer['InnerAccessPolicy']}")
    rules = [_row(rule) for rule in answer["Permissions"]["Permission"]]
    say_block(render_table(RULE_HEADERS, rules) if rules else "no rules")
    names = instances_of(client) if members else {}
    say(f"members: {', '.join(_member(one, names) for one in members) or 'none'}")
    return Exit.DONE


def _member(eni: Answer, names: Mapping[str, str]) -> str:
    owner = f" of {_with_name(eni['InstanceId'], names)}" if eni["InstanceId"] else ""
    return f"{eni['NetworkInterfaceId']}{owner} ({eni['PrivateIpAddress']})"


def _with_name(one: str, names: Mapping[str, str]) -> str:
    """Return an id, with its name behind it if it has one."""
    return f"{one} {names[one]}" if names.get(one, one) not in (one, "") else one


def _row(rule: Answer) -> tuple[str, ...]:
    side = "Source" if rule["Direction"] == "ingress" else "Dest"
    named = (_with_name(rule[f"{side}{of}Id"], {rule[f"{side}{of}Id"]: rule[f"{side}{of}Name"]}) for of in NAMED)
    remotes = (rule[f"{side}CidrIp"], rule[f"Ipv6{side}CidrIp"], *named)
    ports = rule["PortRangeListId"] or ("any" if rule["PortRange"] == EVERY_PORT else rule["PortRange"])
    return (
        rule["SecurityGroupRuleId"],
        rule["Direction"],
        rule["Policy"].lower(),
        str(rule["Priority"]),
        rule["IpProtocol"].lower(),
        ports,
        next((one for one in remotes if one), "-"),
    )


# what the arguments mean


def group_id(client: ApiClient, name: str) -> str:
    """Return the id of a group by its id or name. RefusedError if none or several have it."""
    names = {group["SecurityGroupId"]: group["SecurityGroupName"] for group in groups_of(client)}
    return the_one(name, names, "group", "InvalidSecurityGroupId.NotFound")


def the_one(name: str, things: Mapping[str, str], kind: str, unknown: str) -> str:
    """Return the id of the one thing that has this id or name. `things` is id -> name.

    Raises:
        RefusedError: None has it, with the code `unknown` and what is near by name; or several have.
    """
    from sgdataplane.control.http.client import RefusedError

    named = look_up(name, {one: (its,) for one, its in things.items()})
    if len(named.ids) == 1:
        return named.ids[0]
    if named.ids:
        raise RefusedError("InvalidParameter", f"several {kind}s are named {name}: {list_ids(named.ids)}")
    near = f"; near: {', '.join(_with_name(one, things) for one in named.near)}" if named.near else ""
    raise RefusedError(unknown, f"there is no {kind} {name}{near}")


def groups_of(client: ApiClient) -> list[Answer]:
    """Return all groups as the API describes them."""
    return _pages(client, "DescribeSecurityGroups", "SecurityGroups", "SecurityGroup")


def instances_of(client: ApiClient) -> dict[str, str]:
    """Return the name of each instance, by its id."""
    found = _pages(client, "DescribeInstances", "Instances", "Instance")
    return {one["InstanceId"]: one["InstanceName"] for one in found}


def _pages(client: ApiClient, action: str, outer: str, inner: str) -> list[Answer]:
    """Return everything that an action describes, page by page."""
    found: list[Answer] = []
    token = ""
    while True:
        answer = client.ask(action, MaxResults=PAGE, NextToken=token)
        found += answer[outer][inner]
        token = answer["NextToken"]
        if not token:
            return found


def rules_of(client: ApiClient, group: str) -> list[Answer]:
    """Return the group's rules as the API describes them, with its VPC."""
    answer = client.ask("DescribeSecurityGroupAttribute", SecurityGroupId=group)
    return [{**rule, "VpcId": answer["VpcId"]} for rule in answer["Permissions"]["Permission"]]


def _says(rule: Answer, wanted: Answer, but: Sequence[str] = ()) -> bool:
    """Return whether a rule says just what is wanted, except in the fields `but`."""
    is_address = any(name.endswith("CidrIp") for name in wanted)
    nic_type = "internet" if is_address and not rule["VpcId"] else "intranet"
    said = {"NicType": nic_type, **{name: str(value).lower() for name, value in wanted.items()}}
    return all(str(rule[name]).lower() == said.get(name, "") for name in (*SAID, *ENDS) if name not in but)


def _parameters(rule: Answer) -> Answer:
    return {name: value for name, value in rule.items() if name != "Direction"}


def rule_of(client: ApiClient, arguments: argparse.Namespace) -> dict[str, object]:
    """Return the rule that is asked for: one permission, as the cloud writes it, and its direction."""
    traffic: Traffic | None = arguments.what
    side = "Source" if arguments.sender is not None else "Dest"
    remote = arguments.sender or arguments.receiver
    ports = traffic.ports if traffic else None
    return {
        "Direction": "ingress" if arguments.sender is not None else "egress",
        "IpProtocol": str(traffic.protocol).upper() if traffic else "ALL",
        "PortRange": str(ports) if ports else EVERY_PORT,
        "Policy": "drop" if arguments.drop else "accept",
        "Priority": arguments.priority,
        _remote_name(side, remote): _as_kept(remote) if _is_itself(remote) else group_id(client, remote),
    }


def _remote_name(side: str, remote: str) -> str:
    """Return the name of the parameter that has such a remote."""
    if "/" in remote:
        return f"Ipv6{side}CidrIp" if ":" in remote else f"{side}CidrIp"
    return f"{side}PrefixListId" if remote.startswith("pl-") else f"{side}GroupId"


def _is_itself(remote: str) -> bool:
    """Return whether a remote is written as the API takes it, and isn't the id or name of a group."""
    return "/" in remote or remote.startswith("pl-")


def _as_kept(remote: str) -> str:
    """Return a block without its host bits, as the API keeps it. The API refuses what is no block."""
    try:
        return str(Prefix.parse(remote)) if "/" in remote else remote
    except ValueError:
        return remote


def _change(
    arguments: argparse.Namespace,
    action: str,
    asked: Callable[[ApiClient], Answer],
    done: Callable[[], str] = lambda: DONE,
) -> int:
    """Ask for a change, and wait until packets obey. Exit 1 if they don't, or nobody says so.

    `done` returns what to say if the change made nothing that has an id.
    """
    client = client_of(arguments)
    answer = client.ask(action, **asked(client))
    revision = answer.get("revision")
    waited: Answer = {}
    if revision and not arguments.no_wait:
        waited = client.ask("SgdpWait", Revision=revision)
    if arguments.json:
        print_json({**answer, **({"wait": dict(waited)} if waited else {})})
    else:
        say(outcome(answer.get("SecurityGroupId"), done(), waited))
    return Exit.NO if waited and find_unenforced(waited) else Exit.DONE
