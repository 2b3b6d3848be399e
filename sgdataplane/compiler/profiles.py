"""The profiles of one namespace -> chains, maps and counters.

Owns each profile's root, the maps of members, and which spaces (far addresses in one family) are taken over from the
compile before. Is given profiles, resolved remotes and members. Must not know hooks' chains, epochs, or interfaces.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from sgdataplane.compiler.classes import AddressClasses, classify
from sgdataplane.compiler.lower import lowered, members_name, profile_name
from sgdataplane.compiler.memo import CompiledSpace, Lowered, MembersMap, Memo, SpaceMemo
from sgdataplane.contract import names
from sgdataplane.contract.fields import Field, KeyType, Nfproto
from sgdataplane.contract.sites import Site
from sgdataplane.errors import InternalError
from sgdataplane.model.members import Kin, Members
from sgdataplane.model.state import Remote
from sgdataplane.net.values import Direction, Family
from sgdataplane.nft.ir import Chain, Counter, Map, MapPage, Match, Paged, Range, Rule, Verdict, VerdictMap, goto, rule
from sgdataplane.policy.resolve import Profile, RemoteAddresses

IS_IPV6 = Match(Field.NFPROTO, (Range.of(Nfproto.IPV6),))
ADDRESS_TYPE = {Family.IPV4: KeyType.IPV4, Family.IPV6: KeyType.IPV6}


@dataclass
class Profiles:
    """Collects the chains, maps and counters of the profiles of one namespace."""

    remotes: Mapping[Remote, Mapping[Family, RemoteAddresses]]
    members: Members
    site: Site
    memo: Memo = field(default_factory=Memo)
    chains: dict[str, Chain] = field(default_factory=dict)
    maps: dict[str, Map] = field(default_factory=dict)
    counters: dict[str, Counter] = field(default_factory=dict)

    def profile(self, profile: Profile) -> dict[Direction, str]:
        """The root chain of each side, which judges sessions of every ENI with this profile."""
        spaces = {family: self._space(profile, family) for family in Family}
        return {side: self._root(profile, side, spaces) for side in Direction}

    def _root(self, profile: Profile, side: Direction, spaces: Mapping[Family, Lowered]) -> str:
        """Looks members up by their kinship first; all other addresses go to the far chain, which looks at CIDR blocks.
        The look-up stands in a chain that stays, since the kernel goes through all of a map whenever a rule that asks
        it is made."""
        rules: list[Rule] = []
        for family, is_it in ((Family.IPV6, (IS_IPV6,)), (Family.IPV4, ())):
            if spaces[family].kin[side]:
                asked = self.site.far(side, family)
                rules.append(rule(VerdictMap(asked, name=members_name(side, family, profile))))
            rules.append(rule(*is_it, goto(spaces[family].far[side])))
        name = names.identifier(f"profile-{side.value}", profile_name(profile))
        comment = names.comment(f"groups {', '.join(profile.security_group_ids)}")
        self._keep({name: Chain(name, tuple(rules), comment=comment)})
        return name

    def _space(self, profile: Profile, family: Family) -> Lowered:
        key = (profile.security_group_ids, profile.nic_type, family, self.site.placement)
        before = self.memo.space_before(key)
        remotes = [p.remote for p in (*profile.ingress, *profile.egress) if p.remote is not None]
        classes = classify(remotes, self.remotes, self.members, family, before.classes if before else None)
        if before is not None and before.is_for(profile, classes):
            found = replace(before, classes=classes)
        else:
            memo = before.memo.next() if before else SpaceMemo()
            found = CompiledSpace(profile, classes, lowered(profile, family, classes, memo, self.site), memo)
            memo.seal()
        self.memo.spaces[key] = found
        self._take(profile, family, classes, found.lowered)
        return found.lowered

    def _take(self, profile: Profile, family: Family, classes: AddressClasses, space: Lowered) -> None:
        self._keep(space.chains)
        self.counters.update(space.counters)
        for side, chains in space.kin.items():
            if chains:
                name = members_name(side, family, profile)
                verdicts = {kin: chains[mask] for kin, mask in classes.masks.items() if mask in chains}
                self.maps[name] = Map(name, ADDRESS_TYPE[family], self._elements(name, classes, verdicts))

    def _keep(self, chains: Mapping[str, Chain]) -> None:
        for name, chain in chains.items():
            known = self.chains.setdefault(name, chain)
            if known is not chain and known != chain:
                raise InternalError(f"two chains would be named {name}")

    def _elements(self, name: str, classes: AddressClasses, verdicts: Mapping[Kin, Verdict]) -> Paged:
        """The elements, page by page. A page is taken over if its members and their chains are the same as before."""
        before = self.memo.map_before(name)
        turned = {kin for kin, _ in verdicts.items() ^ before.verdicts.items()}
        made = {}
        for number, page in classes.members.items():
            if page is before.pages.get(number) and turned.isdisjoint(page.by_kin):
                known = before.elements.pages.get(number)
            else:
                found = tuple((a, verdicts[kin]) for a in page.addresses if (kin := page.kin[a]) in verdicts)
                known = MapPage(found) if found else None
            if known is not None:
                made[number] = known
        self.memo.maps[name] = MembersMap(classes.members, verdicts, Paged(made))
        return self.memo.maps[name].elements
