"""A target site as its commands leave it, for what looks at it: nothing in it was trained or recorded."""

import contextlib
import json
import shutil
import sqlite3
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from protocol.identity.identities import Role
from protocol.statements.revocations import Revocations
from target_site.accountability.audit_log import AuditLog, today
from target_site.model.folder import FACTS
from target_site.results.index import INDEX
from target_site.results.segments import SUMMARY
from target_site.trust.state import update_trust_state
from tests.support import cli
from tests.support.days import CONTAINMENT, a_call, a_run, day_in, predicted
from tests.support.models import save_untrained
from tests.support.sites import new_identity, new_site

SOURCE = new_identity(Role.SOURCE)
WEIGHTS = "12" * 32


@dataclass(frozen=True, kw_only=True)
class WatchedSite:
    """The folders of a site that has adapted and predicted."""

    model: Path
    predictions: Path
    keys: Path

    @property
    def words(self) -> tuple[object, ...]:
        """What names all of it to `ecan-target status`."""
        return ("--model", self.model, "--predictions", self.predictions)

    def status(self, *words: object) -> cli.Result:
        return cli.target("status", *self.words, *words)

    def attention(self, *words: object) -> set[str]:
        """The words that `status` calls for attention with; each has a sentence that names a remedy."""
        result = self.status("--format", "json", *words)
        told = result.json()
        assert result.code == (0 if told["healthy"] else 19)
        assert all(len(one["said"]) > 20 for one in told["attention"])
        return {one["reason"] for one in told["attention"]}

    def log(self, folder: Path, at: datetime | None = None) -> AuditLog:
        return AuditLog(folder, now=lambda: at or datetime.now(UTC), announce=lambda _: None)

    def predicted(
        self, level: int = 3, recordings: int = 20, lost: int = 0, utterances: int = 100, abstained: int = 10
    ) -> None:
        """Let another run hear other recordings, in a folder of its own."""
        self.unpredicted()
        heard = [a_call("0", utterances - abstained, 0, abstained)] if utterances else []
        rest = [a_call(str(number), 0, is_lost=number <= lost) for number in range(1, recordings + 1)]
        run = a_run(
            today(), *heard, *rest[: recordings - len(heard)], containment=CONTAINMENT | {"level": level}, forgotten=3
        )
        predicted(self.predictions, run)

    def aged(self, seconds: float) -> None:
        """Make the predictions as old as this."""
        with contextlib.closing(sqlite3.connect(self.predictions / INDEX, isolation_level=None)) as index:
            index.execute("UPDATE runs SET ended_at = ?", (int(time.time() - seconds),))

    def unpredicted(self) -> None:
        """Take the predictions away, and leave their folder."""
        shutil.rmtree(self.predictions, ignore_errors=True)
        self.predictions.mkdir()

    def damaged(self) -> None:
        """Damage what the predictions say of themselves."""
        (day_in(self.predictions) / SUMMARY).write_text("{}")

    def withdraw(self) -> None:
        """Let the site learn that its source has withdrawn the model."""
        newest = Revocations(version=1, day=today(), weights=frozenset({bytes.fromhex(WEIGHTS)}), keys=frozenset())
        update_trust_state(self.keys, lambda state: state.learned(SOURCE.fingerprint, newest))


def watched_site(folder: Path) -> WatchedSite:
    """Lay out a site that is well."""
    site = WatchedSite(model=folder / "adapted", predictions=folder / "predictions", keys=folder / "keys")
    new_site().write(site.keys)
    save_untrained(site.model)
    facts = json.loads((site.model / FACTS).read_text())
    facts["provenance"] |= {
        **{"issuer": SOURCE.fingerprint.hex(), "weights_sha256": WEIGHTS, "method": "ecan", "verdict": "improved"},
        **{"containment": {"level": 3}, "site": {"rules": None, "keys": str(site.keys)}},
    }
    (site.model / FACTS).write_text(json.dumps(facts))
    site.predicted()
    log = site.log(site.model)
    with log.recorded("adapt", bundle_sha256="ab" * 32, audio="0123456789abcdef") as noted:
        noted |= {"verdict": "improved", "reason": "it helps", "recordings": 20, "lost": 1, "forgotten": 0}
    with log.recorded("predict", audio="0123456789abcdef", out="fedcba9876543210") as noted:
        noted |= {"utterances": 100, "forgotten": 3}
    return site
