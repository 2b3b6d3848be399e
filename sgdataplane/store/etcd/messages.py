"""The messages of etcd's API, version 3, as far as the store uses them.

Owns their fields with their wire numbers, as in etcd's rpc.proto and kv.proto. Must not know what they are used for.

The classes are made when this is imported, from the table below. So there is no generated code, which would work with
few releases of protobuf only.
"""

from __future__ import annotations

from typing import Any, TypeAlias

from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto
from google.protobuf.message_factory import GetMessages

Message: TypeAlias = Any  # an instance of one of these classes

# Each field: its type, its name, its number. `*` before a type: repeated; `name/` before it: one of the union `name`.
MESSAGES = {
    "ResponseHeader": "uint64 cluster_id 1, uint64 member_id 2, int64 revision 3, uint64 raft_term 4",
    "KeyValue": "bytes key 1, int64 create_revision 2, int64 mod_revision 3, bytes value 5",
    "RangeRequest": "bytes key 1, bytes range_end 2, int64 limit 3, int64 revision 4, int64 min_mod_revision 10",
    "RangeResponse": "ResponseHeader header 1, *KeyValue kvs 2, bool more 3, int64 count 4",
    "PutRequest": "bytes key 1, bytes value 2, int64 lease 3",
    "PutResponse": "ResponseHeader header 1",
    "DeleteRangeRequest": "bytes key 1, bytes range_end 2",
    "DeleteRangeResponse": "ResponseHeader header 1, int64 deleted 2",
    "RequestOp": "request/RangeRequest request_range 1, request/PutRequest request_put 2,"
    "request/DeleteRangeRequest request_delete_range 3",
    "ResponseOp": "response/RangeResponse response_range 1, response/PutResponse response_put 2,"
    "response/DeleteRangeResponse response_delete_range 3",
    "Compare": "int32 result 1, int32 target 2, bytes key 3, union/int64 mod_revision 6,union/bytes value 7",
    "TxnRequest": "*Compare compare 1, *RequestOp success 2, *RequestOp failure 3",
    "TxnResponse": "ResponseHeader header 1, bool succeeded 2, *ResponseOp responses 3",
    "CompactionRequest": "int64 revision 1, bool physical 2",
    "CompactionResponse": "ResponseHeader header 1",
    "LeaseGrantRequest": "int64 TTL 1, int64 ID 2",
    "LeaseGrantResponse": "ResponseHeader header 1, int64 ID 2, int64 TTL 3, string error 4",
    "WatchCreateRequest": "bytes key 1, bytes range_end 2, int64 start_revision 3, bool fragment 8",
    "WatchProgressRequest": "",
    "WatchRequest": "request/WatchCreateRequest create_request 1, request/WatchProgressRequest progress_request 3",
    "Event": "int32 type 1, KeyValue kv 2",
    "WatchResponse": "ResponseHeader header 1, int64 watch_id 2, bool created 3, bool canceled 4,"
    "int64 compact_revision 5, string cancel_reason 6, bool fragment 7, *Event events 11",
    "AlarmRequest": "int32 action 1, uint64 memberID 2, int32 alarm 3",
    "AlarmMember": "uint64 memberID 1, int32 alarm 2",
    "AlarmResponse": "ResponseHeader header 1, *AlarmMember alarms 2",
    "DefragmentRequest": "",
    "DefragmentResponse": "ResponseHeader header 1",
    "StatusRequest": "",
    "StatusResponse": "ResponseHeader header 1, string version 2, int64 dbSize 3, uint64 leader 4, *string errors 8,"
    "int64 dbSizeInUse 9",
}
# Each method: its path, and the message that it is answered with.
METHODS = {
    "RangeRequest": ("/etcdserverpb.KV/Range", "RangeResponse"),
    "PutRequest": ("/etcdserverpb.KV/Put", "PutResponse"),
    "TxnRequest": ("/etcdserverpb.KV/Txn", "TxnResponse"),
    "CompactionRequest": ("/etcdserverpb.KV/Compact", "CompactionResponse"),
    "LeaseGrantRequest": ("/etcdserverpb.Lease/LeaseGrant", "LeaseGrantResponse"),
    "AlarmRequest": ("/etcdserverpb.Maintenance/Alarm", "AlarmResponse"),
    "DefragmentRequest": ("/etcdserverpb.Maintenance/Defragment", "DefragmentResponse"),
    "StatusRequest": ("/etcdserverpb.Maintenance/Status", "StatusResponse"),
    "WatchRequest": ("/etcdserverpb.Watch/Watch", "WatchResponse"),
}
PACKAGE = "sgdp.etcd"
SCALARS = ("int32", "int64", "uint64", "bool", "string", "bytes")


def _describe() -> FileDescriptorProto:
    file = FileDescriptorProto(name="sgdp_etcd.proto", package=PACKAGE, syntax="proto3")
    for name, fields in MESSAGES.items():
        message = file.message_type.add(name=name)
        for text in filter(None, fields.split(",")):
            _add_field(message, *text.split())
    return file


def _add_field(message: Message, kind: str, name: str, number: str) -> None:
    union, _, kind = kind.rpartition("/")
    label = FieldDescriptorProto.LABEL_REPEATED if kind.startswith("*") else FieldDescriptorProto.LABEL_OPTIONAL
    field = message.field.add(name=name, number=int(number), label=label)
    kind = kind.removeprefix("*")
    if kind in SCALARS:
        field.type = getattr(FieldDescriptorProto, f"TYPE_{kind.upper()}")
    else:
        field.type, field.type_name = FieldDescriptorProto.TYPE_MESSAGE, f".{PACKAGE}.{kind}"
    if union:
        if not message.oneof_decl:
            message.oneof_decl.add(name=union)
        field.oneof_index = 0


def _classes() -> dict[str, Any]:
    """Return the classes by name, in a way that works with the locked protobuf and with Debian's."""
    found = GetMessages([_describe()])
    return {name: found[f"{PACKAGE}.{name}"] for name in MESSAGES}


CLASSES = _classes()


def make(name: str, /, **fields: object) -> Message:
    """Return a message of that name."""
    return CLASSES[name](**fields)
