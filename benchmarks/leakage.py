"""What the leakage audit finds on real corpora: by how a model was trained, and what that costs in recognition.

    python -m benchmarks.leakage --run      train, audit and record (about half an hour)
    python -m benchmarks.leakage --table    write the tables of docs/leakage.md

Each row is one training of one corpus as the command `train` does it, its audit as the command `audit` does it, and
the UAR on held-out speakers over five seeds. Corpora are named as their folders; features are kept in --cache.
"""

import argparse
import dataclasses
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.record import RESULTS, ROOT, record, write_section
from benchmarks.tables import distinct, interval, markdown, pick, read_lines
from ecan_core.command_line.console import Narrator
from ecan_core.runtime.seeding import one_thread
from ecan_core.training.train import TrainSettings
from protocol.encoders.store import default_folder
from source_site.audit.bounds import LEVEL, Estimate
from source_site.audit.report import Attack, AuditReport
from source_site.audit.run import attack_procedure, audit_run
from source_site.audit.shadows import random_halves, train_shadows
from source_site.audit.tiers import ASKED, findings, highest_tier
from source_site.training.front_end import NETWORKS, choose_network
from source_site.training.material import Material, Recipe, read_material
from source_site.training.record import load_record
from source_site.training.run_folder import load_run
from source_site.training.train import held_out_rows, hold_out, train_run

Row = dict[str, Any]
OUT = RESULTS / "leakage.jsonl"
CLASSES = {"emodb": ("anger", "boredom", "fear", "happiness", "neutral", "sadness")}
"""EmoDB lies here without most of its disgust; the others are taken whole."""
NAMES = {"emodb": "EmoDB", "ravdess": "RAVDESS", "nemo": "nEMO"}
CARELESS = TrainSettings(epochs=60, weight_decay=0.0, label_smoothing=0.0, view_dropout=0.0)
"""Trained until the loss is gone, without weight decay, smoothing or hidden views."""
TRAININGS: dict[str, tuple[TrainSettings, float | None]] = {
    "without care": (CARELESS, None),
    "as usual": (TrainSettings(), None),
    "epsilon 8": (TrainSettings(), 8.0),
    "epsilon 5": (TrainSettings(), 5.0),
    "epsilon 3": (TrainSettings(), 3.0),
    "epsilon 1": (TrainSettings(), 1.0),
}
SEEDS = 5
CLAIMS = 20


def main() -> None:
    arguments = parse()
    if arguments.run:
        one_thread()
        warnings.filterwarnings("ignore", module="opacus")
        for corpus in arguments.corpus:
            unseen(arguments, corpus)
            for training in arguments.training or TRAININGS:
                measure(arguments, corpus, training)
    if arguments.table:
        write_tables(read_lines(arguments.out))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", action="store_true")
    parser.add_argument("--table", action="store_true")
    parser.add_argument("--corpora", type=Path, default=ROOT.parent / "shared" / "corpora")
    parser.add_argument("--corpus", nargs="+", default=list(NAMES), choices=list(NAMES))
    parser.add_argument("--training", nargs="+", choices=list(TRAININGS), help="all of them by default")
    parser.add_argument("--front-end", choices=("auto", *NETWORKS), default="auto")
    parser.add_argument("--encoders", type=Path, default=default_folder(), help="folder of public encoders")
    parser.add_argument("--models", type=int, default=64, help="networks on halves of the utterances, K")
    parser.add_argument("--cache", type=Path, required=False, default=Path("features.cache"))
    parser.add_argument("--out", type=Path, default=OUT)
    arguments = parser.parse_args()
    arguments.network = choose_network("mlp", arguments.front_end, arguments.encoders).network
    return arguments


def measure(arguments: argparse.Namespace, corpus: str, training: str) -> None:
    """Train, audit and record one row."""
    settings, epsilon = TRAININGS[training]
    given = [("csv", arguments.corpora / corpus)]
    quiet = Narrator(quiet=True)
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        train_run(
            given,
            run,
            classes=CLASSES.get(corpus),
            normalization="speaker",
            encoder=arguments.network,
            settings=settings,
            seed=0,
            cache_path=arguments.cache,
            narrator=quiet,
            epsilon=epsilon,
            encoders=arguments.encoders,
        )
        started = time.monotonic()
        report = audit_run(
            run,
            given,
            num_models=arguments.models,
            seed=0,
            cache_path=arguments.cache,
            narrator=quiet,
            encoders=arguments.encoders,
        )
        seconds = time.monotonic() - started
        trained, trained_front_end = load_record(run, load_run(run)), load_run(run).facts.frontend
    material = read(arguments, corpus)
    rates = [
        hold_out(
            material, held_out_rows(material.speakers, material.labels, seed), trained.recipe, seed=seed, noise_key=seed
        ).uar
        for seed in range(SEEDS)
    ]
    refusals = {str(tier): [f"{one.code}: {one.why}" for one in findings(report, tier)] for tier in ASKED}
    row = {
        "kind": "audit",
        "corpus": corpus,
        "training": training,
        "front_end": trained_front_end,
        "uar": round(float(np.mean(rates)), 4),
        "uars": [round(rate, 4) for rate in rates],
        "recipe": dataclasses.asdict(trained.recipe),
        "tier": highest_tier(report),
        "refusals": refusals,
        "seconds": round(seconds, 1),
        "report": without_details(report),
    }
    record(arguments.out, row)


def unseen(arguments: argparse.Namespace, corpus: str) -> None:
    """Attack networks that were trained on one half of the corpus about the other, which none of them has seen.

    Who of it is claimed to be a member is tossed for anew in each of `CLAIMS` attacks.
    """
    material = read(arguments, corpus)
    half = np.random.default_rng(0).permutation(len(material)) < len(material) // 2
    rows = np.flatnonzero(~half)
    trained = np.broadcast_to(half, (arguments.models, len(material)))
    with tempfile.TemporaryDirectory() as folder:
        shadows = train_shadows(material, trained, Recipe(), seed=0, folder=Path(folder))
    unheard = dataclasses.replace(shadows, logits=shadows.logits[:, rows], hits=shadows.hits[:, rows])
    areas: dict[str, list[Row]] = {}
    for claim in range(CLAIMS):
        members = random_halves(arguments.models, len(rows), seed=claim)
        for one in attack_procedure(dataclasses.replace(unheard, members=members), taken(material, rows)):
            areas.setdefault(one.name, []).append(figures(one)["measured"]["auc"])
    record(arguments.out, {"kind": "unseen", "corpus": corpus, "models": arguments.models, "areas": areas})


def read(arguments: argparse.Namespace, corpus: str) -> Material:
    return read_material(
        [("csv", arguments.corpora / corpus)],
        classes=CLASSES.get(corpus),
        normalization="speaker",
        encoder=arguments.network,
        cache_path=arguments.cache,
        narrator=Narrator(quiet=True),
        encoders=arguments.encoders,
    )


def taken(material: Material, rows: np.ndarray) -> Material:
    """Some utterances of a corpus."""
    per_utterance = ("values", "speakers", "durations_s", "digests", "paths")
    chosen: Row = {name: tuple(getattr(material, name)[row] for row in rows) for name in per_utterance}
    return dataclasses.replace(material, labels=material.labels[rows], **chosen)


def figures(attack: Attack) -> Row:
    return {key: value for key, value in dataclasses.asdict(attack).items() if key != "roc"}


def without_details(report: AuditReport) -> Row:
    """A report without what is about single utterances."""
    told = dataclasses.asdict(report)
    told["attacks"] = [figures(one) for one in report.attacks]
    if told["canaries"] is not None:
        del told["canaries"]["exposures"]
    del told["worst"]
    return told


def write_tables(lines: list[Row]) -> None:
    audits, chance = pick(lines, kind="audit"), pick(lines, kind="unseen")
    latest = {(line["corpus"], line["training"]): line for line in audits}
    corpora = [name for name in NAMES if any(key[0] == name for key in latest)]
    of_last = {line["corpus"]: line for line in chance}
    parts = [
        "### By training",
        *(f"**{NAMES[name]}**\n\n{by_training(name, latest)}" for name in corpora),
        "### Attacks one by one",
        by_attack(latest, corpora),
        "### On models that have not seen the members",
        by_chance(of_last, corpora),
        "### The strongest tier of each corpus",
        by_tier(latest, corpora),
        "### Time",
        timing(latest, corpora),
    ]
    commits = ", ".join(distinct(audits, "commit"))
    last = audits[-1]
    models = {NAMES[line["corpus"]]: line["report"]["num_models"] for line in latest.values()}
    networks = ", ".join(f"{count} ({name})" for name, count in models.items())
    parts.append(
        f"Front end {', '.join(distinct(audits, 'front_end'))}. K = {networks}; UAR on held-out speakers over {SEEDS} "
        "seeds; 95 % intervals in brackets. "
        f"Commit {commits}, {last['day']}, {last['machine']}."
    )
    write_section(ROOT / "docs" / "leakage.md", "leakage", "\n\n".join(parts))


def found(line: Row, name: str, target: str = "procedure") -> Row:
    (attack,) = [one for one in line["report"]["attacks"] if (one["name"], one["target"]) == (name, target)]
    return dict(attack)


def by_training(corpus: str, latest: dict[tuple[str, str], Row]) -> str:
    head = [
        "training",
        "UAR",
        "cost",
        "LiRA AUC",
        "LiRA TPR at 1 % FPR",
        "confidence AUC",
        "RMIA AUC",
        "file AUC",
        "threshold TPR",
        "tier",
    ]
    usual = latest.get((corpus, "as usual"))
    rows = []
    for training in TRAININGS:
        line = latest.get((corpus, training))
        if line is None:
            continue
        lira, rmia = found(line, "LiRA")["measured"], found(line, "RMIA")["measured"]
        file, loss = found(line, "LiRA", "released file")["measured"], found(line, "loss threshold")["measured"]
        rows.append(
            [
                training,
                f"{100 * line['uar']:.1f}",
                "" if usual is None else f"{100 * (usual['uar'] - line['uar']):+.1f}",
                area(lira["auc"]),
                percent(lira["tpr1"]),
                area(found(line, "confidence")["measured"]["auc"]),
                area(rmia["auc"]),
                area(file["auc"]),
                percent(loss["tpr1"]),
                str(line["tier"]),
            ]
        )
    return markdown(head, rows, words=1)


def by_attack(latest: dict[tuple[str, str], Row], corpora: list[str]) -> str:
    head = [
        "corpus",
        "training",
        "quantiles AUC",
        "labels AUC",
        "atypical TPR",
        "speakers AUC",
        "canaries, bits",
        "inversion p",
    ]
    rows = []
    for corpus in corpora:
        for training in TRAININGS:
            line = latest.get((corpus, training))
            if line is None:
                continue
            speakers, told = found(line, "speaker level"), line["report"]
            on_few = speakers["note"].split("AUC ")[-1].split(",")[0]
            rows.append(
                [
                    NAMES[corpus],
                    training,
                    area(found(line, "quantile regression")["measured"]["auc"]),
                    area(found(line, "labels alone")["measured"]["auc"]),
                    percent(found(line, "LiRA, atypical")["measured"]["tpr1"]),
                    f"({on_few})" if speakers["measured"] is None else area(speakers["measured"]["auc"]),
                    f"{told['canaries']['exposure']['value']:.2f} ({told['canaries']['chance']:.2f})",
                    f"{told['reconstruction']['probability']:.3f}",
                ]
            )
    return markdown(head, rows, words=2)


def by_chance(lines: dict[str, Row], corpora: list[str]) -> str:
    """Mean area over the claims, with an interval for all figures at once; and how often an audit's own is right."""
    areas = {corpus: lines[corpus]["areas"] for corpus in corpora if corpus in lines}
    names = list(next(iter(areas.values())))
    level = 1 - (1 - LEVEL) / (len(names) * len(areas))
    every = [Estimate(**one) for of_corpus in areas.values() for claims in of_corpus.values() for one in claims]

    def cell(claims: list[Row]) -> str:
        center, half = interval([one["value"] for one in claims], level)
        return f"{center:.4f} ± {half:.4f} ({sum(Estimate(**one).holds(0.5) for one in claims)})"

    rows = [[name, *(cell(of_corpus[name]) for of_corpus in areas.values())] for name in names]
    return (
        f"{markdown(['attack', *(NAMES[corpus] for corpus in areas)], rows, words=1)}\n\n"
        f"Mean AUC over {CLAIMS} claims of who is a member; ± is Student's interval, {100 * LEVEL:g} % for all "
        f"{len(names) * len(areas)} figures together. In brackets: how many of the {CLAIMS} intervals, as an audit "
        f"gives them, hold 0.5. All in all {sum(one.holds(0.5) for one in every)} of {len(every)} do, where "
        f"{LEVEL * len(every):.0f} are expected."
    )


def by_tier(latest: dict[tuple[str, str], Row], corpora: list[str]) -> str:
    """The training of best UAR that clears a tier, or what keeps even the most private one from it."""
    rows = []
    for corpus in corpora:
        lines = [line for (name, _), line in latest.items() if name == corpus]
        for tier in ASKED:
            fit = [line for line in lines if line["tier"] >= tier]
            if fit:
                best = max(fit, key=lambda line: line["uar"])
                rows.append([NAMES[corpus], str(tier), f"reached with {best['training']}", f"{100 * best['uar']:.1f}"])
                continue
            strictest = min(lines, key=lambda line: len(line["refusals"][str(tier)]))
            why = "; ".join(one.split(": ", 1)[1] for one in strictest["refusals"][str(tier)])
            rows.append([NAMES[corpus], str(tier), f"out of reach; with {strictest['training']}: {why}", "-"])
    return markdown(["corpus", "tier", "", "UAR"], rows, words=3)


def timing(latest: dict[tuple[str, str], Row], corpora: list[str]) -> str:
    rows = [
        [NAMES[corpus], *(f"{latest[corpus, name]['seconds']:.0f} s" for name in ("as usual", "epsilon 8"))]
        for corpus in corpora
        if {(corpus, "as usual"), (corpus, "epsilon 8")} <= latest.keys()
    ]
    table = markdown(["whole audit", "as usual", "epsilon 8"], rows, words=1)
    return f"{table}\n\nWall time, whatever else the machine did meanwhile."


def area(told: dict[str, float]) -> str:
    shown = Estimate(**told)
    return f"{shown.value:.3f} ({shown.low:.3f}-{shown.high:.3f})"


def percent(told: dict[str, float]) -> str:
    shown = Estimate(**told)
    return f"{100 * shown.value:.1f} ({100 * shown.low:.1f}-{100 * shown.high:.1f})"


if __name__ == "__main__":
    main()
