"""Refuse a source whose newest revocation list here is too old.

The site's rules set the limit (`oldest_revocations_days`). Whoever keeps a site from hearing of newer revocation
lists keeps it on a withdrawn model; a site that sets a limit stops by itself.
"""

from pathlib import Path

from protocol.errors import Code, RefusedError
from target_site.trust.state import TrustState, load_trust_state

_THEN = (
    "ask its operator for a new one (`ecan-source revoke --keys KEYS --renew`), and run `ecan-target trust update`, "
    "or receive over the network"
)


def refuse_stale(keys_dir: Path | None, issuer: bytes, *, oldest_days: int | None, today: int) -> None:
    """Refuse a source whose newest revocation list here is too old.

    This site's rules say what is too old.

    Args:
        keys_dir: the target's keys, where its memory lies.
        issuer: fingerprint of a release key of the source, 32 bytes.
        oldest_days: how many days old the list may be; None for any age, and for no list at all.
        today: days since 1970.

    Raises:
        RefusedError: the list is too old, there is none, or no keys are named.
        UnauthenticError: this site's memory was lost.
    """
    if oldest_days is None:
        return
    if keys_dir is None:
        raise RefusedError(
            Code.POLICY,
            "The site's rules set `oldest_revocations_days`, which is looked up among the keys; give --keys.",
        )
    age = age_of_list(load_trust_state(keys_dir), issuer, today)
    name = f"the source {issuer.hex()[:16]}..."
    if age is None:
        raise RefusedError(Code.EXPIRED, f"This site has seen no revocation list of {name}; {_THEN}.")
    if age > oldest_days:
        raise RefusedError(
            Code.EXPIRED,
            f"The newest revocation list of {name} here is {age} days old, and {oldest_days} are allowed; {_THEN}.",
        )


def age_of_list(state: TrustState, issuer: bytes, today: int) -> int | None:
    """Return the age of a source's newest list in days; None for no list.

    Only the list of the key that the source has today counts.
    """
    day = state.day_of_list(issuer)
    return None if day is None else max(today - day, 0)
