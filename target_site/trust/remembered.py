"""Remember under which rules and with which keys a model was adapted.

Both stand in the model's provenance, so `predict` and `evaluate` need not be told again and cannot be told otherwise.
Where a bundle was received, the place of the keys lies beside it.
"""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

from ecan_core.data.calls import Parties
from ecan_core.errors import ModelError, SettingsError
from ecan_core.settings.parse import parse_settings
from protocol.errors import Code, ProtocolError, RefusedError
from protocol.files import read_bounded, write_atomic
from target_site.site_policy import SitePolicy

FIXED = ("purpose", "subjects", "channels", "mixed_because")
"""What must be as it was when the model was adapted; the other rules may change."""
_WHERE = "the rules that the model was adapted under"
_LONGEST_PATH = 4096


class Remembered(NamedTuple):
    """Hold what counts when a model is used.

    Attributes:
        rules: the site's rules; None where there are none.
        parties: who speaks on which channel; None where nobody said.
        keys: the site's keys; None where nobody named them, or they are not here.
    """

    rules: SitePolicy | None
    parties: Parties | None
    keys: Path | None


def as_plain(rules: SitePolicy | None, keys: Path | None) -> dict[str, Any]:
    """Return rules and keys as a provenance holds them."""
    return {"rules": None if rules is None else asdict(rules), "keys": None if keys is None else str(keys.absolute())}


def remembered(
    provenance: Mapping[str, Any], given: SitePolicy | None, parties: Parties | None, keys: Path | None
) -> Remembered:
    """Return what counts for a model.

    It comes from its provenance and from what is given now.

    Args:
        provenance: of the model.
        given: rules that are named now; None takes those of the model.
        parties: what is said of channels without rules; None takes what was said for the model.
        keys: keys that are named now; None takes those of the model, if they are here.

    Raises:
        RefusedError: rules are named that contradict those of the model.
        ModelError: the provenance is damaged.
    """
    try:
        site = provenance.get("site") or {"rules": None, "keys": None}
        asked = (provenance.get("asked") or {}).get("parties")
        kept = None if site["rules"] is None else parse_settings(SitePolicy, site["rules"], _WHERE)
        said = None if asked is None else parse_settings(Parties, asked, _WHERE)
        place = keys or (Path(site["keys"]) if site["keys"] else None)
    except (KeyError, TypeError, AttributeError, SettingsError) as fault:
        raise ModelError("the adapted model does not say how it was made: adapt again from the bundle") from fault
    if kept is not None and given is not None:
        _refuse_other(kept, given)
    rules = given or kept
    at_hand = place if place is not None and place.is_dir() else None
    return Remembered(rules, rules.parties if rules else parties or said, at_hand)


def _refuse_other(kept: SitePolicy, given: SitePolicy) -> None:
    for name in FIXED:
        then, now = getattr(kept, name), getattr(given, name)
        if then != now:
            message = f"The model was adapted under {name} = {_shown(then)}, and the rules say {_shown(now)}; "
            raise RefusedError(Code.POLICY, message + "name the same rules, or adapt again under these.")


def _shown(value: object) -> str:
    return ", ".join(value) if isinstance(value, tuple) and value else repr(value) if value else "nothing"


def note_keys(bundle: Path, keys: Path) -> None:
    """Write beside a received bundle where the keys are that received it."""
    write_atomic(_note(bundle), str(keys.absolute()).encode())


def noted_keys(bundle: Path) -> Path | None:
    """Return the keys that received a bundle; None if they are not here."""
    try:
        keys = Path(read_bounded(_note(bundle), _LONGEST_PATH).decode())
    except (ProtocolError, UnicodeDecodeError):
        return None
    return keys if keys.is_dir() else None


def _note(bundle: Path) -> Path:
    return bundle.with_name(f"{bundle.name}.keys")
