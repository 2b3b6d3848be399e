"""`sgdp group`: security groups by the API, for people without an SDK. It asks the API that SGDP_API names.

Owns the arguments, the wording, and `--json`, which is the API's own answer. Must not know what a call does.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sgdataplane.cli.arguments import Parser, Run, Summary, Verbs
from sgdataplane.cli.output import Exit, print_json, render_table, say, say_block
from sgdataplane.model.naming import listed, look_up
from sgdataplane.net.ports import FORMS, Traffic, parse_traffic

if TYPE_CHECKING:
    from sgdataplane.control.client import ApiClient

GROUP_HELP = "the group's id or name"
REMOTE_HELP = "a CIDR block, a prefix list's id, or a group's id or name"
ACTIONS = {
    "create": Summary("create a group, without rules", "sgdp group create web --vpc vpc-1"),
    "delete": Summary("delete a group that nobody is in and no rule names"),
    "list": Summary("list the groups"),
    "show": Summary("show a group's rules and members", "sgdp group show web"),
    "clone": Summary("create a group with the rules of another one", "sgdp group clone web --name web2"),
    "authorize": Summary("add a rule", "sgdp group authorize db tcp/5432 --from web"),
    "revoke": Summary("remove a rule; sessions that it let in end", "sgdp group revoke db tcp/5432 --from web"),
    "join": Summary("add an ENI, or an instance's primary one", "sgdp group join web i-1"),
    "leave": Summary("take an ENI out, or an instance's primary one", "sgdp group leave web i-1"),
}
RULE_HEADERS = ("RULE", "DIRECTION", "VERDICT", "PRIORITY", "PROTOCOL", "PORTS", "REMOTE")
GROUP_HEADERS = ("GROUP", "NAME", "TYPE", "VPC", "RULES", "INSTANCES")
EVERY_PORT = "-1/-1"
PAGE = 100
Answer = Mapping[str, Any]


def register(verbs: Verbs) -> None:
    """Adds `group` and its verbs."""
    more = (
        "SGDP_API is the API's address, such as http://127.0.0.1:8080, and ALIBABA_CLOUD_ACCESS_KEY_ID and "
        "ALIBABA_CLOUD_ACCESS_KEY_SECRET are the key. A change is stored at once, and in force when the command "
        "returns, unless --no-wait is given."
    )
    group = verbs.add("group", None, more)
    actions = Verbs(group.add_subparsers(title="commands", metavar="ACTION", required=True), ACTIONS)
    create = _add(actions, "create", run_create, writes=True)
    create.add_argument("title", metavar="NAME", help="its name")
    create.add_argument("--vpc", metavar="ID", help="its VPC (default: the classic network)")
    create.add_argument("--type", choices=("normal", "enterprise"), default="normal", help="(default: normal)")
    _add(actions, "delete", run_delete, writes=True).add_argument("group", metavar="GROUP", help=GROUP_HELP)
    _add(actions, "list", run_list)
    _add(actions, "show", run_show).add_argument("group", metavar="GROUP", help=GROUP_HELP)
    clone = _add(actions, "clone", run_clone, writes=True)
    clone.add_argument("group", metavar="GROUP", help=GROUP_HELP)
    clone.add_argument("--name", dest="title", metavar="N", help="the new group's name (default: the same)")
    clone.add_argument("--vpc", metavar="ID", help="the new group's VPC (default: the same)")
    for name in ("authorize", "revoke"):
        _add_rule(_add(actions, name, run_rule, writes=True))
    for name in ("join", "leave"):
        member = _add(actions, name, run_member, writes=True)
        member.add_argument("group", metavar="GROUP", help=GROUP_HELP)
        member.add_argument("member", metavar="ENI|INSTANCE", help="an ENI's id, or an instance's id")


def _add(actions: Verbs, name: str, run: Run, *, writes: bool = False) -> Parser:
    parser = actions.add(name, run)
    parser.set_defaults(action=name)
    parser.add_json("the API's answer")
    if writes:
        parser.add_argument("--no-wait", action="store_true", help="don't wait until packets obey")
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
    """None is everything."""
    if text == "all":
        return None
    try:
        return parse_traffic(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


# verbs


def run_create(arguments: argparse.Namespace) -> int:
    asked = {"SecurityGroupName": arguments.title, "VpcId": arguments.vpc, "SecurityGroupType": arguments.type}
    return _change(arguments, "CreateSecurityGroup", lambda _: asked)


def run_delete(arguments: argparse.Namespace) -> int:
    return _change(
        arguments, "DeleteSecurityGroup", lambda client: {"SecurityGroupId": group_id(client, arguments.group)}
    )


def run_clone(arguments: argparse.Namespace) -> int:
    def asked(client: ApiClient) -> Answer:
        original = group_id(client, arguments.group)
        return {"SecurityGroupId": original, "SecurityGroupName": arguments.title, "VpcId": arguments.vpc}

    return _change(arguments, "SgdpCloneSecurityGroup", asked)


def run_rule(arguments: argparse.Namespace) -> int:
    """Adds or removes one."""
    is_in = arguments.sender is not None
    action = {"authorize": "AuthorizeSecurityGroup", "revoke": "RevokeSecurityGroup"}[arguments.action]

    def asked(client: ApiClient) -> Answer:
        return {"SecurityGroupId": group_id(client, arguments.group), "Permissions": [rule_of(client, arguments)]}

    return _change(arguments, action if is_in else f"{action}Egress", asked)


def run_member(arguments: argparse.Namespace) -> int:
    """Adds or removes one."""
    action = {"join": "JoinSecurityGroup", "leave": "LeaveSecurityGroup"}[arguments.action]
    kind = "NetworkInterfaceId" if arguments.member.startswith("eni-") else "InstanceId"

    def asked(client: ApiClient) -> Answer:
        return {"SecurityGroupId": group_id(client, arguments.group), kind: arguments.member}

    return _change(arguments, action, asked)


def run_list(arguments: argparse.Namespace) -> int:
    """Prints all groups."""
    groups = groups_of(_client())
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
    say_block(render_table(GROUP_HEADERS, rows) if rows else "there is no group: `sgdp group create` makes one")
    return Exit.DONE


def run_show(arguments: argparse.Namespace) -> int:
    """Prints a group's rules, and who is in it."""
    client = _client()
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
    say(f"members: {', '.join(_member(one) for one in members) or 'none'}")
    return Exit.DONE


def _member(eni: Answer) -> str:
    owner = f" of {eni['InstanceId']}" if eni["InstanceId"] else ""
    return f"{eni['NetworkInterfaceId']}{owner} ({eni['PrivateIpAddress']})"


def _row(rule: Answer) -> tuple[str, ...]:
    side = "Source" if rule["Direction"] == "ingress" else "Dest"
    remotes = (rule[f"{side}CidrIp"], rule[f"Ipv6{side}CidrIp"], rule[f"{side}GroupId"], rule[f"{side}PrefixListId"])
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
    """The id of a group by its id or name. RefusedError if none or several have it."""
    from sgdataplane.control.client import RefusedError

    named = look_up(name, {group["SecurityGroupId"]: (group["SecurityGroupName"],) for group in groups_of(client)})
    if len(named.ids) == 1:
        return named.ids[0]
    if named.ids:
        raise RefusedError("InvalidParameter", f"several groups are named {name}: {listed(named.ids)}")
    near = f"; near: {', '.join(named.near)}" if named.near else ""
    raise RefusedError("InvalidSecurityGroupId.NotFound", f"there is no group {name}{near}")


def groups_of(client: ApiClient) -> list[Answer]:
    found: list[Answer] = []
    token = ""
    while True:
        answer = client.ask("DescribeSecurityGroups", MaxResults=PAGE, NextToken=token)
        found += answer["SecurityGroups"]["SecurityGroup"]
        token = answer["NextToken"]
        if not token:
            return found


def rule_of(client: ApiClient, arguments: argparse.Namespace) -> dict[str, object]:
    """One permission, as the cloud writes it."""
    traffic: Traffic | None = arguments.what
    side = "Source" if arguments.sender is not None else "Dest"
    remote = arguments.sender or arguments.receiver
    ports = traffic.ports if traffic else None
    return {
        "IpProtocol": str(traffic.protocol).upper() if traffic else "ALL",
        "PortRange": str(ports) if ports else EVERY_PORT,
        "Policy": "drop" if arguments.drop else "accept",
        "Priority": arguments.priority,
        _remote_name(side, remote): remote if _is_itself(remote) else group_id(client, remote),
    }


def _remote_name(side: str, remote: str) -> str:
    if "/" in remote:
        return f"Ipv6{side}CidrIp" if ":" in remote else f"{side}CidrIp"
    return f"{side}PrefixListId" if remote.startswith("pl-") else f"{side}GroupId"


def _is_itself(remote: str) -> bool:
    return "/" in remote or remote.startswith("pl-")


def _client() -> ApiClient:
    from sgdataplane.control.client import ApiClient

    return ApiClient.of_environment()


def _change(arguments: argparse.Namespace, action: str, asked: Callable[[ApiClient], Answer]) -> int:
    """Asks for it, and waits until packets obey. Exit 1 if they don't, or nobody says so."""
    client = _client()
    answer = client.ask(action, **asked(client))
    revision = answer.get("revision")
    waited: Answer = {}
    if revision and not arguments.no_wait:
        waited = client.ask("SgdpWait", Revision=revision)
    if arguments.json:
        print_json({**answer, **({"wait": dict(waited)} if waited else {})})
    else:
        say(f"{answer.get('SecurityGroupId', 'done')}{_in_force(waited)}")
    return Exit.NO if waited and _left(waited) else Exit.DONE


def _left(waited: Answer) -> Sequence[object]:
    return [*waited["Lagging"], *waited["Failed"], *waited["Unknown"]]


def _in_force(waited: Answer) -> str:
    if not waited:
        return ""
    if _left(waited):
        return f": stored, and not in force everywhere: {_left(waited)}"
    return f": in force at {', '.join(waited['Enforced'])}" if waited["Enforced"] else ": stored; nothing enforces it"
