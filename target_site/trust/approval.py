"""Approve a bundle by name, for one purpose.

A person at this site has looked at it and wants it adapted.

The approval lies beside the bundle (``model.ecan.approval``). It is bound to the bundle's bytes by their digest, and
signed with this site's receipt key.
"""

from dataclasses import asdict, dataclass
from pathlib import Path

from ecan_core.errors import UsageError
from protocol import canonical
from protocol.bundle.trust import VerifiedBundle
from protocol.errors import Code, FileError, RefusedError, UnauthenticError
from protocol.files import read_bounded, write_atomic
from protocol.identity import signing
from target_site.site_policy import PURPOSES, refuse_prohibited, refuse_unknown
from target_site.trust.keys import load_keys

PAYLOAD_TYPE = "application/vnd.ecan.approval.v1+json"
APPROVAL = ".approval"
MAX_APPROVAL_BYTES = 4096
MAX_NAME = 64

_WHAT = "approval"
_SCHEMA: canonical.Schema = {
    "v": canonical.OneOf((1,)),
    "digest": canonical.Hex(32),
    "by": canonical.Text(8 * MAX_NAME),  # UTF-8 in hexadecimal: the form has ASCII alone
    "purpose": canonical.OneOf(PURPOSES),
    "day": canonical.Int(0, 0xFFFF),
}


@dataclass(frozen=True, kw_only=True)
class Approval:
    """Describe who approved what.

    Attributes:
        digest: SHA-256 of the bundle, 32 bytes.
        by: the person's name.
        purpose: what it may be used for.
        day: days since 1970.
    """

    digest: bytes
    by: str
    purpose: str
    day: int


def approval_path(bundle: Path) -> Path:
    """Return the file of a bundle's approval."""
    return bundle.with_name(bundle.name + APPROVAL)


def approve(
    bundle: Path,
    verified: VerifiedBundle,
    keys_dir: Path,
    *,
    by: str,
    purpose: str,
    today: int,
    passphrase: bytes | None,
) -> None:
    """Put a person's name to a bundle that this site accepted.

    Raises:
        UsageError: the name is empty or too long.
        RefusedError: the purpose is prohibited or unknown.
        KeyFileError: the keys cannot be read.
        FileError: it cannot be written.
    """
    refuse_prohibited(purpose)
    refuse_unknown(purpose)
    if not 0 < len(by.strip()) <= MAX_NAME or not by.isprintable():
        raise UsageError(f"--by takes a person's name of at most {MAX_NAME} letters; give one.")
    key = load_keys(keys_dir, passphrase).signing_key
    approval = Approval(digest=verified.digest, by=by, purpose=purpose, day=today)
    fields = asdict(approval) | {"v": 1, "by": by.encode().hex()}
    payload = canonical.write_record(fields, _SCHEMA, what=_WHAT)
    write_atomic(approval_path(bundle), signing.sign(PAYLOAD_TYPE, payload, key))


def require_approval(bundle: Path, verified: VerifiedBundle, *, purpose: str | None) -> Approval:
    """Refuse a bundle that nobody at this site has approved.

    Args:
        bundle: where it lies.
        verified: the bundle, whose receipt says which site this is.
        purpose: what it is to be used for; None takes any that was approved.

    Raises:
        RefusedError: nobody has, or for another purpose.
        UnauthenticError: the approval is another site's, of another bundle, or was changed.
        MalformedError: it is no approval.
    """
    path = approval_path(bundle)
    try:
        data = read_bounded(path, MAX_APPROVAL_BYTES)
    except FileError as fault:
        if fault.code is not Code.NOT_FOUND:
            raise
        raise RefusedError(
            Code.POLICY,
            f"Nobody at this site has approved {bundle}; look at it with `ecan-target inspect` and run "
            "`ecan-target approve`, or say `approval: not-needed` in the site's settings.",
        ) from fault
    envelope = signing.parse_envelope(data)
    payload = signing.verify_envelope(envelope, payload_type=PAYLOAD_TYPE, signer=verified.manifest.audience)
    fields = canonical.read_record(payload, _SCHEMA, what=_WHAT, max_bytes=MAX_APPROVAL_BYTES)
    del fields["v"]
    approval = Approval(**fields | {"by": bytes.fromhex(fields["by"]).decode()})
    if approval.digest != verified.digest:
        raise UnauthenticError(Code.DIGEST, f"{path} approves another bundle; run `ecan-target approve` for this one.")
    if purpose not in (None, approval.purpose):
        raise RefusedError(
            Code.POLICY,
            f"{bundle} was approved for {approval.purpose} and the site's settings say {purpose}; approve it for that.",
        )
    return approval
