"""Two algorithms sign as one: a half that is missing, changed or of another key is no signature."""

import hashlib

import pytest
from cryptography.exceptions import InvalidSignature

from protocol.errors import ProtocolError
from protocol.identity import hybrid, signing
from protocol.identity.hybrid import PUBLIC_KEY_BYTES, SIGNATURE_BYTES, HybridKey
from tests.protocol.samples import RELEASE_KEY, says_what_to_do

KEY, OTHER = HybridKey.generate(), HybridKey.generate()
PUBLIC, SIGNATURE = KEY.raw_public_key(), KEY.sign(b"content")


def test_keys_and_signatures_have_the_sizes_of_the_draft():
    assert (len(PUBLIC), len(SIGNATURE)) == (PUBLIC_KEY_BYTES, SIGNATURE_BYTES) == (1984, 3373)
    assert signing.KEY_BYTES == {"classic-1": 32, "hybrid-1": 1984}
    assert signing.SIGNATURE_BYTES == {"classic-1": 64, "hybrid-1": 3373}


def test_both_halves_sign_what_the_draft_says():
    digest = hashlib.sha512(b"content").digest()
    message = b"CompositeAlgorithmSignatures2025COMPSIG-MLDSA65-Ed25519-SHA512\0" + digest
    KEY.mldsa.public_key().verify(SIGNATURE[:3309], message, b"COMPSIG-MLDSA65-Ed25519-SHA512")
    KEY.ed25519.public_key().verify(SIGNATURE[3309:], message)
    hybrid.verify(PUBLIC, SIGNATURE, b"content")


@pytest.mark.parametrize(
    ("key", "signature", "content"),
    ids=lambda value: f"{len(value)}",
    argvalues=[
        (PUBLIC, SIGNATURE, b"content "),
        (OTHER.raw_public_key(), SIGNATURE, b"content"),
        (PUBLIC[:1952] + OTHER.raw_public_key()[1952:], SIGNATURE, b"content"),
        (OTHER.raw_public_key()[:1952] + PUBLIC[1952:], SIGNATURE, b"content"),
        (PUBLIC, OTHER.sign(b"content")[:3309] + SIGNATURE[3309:], b"content"),
        (PUBLIC, SIGNATURE[:3309] + OTHER.sign(b"content")[3309:], b"content"),
        (PUBLIC, SIGNATURE[:-1], b"content"),
        (PUBLIC, SIGNATURE + b"\0", b"content"),
        (PUBLIC, b"", b"content"),
        (PUBLIC[:-1], SIGNATURE, b"content"),
        (PUBLIC[1952:], SIGNATURE[3309:], b"content"),
    ],
)
def test_a_signature_of_one_half_is_none(key, signature, content):
    with pytest.raises((InvalidSignature, ValueError)):
        hybrid.verify(key, signature, content)


@pytest.mark.parametrize("place", [0, 1000, 3308, 3309, 3340, 3372])
def test_every_part_of_a_signature_counts(place):
    changed = SIGNATURE[:place] + bytes([SIGNATURE[place] ^ 1]) + SIGNATURE[place + 1 :]
    with pytest.raises(InvalidSignature):
        hybrid.verify(PUBLIC, changed, b"content")


def test_a_key_is_read_as_it_was_written():
    pem = KEY.pem()
    assert hybrid.is_pair(pem)
    assert HybridKey.from_pem(pem).raw_public_key() == PUBLIC
    assert len(pem) < 1000


def test_halves_in_another_order_are_no_key():
    first, second = KEY.pem()[: KEY.pem().index(b"-----BEGIN", 1)], KEY.pem()[KEY.pem().index(b"-----BEGIN", 1) :]
    for pem in (second + first, first + first, second + second):
        with pytest.raises(ValueError, match="two halves"):
            HybridKey.from_pem(pem)


def test_an_envelope_of_two_algorithms_is_one_signature_of_one_key():
    data = signing.sign("type", b"payload", KEY)
    envelope = signing.parse_envelope(data)
    assert (envelope.suite, envelope.public_key) == ("hybrid-1", PUBLIC)
    assert envelope.signer == hashlib.sha256(PUBLIC).digest()
    assert signing.verify_envelope(envelope, payload_type="type", signer=envelope.signer) == b"payload"
    assert signing.parse_envelope(signing.sign("type", b"payload", RELEASE_KEY)).suite == "classic-1"


def test_who_trusts_the_pair_does_not_trust_a_half_of_it():
    """The downgrade: the first algorithm is cut off, and what is left is signed anew or not."""
    signer = signing.fingerprint_of(PUBLIC)
    for data in (signing.sign("type", b"payload", KEY.ed25519), signing.sign("type", b"payload", OTHER)):
        with pytest.raises(ProtocolError) as refusal:
            signing.verify_envelope(signing.parse_envelope(data), payload_type="type", signer=signer)
        assert refusal.value.code == "KEY_UNKNOWN"
        assert says_what_to_do(refusal)


def test_the_second_half_of_a_signature_is_none_of_its_own_algorithm():
    half = signing.bare_signature("type", b"payload", KEY)[3309:]
    with pytest.raises(ProtocolError, match="does not hold"):
        signing.verify_signature(PUBLIC[1952:], half, "type", b"payload")
