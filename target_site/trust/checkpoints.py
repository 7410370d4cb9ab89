"""Keep the last signed checkpoint of every source's ledger.

They lie in ``KEYS/checkpoints/``.

What is compared is remembered in the trust state. These files are for people: with one of them, `ecan-source ledger
verify --checkpoint` finds out whether a ledger still holds what this site has seen, and a source that rewrote its
ledger cannot deny what it has signed.
"""

from dataclasses import dataclass
from pathlib import Path

from protocol.files import cannot_write, write_atomic
from protocol.statements.offers import CheckpointFields

CHECKPOINTS = "checkpoints"


@dataclass(frozen=True, kw_only=True)
class SignedCheckpoint:
    """Hold a verified checkpoint and the bytes that prove it to anybody.

    Attributes:
        stated: what it says.
        statement: the signed statement as it came.
        endorsement: the release key's word on the key that signed it, 96 bytes.
    """

    stated: CheckpointFields
    statement: bytes
    endorsement: bytes


def checkpoint_path(keys_dir: Path, issuer: bytes) -> Path:
    """Return the file of a source's last checkpoint.

    ``ecan-source ledger verify`` reads this form.
    """
    return keys_dir / CHECKPOINTS / issuer.hex()


def endorsement_path(keys_dir: Path, issuer: bytes) -> Path:
    """Return the file with the endorsement of the checkpoint's key.

    The key that signed the last checkpoint.
    """
    return keys_dir / CHECKPOINTS / f"{issuer.hex()}.endorsement"


def keep_checkpoint(keys_dir: Path, issuer: bytes, checkpoint: SignedCheckpoint) -> None:
    """Keep a source's last checkpoint in place of the one before.

    Raises:
        FileError: it cannot be written.
    """
    folder = keys_dir / CHECKPOINTS
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise cannot_write(folder, error) from error
    write_atomic(endorsement_path(keys_dir, issuer), checkpoint.endorsement)
    write_atomic(checkpoint_path(keys_dir, issuer), checkpoint.statement)
