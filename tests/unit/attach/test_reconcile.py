"""What a reconcile leaves behind in the process. Of what it does in the kernel: tests/kernel/test_attach.py."""

from __future__ import annotations

from pathlib import Path

from sgdataplane.attach.reconcile import reconcile
from sgdataplane.attach.registry import Registry
from sgdataplane.host.nfnetlink import BatchMessage
from sgdataplane.model.state import CloudState
from sgdataplane.nft.ir import ACCEPT, Chain, Table, rule
from sgdataplane.nft.messages import Writer


def encode() -> tuple[BatchMessage, ...]:
    (messages,) = Writer().add_rules(Table("t"), Chain("chain-1", (rule(ACCEPT),)))
    return messages


def test_encoded_rules_are_forgotten(tmp_path: Path) -> None:
    """A later reconcile would find mostly those of former policies, which took 50 MB of an agent."""
    first = encode()
    assert encode() is first
    reconcile(Registry(tmp_path), CloudState())
    assert encode() is not first
