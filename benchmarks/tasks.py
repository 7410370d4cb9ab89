"""Every method on every ordered pair of corpora, in process.

Settings are the product's defaults for all pairs. Three figures per run: the last epoch, what the product keeps without
labels, and the best epoch by the target's labels (oracle, to face a literature that often reports it). One JSON line
per run; with ``--table`` the tables of README.md and docs/benchmarks.md from such lines. `benchmarks/pairs.py` shows
that the command lines give the same figures.
"""

import statistics
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from benchmarks.arena import (
    PRODUCT,
    SINGLE_SEED,
    Answers,
    Job,
    Outcome,
    Row,
    Site,
    SourceModel,
    adapt_to,
    benchmark_parser,
    figures,
    load,
    make_jobs,
    run_jobs,
    train_source,
)
from benchmarks.record import ROOT, write_section
from benchmarks.tables import (
    NAMES,
    distinct,
    markdown,
    mean,
    over_seeds,
    pick,
    provenance,
    read_lines,
    written,
)
from ecan_core.adaptation.registry import METHODS, SCORING_METHODS
from ecan_core.adaptation.settings import DEFAULT_METHOD, members_of
from target_site.results.label_sheet import HELD_BACK, draw
from target_site.results.segments import Segment

ALL_METHODS = ("none", *(name for name in METHODS | SCORING_METHODS if name != "none"))
VOICE_METHODS = ("ecan", "shot-im", "shot", "aad", "cowa")
"""Methods that are also run with estimated voices; without an adaptation there are none, so `none` is by corpus."""
NORMALIZATIONS = ("speaker", "corpus", "voice")
LABELS = 50
"""Utterances that a person labels."""
HARM = 1.0
"""Points of UAR below or above the received model from which a run counts as harmful or helpful."""
COUNTS = {"uar": "last epoch", "uar_selected": "selected", "uar_oracle": "oracle"}


def main() -> None:
    parser = benchmark_parser("tasks", __doc__, seeds=5)
    parser.add_argument("--method", action="append", choices=ALL_METHODS, help="these alone beside the product")
    arguments = parser.parse_args()
    if arguments.table:
        every = read_lines(arguments.out)
        lines = [line for line in every if not is_labelled(line)]
        write_section(ROOT / "README.md", "tasks", main_table(lines, brief=True))
        sheets = f"### What a sheet of labels adds\n\n{labels_table(every)}"
        write_section(ROOT / "docs" / "benchmarks.md", "tasks", f"{details(lines)}\n\n{sheets}")
        return
    run_jobs(
        partial(run_job, methods=arguments.method or ALL_METHODS),
        make_jobs(load(arguments), arguments),
        arguments.out,
        arguments.workers,
    )


def run_job(job: Job, methods: Sequence[str]) -> list[Row]:
    """One source network and every method on it: the product with its committee, the others with one network each."""
    model, (site, answers) = train_source(job), job.target.split(job.classes)
    settings = job.settings()
    rows = []
    for mode in job.modes:
        place = {"pair": job.pair, "normalization": mode, "seed": job.seed}
        panel = adapt_to(model, site, mode=mode, settings=settings, seed=job.seed)
        rows.append(place | {"method": PRODUCT} | figures(panel, answers, panel))
        rows.append(place | {"labels": LABELS} | with_labels(model, site, answers, panel, mode, job))
        for method in [method for method in methods if mode != "voice" or method in VOICE_METHODS]:
            seed = SINGLE_SEED + job.seed
            outcome = adapt_to(model, site, mode=mode, method=method, settings=settings, seed=seed)
            judges = None if method == "none" else panel
            rows.append(place | {"method": method} | figures(outcome, answers, judges))
    if "voice" in job.modes:
        (by_corpus,) = pick([row for row in rows if not is_labelled(row)], normalization="corpus", method="none")
        rows.append(by_corpus | {"normalization": "voice"})
    return rows


def with_labels(model: SourceModel, site: Site, answers: Answers, panel: Outcome, mode: str, job: Job) -> Row:
    """What a filled-in sheet adds: both figures are of the utterances that the sheet does not have."""
    sheet = drawn_rows(panel.scores, job)
    learned = [row for place, row in enumerate(sheet) if place % HELD_BACK]
    outcome = adapt_to(
        model, site, mode=mode, settings=job.settings(), seed=job.seed, given=answers.of(np.array(learned))
    )
    rest = np.ones(len(panel.scores), dtype=bool)
    rest[sheet] = False
    before, after = (answers.among(rest).uar(one.scores[rest]) for one in (panel, outcome))
    return {"learned": len(learned), "uar_without": round(before, 5), "uar": round(after, 5)}


def drawn_rows(scores: np.ndarray, job: Job) -> list[int]:
    """The rows of the sheet that the product draws from its predictions."""
    segments = [
        Segment(
            recording=f"{row:06d}",
            channel=None,
            role=None,
            begin_ms=0,
            end_ms=0,
            speaker=None,
            label=job.classes[int(of_row.argmax())],
            confidence=float(of_row.max()),
            abstained=False,
            scores=dict(zip(job.classes, of_row.tolist(), strict=True)),
        )
        for row, of_row in enumerate(scores)
    ]
    return [int(one.recording) for one in draw(segments, job.classes, LABELS, job.seed)]


def labels_table(lines: Sequence[Row]) -> str:
    """What the labels of a sheet add, by normalization."""
    rows = []
    for normalization in NORMALIZATIONS:
        its = [line | {"gain": line["uar"] - line["uar_without"]} for line in lines if is_labelled(line)]
        here = pick(its, normalization=normalization)
        cells = [f"{mean(pick(here, pair=pair), 'gain'):+.1f}" for pair in distinct(here, "pair")]
        figures_of = [written(*over_seeds(here, key)) for key in ("uar_without", "uar")]
        rows.append([normalization, *figures_of, *cells, f"{mean(here, 'gain'):+.1f}"])
    pairs = [pair.replace("-", " → ") for pair in distinct(lines, "pair")]
    head = ["normalized by", "without labels", f"with {LABELS}", *pairs, "mean"]
    return markdown(head, rows, words=1) + (
        f"\n\nThe product with and without the {LABELS} labels of one sheet, of which it learns from "
        f"{LABELS - LABELS // HELD_BACK}. UAR in % of the utterances that the sheet does not have, last epoch; by pair "
        f"and in the last column, points gained. `make bench-tasks`, {provenance(lines)}"
    )


def is_labelled(line: Row) -> bool:
    """Whether a line is of a run that was given labels; all other tables are of runs that were not."""
    return "labels" in line


def main_table(lines: Sequence[Row], *, brief: bool = False) -> str:
    """UAR of the last epoch per method and pair, mean over seeds, and over all pairs with its interval.

    In brief: no adaptation, ECAN, the best network by a single method, the product.
    """
    pairs = distinct(lines, "pair")
    rows = []
    for normalization in NORMALIZATIONS:
        here = pick(lines, normalization=normalization)
        best = best_method(here, "uar")
        shown = ("none", "ecan", best_method([line for line in here if line["method"] != PRODUCT], "uar"), PRODUCT)
        for method in in_order(here):
            if brief and method not in shown:
                continue
            its = pick(here, method=method)
            cells = [f"{mean(pick(its, pair=pair), 'uar'):.1f}" for pair in pairs]
            cells.append(written(*over_seeds(its, "uar"), best=method == best))
            rows.append([normalization, title(method), *cells])
    head = ["normalized by", "method", *(pair.replace("-", " → ") for pair in pairs), "mean (95 %)"]
    which = "Shown are ECAN and the best single method of each. " if brief else ""
    return markdown(head, rows, words=2) + (
        "\n\nUAR in %, last epoch, one setting for all pairs, mean over seeds; the best mean of each normalization is "
        f"bold. {which}Every method adapts one network; the product is a committee of {members()}. `voice`: nobody "
        "says who speaks, and the target estimates it. The interval is Student's over the seeds' means of all pairs: "
        "says how much the seed matters, not how much another corpus would. "
        f"{fewer_seeds(lines)}`make bench-tasks`, {provenance(lines)}"
    )


def fewer_seeds(lines: Sequence[Row]) -> str:
    """The sentence that names the methods which fewer seeds were run of than of the product, if there are any."""
    seeds = {method: len(distinct(pick(lines, method=method), "seed")) for method in distinct(lines, "method")}
    fewer = [method for method, count in seeds.items() if count < seeds[PRODUCT]]
    counts = sorted({seeds[method] for method in fewer})
    return f"Of {', '.join(map(title, fewer))} {' or '.join(map(str, counts))} seeds. " if fewer else ""


def details(lines: Sequence[Row]) -> str:
    """Last epoch, selected and oracle; the paired test; how well an adaptation is judged without labels."""
    return "\n\n".join([main_table(lines), three_counts(lines), paired_tests(lines), selection(lines)])


def three_counts(lines: Sequence[Row]) -> str:
    """The three figures of every method, mean over pairs."""
    rows = []
    for normalization in NORMALIZATIONS:
        here = pick(lines, normalization=normalization)
        best = {key: best_method(here, key) for key in COUNTS}
        for method in in_order(here):
            its = pick(here, method=method)
            cells = [written(*over_seeds(its, key), best=best[key] == method) for key in COUNTS]
            seconds = statistics.fmean(line["seconds"] for line in its)
            rows.append([normalization, title(method), *cells, f"{seconds:.1f}"])
    return markdown(["normalized by", "method", *COUNTS.values(), "seconds"], rows, words=2) + (
        f"\n\nUAR in %, mean over {len(distinct(lines, 'pair'))} pairs with Student's 95 % interval over the seeds. "
        "*Selected*: what the product keeps, without labels. *Oracle*: the best of the received model and all epochs "
        "of all rounds by the target's labels, which no site has; for comparison with literature alone. "
        f"{provenance(lines)}"
    )


def paired_tests(lines: Sequence[Row]) -> str:
    """The default against no adaptation and the best other method: over the pairs' means, and over every run."""
    rows = []
    for normalization in NORMALIZATIONS:
        here = pick(lines, normalization=normalization)
        others = [line for line in here if line["method"] not in ("none", PRODUCT, "ecan")]
        if not others:
            continue
        rival = best_method(others, "uar")
        for method, other in ((PRODUCT, "none"), (PRODUCT, rival), ("ecan", rival)):
            rows.append([normalization, title(method), title(other), *paired_test(here, method, other)])
    head = ["normalized by", "method", "against", "difference", "over pair means", "over all runs"]
    return markdown(head, rows, words=3) + (
        "\n\nPaired t-tests of the last epoch, two-sided. The test over pair means asks whether another pair would "
        "show the difference; runs of one pair share their corpora, so the test over all runs says only that the "
        "seeds agree. The rival is the best of all other methods by these very figures."
    )


def paired_test(lines: Sequence[Row], method: str, rival: str) -> list[str]:
    """Difference in points and both tests as t and p; lines are paired by pair and seed."""
    cells = {
        name: {(line["pair"], line["seed"]): 100 * line["uar"] for line in pick(lines, method=name)}
        for name in (method, rival)
    }
    runs = sorted(cells[method].keys() & cells[rival].keys())
    differences = [cells[method][run] - cells[rival][run] for run in runs]
    by_pair = [
        statistics.fmean(d for d, run in zip(differences, runs, strict=True) if run[0] == pair)
        for pair in sorted({pair for pair, _ in runs})
    ]
    return [f"{statistics.fmean(differences):+.1f}", t_and_p(by_pair), t_and_p(differences)]


def t_and_p(differences: Sequence[float]) -> str:
    """Student's paired test on differences, as text."""
    from scipy.stats import ttest_1samp  # of differences it is the paired test

    if len(differences) < 2 or statistics.pstdev(differences) < 1e-6:
        return "-"
    result = ttest_1samp(differences, 0.0)
    return f"t = {result.statistic:.2f}, p = {result.pvalue:.3f}, n = {len(differences)}"


def selection(lines: Sequence[Row]) -> str:
    """How well an adaptation is judged without labels."""
    rows = []
    for normalization in (*NORMALIZATIONS, "all"):
        here = lines if normalization == "all" else pick(lines, normalization=normalization)
        targets = by_target(here)
        singles = [without_product(target) for target in targets]
        ranks = [rank for target in singles if (rank := rank_within(target)) is not None]
        mean_rank = f"{statistics.fmean(ranks):.2f}" if ranks else "-"
        of_estimate = statistics.fmean(regret(target, best_estimate) for target in singles)
        of_product = statistics.fmean(regret(target, kept_by_product) for target in targets)
        regrets = [f"{of_estimate:.1f}", f"{of_product:.1f}"]
        rows.append([normalization, "all methods", mean_rank, *regrets, *verdicts(here)])
        rows.append([normalization, title(PRODUCT), "-", "-", "-", *verdicts(pick(here, method=PRODUCT))])
    head = ["normalized by", "runs of", "rank", "regret of the best estimate", "regret of the product"]
    head += ["harmful, caught", "helpful, lost", "last epoch", "after the verdict"]
    return markdown(head, rows, words=2) + (
        "\n\nOver all pairs and seeds. *Rank*: Spearman's between the estimated gain and the UAR of the single "
        "networks on one target, mean over targets; without the product, whose gain is estimated by its own members. "
        "*Regret of the best estimate*: points between the best last epoch of the single networks by the target's "
        "labels and that of the best estimated gain. *Regret of the product*: between the best last epoch of all, the "
        "product included, and what the product keeps. "
        f"*Harmful* runs ended more than {HARM:.0f} point under the received model, *caught* were put back to it; "
        f"*helpful* ended more than {HARM:.0f} point above, *lost* were put back. The last two columns: mean UAR of "
        "the runs before and after the verdict."
    )


def by_target(lines: Sequence[Row]) -> list[list[Row]]:
    """The lines of each target: one pair, normalization and seed."""
    found: dict[tuple[str, str, int], list[Row]] = {}
    for line in lines:
        found.setdefault((line["pair"], line["normalization"], line["seed"]), []).append(line)
    return list(found.values())


def without_product(lines: Sequence[Row]) -> list[Row]:
    """The lines of single networks, whose gain a panel estimates that does not hold them."""
    return [line for line in lines if line["method"] != PRODUCT]


def best_estimate(lines: Sequence[Row]) -> float:
    """UAR of the method with the best estimated gain."""
    return float(max(lines, key=lambda line: line["gain"])["uar"])


def kept_by_product(lines: Sequence[Row]) -> float:
    """UAR of what the product keeps."""
    (line,) = pick(lines, method=PRODUCT)
    return float(line["uar_selected"])


def rank_within(lines: Sequence[Row]) -> float | None:
    """Spearman's rank correlation between estimated gain and UAR; None where one of them does not vary."""
    from scipy.stats import spearmanr

    scores, uars = [line["gain"] for line in lines], [line["uar"] for line in lines]
    if len(set(scores)) < 2 or len(set(uars)) < 2:
        return None
    return float(spearmanr(scores, uars).statistic)


def regret(lines: Sequence[Row], choose: Callable[[Sequence[Row]], float]) -> float:
    """Points that a choice among the lines of one target loses to the best of them."""
    return 100 * (float(max(line["uar"] for line in lines)) - choose(lines))


def verdicts(lines: Sequence[Row]) -> list[str]:
    """Harmful and caught, helpful and lost, and the mean UAR before and after the verdict."""
    adapted = [line for line in lines if line["method"] != "none"]
    if not adapted:
        return ["-"] * 4
    harmful = [line for line in adapted if 100 * (line["uar_source"] - line["uar"]) > HARM]
    helpful = [line for line in adapted if 100 * (line["uar"] - line["uar_source"]) > HARM]
    return [
        share_reverted(harmful),
        share_reverted(helpful),
        f"{mean(adapted, 'uar'):.1f}",
        f"{mean(adapted, 'uar_selected'):.1f}",
    ]


def share_reverted(lines: Sequence[Row]) -> str:
    """How many lines there are, how many of them were put back, and the share."""
    reverted = len(pick(lines, verdict="reverted"))
    return f"{len(lines)}, {reverted}" + (f" ({100 * reverted / len(lines):.0f} %)" if lines else "")


def members() -> str:
    """The methods of the product's committee, by name."""
    return ", ".join(NAMES[method] for method in members_of(DEFAULT_METHOD))


def best_method(lines: Sequence[Row], key: str) -> str:
    """The method with the best mean."""
    methods: list[str] = distinct(lines, "method")
    return max(methods, key=lambda name: mean(pick(lines, method=name), key))


def in_order(lines: Sequence[Row]) -> list[str]:
    """The methods of the lines in the order of the tables."""
    present = set(distinct(lines, "method"))
    return [method for method in (*ALL_METHODS, PRODUCT) if method in present]


def title(method: str) -> str:
    return NAMES.get(method, method)


if __name__ == "__main__":
    main()
