from dataclasses import replace

import pytest

from protocol import canonical
from protocol.errors import Code, MalformedError, ProtocolError, UnauthenticError
from protocol.identity import signing
from protocol.identity.identities import Role, is_endorsement
from protocol.statements.offers import (
    _CHECKPOINT,
    CHECKPOINT_TYPE,
    MAX_SEQ,
    MAX_STATEMENT_BYTES,
    NO_HEAD,
    CheckpointFields,
    OfferFields,
    open_checkpoint,
    open_offer,
    sign_checkpoint,
    sign_offer,
)
from tests.support.sites import new_identity

SOURCE, OTHER = new_identity(Role.SOURCE), new_identity(Role.SOURCE)
ENDORSEMENT, ISSUER = SOURCE.online_endorsement, SOURCE.fingerprint
OFFER = OfferFields(
    grant=b"g" * 16, nonce=b"n" * 32, sealed_sha256=b"d" * 32, size=1, release=7, expires_s=1_800_000_000
)
CHECKPOINT = CheckpointFields(grant=b"g" * 16, seq=12, head=b"h" * 32, seen=7, seen_head=b"s" * 32, day=20_000)
LARGEST = replace(OFFER, size=10**15 - 1, release=2**32 - 1, expires_s=10**15 - 1)


@pytest.mark.parametrize("offer", [OFFER, LARGEST])
def test_an_offer_comes_back_as_it_was_signed(offer):
    signed = sign_offer(offer, SOURCE.online_key)
    assert open_offer(signed, ENDORSEMENT, ISSUER) == offer
    assert len(signed) <= MAX_STATEMENT_BYTES
    assert is_endorsement(ENDORSEMENT)


@pytest.mark.parametrize(
    "checkpoint",
    [
        CHECKPOINT,
        replace(CHECKPOINT, seen=0, seen_head=NO_HEAD),
        pytest.param(replace(CHECKPOINT, seen=13, seen_head=NO_HEAD), id="of a ledger that is shorter"),
        replace(CHECKPOINT, seq=MAX_SEQ, seen=MAX_SEQ, day=0xFFFF),
    ],
)
def test_a_checkpoint_comes_back_as_it_was_signed(checkpoint):
    signed = sign_checkpoint(checkpoint, SOURCE.online_key)
    assert open_checkpoint(signed, ENDORSEMENT, ISSUER) == checkpoint
    assert len(signed) <= MAX_STATEMENT_BYTES


@pytest.mark.parametrize(
    "change",
    [{"seen": 0}, {"seen": -1}, {"seen": MAX_SEQ + 1}, {"seen_head": b""}, {"seq": 0}, {"head": b"h"}],
    ids=["the hash of no line", "a negative line", "a line too far", "no hash", "no line", "half a hash"],
)
def test_what_no_ledger_can_show_is_not_signed(change):
    with pytest.raises(MalformedError):
        sign_checkpoint(replace(CHECKPOINT, **change), SOURCE.online_key)


def test_a_hash_has_no_room_where_nothing_was_seen():
    fields = {"v": 1, **vars(replace(CHECKPOINT, seen=0))}
    payload = canonical.write_record(fields, _CHECKPOINT, what="checkpoint")
    with pytest.raises(MalformedError) as caught:
        open_checkpoint(signing.sign(CHECKPOINT_TYPE, payload, SOURCE.online_key), ENDORSEMENT, ISSUER)
    assert caught.value.code is Code.RANGE


def test_the_same_statement_is_signed_in_the_same_bytes():
    assert sign_offer(OFFER, SOURCE.online_key) == sign_offer(OFFER, SOURCE.online_key)


@pytest.mark.parametrize(
    ("signer", "endorsement", "issuer"),
    [
        pytest.param(SOURCE.online_key, ENDORSEMENT, OTHER.fingerprint, id="of another source"),
        pytest.param(OTHER.online_key, ENDORSEMENT, ISSUER, id="of another online key"),
        pytest.param(OTHER.online_key, OTHER.online_endorsement, ISSUER, id="endorsed by another source"),
        pytest.param(SOURCE.signing_key, ENDORSEMENT, ISSUER, id="of the release key itself"),
        pytest.param(SOURCE.online_key, b"", ISSUER, id="not endorsed"),
        pytest.param(SOURCE.online_key, bytes(96), ISSUER, id="endorsed by nobody"),
        pytest.param(SOURCE.online_key, ENDORSEMENT + b"x", ISSUER, id="endorsed with more behind"),
    ],
)
def test_only_a_key_that_the_trusted_source_endorsed_may_speak(signer, endorsement, issuer):
    for statement, opened in (
        (sign_offer(OFFER, signer), open_offer),
        (sign_checkpoint(CHECKPOINT, signer), open_checkpoint),
    ):
        with pytest.raises(UnauthenticError):
            opened(statement, endorsement, issuer)


def test_an_offer_is_no_checkpoint_and_a_checkpoint_no_offer():
    for statement, opened in (
        (sign_offer(OFFER, SOURCE.online_key), open_checkpoint),
        (sign_checkpoint(CHECKPOINT, SOURCE.online_key), open_offer),
    ):
        with pytest.raises(UnauthenticError) as caught:
            opened(statement, ENDORSEMENT, ISSUER)
        assert caught.value.code is Code.PAYLOAD_TYPE


@pytest.mark.parametrize("change", [{"size": 0}, {"size": 10**15}, {"release": 0}, {"expires_s": -1}, {"grant": b"g"}])
def test_what_no_source_may_say_is_not_signed(change):
    with pytest.raises(MalformedError):
        sign_offer(replace(OFFER, **change), SOURCE.online_key)


def test_a_changed_byte_anywhere_is_refused():
    signed = sign_offer(OFFER, SOURCE.online_key)
    for position in range(0, len(signed), 7):
        changed = bytearray(signed)
        changed[position] ^= 1
        with pytest.raises(ProtocolError):
            open_offer(bytes(changed), ENDORSEMENT, ISSUER)
