"""Find how a target site stands, from what its commands left on the disk.

Nothing is changed, nobody is called, and no recording is opened.
"""

import shutil
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from ecan_core.command_line.measures import Attention, Found, Status, looked, measure
from ecan_core.errors import EcanError
from protocol.bundle.trust import read_stated
from protocol.containment.walls import DEFAULT_LEAST
from protocol.encoders.registry import CAMPPLUS, ENCODERS, encoder_of
from protocol.encoders.store import default_folder, state_of
from protocol.errors import Code, ProtocolError, RefusedError
from protocol.files import read_bounded
from protocol.identity.key_files import load_public
from protocol.ledger.grants import SECONDS_PER_DAY
from target_site.accountability.audit_log import LOG, verify_log
from target_site.accountability.history import Event, read_events
from target_site.model.encoders import HEARD, PROGRAM
from target_site.model.folder import MAX_BYTES, read_facts
from target_site.results.latest import Latest, latest
from target_site.site_policy import MOST_LOST, SitePolicy, read_policy
from target_site.trust.acceptance import refuse_withdrawn
from target_site.trust.freshness import age_of_list, refuse_stale
from target_site.trust.remembered import Remembered, remembered
from target_site.trust.state import NONE, STATE_FILE, load_trust_state

FEW_FREE_BYTES = 2 << 30
KEYS_END_DAYS = 30
"""From so many days before this site's certificate ends, somebody has to make new keys."""
NEARLY_ALL = 0.9
"""Share of uncertain utterances from which predictions are of little use."""
FAULTS = (EcanError, ProtocolError)
REASONS = (
    *("MODEL", "LOG", "FAILED", "NOTHING", "OLD", "REFUSED", "UNCERTAIN", "DRIFT"),
    *("CONTAINMENT", "WITHDRAWN", "ENCODER", "TRUST", "STALE", "KEYS", "BUNDLE", "DISK"),
)
"""What may need attention, one word each; docs/operations.md says what they mean."""


@dataclass(frozen=True, kw_only=True)
class Site:
    """Hold where a site's files lie, and what counts as old.

    Attributes:
        model: folder that `adapt` made; None leaves it out.
        predictions: folder that `predict` wrote; None leaves it out.
        named_keys: this site's keys; None takes those that the model remembers.
        config: the site's rules; None takes those that the model remembers.
        bundle: the received bundle; None leaves it out.
        encoders: folder of public encoders.
        oldest_s: how old predictions may be, in seconds.
        now: the time, in UTC.
    """

    model: Path | None = None
    predictions: Path | None = None
    named_keys: Path | None = None
    config: Path | None = None
    bundle: Path | None = None
    encoders: Path | None = None
    oldest_s: float = 2.0 * SECONDS_PER_DAY
    now: datetime

    @cached_property
    def facts(self) -> dict[str, Any]:
        """Return what the model's folder says of it; empty without a model.

        It is empty, too, where the folder cannot be read, which `_model` tells.
        """
        with suppress(*FAULTS):
            return {} if self.model is None else read_facts(self.model)
        return {}

    @property
    def provenance(self) -> dict[str, Any]:
        """Return how the model was made; empty without a model."""
        return dict(self.facts.get("provenance", {}))

    @cached_property
    def remembered(self) -> Remembered:
        """Return the rules and the keys that count, with those of the model."""
        rules = None if self.config is None else read_policy(self.config)
        return remembered(self.provenance, rules, None, self.named_keys)

    @property
    def keys(self) -> Path | None:
        """Return this site's keys; None where they are not at hand."""
        return self.remembered.keys

    @property
    def rules(self) -> SitePolicy | None:
        """Return the site's rules; None where it has none."""
        return self.remembered.rules

    @cached_property
    def predicted(self) -> Latest | None:
        """Return the newest predictions; None where there are none."""
        return None if self.predictions is None else latest(self.predictions)

    @property
    def today(self) -> int:
        """Return the present day, in days since 1970."""
        return int(self.now.timestamp()) // SECONDS_PER_DAY

    @property
    def places(self) -> dict[str, Path]:
        """Return the folders that are there, by what lies in them."""
        named = {"model": self.model, "predictions": self.predictions, "keys": self.keys}
        return {what: path for what, path in named.items() if path is not None and path.is_dir()}


def status_of(site: Site) -> Status:
    """Look at a target site."""
    looks = (
        ("MODEL", _model),
        ("WITHDRAWN", _withdrawal),
        ("LOG", _logs),
        ("NOTHING", _predictions),
        ("CONTAINMENT", _containment),
        ("ENCODER", _encoders),
        ("TRUST", _trust),
        ("KEYS", _keys),
        ("BUNDLE", _bundle),
        ("DISK", _disk),
    )
    found = looked(looks, site, FAULTS)
    return Status(program=PROGRAM, at=site.now, reasons=REASONS, found=found)


def _model(site: Site) -> Iterator[Found]:
    if site.model is not None:
        read_facts(site.model)
    how, verdict = (str(site.provenance.get(name, "unknown")) for name in ("method", "verdict"))
    if site.facts and site.remembered:
        yield measure("model_info", "how the model was adapted, and the verdict", 1, method=how, verdict=verdict)


def _withdrawal(site: Site) -> Iterator[Found]:
    """Tell whether the source has withdrawn the model, as far as known here."""
    if not site.facts or site.keys is None:
        return
    is_withdrawn = False
    try:
        refuse_withdrawn(site.keys, site.provenance)
    except RefusedError as fault:
        is_withdrawn = fault.code is Code.REVOKED
        yield Attention(reason="WITHDRAWN", said=str(fault))
    yield measure("model_withdrawn", "whether the source has withdrawn the model", is_withdrawn)


def _logs(site: Site) -> Iterator[Found]:
    logs = {what: folder for what, folder in site.places.items() if (folder / LOG).is_file()}
    events = sorted((event for folder in logs.values() for event in read_events(folder)), key=lambda one: one.at)
    yield from _last_runs([event for event in events if event.state != "begun"])
    for what, folder in logs.items():
        state = verify_log(folder)
        yield measure("log_lines", "lines of a log", state.num_lines, log=what)
        yield measure("log_head_info", "last line of a log, its SHA-256", 1, log=what, sha256=state.head)


def _last_runs(ended: list[Event]) -> Iterator[Found]:
    """Tell when each command last succeeded, and how it last ended."""
    succeeded = {event.command: event for event in ended if event.state == "done"}
    for command, event in succeeded.items():
        about = "last success of a command"
        yield measure("last_success_timestamp_seconds", about, int(event.at.timestamp()), command=command)
    for command, event in {event.command: event for event in ended}.items():
        yield measure("last_exit_code", "exit code of a command's last run", event.exit_code, command=command)
        if event.exit_code:
            yield Attention(
                reason="FAILED",
                said=f"{command} failed on {event.at:%Y-%m-%d %H:%M} UTC with exit code {event.exit_code}; run it "
                "again and do what it says, or look the code up in docs/operations.md.",
            )


def _predictions(site: Site) -> Iterator[Found]:
    if site.predictions is None:
        return
    if site.predicted is None:
        yield Attention(
            reason="NOTHING",
            said=f"{site.predictions} holds no predictions; run `ecan-target predict --out {site.predictions}`, and "
            "look whether the recordings are there.",
        )
        return
    yield from _numbers(site.predicted, site)
    yield from _doubts(site.predicted, site)


def _numbers(predicted: Latest, site: Site) -> Iterator[Found]:
    age_s = max(round(site.now.timestamp() - predicted.ended_at_s), 0)
    yield measure("predictions_age_seconds", "age of the newest predictions", age_s)
    yield measure("recordings", "recordings that were listed", predicted.recordings)
    yield measure("utterances", "utterances that were heard", predicted.utterances)
    yield measure("refused_share", "share of the recordings of which nothing was used", predicted.refused_share)
    yield measure("lost_share", "share of the recordings that was lost for a fault", predicted.lost_share)
    yield measure("abstained_share", "share of the utterances that is uncertain", predicted.abstained_share)
    yield measure("forgotten", "utterances left out, of people who were forgotten", predicted.forgotten)
    if predicted.drift is not None:
        yield measure("drift_share", "distance of the class shares from the weeks before", predicted.drift)


def _doubts(predicted: Latest, site: Site) -> Iterator[Found]:
    most_lost = MOST_LOST if site.rules is None else site.rules.most_lost
    if site.now.timestamp() - predicted.ended_at_s > site.oldest_s:
        yield Attention(reason="OLD", said="The predictions are old; look why `ecan-target predict` does not run.")
    if not predicted.utterances:
        yield Attention(reason="NOTHING", said="Nobody was heard; look whether the recordings are there.")
    if predicted.lost_share > most_lost or predicted.refused_share >= 1:
        said = f"Of {predicted.refused} of {predicted.recordings} recordings nothing was used; summary.json says why."
        yield Attention(reason="REFUSED", said=said)
    if predicted.utterances and predicted.abstained_share >= NEARLY_ALL:
        said = "Nearly all is uncertain; label some utterances (`ecan-target sheet`) and run `adapt --labels`."
        yield Attention(reason="UNCERTAIN", said=said)
    if predicted.advice:
        yield Attention(reason="DRIFT", said=predicted.advice)


def _containment(site: Site) -> Iterator[Found]:
    levels = {} if site.predicted is None else {"predictions": site.predicted.level}
    if "containment" in site.provenance:
        levels["model"] = int(site.provenance["containment"]["level"])
    least = int(DEFAULT_LEAST) if site.rules is None else site.rules.least_level
    yield measure("containment_least_level", "level of containment that the rules ask for", least)
    for what, level in levels.items():
        yield measure("containment_level", "level of containment that was reached", level, of=what)
        if level < least:
            yield Attention(
                reason="CONTAINMENT",
                said=f"The {what} were made at containment level {level}, and {least} is asked for; run "
                "`ecan-target doctor`, which says what this system lacks.",
            )


def _encoders(site: Site) -> Iterator[Found]:
    folder = site.encoders or default_folder()
    card = site.facts.get("card", {})
    read_by = encoder_of(card.get("arch", ""), card.get("added_encoder", ""))
    needed = {read_by, CAMPPLUS if site.provenance.get("voices") == HEARD else None}
    for encoder in {**ENCODERS, **({read_by.id: read_by} if read_by else {})}.values():
        state = state_of(folder, encoder)
        yield measure("encoder_present", "whether a public encoder is here", state == "here", encoder=encoder.id)
        if state == "damaged" or (encoder in needed and state != "here"):
            said = f"The encoder {encoder.id} is {state} in {folder}; run `{PROGRAM} encoder {encoder.remedy}`."
            yield Attention(reason="ENCODER", said=said)


def _trust(site: Site) -> Iterator[Found]:
    """Tell how old the revocation lists are, and what is known of sources."""
    if site.keys is None:
        return
    state, changed = load_trust_state(site.keys), (site.keys / STATE_FILE).stat().st_mtime
    yield measure("trust_timestamp_seconds", "last change of what is known of the sources", int(changed))
    for source in (one for one in state.sources if one.successor == NONE):
        age, name = age_of_list(state, source.issuer, site.today), source.issuer.hex()[:16]
        if age is not None:
            yield measure("revocations_age_days", "age of a source's newest revocation list", age, source=name)
        try:
            oldest_days = None if site.rules is None else site.rules.oldest_revocations_days
            refuse_stale(site.keys, source.issuer, oldest_days=oldest_days, today=site.today)
        except RefusedError as fault:
            yield Attention(reason="STALE", said=str(fault))


def _keys(site: Site) -> Iterator[Found]:
    if site.keys is None:
        return
    left = (load_public(site.keys).certificate.not_valid_after_utc - site.now).days
    yield measure("keys_end_days", "time until this site's certificate ends", left)
    if left < KEYS_END_DAYS:
        said = (
            f"This site's certificate ends in {left} days; make new keys (`request`, a new --keys) and a new request."
        )
        yield Attention(reason="KEYS", said=said)


def _bundle(site: Site) -> Iterator[Found]:
    """Tell how long the bundle may be received; a received one goes on."""
    if site.bundle is None:
        return
    stated = read_stated(read_bounded(site.bundle, MAX_BYTES))
    left = stated.day + stated.valid_days - site.today
    yield measure("bundle_end_days", "time until the bundle can no longer be received", left)


def _disk(site: Site) -> Iterator[Found]:
    for what, folder in site.places.items():
        free = shutil.disk_usage(folder).free
        yield measure("disk_free_bytes", "free space on the disk", free, of=what)
        if free < FEW_FREE_BYTES:
            said = f"Only {free >> 20} MiB are free at {folder}; make room for {FEW_FREE_BYTES >> 20} MiB."
            yield Attention(reason="DISK", said=said)
