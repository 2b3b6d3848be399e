"""The table that marks the ARP of a router's own kernel, put in force before the fence that asks for the mark.

Owns when it is written. Its input is the secret. Must not know what else the fence lets pass.
"""

from __future__ import annotations

from dataclasses import replace

from sgdataplane.compiler.arp import compile_arp
from sgdataplane.contract.tables import ARP, TABLE
from sgdataplane.enforce.desired import Settings
from sgdataplane.enforce.run import NOTHING
from sgdataplane.nft.delta import Plan, plan_removal
from sgdataplane.nft.ir import Table
from sgdataplane.nft.kernel import Kernel
from sgdataplane.nft.snapshot import Inventory
from sgdataplane.nft.transaction import Kind, Operation, Transaction, Verb

MAX_OBJECTS = 10  # objects of a kind: there is one chain


def plan_marking(kernel: Kernel, inventory: Inventory, secret: int, settings: Settings) -> Plan:
    """Return the plan that puts the table in force in one commit, or that removes it if `secret` is 0.

    The plan is empty if the policy's stamp vouches for the table. `inventory` is what the kernel holds of the policy's
    table.
    """
    stamp = inventory.stamp
    if secret and stamp is not None and stamp.secret == secret and inventory.is_untouched and not settings.resync:
        return Plan()
    there = kernel.inventory(TABLE, ARP, MAX_OBJECTS)
    if not secret:
        return Plan((plan_removal(there, TABLE, ARP),)) if there.exists else Plan()
    table = compile_arp(secret)
    return Plan((replace(NOTHING, switch=Transaction.of(table, replace_table(table, is_there=there.exists))),))


def replace_table(table: Table, *, is_there: bool) -> list[Operation]:
    """Return the operations that put the whole table in the place of the one that is there."""
    verbs = (Verb.DELETE, Verb.ADD) if is_there else (Verb.ADD,)
    operations = [Operation(verb, Kind.TABLE, table) for verb in verbs]
    kinds = (Kind.CHAIN, Kind.RULES, Kind.POLICY)
    return operations + [Operation(Verb.ADD, kind, chain) for chain in table.chains for kind in kinds]
