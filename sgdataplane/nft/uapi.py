"""Define the numbers of nf_tables' netlink messages, as the kernel's header has them (linux/netfilter/nf_tables.h).

Owns these numbers: they stand nowhere else, but for those of traces (tracing.py). It must not know what is read or
written with them. Every object's first attribute is its table's name.
"""

from __future__ import annotations

from sgdataplane.host.nfnetlink import message_kind

SUBSYSTEM = 10  # NFNL_SUBSYS_NFTABLES
FAMILIES = {"inet": 1, "arp": 3, "netdev": 5}  # NFPROTO_*
HOOKS = {  # by family: NF_INET_*, NF_ARP_*, NF_NETDEV_*
    1: ("prerouting", "input", "forward", "output", "postrouting", "ingress"),
    3: ("input", "output", "forward"),
    5: ("ingress", "egress"),
}

# NFT_MSG_*
NEWTABLE, GETTABLE, DELTABLE = 0, 1, 2
NEWCHAIN, GETCHAIN, DELCHAIN = 3, 4, 5
NEWRULE, GETRULE, DELRULE = 6, 7, 8
NEWSET, GETSET, DELSET = 9, 10, 11
NEWSETELEM, GETSETELEM, DELSETELEM = 12, 13, 14
NEWGEN, GETGEN = 15, 16
NEWOBJ, GETOBJ, DELOBJ = 18, 19, 20
NEWFLOWTABLE, GETFLOWTABLE, DELFLOWTABLE = 22, 23, 24

# NFTA_<object>_*
TABLE_NAME, TABLE_FLAGS, TABLE_HANDLE = 1, 2, 4
TABLE_OWNER = 0x2  # flag: the table goes with the process that made it (Linux 5.12)
GEN_ID, GEN_PROCESS, GEN_PROGRAM = 1, 2, 3
CHAIN_NAME, CHAIN_HOOK, CHAIN_POLICY, CHAIN_TYPE, CHAIN_FLAGS, CHAIN_USERDATA = 3, 4, 5, 7, 10, 12
CHAIN_BASE, CHAIN_BINDING = 0x1, 0x4  # flags; BINDING: it goes with its rule
HOOK_NUMBER, HOOK_PRIORITY, HOOK_DEVICE, HOOK_DEVICES, DEVICE_NAME = 1, 2, 3, 4, 1
POLICIES = {"drop": 0, "accept": 1}  # NF_DROP, NF_ACCEPT
RULE_CHAIN, RULE_HANDLE, RULE_EXPRESSIONS, RULE_USERDATA = 2, 3, 4, 7
SET_NAME, SET_FLAGS, SET_KEY_TYPE, SET_KEY_LENGTH, SET_DATA_TYPE, SET_DATA_LENGTH = 2, 3, 4, 5, 6, 7
SET_DESCRIPTION, SET_ID, SET_USERDATA, SET_HANDLE = 9, 10, 13, 16
SET_OBJECT_KIND = 15
SET_ANONYMOUS, SET_CONSTANT, SET_INTERVAL, SET_MAP, SET_TIMEOUT, SET_OBJECT = 0x1, 0x2, 0x4, 0x8, 0x10, 0x40  # flags
SET_FILLED, DESCRIBED_SIZE = 0x20, 1  # NFT_SET_EVAL: rules add elements; NFTA_SET_DESC_SIZE
ELEMENTS_SET, ELEMENTS, ELEMENTS_SET_ID, LIST_ELEMENT = 2, 3, 4, 1
ELEMENT_KEY, ELEMENT_DATA, ELEMENT_FLAGS, ELEMENT_TIMEOUT, ELEMENT_LEFT, ELEMENT_OBJECT, ELEMENT_KEY_END = (
    1,
    2,
    3,
    4,
    5,
    9,
    10,
)
ELEMENT_INTERVAL_END, ELEMENT_CATCHALL = 1, 2  # flags
OBJ_NAME, OBJ_TYPE, OBJ_DATA, OBJ_HANDLE, OBJ_USERDATA = 2, 3, 4, 6, 8
OBJ_COUNTER, OBJ_TIMEOUT = 1, 7  # NFT_OBJECT_*
COUNTER_BYTES, COUNTER_PACKETS = 1, 2
TIMEOUT_FAMILY, TIMEOUT_PROTOCOL, TIMEOUT_STATES = 1, 2, 3  # NFTA_CT_TIMEOUT_*
FLOWTABLE_NAME, FLOWTABLE_HANDLE = 2, 5

# Data: a value, or a verdict. The types of a map's data, and a verdict's length in it.
DATA_VALUE, DATA_VERDICT = 1, 2
VERDICT_CODE, VERDICT_CHAIN = 1, 2
TYPE_VERDICT, VERDICT_BYTES = 0xFFFFFF00, 16

# Expressions: DREG is the register that is written, SREG the one that is read.
EXPRESSION_NAME, EXPRESSION_DATA = 1, 2
META_DREG, META_KEY, META_SREG = 1, 2, 3
CT_DREG, CT_KEY, CT_DIRECTION, CT_SREG = 1, 2, 3, 4
PAYLOAD_DREG, PAYLOAD_BASE, PAYLOAD_OFFSET, PAYLOAD_LENGTH = 1, 2, 3, 4
EXTHDR_DREG, EXTHDR_TYPE, EXTHDR_OFFSET, EXTHDR_LENGTH, EXTHDR_FLAGS, EXTHDR_PRESENT = 1, 2, 3, 4, 5, 0x1
CMP_SREG, CMP_OP, CMP_DATA = 1, 2, 3
EQ, NEQ, LT, LTE, GT, GTE = range(6)  # NFT_CMP_*; the first two are also NFT_RANGE_*
RANGE_SREG, RANGE_OP, RANGE_FROM, RANGE_TO = 1, 2, 3, 4
BYTEORDER_SREG, BYTEORDER_DREG, BYTEORDER_OP, BYTEORDER_LENGTH, BYTEORDER_SIZE, HTON = 1, 2, 3, 4, 5, 1
BITWISE_SREG, BITWISE_DREG, BITWISE_LENGTH, BITWISE_MASK, BITWISE_XOR, BITWISE_OP = 1, 2, 3, 4, 5, 6
LOOKUP_SET, LOOKUP_SREG, LOOKUP_DREG, LOOKUP_SET_ID, LOOKUP_FLAGS, LOOKUP_INVERTED = 1, 2, 3, 4, 5, 0x1
IMMEDIATE_DREG, IMMEDIATE_DATA = 1, 2
OBJREF_TYPE, OBJREF_NAME, OBJREF_SREG, OBJREF_MAP = 1, 2, 3, 4
LIMIT_RATE, LIMIT_UNIT, LIMIT_BURST, LIMIT_TYPE, LIMIT_FLAGS = 1, 2, 3, 4, 5
NUMGEN_DREG, NUMGEN_MODULUS, NUMGEN_KIND, NUMGEN_OFFSET, NUMGEN_RANDOM = 1, 2, 3, 4, 1
DYNSET_SET, DYNSET_OP, DYNSET_KEY, DYNSET_TIMEOUT, DYNSET_EXPRESSION, DYNSET_ADD = 1, 3, 4, 6, 7, 0
CONNLIMIT_COUNT, CONNLIMIT_FLAGS, CONNLIMIT_ABOVE = 1, 2, 0x1
LOG_GROUP, LOG_PREFIX, LOG_SNAPLEN, LOG_THRESHOLD = 1, 2, 3, 4


def kind_of(message: int) -> int:
    """Return the type of such a message (NFT_MSG_*) in its netlink header."""
    return message_kind(SUBSYSTEM, message)


def number_of(data: bytes) -> int:
    """Return a number as an attribute holds it; 0 if it is empty."""
    return int.from_bytes(data, "big")
