"""Certify that a model took the place of one that had heard somebody.

The certificate is for whoever asks later: it names no person, and shows which model replaced which, and when.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any

from protocol import canonical
from protocol.errors import Code, UnauthenticError
from protocol.files import read_bounded, write_atomic
from protocol.identity import signing
from protocol.identity.fingerprints import in_fours
from target_site.model.folder import WEIGHTS, file_of_model, weights_digest
from target_site.trust.keys import load_keys, own_fingerprint

PAYLOAD_TYPE = "application/vnd.ecan.forgotten.v1+json"

_WHAT = "certificate"
_EPOCH = date(1970, 1, 1)
_SCHEMA: canonical.Schema = {
    "v": canonical.OneOf((1,)),
    "bundle": canonical.Hex(32),
    "before": canonical.Hex(32),
    "after": canonical.Hex(32),
    "utterances": canonical.Int(1, 0xFFFFFFFF),
    "day": canonical.Int(0, 0xFFFF),
}


@dataclass(frozen=True, kw_only=True)
class Certificate:
    """Describe which model took the place of which.

    Attributes:
        bundle: digest of the bundle that both models were made from, 32 bytes.
        before: digest of the old model's weights.
        after: digest of the new model's weights.
        utterances: how many of the old model's the new one has not heard.
        day: when it was signed, in days since 1970.
        signer: fingerprint of the key that signed it.
    """

    bundle: bytes
    before: bytes
    after: bytes
    utterances: int
    day: int
    signer: bytes

    @property
    def date(self) -> str:
        """Return the day on which it was signed, such as 2026-11-30."""
        return (_EPOCH + timedelta(days=self.day)).isoformat()

    def as_plain(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {
            "utterances": self.utterances,
            "date": self.date,
            **{name: getattr(self, name).hex() for name in ("before", "after", "bundle", "signer")},
        }


def certify(
    folder: Path, keys_dir: Path, *, bundle: bytes, before: bytes, utterances: int, today: int, passphrase: bytes | None
) -> Path:
    """Certify that a model takes the place of one that knew somebody.

    The certificate is written beside the new model, before that takes the old one's place: there is none without it.

    Args:
        folder: of the model, whose successor is written.
        keys_dir: this site's keys.
        bundle: digest of the bundle that both were made from.
        before: digest of the old model's weights.
        utterances: how many of the old model's were left out.
        today: days since 1970.
        passphrase: opens the keys if they are encrypted.

    Returns:
        Where the certificate will lie, named after the new weights.

    Raises:
        KeyFileError: the keys cannot be read.
        FileError: it cannot be written.
    """
    after = weights_digest(folder)
    fields = {"v": 1, "bundle": bundle, "before": before, "after": after, "utterances": utterances, "day": today}
    payload = canonical.write_record(fields, _SCHEMA, what=_WHAT)
    name = f"forgotten-{after.hex()[:16]}.certificate"
    write_atomic(
        file_of_model(folder, WEIGHTS).with_name(name),
        signing.sign(PAYLOAD_TYPE, payload, load_keys(keys_dir, passphrase).signing_key),
    )
    return folder / name


def read_certificate(path: Path, signer: bytes | None = None) -> Certificate:
    """Read a certificate whose signature holds.

    Args:
        path: the file.
        signer: fingerprint of the key that must have signed it; None takes the one that it names, which says nothing
            of whose that is.

    Raises:
        MalformedError: it is no certificate.
        UnauthenticError: it was changed, or another key has signed it.
        FileError: it cannot be read.
    """
    envelope = signing.parse_envelope(read_bounded(path, signing.MAX_ENVELOPE_BYTES))
    payload = signing.verify_envelope(envelope, payload_type=PAYLOAD_TYPE, signer=signer or envelope.signer)
    fields = canonical.read_record(payload, _SCHEMA, what=_WHAT, max_bytes=signing.MAX_ENVELOPE_BYTES)
    del fields["v"]
    return Certificate(**fields, signer=envelope.signer)


def verify_certificate(path: Path, keys_dir: Path, model: Path | None = None) -> Certificate:
    """Check that this site has signed a certificate, and for this model.

    Args:
        path: the certificate.
        keys_dir: this site's keys.
        model: folder of the model that it must speak of; None asks for none.

    Raises:
        MalformedError: it is no certificate.
        UnauthenticError: it was changed, another site has signed it, or it speaks of another model.
        FileError: it, or the model, cannot be read.
        KeyFileError: there are no keys of a target.
    """
    certificate = read_certificate(path, own_fingerprint(keys_dir))
    if model is not None and weights_digest(model) != certificate.after:
        raise UnauthenticError(
            Code.DIGEST,
            f"The model in {model} is not the one that the certificate speaks of; if it was adapted again since, "
            "the log in its folder says when.",
        )
    return certificate


def in_words(certificate: Certificate) -> Iterator[str]:
    """Yield what a certificate says, line by line, in plain words."""
    yield f"{certificate.utterances} utterances were forgotten on {certificate.date}"
    yield f"model before: {in_fours(certificate.before.hex())}"
    yield f"model after:  {in_fours(certificate.after.hex())}, which has never heard them"
    yield f"both made from the bundle {in_fours(certificate.bundle.hex())}"
    yield f"signed by the site {in_fours(certificate.signer.hex())}"
