"""Make the golden vectors (v3.json): run once, committed, and verified for ever.

v1.json, v2.json, v2-ssl.json and v2-statements.json were made by the same file in its time. The bundles of v1.json are
refused by now, its other files hold, though a succession of its version is not written any more. What v3.json holds is
signed in the suite hybrid-1, whose signatures are new every time: they are verified, and not made again.

Keys are fixed and known to everybody, models are grown from a hash: nothing here was ever trained or secret. The
weights of a bundle are not kept but grown again; their SHA-256 is. A vector that was published is never changed, so
this refuses to overwrite the file.
"""

import base64
import hashlib
import json
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA65PrivateKey

from protocol.bundle import frame
from protocol.bundle.form import ModelForm
from protocol.bundle.manifest import PAYLOAD_TYPE, Manifest, label_mask
from protocol.bundle.override import Override, sign_officer, sign_override
from protocol.bundle.stated_audit import PASSED, AuditFields
from protocol.conformance import grown
from protocol.identity import signing
from protocol.identity.hybrid import HybridKey
from protocol.identity.identities import endorse_online
from protocol.identity.signing import SigningKey
from protocol.statements.offers import CheckpointFields, OfferFields, sign_checkpoint, sign_offer
from protocol.statements.receipts import Receipt, Verdict, sign_receipt
from protocol.statements.revocations import Revocations, sign_revocations
from protocol.statements.succession import sign_succession

FOLDER = Path(grown.__file__).parent / "vectors"
FILE = FOLDER / "v2.json"
OLD_FILE = FOLDER / "v1.json"
STATEMENTS_FILE = FOLDER / "v2-statements.json"
WHISPER_FILE = FOLDER / "v2-whisper.json"
SSL_FILE = FOLDER / "v2-ssl.json"
HYBRID_FILE = FOLDER / "v3.json"
TODAY = 20_500
GRANT = bytes(range(16))
MODELS = {
    "mlp": ("mlp-stats-v1", ("anger", "happiness", "neutral", "sadness"), "speaker"),
    "tdnn": ("tdnn-frames-v1", ("fear", "surprise"), "none"),
    "whisper": ("mlp-stats-whisper-v1", ("anger", "happiness", "neutral", "sadness"), "corpus"),
    "ssl-768": ("mlp-stats-ssl-768-v1", ("anger", "happiness", "neutral", "sadness"), "speaker"),
    "ssl-1024": ("mlp-stats-ssl-1024-v1", ("calm", "fear"), "none"),
}
ENCODERS = {name: hashlib.sha256(f"ecan test encoder {name}".encode()).digest() for name in ("ssl-768", "ssl-1024")}
"""The added encoders that models are read by: hashes of no file."""
AUDITS = {
    "mlp": AuditFields(
        tier=2,
        audit=PASSED,
        networks=6,
        lira_auc=110,
        lira_tpr1=4,
        file_auc=109,
        spk_auc=120,
        epsilon=73,
        delta=4,
        unit="speaker",
    ),
    "tdnn": AuditFields(),
    "whisper": AuditFields(),
    "ssl-768": AuditFields(),
    "ssl-1024": AuditFields(),
}


def key(name: str) -> Ed25519PrivateKey:
    """A key that everybody can make."""
    return Ed25519PrivateKey.from_private_bytes(hashlib.sha256(f"ecan test key {name}".encode()).digest())


HYBRID = HybridKey(
    mldsa=MLDSA65PrivateKey.from_seed_bytes(hashlib.sha256(b"ecan test key hybrid").digest()), ed25519=key("hybrid")
)
RELEASE, ONLINE, NEXT, RECEIPT = key("release"), key("online"), key("next release"), key("receipt")
OFFICER = key("officer")
AUDIENCE = signing.fingerprint_of(signing.raw_public_key(RECEIPT))


def grow_weights(name: str) -> bytes:
    """The weights of a model: bytes of SHAKE-256, bent to the rules."""
    arch, classes, norm = MODELS[name]
    return grown.grow_weights(name, ModelForm(arch, len(classes), norm))


def make_bundle(name: str, release_key: SigningKey = RELEASE) -> bytes:
    """A bundle whose bytes all follow from this file, if its key is of Ed25519 alone."""
    arch, classes, norm = MODELS[name]
    packed = grow_weights(name)
    stated = Manifest(
        arch=arch,
        norm=norm,
        labels=label_mask(classes),
        audience=AUDIENCE,
        grant=GRANT,
        release=7,
        day=TODAY,
        valid_days=90,
        n_utt=9,
        n_spk=3,
        hours=-2,
        uar_src=150,
        uar_q_loss=1,
        encoder=ENCODERS.get(name, b""),
        **vars(AUDITS[name]),
        issuer=signing.fingerprint_of(signing.raw_public_key(release_key)),
        weights_sha256=hashlib.sha256(packed).digest(),
        weights_len=len(packed),
    )
    suite = signing.suite_of(signing.raw_public_key(release_key))
    return frame.assemble(signing.sign(PAYLOAD_TYPE, stated.to_bytes(), release_key), packed, suite)


RECEIPT_FIELDS = Receipt(
    grant=GRANT,
    sealed_sha256=hashlib.sha256(b"sealed").digest(),
    digest=hashlib.sha256(b"plain").digest(),
    weights_sha256=hashlib.sha256(b"weights").digest(),
    verdict=Verdict.ACCEPTED,
    day=TODAY,
)
OFFER_FIELDS = OfferFields(
    grant=GRANT,
    nonce=bytes(32),
    sealed_sha256=hashlib.sha256(b"sealed").digest(),
    size=145_712,
    release=7,
    expires_s=86_400 * (TODAY + 1),
)
CHECKPOINT_FIELDS = CheckpointFields(
    grant=GRANT,
    seq=3,
    head=hashlib.sha256(b"head").digest(),
    seen=2,
    seen_head=hashlib.sha256(b"seen head").digest(),
    day=TODAY,
)
REVOCATIONS = Revocations(
    version=2,
    day=TODAY,
    weights=frozenset(hashlib.sha256(word).digest() for word in (b"one", b"two")),
    keys=frozenset({AUDIENCE}),
)
OVERRIDE_FIELDS = Override(weights_sha256=hashlib.sha256(b"weights").digest(), tier=2, day=TODAY)


def make_repeatable() -> dict[str, bytes]:
    """The statements whose bytes all follow from this file."""
    return {
        "receipt": sign_receipt(RECEIPT_FIELDS, RECEIPT),
        "offer": sign_offer(OFFER_FIELDS, ONLINE),
        "checkpoint": sign_checkpoint(CHECKPOINT_FIELDS, ONLINE),
        "endorsement": endorse_online(ONLINE, RELEASE),
        "revocations": sign_revocations(REVOCATIONS, RELEASE),
        "succession-2": sign_succession(RELEASE, NEXT, 1, last_list=2, last_release=7),
        "officer": sign_officer(signing.fingerprint_of(signing.raw_public_key(OFFICER)), RELEASE),
        "override": sign_override(OVERRIDE_FIELDS, OFFICER),
    }


def vectors() -> dict[str, Any]:
    """All that holds today: the bundles of v2.json, v2-whisper.json and v2-ssl.json, and the other files of all."""
    old, new, added = (json.loads(file.read_text()) for file in (OLD_FILE, FILE, STATEMENTS_FILE))
    bundles = dict(new["bundles"])
    for file in (WHISPER_FILE, SSL_FILE):
        bundles |= json.loads(file.read_text())["bundles"]
    statements = old["statements"] | new["statements"] | added["statements"]
    return {**old, **new, "bundles": bundles, "statements": statements}


def make_hybrid() -> dict[str, Any]:
    """What v3.json holds."""
    statements = {
        "revocations": sign_revocations(REVOCATIONS, HYBRID),
        "succession-3": sign_succession(RELEASE, HYBRID, 1, last_list=2, last_release=7),
        "endorsement": endorse_online(ONLINE, HYBRID),
    }
    return {
        "bundles": {name: _kept(make_bundle(name, HYBRID)) for name in MODELS},
        "statements": {name: _text(data) for name, data in statements.items()},
    }


def _kept(bundle: bytes) -> dict[str, str]:
    """What is kept of a bundle: all but its weights, and the digest of all."""
    taken = frame.split(bundle)
    return {
        "head": bundle[: frame.HEAD.size].hex(),
        "envelope": taken.envelope.decode(),
        "sha256": hashlib.sha256(bundle).hexdigest(),
    }


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()


def main() -> None:
    with HYBRID_FILE.open("x") as file:
        json.dump(make_hybrid(), file, indent=1)
        file.write("\n")
    print(HYBRID_FILE, HYBRID_FILE.stat().st_size, "bytes")


if __name__ == "__main__":
    main()
