"""Three sites that share a target corpus by speakers: one model together, against each site alone, in process.

Alone is the product's default at each site. Together is what `ecan-target together` does: rounds of one network from
the weights that all sites have, updates cut and rounded to the grid that leaves, their mean, and each site's own
normalization. One JSON line per pair, normalization and seed; ``--table`` writes the table of docs/federation.md.
Labels of the target corpus are opened by the measurement alone.
"""

from collections.abc import Sequence
from copy import deepcopy

import numpy as np

from benchmarks.arena import (
    Answers,
    Job,
    Row,
    Site,
    SourceModel,
    benchmark_parser,
    load,
    make_jobs,
    run_jobs,
    train_source,
)
from benchmarks.record import ROOT, write_section
from benchmarks.tables import distinct, markdown, mean, over_seeds, pick, provenance, read_lines, written
from ecan_core.adaptation.settings import DEFAULT_METHOD, AdaptSettings, members_of
from ecan_core.adaptation.shared import change_weights, update_of_site
from ecan_core.adaptation.site import SiteAdaptation, adapt_site
from ecan_core.data.inputs import Inputs
from ecan_core.model.network import Network
from ecan_core.model.predict import predict_scores
from ecan_core.normalization.voices import possible_mode
from protocol.federation.update import check_update, encode_update, length_of
from target_site.federation.coordinator import TogetherPlan
from target_site.federation.member import METHOD, SEEDS
from target_site.site_policy import Together

SITES = 3
MODES = ("speaker", "voice")
COUNTS = {"received": "as received", "alone": "each site alone", "together": "together", "pooled": "all at one site"}


def main() -> None:
    arguments = benchmark_parser("together", __doc__, seeds=3).parse_args()
    if arguments.table:
        write_section(ROOT / "docs" / "federation.md", "together", table(read_lines(arguments.out)))
        return
    run_jobs(run_job, make_jobs(load(arguments), arguments), arguments.out, arguments.workers)


def run_job(job: Job) -> list[Row]:
    """One source network at three sites, which adapt it alone and together."""
    model, (whole, all_answers) = train_source(job), job.target.split(job.classes)
    sites, answers = zip(*(job.target.take(rows).split(job.classes) for rows in shards(whole)), strict=True)
    rows = []
    for mode in (mode for mode in job.modes if mode in MODES):
        alone = [adapt_alone(model, site, mode, job.seed) for site in sites]
        inputs = [one.preparation.inputs(site.features, site.speakers) for one, site in zip(alone, sites, strict=True)]
        common, lengths = adapt_together(model, inputs, TogetherPlan(seed=job.seed))
        scores = {
            "received": [
                predict_scores(model.build(), one.unadapted.inputs(site.features, site.speakers))
                for one, site in zip(alone, sites, strict=True)
            ],
            "alone": [one.scores for one in alone],
            "together": [predict_scores(common, heard) for heard in inputs],
        }
        figures = {name: mean_uar(of_sites, answers) for name, of_sites in scores.items()}
        figures["pooled"] = all_answers.uar(adapt_alone(model, whole, mode, job.seed).scores)
        place = {"pair": job.pair, "normalization": mode, "seed": job.seed, "sites": SITES}
        rows.append(place | figures | {"longest": round(max(lengths), 3)})
    return rows


def shards(whole: Site) -> list[list[int]]:
    """The rows of each site: every speaker is at one."""
    speakers = sorted(set(map(str, whole.speakers)))
    return [
        [row for row, speaker in enumerate(whole.speakers) if speakers.index(str(speaker)) % SITES == site]
        for site in range(SITES)
    ]


def adapt_alone(model: SourceModel, site: Site, mode: str, seed: int) -> SiteAdaptation:
    """The product at a site."""
    return adapt_site(
        model.build,
        site.features,
        site.speakers,
        model.feature_names,
        mode=possible_mode(mode, len(site.features)),
        methods=members_of(DEFAULT_METHOD),
        settings=AdaptSettings(),
        seed=seed,
    )


def adapt_together(model: SourceModel, inputs: Sequence[Inputs], plan: TogetherPlan) -> tuple[Network, list[float]]:
    """The product at all sites; also tells the lengths of the updates."""
    form, longest = (model.card.arch, len(model.card.classes)), Together(rounds=plan.rounds).longest
    common, lengths = model.build(), []
    for number in range(1, plan.rounds + 1):
        wanted, updates = plan.round("", number), []
        for heard in inputs:
            network = deepcopy(common)
            settings = AdaptSettings(epochs=wanted.epochs)
            made = update_of_site(
                network, heard, settings, method=METHOD, seed=SEEDS * wanted.seed + number, longest=longest
            )
            updates.append(check_update(encode_update(made, *form), *form, longest))
            lengths.append(length_of(updates[-1]))
        change_weights(common, {name: np.mean([one[name] for one in updates], axis=0) for name in updates[0]})
    return common, lengths


def mean_uar(scores: Sequence[np.ndarray], answers: Sequence[Answers]) -> float:
    """Mean over sites."""
    return float(np.mean([answer.uar(own) for own, answer in zip(scores, answers, strict=True)]))


def table(lines: list[Row]) -> str:
    pairs, rows = distinct(lines, "pair"), []
    for mode in MODES:
        for key, name in COUNTS.items():
            here = pick(lines, normalization=mode)
            cells = [f"{mean(pick(here, pair=pair), key):.1f}" for pair in pairs]
            rows.append([mode, name, *cells, written(*over_seeds(here, key))])
    better = sum(line["together"] >= line["alone"] for line in lines)
    head = ["normalized by", "adapted", *(pair.replace("-", " → ") for pair in pairs), "mean (95 %)"]
    note = (
        f"UAR in %, mean over {SITES} sites that share the target corpus by speakers; *all at one site* is what no "
        f"site has. Together is at least as good as the mean of the sites alone in {better} of {len(lines)} runs. The "
        f"longest update had a length of {max(line['longest'] for line in lines):.2f}. The interval is Student's over "
        f"the seeds' means. `make bench-together`, {provenance(lines)}"
    )
    return f"{markdown(head, rows, words=2)}\n\n{note}"


if __name__ == "__main__":
    main()
