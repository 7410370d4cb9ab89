import pytest

from protocol.errors import UnauthenticError
from protocol.identity.identities import Role
from protocol.wire.proof import check_proof, prove
from tests.support.sites import new_identity

TARGET, OTHER = new_identity(Role.TARGET), new_identity(Role.TARGET)
BOUND = {"grant": b"g" * 16, "nonce": b"n" * 32, "server_certificate": b"server", "client_certificate": b"client"}


def test_a_proof_of_the_sites_key_holds():
    proof = prove(TARGET.signing_key, **BOUND)
    assert len(proof) == 96
    check_proof(proof, TARGET.fingerprint, **BOUND)


@pytest.mark.parametrize("part", BOUND)
def test_a_proof_cannot_be_carried_over(part):
    proof = prove(TARGET.signing_key, **BOUND)
    with pytest.raises(UnauthenticError):
        check_proof(proof, TARGET.fingerprint, **{**BOUND, part: b"x" * len(BOUND[part])})


def test_another_key_proves_nothing():
    with pytest.raises(UnauthenticError):
        check_proof(prove(OTHER.signing_key, **BOUND), TARGET.fingerprint, **BOUND)


@pytest.mark.parametrize("proof", [b"", b"x" * 96, bytes(95), bytes(97)])
def test_no_proof_is_refused(proof):
    with pytest.raises(UnauthenticError):
        check_proof(proof, TARGET.fingerprint, **BOUND)


def test_a_public_key_with_another_signature_is_refused():
    mixed = prove(TARGET.signing_key, **BOUND)[:32] + prove(OTHER.signing_key, **BOUND)[32:]
    with pytest.raises(UnauthenticError):
        check_proof(mixed, TARGET.fingerprint, **BOUND)
