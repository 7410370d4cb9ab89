"""The frozen list of everything that can cross: a field that is added here is added to what can leak."""

from google.protobuf.descriptor import FieldDescriptor

from protocol.wire.ecan.v1 import release_pb2
from protocol.wire.service import ACK, FETCH, OPEN

FIELDS = {
    "OpenRequest": {"grant": "bytes", "nonce": "bytes", "proof": "bytes"},
    "Offer": {"grant": "bytes", "nonce": "bytes", "digest": "bytes", "size": "uint64"},
    "FetchRequest": {"grant": "bytes", "digest": "bytes", "offset": "uint64"},
    "Chunk": {"offset": "uint64", "data": "bytes"},
    "AckRequest": {"receipt": "bytes"},
    "AckReply": {},
}
METHODS = {
    OPEN: ("OpenRequest", "Offer", False),
    FETCH: ("FetchRequest", "Chunk", True),
    ACK: ("AckRequest", "AckReply", False),
}
TYPES = {FieldDescriptor.TYPE_BYTES: "bytes", FieldDescriptor.TYPE_UINT64: "uint64"}


def test_the_messages_have_exactly_the_listed_fields():
    described = {
        name: {field.name: TYPES[field.type] for field in message.fields}
        for name, message in release_pb2.DESCRIPTOR.message_types_by_name.items()
    }
    assert described == FIELDS


def test_no_field_repeats_and_no_message_nests():
    for message in release_pb2.DESCRIPTOR.message_types_by_name.values():
        assert not any(field.is_repeated for field in message.fields)
        assert not message.nested_types
        assert not message.enum_types
        assert not message.oneofs


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
