"""Write the order that an adapted model came from once more.

It follows from the model's provenance.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ecan_core.adaptation.settings import AdaptSettings
from ecan_core.data.calls import Parties
from ecan_core.data.unlabeled import LeftOut
from ecan_core.errors import ModelError, SettingsError, UsageFault
from ecan_core.settings.parse import parse_settings
from protocol.bundle.trust import VerifiedBundle
from target_site.containment.orders import AdaptOrder


def order_again(
    receipt: Mapping[str, Any],
    bundle: Path,
    verified: VerifiedBundle,
    *,
    audio: Path,
    out: Path,
    cache: Path,
    left_out: LeftOut | None = None,
) -> AdaptOrder:
    """Ask for the same adaptation once more.

    Args:
        receipt: of the adapted model.
        bundle: what it is said to be made from.
        verified: the same, which this site accepted.
        audio: the recordings.
        out: where the new model goes.
        cache: where features are kept.
        left_out: whose recordings are not looked at this time.

    Raises:
        UsageFault: the model was made from another bundle, or together with other sites.
        ModelError: the receipt does not say how it was made.
    """
    try:
        if receipt["bundle_sha256"] != verified.digest.hex():
            raise UsageFault(f"the model was not adapted from {bundle}; name the bundle that it came from")
        if "together" in receipt:
            raise UsageFault(
                "the model was made together with other sites and cannot be made again here; run `ecan-target adapt`"
            )
        asked = receipt["asked"]
        parties = asked["parties"]
        return AdaptOrder(
            bundle=bundle,
            sha256=verified.digest.hex(),
            audio=audio,
            parties=None if parties is None else parse_settings(Parties, parties, "the receipt"),
            out=out,
            normalization=asked["normalization"],
            method=receipt["method"],
            settings=parse_settings(AdaptSettings, receipt["settings"], "the receipt"),
            seed=receipt["seed"],
            least_confidence=receipt["least_confidence"],
            cache=cache,
            left_out=left_out or LeftOut(),
        )
    except (KeyError, TypeError, SettingsError) as fault:
        raise ModelError("the adapted model does not say how it was made: adapt again from the bundle") from fault
