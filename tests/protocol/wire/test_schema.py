"""The frozen list of everything that can cross: a field that is added here is added to what can leak."""

import hashlib

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet

from protocol.wire.ecan.v1 import release_pb2
from protocol.wire.limits import FIELD_LIMITS, MAX_REPLY_BYTES, MAX_REQUEST_BYTES
from protocol.wire.service import ACK, FETCH, OPEN, TRUST

DIGEST = "4798064c7366bed61e9bb76e89b01554f5c75b41b190b0e2f7ddf9c6f5975ec5"

FIELDS = {
    "OpenRequest": {"grant": "bytes", "nonce": "bytes", "proof": "bytes"},
    "Offer": {"statement": "bytes", "endorsement": "bytes"},
    "FetchRequest": {"grant": "bytes", "digest": "bytes", "offset": "uint64"},
    "Chunk": {"offset": "uint64", "data": "bytes"},
    "AckRequest": {"receipt": "bytes", "seen": "uint64"},
    "AckReply": {"checkpoint": "bytes"},
    "TrustRequest": {},
    "TrustReply": {"revocations": "bytes"},
}
METHODS = {
    OPEN: ("OpenRequest", "Offer", False),
    FETCH: ("FetchRequest", "Chunk", True),
    ACK: ("AckRequest", "AckReply", False),
    TRUST: ("TrustRequest", "TrustReply", False),
}
TYPES = {FieldDescriptor.TYPE_BYTES: "bytes", FieldDescriptor.TYPE_UINT64: "uint64"}


def descriptor_set():
    described = FileDescriptorProto()
    release_pb2.DESCRIPTOR.CopyToProto(described)
    return FileDescriptorSet(file=[described])


def test_the_schema_is_frozen():
    """Both sites must speak the same version; a change needs a new package name and a new digest here."""
    assert hashlib.sha256(descriptor_set().SerializeToString(deterministic=True)).hexdigest() == DIGEST


def test_the_messages_have_exactly_the_listed_fields():
    described = {
        name: {field.name: TYPES[field.type] for field in message.fields}
        for name, message in release_pb2.DESCRIPTOR.message_types_by_name.items()
    }
    assert described == FIELDS


def test_every_field_has_a_declared_maximum_and_every_maximum_a_field():
    names = {
        field.full_name.removeprefix("ecan.v1.")
        for message in release_pb2.DESCRIPTOR.message_types_by_name.values()
        for field in message.fields
    }
    assert FIELD_LIMITS.keys() == names


def test_a_message_of_the_longest_fields_is_within_the_limit_of_its_direction():
    for method, (request, reply, _) in METHODS.items():
        for message, limit in ((request, MAX_REQUEST_BYTES), (reply, MAX_REPLY_BYTES)):
            longest = sum(
                20 + (0 if FIELDS[message][field] == "uint64" else FIELD_LIMITS[f"{message}.{field}"])
                for field in FIELDS[message]
            )
            assert longest <= limit, method


def test_the_only_field_to_the_target_of_more_than_some_kilobytes_is_the_data():
    replies = {reply for _, reply, _ in METHODS.values()}
    large = {
        name
        for name, limit in FIELD_LIMITS.items()
        if name.split(".")[0] in replies and limit > 8192 and not name.endswith("offset")
    }
    assert large == {"Chunk.data", "TrustReply.revocations"}


def test_no_field_repeats_and_no_message_nests():
    for message in release_pb2.DESCRIPTOR.message_types_by_name.values():
        assert not any(field.is_repeated for field in message.fields)
        assert not message.nested_types
        assert not message.enum_types
        assert not message.oneofs
        assert not message.is_extendable
    assert release_pb2.DESCRIPTOR.dependencies == []


def test_the_service_has_exactly_the_listed_methods():
    (service,) = release_pb2.DESCRIPTOR.services_by_name.values()
    described = {
        f"/{service.full_name}/{method.name}": (
            method.input_type.name,
            method.output_type.name,
            method.server_streaming,
        )
        for method in service.methods
    }
    assert described == METHODS
    assert not any(method.client_streaming for method in service.methods)
