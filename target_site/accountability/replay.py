"""Compare an adapted model with a repetition of its adaptation.

It is adapted again as its provenance says.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ecan_core.adaptation.settings import AdaptSettings
from ecan_core.data.calls import Parties
from ecan_core.data.forgotten import Forgotten
from ecan_core.errors import ModelError, SettingsError, UsageError
from ecan_core.model.abstention import Abstention
from ecan_core.settings.parse import parse_settings
from protocol.bundle.trust import VerifiedBundle
from protocol.errors import Code, FileError
from protocol.files import read_bounded
from target_site.containment.orders import AdaptOrder, RememberedSite
from target_site.model.encoders import folder_for, reads_of_bundle
from target_site.model.folder import FACTS, MAX_BYTES, VOICES, WEIGHTS, file_of_model, read_facts
from target_site.results.handed_labels import learned_labels
from target_site.results.rows import read_rows
from target_site.results.segments import JSONL, Segment

FILES = (WEIGHTS, "source.safetensors", "normalizer.safetensors", "unadapted.safetensors", VOICES)
"""What the model's answers depend on."""


def differing_files(model: Path, again: Path) -> list[str]:
    """Name the model's files whose bytes are not the same."""
    different = [name for name in FILES if _content(model, name) != _content(again, name)]
    then, now = (read_facts(folder) for folder in (model, again))
    return different if _answering(then) == _answering(now) else [*different, FACTS]


def _answering(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return the facts of a model that its answers depend on."""
    return {name: value for name, value in facts.items() if name != "provenance"}


def circumstances(model: Path, again: Path) -> list[str]:
    """List what differed when a model was adapted once more.

    Each entry is half a sentence.
    """
    then, now = (read_facts(folder)["provenance"] for folder in (model, again))
    found = [
        f"{name} was {then['versions'].get(name)} and is {number}"
        for name, number in now["versions"].items()
        if then["versions"].get(name) != number
    ]
    if then["verdict"] != now["verdict"]:
        found.append(f"the verdict was {then['verdict']} and is {now['verdict']}")
    if then["threads"] != now["threads"]:
        found.append(f"it had {then['threads']} threads and has {now['threads']}")
    if then["inputs_sha256"] != now["inputs_sha256"]:
        found += _of_recordings(model, again)
    return found


def changed_recordings(model: Path, again: Path) -> list[str]:
    """List the recordings of which an utterance is gone or new."""
    then, now = _heard(model), _heard(again)
    return sorted({place[0] for place in then ^ now})


def _of_recordings(model: Path, again: Path) -> list[str]:
    then, now = _heard(model), _heard(again)
    if then == now:
        return ["the recordings have other sound, or another order, under the same names"]
    return [f"{len(then - now)} utterances are gone and {len(now - then)} are new (--format json names their files)"]


def _heard(folder: Path) -> set[tuple[str, int | None, int, int, str | None]]:
    segments = read_rows(file_of_model(folder, JSONL), Segment)
    return {(one.recording, one.channel, one.begin_ms, one.end_ms, one.speaker) for one in segments}


def _content(folder: Path, name: str) -> bytes | None:
    try:
        return read_bounded(file_of_model(folder, name), MAX_BYTES)
    except FileError as fault:
        if fault.code is not Code.NOT_FOUND:
            raise
        return None  # not every model has all of them


def order_again(
    provenance: Mapping[str, Any],
    bundle: Path,
    verified: VerifiedBundle,
    *,
    audio: Path,
    out: Path,
    cache: Path,
    left_out: Forgotten,
    encoders: Path | None = None,
) -> AdaptOrder:
    """Ask for the same adaptation once more.

    Args:
        provenance: of the adapted model.
        bundle: what it is said to be made from.
        verified: the same, which this site accepted.
        audio: the recordings.
        out: where the new model goes.
        cache: where features are kept.
        left_out: who was forgotten, and is not heard again.
        encoders: folder of public encoders; None takes the user's.

    Raises:
        RefusedError: the public encoder that the model is read by is missing, or its file is another one.
        UsageError: the model was made from another bundle, or together with other sites.
        ModelError: the provenance does not say how it was made.
    """
    try:
        if provenance["bundle_sha256"] != verified.digest.hex():
            raise UsageError(f"the model was not adapted from {bundle}; name the bundle that it came from")
        if "together" in provenance:
            raise UsageError(
                "the model was made together with other sites and cannot be made again here; run `ecan-target adapt`"
            )
        asked = provenance["asked"]
        parties = asked["parties"]
        site = provenance.get("site") or {}
        return AdaptOrder(
            bundle=bundle,
            sha256=verified.digest.hex(),
            audio=audio,
            parties=None if parties is None else parse_settings(Parties, parties, "the provenance"),
            out=out,
            normalization=asked["normalization"],
            method=provenance["method"],
            settings=parse_settings(AdaptSettings, provenance["settings"], "the provenance"),
            seed=provenance["seed"],
            abstention=parse_settings(Abstention, provenance["abstention"], "the provenance"),
            cache=cache,
            left_out=left_out,
            encoders=folder_for(reads_of_bundle(verified), encoders),
            added_encoder=verified.manifest.encoder.hex(),
            labels=learned_labels(provenance, left_out),
            site=parse_settings(RememberedSite, site, "the provenance"),
        )
    except (KeyError, TypeError, SettingsError) as fault:
        raise ModelError("the adapted model does not say how it was made: adapt again from the bundle") from fault
