"""Check that an adapted model is this site's own.

It is if this site's keys have signed it (``adapted.signature``).

``adapted.json`` holds the digest of every other file of the model, which is compared whenever one is read; so the
signature over that file holds for all of them.
"""

import hashlib
from pathlib import Path

from protocol import canonical
from protocol.errors import Code, FileError, UnauthenticError
from protocol.files import read_bounded, write_atomic
from protocol.identity import signing
from target_site.model.folder import FACTS, MAX_BYTES, SIGNATURE, file_of_model
from target_site.trust.keys import load_keys, own_fingerprint

PAYLOAD_TYPE = "application/vnd.ecan.adapted.v1+json"
MAX_SIGNATURE_BYTES = 4096

_WHAT = "signature of an adapted model"
_SCHEMA: canonical.Schema = {"v": canonical.OneOf((1,)), "facts": canonical.Hex(32)}


def sign_model(folder: Path, keys_dir: Path, passphrase: bytes | None) -> None:
    """Sign a new model, before it takes the old one's place.

    Raises:
        KeyFileError: the keys cannot be read.
        FileError: the signature cannot be written.
    """
    payload = canonical.write_record({"v": 1, "facts": _digest(folder)}, _SCHEMA, what=_WHAT)
    signed = signing.sign(PAYLOAD_TYPE, payload, load_keys(keys_dir, passphrase).signing_key)
    write_atomic(file_of_model(folder, FACTS).with_name(SIGNATURE), signed)


def require_own_model(folder: Path, keys_dir: Path) -> None:
    """Refuse a model that these keys have not signed.

    Raises:
        UnauthenticError: it is unsigned, another site's, or was changed.
        KeyFileError: there are no keys of a target.
    """
    signer = own_fingerprint(keys_dir)
    try:
        data = read_bounded(file_of_model(folder, SIGNATURE), MAX_SIGNATURE_BYTES)
    except FileError as fault:
        raise UnauthenticError(
            Code.SIG_MISSING, f"The model in {folder} is not signed by this site's keys; adapt again with --keys."
        ) from fault
    payload = signing.verify_envelope(signing.parse_envelope(data), payload_type=PAYLOAD_TYPE, signer=signer)
    if canonical.read_record(payload, _SCHEMA, what=_WHAT, max_bytes=MAX_SIGNATURE_BYTES)["facts"] != _digest(folder):
        raise UnauthenticError(
            Code.DIGEST, f"The model in {folder} is not the one that was signed; adapt again with --keys."
        )


def _digest(folder: Path) -> bytes:
    return hashlib.sha256(read_bounded(file_of_model(folder, FACTS), MAX_BYTES)).digest()
