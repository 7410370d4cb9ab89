"""Two sites, and a model that crosses from one to the other by file; each step is a real command."""

from dataclasses import dataclass
from pathlib import Path

from tests.support import cli
from tests.support.speech import synthesize


@dataclass(frozen=True, kw_only=True)
class Carried:
    """Hold what one crossing leaves on the disk.

    Attributes:
        request: what the target asked with.
        sealed: what was carried.
        bundle: what the target accepted.
        said: what all commands told people.
    """

    request: Path
    sealed: Path
    bundle: Path
    said: str


@dataclass(frozen=True, kw_only=True)
class Crossing(Carried):
    """Hold two sites after one crossing: what each has on its disk."""

    work: Path
    source_labels: Path
    target_labels: Path
    run: Path
    source_keys: Path
    target_keys: Path
    fingerprint: str


def succeeded(*steps: cli.Result) -> str:
    """Check that all commands ended well; returns what they told people."""
    assert [step.code for step in steps] == [0] * len(steps), [step.stderr for step in steps]
    return "".join(step.stderr for step in steps)


def new_source(keys: Path) -> str:
    """Make a source's keys; returns its fingerprint."""
    made = cli.source("keys", "init", "--out", keys)
    succeeded(made)
    return made.stdout.strip()


def export(run: Path, source_keys: Path, target_keys: Path, folder: Path) -> tuple[Path, Path]:
    """Ask for a model and export it into a file of a folder; returns the request and that file."""
    request, sealed = folder / "site.request", folder / "carried.ecan"
    succeeded(cli.target("request", "--keys", target_keys, "--out", request))
    words = ("export", "--model", run, "--keys", source_keys, "--request", request, "--file", sealed)
    succeeded(cli.source(*words))
    return request, sealed


def carry(
    run: Path, source_keys: Path, target_keys: Path, folder: Path, *, trust: str, is_approved: bool = True
) -> Carried:
    """Let a model cross by file, and be approved at its target."""
    request, sealed = export(run, source_keys, target_keys, folder)
    bundle = folder / "model.ecan"
    words = ("receive", "--keys", target_keys, "--from", sealed, "--trust", trust, "--out", bundle)
    said = succeeded(cli.target(*words))
    if is_approved:
        said += succeeded(cli.approve(bundle, target_keys))
    return Carried(request=request, sealed=sealed, bundle=bundle, said=said)


def cross(work: Path) -> Crossing:
    """Train a model on a small synthetic corpus and carry it to another site."""
    source_labels = synthesize(work / "harbor", "harbor")
    target_labels = synthesize(work / "valley", "valley", seed=1)
    (work / "short.yaml").write_text("epochs: 8\n")
    source_keys, target_keys = work / "source-keys", work / "target-keys"
    fingerprint = new_source(source_keys)
    trained = cli.source(
        *("train", "--corpus", f"csv={source_labels}", "--config", work / "short.yaml"),
        *("--cache", work / "source.cache", "--out", work / "run"),
    )
    succeeded(trained)
    carried = carry(work / "run", source_keys, target_keys, work, trust=fingerprint)
    return Crossing(
        **vars(carried),
        work=work,
        source_labels=source_labels,
        target_labels=target_labels,
        run=work / "run",
        source_keys=source_keys,
        target_keys=target_keys,
        fingerprint=fingerprint,
    )
