"""Sign a site's request for one transfer.

The signature proves that whoever asks holds the key that the request names.

It also names the key to which the answer is to be sealed. Nobody checks that the asker can open it: whoever signs
for another's sealing key gets a file that it cannot read.
"""

import hashlib
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from protocol import canonical
from protocol.errors import Code, KeyFileError, MalformedError, UnauthenticError
from protocol.identity import signing
from protocol.identity.identities import MAX_CERTIFICATE_BYTES, Identity, Role, check_endorsement
from protocol.identity.sealing_keys import PUBLIC_KEY_BYTES, SealingPublicKey

PAYLOAD_TYPE = "application/vnd.ecan.request.v1+json"
MAX_REQUEST_BYTES = signing.MAX_ENVELOPE_BYTES
NONCE_BYTES = 32
GRANT_BYTES = 16

_WHAT = "request"
_SCHEMA: canonical.Schema = {
    "v": canonical.OneOf((1,)),
    "certificate": canonical.Text(MAX_CERTIFICATE_BYTES),
    "sealing_key": canonical.Hex(PUBLIC_KEY_BYTES),
    "nonce": canonical.Hex(NONCE_BYTES),
    "day": canonical.Int(0, 0xFFFF),
}


@dataclass(frozen=True, kw_only=True)
class SiteRequest:
    """Describe what a target asks for: one bundle, for one key.

    Attributes:
        certificate: the target's endorsed TLS certificate, PEM.
        fingerprint: the target's receipt key; the audience of the bundle, 32 bytes.
        sealing_key: the key that the bundle is to be sealed to.
        nonce: random, 32 bytes; makes every request a grant of its own.
        day: day of the request, in days since 1970.
    """

    certificate: bytes
    fingerprint: bytes
    sealing_key: SealingPublicKey
    nonce: bytes
    day: int


def sign_request(identity: Identity, *, nonce: bytes, day: int) -> bytes:
    """Write and sign a request.

    Args:
        identity: the asking target.
        nonce: 32 fresh random bytes.
        day: today, in days since 1970.

    Raises:
        KeyFileError: the identity has no sealing key: it is a source's.
    """
    if identity.sealing_key is None:
        raise KeyFileError(
            Code.KEY_MISSING, "A source has no sealing key and cannot ask for a bundle; use a target's keys."
        )
    fields = {
        "v": 1,
        "certificate": identity.certificate_pem.decode("ascii"),
        "sealing_key": identity.sealing_key.public_key.raw,
        "nonce": nonce,
        "day": day,
    }
    payload = canonical.write_record(fields, _SCHEMA, what=_WHAT)
    return signing.sign(PAYLOAD_TYPE, payload, identity.signing_key)


def open_request(data: bytes) -> SiteRequest:
    """Verify a request and read it.

    It proves that the asker holds the key that it names. Whether that key deserves a grant is a person's decision:
    its fingerprint is compared with what the site said over another channel.

    Raises:
        MalformedError: it is not the only encoding of a request, or its sealing key is not a key.
        UnauthenticError: its signature or its certificate does not hold, or they are of different keys.
    """
    envelope = signing.parse_envelope(data)
    payload = signing.verify_envelope(envelope, payload_type=PAYLOAD_TYPE, signer=envelope.signer)
    fields = canonical.read_record(payload, _SCHEMA, what=_WHAT, max_bytes=MAX_REQUEST_BYTES)
    certificate = fields["certificate"].encode("ascii")
    endorsement = check_endorsement(certificate)
    if endorsement.fingerprint != envelope.signer or endorsement.role != Role.TARGET:
        raise UnauthenticError(Code.IDENTITY, "The certificate is not the asking site's; ask for a new request.")
    if x509.load_pem_x509_certificate(certificate).public_bytes(Encoding.PEM) != certificate:
        raise MalformedError(Code.NOT_CANONICAL, "The certificate is not plain PEM; ask for a new request.")
    return SiteRequest(
        certificate=certificate,
        fingerprint=envelope.signer,
        sealing_key=SealingPublicKey(raw=fields["sealing_key"]),
        nonce=fields["nonce"],
        day=fields["day"],
    )


def grant_id(request: bytes) -> bytes:
    """Return the grant that a request stands for, 16 bytes.

    It is the target's randomness, so the source chooses nothing.
    """
    return hashlib.sha256(request).digest()[:GRANT_BYTES]
