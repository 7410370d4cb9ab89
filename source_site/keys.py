"""The source's keys folder (KEYS): its identity, the ledger of what it let out, the bundles on their way out."""

from datetime import UTC, datetime
from pathlib import Path

from protocol.errors import Code, KeyFault, StorageFault
from protocol.identity import Identity, Role, create_identity, has_identity, load_identity, write_identity
from protocol.ledger import Ledger

LEDGER_FILE = "ledger.sqlite"
OUTBOX = "outbox"


def init_keys(out: Path) -> str:
    """Create a source's keys and its empty ledger.

    Args:
        out: folder for them, made if need be.

    Returns:
        The source's fingerprint in hexadecimal: what target sites must learn by another way.

    Raises:
        KeyFault: the folder holds keys already.
        StorageFault: the folder cannot be written.
    """
    if has_identity(out):
        raise KeyFault(Code.KEY_EXISTS, f"{out} holds keys already; use them or choose another folder.")
    try:
        out.mkdir(mode=0o700, parents=True, exist_ok=True)
        (out / OUTBOX).mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise StorageFault(Code.STORAGE, f"{out} cannot be made ({error.strerror}); choose another place.") from error
    # Before the keys: whoever has keys has a ledger, even if this run is killed here.
    Ledger.create(out / LEDGER_FILE)
    identity = create_identity(Role.SOURCE, datetime.now(UTC))
    write_identity(identity, out)
    return identity.fingerprint.hex()


def load_keys(keys_dir: Path) -> Identity:
    """Read the source's identity.

    Raises:
        KeyFault: there is none, it is damaged, or it is a target's.
    """
    identity = load_identity(keys_dir)
    if identity.role is not Role.SOURCE:
        raise KeyFault(Code.KEY_DAMAGED, f"{keys_dir} holds a target's keys; name the source's keys folder.")
    return identity


def open_ledger(keys_dir: Path) -> Ledger:
    """The ledger beside the keys."""
    return Ledger(keys_dir / LEDGER_FILE)
