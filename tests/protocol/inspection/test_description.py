import hashlib

import pytest

from protocol.bundle import frame as bundle
from protocol.bundle import manifest
from protocol.errors import MalformedError, UnauthenticError
from protocol.identity import signing
from protocol.inspection.description import describe
from tests.protocol.samples import ISSUER, manifest_of, packed, sealed, signed

DESCRIPTION = describe(sealed())


def test_every_byte_is_in_exactly_one_row() -> None:
    position = 0
    for row in DESCRIPTION.rows:
        assert row.offset == position
        assert row.num_bytes > 0
        position += row.num_bytes
        assert row.sha256 == hashlib.sha256(sealed()[row.offset : position]).digest()
    assert position == len(sealed())
    assert DESCRIPTION.digest == hashlib.sha256(sealed()).digest()


def test_rows_say_what_kind_of_bytes_they_are() -> None:
    kinds = {row.field: (row.type, row.shape, row.category) for row in DESCRIPTION.rows}
    assert kinds["magic"] == ("bytes", (), "fixed")
    assert kinds["manifest"] == ("text", (), "stated")
    assert kinds["signature"] == ("text", (), "signature")
    assert kinds["head.weight"] == ("I8", (4, 128), "learned")
    assert kinds["head.bias"] == ("I16", (4,), "learned")


def test_fixed_bytes_are_the_same_whatever_the_model_and_the_statement() -> None:
    other_weights = packed()[:-1] + bytes([packed()[-1] ^ 1])
    other = describe(signed(manifest_of(other_weights, release=9, n_utt=4).to_bytes(), other_weights))

    fixed = [[row.sha256 for row in it.rows if row.category == "fixed"] for it in (DESCRIPTION, other)]
    assert fixed[0] == fixed[1]


def test_the_manifest_is_listed_field_by_field_with_its_free_bits() -> None:
    fields = {field.name: field for field in DESCRIPTION.fields}
    assert fields.keys() == manifest.SCHEMA.keys()
    assert fields["arch"].value == "mlp-stats-v1"
    assert fields["release"].value == 7
    assert fields["release"].bits == pytest.approx(16, abs=0.01)
    assert fields["grant"].bits == 0
    assert sum(field.bits for field in DESCRIPTION.fields) == pytest.approx(manifest.free_bits())


def test_the_signer_is_named_and_the_signature_is_judged() -> None:
    assert DESCRIPTION.signer == ISSUER
    assert DESCRIPTION.signature_holds
    frame = bundle.split(sealed())
    signature = signing.encode64(signing.parse_envelope(frame.envelope).signature).encode()
    unsigned = frame.envelope.replace(signature, signing.encode64(bytes(64)).encode())
    assert not describe(bundle.assemble(unsigned, frame.weights)).signature_holds


def test_what_is_not_laid_out_as_a_bundle_is_not_described() -> None:
    frame = bundle.split(sealed())
    with pytest.raises(MalformedError):
        describe(sealed() + b"\0")
    with pytest.raises(MalformedError):
        describe(bundle.assemble(frame.envelope, b"x" + frame.weights[1:]))
    with pytest.raises(UnauthenticError):
        describe(bundle.assemble(frame.envelope.replace(b"manifest", b"receipts"), frame.weights))
