"""What is meant by a key that the native format doesn't have."""

from __future__ import annotations

import pytest

from sgdataplane.statefile.keys import INNER_KEYS, KEYS, TOP_KEYS, Keys, nearest

RULE, ENI, GROUP = INNER_KEYS["security_groups", "rules"], KEYS["network_interfaces"], KEYS["security_groups"]


@pytest.mark.parametrize(
    ("keys", "word", "meant"),
    [
        (RULE, "direction", "type"),
        (RULE, "directon", "type"),
        (RULE, "Direction", "type"),
        (RULE, "descripton", "description"),
        (RULE, "protocol", "ip_protocol"),
        (RULE, "port", "port_range"),
        (RULE, "ports", "port_range"),
        (RULE, "action", "policy"),
        (RULE, "cidr", "cidr_ip"),
        (RULE, "source_cidr", "source_cidr_ip"),
        (RULE, "source_group", "source_security_group_id"),
        (ENI, "groups", "security_group_ids"),
        (ENI, "mac", "mac_address"),
        (ENI, "ip", "private_ip_addresses"),
        (GROUP, "name", "security_group_name"),
        (GROUP, "permissions", "rules"),
        (TOP_KEYS, "enis", "network_interfaces"),
        (TOP_KEYS, "groups", "security_groups"),
        (RULE, "zzz", ""),
    ],
)
def test_the_key_that_is_meant_is_found(keys: Keys, word: str, meant: str) -> None:
    assert nearest(word, keys) == meant


@pytest.mark.parametrize("keys", [TOP_KEYS, *KEYS.values(), *INNER_KEYS.values()], ids=lambda keys: next(iter(keys)))
def test_each_word_means_one_key(keys: Keys) -> None:
    words = [word for name, key in keys.items() for word in (name, *key.also)]
    assert sorted(set(words)) == sorted(words)
