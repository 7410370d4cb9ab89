"""Make what a site is given: honest and dishonest, with fresh keys.

A workshop plays every part: the source and whoever has stolen from it, its heirs, other sources, and the site itself.
"""

import dataclasses
import hashlib
import os
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from protocol import canonical
from protocol.bundle import frame, manifest, sealing
from protocol.bundle.form import ModelForm
from protocol.bundle.manifest import label_mask
from protocol.conformance.case import ACCEPTED, Case, Ending, SiteFacts, Step
from protocol.conformance.grown import grow_weights
from protocol.identity import signing
from protocol.identity.hybrid import HybridKey
from protocol.identity.identities import Identity, Role, create_identity, endorse_online, private_pem
from protocol.identity.sealing_keys import SealingKey
from protocol.identity.signing import SigningKey
from protocol.statements import offers, receipts, revocations, succession
from protocol.statements.revocations import join_digests

TODAY = 20_500
"""The day of the cases, in days since 1970."""
MANY = 24
"""How many grants a site has, one for each bundle that a case may bring."""
FORM = ModelForm("mlp-stats-v1", 4, "speaker")
LABELS = label_mask(("anger", "happiness", "neutral", "sadness"))
NO_DIGEST = bytes(32)

AUDITED: dict[str, object] = {
    **{"tier": 2, "audit": "passed", "networks": 6, "epsilon": 80, "delta": 4, "unit": "utterance"},
    **{"lira_auc": 110, "lira_tpr1": 4, "file_auc": 110, "spk_auc": 120},
}
"""What a manifest says of an audit that just clears tier 2."""
_HAND_OVERS = {
    signing.CLASSIC: (succession.PAYLOAD_TYPE, succession.CONSENT_TYPE, 2),
    signing.HYBRID: (succession.HYBRID_PAYLOAD_TYPE, succession.HYBRID_CONSENT_TYPE, 3),
}
_UNAUDITED: dict[str, object] = {
    **dict.fromkeys(("networks", "epsilon", "delta", "lira_auc", "lira_tpr1", "file_auc", "spk_auc", "tier"), 0),
    **{"audit": "none", "unit": "none"},
}


def fingerprint(key: SigningKey) -> bytes:
    """Return the fingerprint of a key, 32 bytes."""
    return signing.fingerprint_of(signing.raw_public_key(key))


def changed(data: bytes, place: int, bit: int = 1) -> bytes:
    """Return bytes of which one has a bit flipped."""
    place %= len(data)
    return data[:place] + bytes([data[place] ^ bit]) + data[place + 1 :]


@dataclass(frozen=True, kw_only=True)
class Workshop:
    """Hold the keys of everybody in the cases, and make their files.

    Attributes:
        identity: the site's receipt key, sealing key and certificate.
        other_site: another site.
        release: the source's release key.
        heirs: the keys that it is handed over to, one after the other.
        hybrid: a release key of the suite hybrid-1, of another source or of an heir.
        stranger: a key that nobody trusts.
        online: the source's online key.
        salt: random, so that no two runs have the same grants.
    """

    identity: Identity
    other_site: Identity
    release: SigningKey
    heirs: tuple[SigningKey, ...]
    hybrid: HybridKey
    stranger: SigningKey
    online: Ed25519PrivateKey
    salt: bytes = field(default_factory=lambda: os.urandom(32))

    # The site and its cases.

    @property
    def issuer(self) -> bytes:
        """Return the fingerprint that the site trusts."""
        return fingerprint(self.release)

    @property
    def sealing_key(self) -> SealingKey:
        """Return what opens files that are sealed to the site."""
        assert self.identity.sealing_key is not None
        return self.identity.sealing_key

    def grant(self, number: int = 0) -> bytes:
        """Return one of the grants that the site has asked for, 16 bytes."""
        return hashlib.sha256(self.salt + number.to_bytes(4, "big")).digest()[:16]

    def site(self, source: bytes | None = None, **rules: object) -> SiteFacts:
        """Return the site, trusting the source or another fingerprint."""
        return SiteFacts(
            source=self.issuer if source is None else source,
            audience=self.identity.fingerprint,
            grants=tuple(self.grant(number) for number in range(MANY)),
            receipt_key=private_pem(self.identity.signing_key),
            sealing_key=self.sealing_key.pem(),
            rules=rules,
        )

    def case(self, group: str, name: str, rule: str, proves: str, *steps: Step, site: SiteFacts | None = None) -> Case:
        """Return a case of the usual site, or of another one."""
        return Case(group=group, name=name, rule=rule, proves=proves, site=site or self.site(), steps=steps)

    # Steps.

    def bundle(
        self, content: bytes | None = None, ending: Ending = ACCEPTED, *, number: int = 0, today: int = TODAY
    ) -> Step:
        """Return the delivery of a bundle without its seal, for a grant."""
        content = self.bundle_of(self.stated(number=number)) if content is None else content
        facts: dict[str, object] = {"today": today, "grant": self.grant(number).hex()}
        return Step(kind="bundle", content=content, ending=ending, facts=facts)

    def sealed(self, content: bytes | None = None, ending: Ending = ACCEPTED) -> Step:
        """Return the delivery of a sealed file."""
        content = self.sealed_of(self.bundle_of()) if content is None else content
        return Step(kind="sealed", content=content, ending=ending, facts={"today": TODAY})

    def reopen(self, content: bytes, ending: Ending = ACCEPTED) -> Step:
        """Return the use of a bundle that was accepted before."""
        return Step(kind="reopen", content=content, ending=ending, facts={"today": TODAY})

    def statement(self, content: bytes, ending: Ending = ACCEPTED, *, today: int = TODAY) -> Step:
        """Return a revocation list or a succession that is shown to the site."""
        return Step(kind="statement", content=content, ending=ending, facts={"today": today})

    def reset(self, key: SigningKey, release: int, newest_list: int | None = None) -> Step:
        """Return a person's word on where a source goes on."""
        facts: dict[str, object] = {"source": fingerprint(key).hex(), "release": release, "list": newest_list}
        return Step(kind="reset", ending=ACCEPTED, facts=facts)

    def checkpoint(self, content: bytes, ending: Ending = ACCEPTED, endorsement: bytes | None = None) -> Step:
        """Return the source's word on where its ledger stands."""
        return self._online("checkpoint", content, ending, endorsement)

    def offer(self, content: bytes, ending: Ending = ACCEPTED, endorsement: bytes | None = None) -> Step:
        """Return an offer, as the site asked for it."""
        return self._online("offer", content, ending, endorsement)

    def given(self, kind: str, content: bytes, ending: Ending = ACCEPTED) -> Step:
        """Return a step that is told nothing else: a request, a receipt."""
        return Step(kind=kind, content=content, ending=ending)

    def _online(self, kind: str, content: bytes, ending: Ending, endorsement: bytes | None) -> Step:
        endorsement = self.endorsement() if endorsement is None else endorsement
        facts: dict[str, object] = {"grant": self.grant().hex(), "nonce": NO_DIGEST.hex()}
        return Step(kind=kind, content=content, ending=ending, facts=facts, beside={"endorsement": endorsement})

    # Bundles.

    def weights(self, name: str = "model", form: ModelForm = FORM) -> bytes:
        """Return weights that keep every rule; another name, another model."""
        return grow_weights(name, form)

    def stated(self, packed: bytes | None = None, *, number: int = 0, **changes: Any) -> dict[str, Any]:
        """Return the fields of a manifest, as JSON values, some of them changed.

        Args:
            packed: the weights that it is about.
            number: which grant it answers.
            **changes: other values.
        """
        packed = self.weights() if packed is None else packed
        fields: dict[str, Any] = {
            **{"v": manifest.VERSION, "arch": FORM.arch, "enc": manifest.ENCODING, "frontend": "stats-v1"},
            **{"norm": FORM.normalization, "labels": LABELS, "issuer": self.issuer.hex(), "release": 7},
            **{"audience": self.identity.fingerprint.hex(), "grant": self.grant(number).hex(), "day": TODAY},
            **{"valid_days": 90, "weights_sha256": hashlib.sha256(packed).hexdigest(), "weights_len": len(packed)},
            **{"n_utt": 9, "n_spk": 3, "hours": -2, "uar_src": 150, "uar_q_loss": 1},
            **_UNAUDITED,
        }
        return fields | changes

    def bundle_of(
        self,
        stated: Mapping[str, Any] | bytes | None = None,
        packed: bytes | None = None,
        key: SigningKey | None = None,
    ) -> bytes:
        """Return a bundle with a valid signature over any manifest and weights."""
        packed = self.weights() if packed is None else packed
        stated = self.stated(packed) if stated is None else stated
        payload = stated if isinstance(stated, bytes) else canonical.encode(stated)
        key = self.release if key is None else key
        suite = signing.suite_of(signing.raw_public_key(key))
        return frame.assemble(signing.sign(manifest.PAYLOAD_TYPE, payload, key), packed, suite)

    def issued_by(self, key: SigningKey, *, number: int, name: str = "model", **changes: Any) -> bytes:
        """Return the bundle of another key of the source, for a grant."""
        packed = self.weights(name)
        return self.bundle_of(self.stated(packed, number=number, issuer=fingerprint(key).hex(), **changes), packed, key)

    def stating(self, changes: Mapping[str, Any], packed: bytes | None = None) -> bytes:
        """Return a bundle that states other values in some fields."""
        return self.bundle_of(self.stated(packed) | dict(changes), packed)

    def envelope(self) -> bytes:
        """Return the envelope of the usual bundle."""
        return frame.split(self.bundle_of()).envelope

    def enveloped(self, envelope: bytes) -> bytes:
        """Return a bundle with another envelope."""
        return frame.assemble(envelope, self.weights())

    def sealed_of(self, plain: bytes, *, number: int = 0, recipient: SealingKey | None = None) -> bytes:
        """Return a bundle on its way to the site."""
        return sealing.seal(plain, (recipient or self.sealing_key).public_key, self.grant(number))

    # Statements.

    def record(self, kind: str, fields: Mapping[str, object], key: SigningKey | None = None) -> bytes:
        """Return any record, signed as any type."""
        return signing.sign(kind, canonical.encode(dict(fields)), self.release if key is None else key)

    def list_fields(
        self, version: int, weights: Iterable[bytes] = (), keys: Iterable[bytes] = (), **changes: Any
    ) -> dict[str, object]:
        """Return the fields of a revocation list, as JSON values."""
        fields = {"v": 1, "version": version, "day": TODAY}
        named = {"weights": join_digests(frozenset(weights)), "keys": join_digests(frozenset(keys))}
        return {**fields, **named, **changes}

    def list_of(
        self,
        version: int,
        weights: Collection[bytes] = (),
        *,
        keys: Collection[bytes] = (),
        key: SigningKey | None = None,
        **changes: Any,
    ) -> bytes:
        """Return a revocation list that a key has signed."""
        return self.record(revocations.PAYLOAD_TYPE, self.list_fields(version, weights, keys, **changes), key)

    def succession(
        self,
        old: SigningKey,
        new: SigningKey,
        number: int,
        *,
        last_list: int = 0,
        last_release: int = 0,
        consenting: SigningKey | None = None,
        agreed: Mapping[str, object] | None = None,
        agreed_as: str | None = None,
        replaced: Mapping[str, object] | None = None,
    ) -> bytes:
        """Return a hand-over, or what passes for one.

        Args:
            old: the key that signs it.
            new: the key that takes over.
            number: which hand-over it is.
            last_list: the old key's last list.
            last_release: the old key's last release.
            consenting: who signs the consent, if not the new key.
            agreed: what other than the truth is consented to.
            agreed_as: the type of the consent, if not the usual one.
            replaced: other values of the record, after the consent.
        """
        numbers: dict[str, object] = {"number": number, "last_list": last_list, "last_release": last_release}
        public_key = signing.raw_public_key(new)
        kind, usual, version = _HAND_OVERS[signing.suite_of(public_key)]
        consent = self._consent(old, consenting or new, numbers | dict(agreed or {}), agreed_as or usual)
        fields = {"v": version, **numbers, "public_key": public_key.hex(), "consent": consent}
        return self.record(kind, {**fields, **(replaced or {})}, old)

    def old_succession(self, old: SigningKey, new: SigningKey, number: int) -> bytes:
        """Return a hand-over in the form of version 1."""
        consent = self._consent(old, new, {"number": number}, succession.OLD_CONSENT_TYPE)
        fields = {"v": 1, "number": number, "public_key": signing.raw_public_key(new).hex(), "consent": consent}
        return self.record(succession.OLD_PAYLOAD_TYPE, fields, old)

    def _consent(self, old: SigningKey, new: SigningKey, agreed: Mapping[str, object], agreed_as: str) -> str:
        said = canonical.encode({"old": fingerprint(old).hex(), **agreed})
        return signing.bare_signature(agreed_as, said, new).hex()

    def chain(self, length: int, *, last_list: int = 0, last_release: int = 0) -> list[bytes]:
        """Return hand-overs from the source to its heirs, one after the other."""
        keys = (self.release, *self.heirs)
        numbers: dict[str, Any] = {"last_list": last_list, "last_release": last_release}
        return [self.succession(keys[place], keys[place + 1], place + 1, **numbers) for place in range(length)]

    def endorsement(self, online: Ed25519PrivateKey | None = None, release: SigningKey | None = None) -> bytes:
        """Return a release key's word for an online key."""
        return endorse_online(online or self.online, release or self.release)

    def checkpoint_of(self, seq: int, seen: int = 0, key: SigningKey | None = None, **changes: str) -> bytes:
        """Return a checkpoint of a ledger whose line n has the hash of n."""
        fields = {
            **{"v": 1, "grant": self.grant().hex(), "seq": seq, "head": line_hash(seq).hex(), "seen": seen},
            **{"seen_head": (line_hash(seen) if seen else NO_DIGEST).hex(), "day": TODAY},
        }
        return self.record(offers.CHECKPOINT_TYPE, fields | changes, key or self.online)

    def offer_of(self, key: SigningKey | None = None, kind: str = offers.OFFER_TYPE, **changes: Any) -> bytes:
        """Return an offer."""
        fields = {
            **{"v": 1, "grant": self.grant().hex(), "nonce": NO_DIGEST.hex(), "size": 145_712, "release": 7},
            **{"sealed_sha256": line_hash(0).hex(), "expires_s": 86_400 * (TODAY + 1)},
        }
        return self.record(kind, fields | changes, key or self.online)

    def receipt_of(self, key: SigningKey | None = None, **changes: Any) -> bytes:
        """Return the site's receipt."""
        stated = receipts.Receipt(
            grant=self.grant(),
            sealed_sha256=line_hash(1),
            digest=line_hash(2),
            weights_sha256=line_hash(3),
            verdict=receipts.Verdict.ACCEPTED,
            day=TODAY,
        )
        fields = {name: value.hex() if isinstance(value, bytes) else value for name, value in vars_of(stated).items()}
        return self.record(receipts.PAYLOAD_TYPE, {"v": 1, **fields} | changes, key or self.identity.signing_key)


def vars_of(record: Any) -> dict[str, Any]:
    """Return the fields of a record by name."""
    return {entry.name: getattr(record, entry.name) for entry in dataclasses.fields(record)}


def line_hash(number: int) -> bytes:
    """Return the hash that stands for a line of a ledger, or for another."""
    return hashlib.sha256(b"line %d" % number).digest()


def open_workshop() -> Workshop:
    """Make all keys anew."""
    key = Ed25519PrivateKey.generate
    return Workshop(
        identity=create_identity(Role.TARGET, datetime.now(UTC)),
        other_site=create_identity(Role.TARGET, datetime.now(UTC)),
        release=key(),
        heirs=tuple(key() for _ in range(40)),
        hybrid=HybridKey.generate(),
        stranger=key(),
        online=key(),
    )
