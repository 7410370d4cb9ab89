"""List cases about the published vectors, which hold for ever.

They were made with keys that everybody knows, in `tests/vectors/make.py`.
"""

import base64
import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from importlib.resources import files
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from protocol.bundle.form import ModelForm
from protocol.conformance.case import ACCEPTED, Case, Ending, SiteFacts, Step, malformed, peer
from protocol.conformance.grown import grow_weights
from protocol.conformance.workshop import TODAY, fingerprint
from protocol.errors import Code
from protocol.identity import signing
from protocol.identity.identities import private_pem

GROUP = "vector"
FORMS = {"mlp": ModelForm("mlp-stats-v1", 4, "speaker"), "tdnn": ModelForm("tdnn-frames-v1", 2, "none")}
GRANT = bytes(range(16))


def known_key(name: str) -> Ed25519PrivateKey:
    """Return a key that everybody can make."""
    return Ed25519PrivateKey.from_private_bytes(hashlib.sha256(f"ecan test key {name}".encode()).digest())


def read_vectors(name: str) -> dict[str, Any]:
    """Return a file of published vectors."""
    text = files(__package__).joinpath("vectors", f"{name}.json").read_text()
    return dict(json.loads(text))


def bundle_of(kept: dict[str, Any], name: str) -> bytes:
    """Return a published bundle; its weights are grown again."""
    return bytes.fromhex(kept["head"]) + str(kept["envelope"]).encode() + grow_weights(name, FORMS[name])


@dataclass(frozen=True, kw_only=True)
class _Vectors:
    """Hold the site of the vectors, and the vectors."""

    site: SiteFacts
    old: dict[str, Any]
    new: dict[str, Any]
    added: dict[str, Any]

    def case(self, name: str, *steps: Step, rule: str = "honest", site: SiteFacts | None = None) -> Case:
        """Return a case of the published site, or of another one."""
        site = site or self.site
        return Case(group=GROUP, name=name, rule=rule, proves="what was released holds", site=site, steps=steps)


def published() -> Iterator[Case]:
    """Yield every case about the published vectors."""
    old, new, added, hybrid = (read_vectors(name) for name in ("v1", "v2", "v2-statements", "v3"))
    receipt_key = known_key("receipt")
    site = SiteFacts(
        source=fingerprint(known_key("release")),
        audience=fingerprint(receipt_key),
        grants=(GRANT, bytes.fromhex(old["sealed"]["grant"])),
        receipt_key=private_pem(receipt_key),
        sealing_key=old["sealed"]["test_only_key"].encode(),
    )
    vectors = _Vectors(site=site, old=old, new=new, added=added)
    yield from _bundles(vectors)
    yield from _statements(vectors)
    yield from _hybrids(vectors, hybrid)


def _bundles(vectors: _Vectors) -> Iterator[Case]:
    for name in FORMS:
        content = bundle_of(vectors.new["bundles"][name], name)
        yield vectors.case(f"v2-bundle-{name}", _bundle(content))
        old = bundle_of(vectors.old["bundles"][name], name)
        yield vectors.case(f"v1-bundle-{name}", _bundle(old, malformed(Code.VERSION)), rule="version")
    sealed = base64.b64decode(vectors.old["sealed"]["bytes"])
    inside = malformed(Code.MAGIC)  # it opens, and holds a sentence
    yield vectors.case("v1-sealed", Step(kind="sealed", content=sealed, ending=inside, facts=_TODAY), rule="magic")
    asked = base64.b64decode(vectors.old["request"]["bytes"])
    yield vectors.case("v1-request", Step(kind="request", content=asked, ending=ACCEPTED))


_TODAY: dict[str, object] = {"today": TODAY}


def _bundle(content: bytes, ending: Ending = ACCEPTED) -> Step:
    return Step(kind="bundle", content=content, ending=ending, facts={**_TODAY, "grant": GRANT.hex()})


def _statements(vectors: _Vectors) -> Iterator[Case]:
    told = {
        name: base64.b64decode(text)
        for file in (vectors.old, vectors.new, vectors.added)
        for name, text in file["statements"].items()
    }
    for name in ("revocations", "succession", "succession-2"):
        step = Step(kind="statement", content=told[name], ending=ACCEPTED, facts=_TODAY)
        yield vectors.case(f"v1-{name}", step)
    yield vectors.case("v1-receipt", Step(kind="receipt", content=told["receipt"], ending=ACCEPTED))
    beside = {"endorsement": told["endorsement"]}
    facts: dict[str, object] = {"grant": GRANT.hex(), "nonce": "00" * 32}
    offered = Step(kind="offer", content=told["offer"], ending=ACCEPTED, facts=facts, beside=beside)
    yield vectors.case("v1-offer", offered)
    seen = peer(Code.LEDGER)  # it speaks of a line that the site has not seen
    step = Step(kind="checkpoint", content=told["checkpoint"], ending=seen, facts=facts, beside=beside)
    yield vectors.case("v1-checkpoint", step, rule="ledger")


def _hybrids(vectors: _Vectors, hybrid: dict[str, Any]) -> Iterator[Case]:
    """Yield what is signed in the suite hybrid-1."""
    told = {name: base64.b64decode(text) for name, text in hybrid["statements"].items()}
    handed = Step(kind="statement", content=told["succession-3"], ending=ACCEPTED, facts=_TODAY)
    listed = Step(kind="statement", content=told["revocations"], ending=ACCEPTED, facts=_TODAY)
    key = signing.parse_envelope(told["revocations"]).signer
    for name in FORMS:
        content = bundle_of(hybrid["bundles"][name], name)
        yield vectors.case(f"v3-bundle-{name}", _bundle(content), site=replace(vectors.site, source=key))
        yield vectors.case(f"v3-succession-and-bundle-{name}", handed, _bundle(content))
    yield vectors.case("v3-revocations", listed, site=replace(vectors.site, source=key))
