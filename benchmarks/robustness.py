"""What becomes of the product where the target is not as a benchmark has it.

A class that nobody speaks, ten times as much of one class as of another, few utterances, speakers with one emotion
each, a telephone, eight bits, noise, silence, tones and music. The source network and the settings are the product's
in every condition. One JSON line per run; with ``--table`` the table of docs/benchmarks.md from such lines.
"""

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from benchmarks import call_sounds
from benchmarks.arena import (
    PRODUCT,
    Hearing,
    Job,
    LabeledSpeech,
    Row,
    adapt_to,
    benchmark_parser,
    cache_folder,
    extended,
    extract,
    figures,
    find_corpora,
    hearing_of,
    load,
    make_jobs,
    run_jobs,
    train_source,
)
from benchmarks.record import ROOT, write_section
from benchmarks.tables import distinct, markdown, mean, pick, provenance, read_lines
from ecan_core.audio import telephone
from ecan_core.audio.decode import decode, resample
from ecan_core.audio.waveform import Waveform
from ecan_core.data.labeled import Corpus, LabeledUtterance
from ecan_core.normalization.voices import MIN_GUESSES, possible_mode

NORMALIZATIONS = ("speaker", "corpus", "voice")
AS_IT_IS = "as it is"
ONE_EMOTION = "one emotion per speaker"
SIZES = (50, 100, 200)
BAR = 1.0
"""Points of UAR that the product may lose after its verdict, on average, in any condition."""
IMBALANCE = 10.0
"""Utterances of the most frequent class for each of the rarest."""
NOISE_DB = 10.0
"""Level of the speech above the noise."""
SILENCE_S = 2.0
"""Silence before and again after each utterance."""
WORK_RATE = 16_000

Degradation = Callable[[Waveform, np.random.Generator], Waveform]


def main() -> None:
    arguments = benchmark_parser("robustness", __doc__, seeds=2).parse_args()
    if arguments.table:
        write_section(ROOT / "docs" / "benchmarks.md", "robustness", table(read_lines(arguments.out)))
        return
    with cache_folder(arguments.cache) as cache:
        arguments.cache = cache
        speech = load(arguments)
        corpora, hearing = find_corpora(arguments.corpora), hearing_of(arguments)
        degraded = {
            name: {
                kind: degrade(corpora[name], degradation, hearing, cache / f"{name}-{kind}.cache")
                for kind, degradation in DEGRADATIONS.items()
            }
            for name in speech
        }
    jobs = [
        extended(
            DegradedJob,
            job,
            degraded={kind: heard.restrict(job.classes) for kind, heard in degraded[job.target.name].items()},
        )
        for job in make_jobs(speech, arguments)
    ]
    run_jobs(run_job, jobs, arguments.out, arguments.workers)


@dataclass(frozen=True, kw_only=True)
class DegradedJob(Job):
    """A job with the target as it sounds under each degradation."""

    degraded: dict[str, LabeledSpeech]


def run_job(job: DegradedJob) -> list[Row]:
    """One source network and the product on it in every condition."""
    model, settings = train_source(job), job.settings()
    rows = []
    for condition, target in conditions(job):
        site, answers = target.split(job.classes)
        for mode in job.modes:
            if condition == ONE_EMOTION and mode != "speaker":
                continue  # nobody asks who speaks
            panel = adapt_to(model, site, mode=mode, settings=settings, seed=job.seed)
            row: Row = {"pair": job.pair, "normalization": mode, "effective": possible_mode(mode, len(target.labels))}
            row |= {"condition": condition, "seed": job.seed, "num_utterances": len(target.labels), "method": PRODUCT}
            row |= figures(panel, answers, panel)
            if condition == ONE_EMOTION:
                by_corpus = adapt_to(model, site, mode="corpus", settings=settings, seed=job.seed)
                its = figures(by_corpus, answers, by_corpus)
                row |= {f"{key}_corpus": its[key] for key in ("uar", "uar_selected", "uar_source")}
            rows.append(row)
    return rows


def conditions(job: DegradedJob) -> list[tuple[str, LabeledSpeech]]:
    """The target in every condition by name; a name may occur more than once."""
    target, labels = job.target, job.target.indices(job.classes)
    rng = np.random.default_rng([job.seed, zlib.crc32(job.pair.encode())])
    found = [(AS_IT_IS, target)]
    for missing in range(2):
        found.append(("one class missing", target.take(np.flatnonzero(labels != missing))))
    found.append(
        ("classes 10:1", target.take(imbalanced_rows(labels, IMBALANCE, rng.permutation(np.unique(labels)), rng)))
    )
    found += [(f"{size} utterances", target.take(random_rows(len(labels), size, rng))) for size in SIZES]
    found.append((ONE_EMOTION, replace(target, speakers=one_emotion_each(target, rng))))
    return found + list(job.degraded.items())


def imbalanced_rows(labels: np.ndarray, ratio: float, order: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Rows whose class counts fall geometrically from the most to the least frequent class, by ``ratio`` in all.

    The most frequent has as many rows as the smallest class of ``labels``, so that all orders are possible.

    Args:
        labels: class of each row ``[N]``.
        ratio: of the largest to the smallest count.
        order: the classes of ``labels``, the most frequent first.
        rng: draws the rows.
    """
    most = min(np.count_nonzero(labels == name) for name in order)
    wanted = np.maximum(1, np.round(most * ratio ** -np.linspace(0.0, 1.0, len(order))).astype(int))
    kept = [
        rng.choice(np.flatnonzero(labels == name), count, replace=False)
        for name, count in zip(order, wanted, strict=True)
    ]
    return np.sort(np.concatenate(kept))


def random_rows(num_rows: int, size: int, rng: np.random.Generator) -> np.ndarray:
    """So many rows, or all where there are fewer."""
    return np.sort(rng.permutation(num_rows)[:size])


def one_emotion_each(target: LabeledSpeech, rng: np.random.Generator) -> tuple[str, ...]:
    """Names of speakers, each split into one per emotion; a name says nothing of the emotion."""
    roles = list(zip(target.speakers, target.labels, strict=True))
    numbers = dict(zip(dict.fromkeys(roles), rng.permutation(len(set(roles))), strict=True))
    return tuple(f"speaker {numbers[role]}" for role in roles)


def over_telephone(sound: Waveform, rng: np.random.Generator) -> Waveform:
    """The band of a telephone, at its rate."""
    return telephone.narrowed(sound)


def noisy(sound: Waveform, rng: np.random.Generator) -> Waveform:
    """White noise, ``NOISE_DB`` under the mean power of the utterance."""
    power = np.mean(np.square(sound.samples)) * 10.0 ** (-NOISE_DB / 10.0)
    noise = rng.normal(scale=np.sqrt(power), size=len(sound.samples))
    return replace(sound, samples=(sound.samples + noise).astype(np.float32))


def between_silence(sound: Waveform, rng: np.random.Generator) -> Waveform:
    """Digital silence around the utterance."""
    return replace(sound, samples=np.pad(sound.samples, round(SILENCE_S * sound.sample_rate)))


def in_eight_bits(sound: Waveform, rng: np.random.Generator) -> Waveform:
    """The steps of plain 8-bit samples, of which quiet speech has few."""
    return replace(sound, samples=(np.round(sound.samples * 127) / 127).astype(np.float32))


def after_ring_back(sound: Waveform, rng: np.random.Generator) -> Waveform:
    """The tone that a caller hears before somebody answers, as loud as the speech."""
    tones = [tone for name, tone in call_sounds.line_tones(rng).items() if name.startswith("ring-back")]
    heard = at_work_rate(tones[int(rng.integers(len(tones)))])
    return replace(sound, samples=np.concatenate([scaled(heard, sound.samples, 0.0), sound.samples]))


def over_music(sound: Waveform, rng: np.random.Generator) -> Waveform:
    """Music behind the speech, ``NOISE_DB`` under its mean power."""
    music = at_work_rate(call_sounds.music(sound.duration_s + 1, rng))[: len(sound.samples)]
    return replace(sound, samples=sound.samples + scaled(music, sound.samples, NOISE_DB))


def at_work_rate(sound: call_sounds.Sound) -> np.ndarray:
    """A sound of a line at the rate of the other degradations."""
    narrow = Waveform(samples=sound.astype(np.float32), sample_rate=call_sounds.RATE)
    return resample(narrow, WORK_RATE).samples


def scaled(samples: np.ndarray, speech: np.ndarray, below_db: float) -> np.ndarray:
    """Samples at a level under that of the speech."""
    speech_db = 10 * np.log10(np.mean(np.square(speech)) + 1e-12)
    return call_sounds.at_level(samples, speech_db - below_db).astype(np.float32)


DEGRADATIONS: dict[str, Degradation] = {
    "telephone": over_telephone,
    "8 bits": in_eight_bits,
    "noise at 10 dB": noisy,
    "silence around": between_silence,
    "after a ring-back tone": after_ring_back,
    "music at 10 dB": over_music,
}


def degrade(corpus: Corpus, degradation: Degradation, hearing: Hearing, cache_path: Path) -> LabeledSpeech:
    """The features of a corpus under a degradation, by way of files and the ordinary extraction.

    The files go again, the features stay in the cache: equal files are found there by their hash.
    """
    with TemporaryDirectory() as folder:
        heard = []
        for number, item in enumerate(corpus.utterances):
            utterance = item.utterance
            sound = decode(utterance.path, channel=utterance.channel, start_s=utterance.start_s, end_s=utterance.end_s)
            path = Path(folder) / f"{number}.wav"
            rng = np.random.default_rng(zlib.crc32(utterance.id.encode()))
            write_wav(path, degradation(resample(sound, WORK_RATE), rng))
            bare = replace(utterance, path=path, channel=None, start_s=None, end_s=None)
            heard.append(LabeledUtterance(utterance=bare, label=item.label))
        return extract(replace(corpus, utterances=tuple(heard)), hearing, cache_path)


def write_wav(path: Path, sound: Waveform) -> None:
    """Write a file: G.711 (mu-law) at the telephone's rate, 16 bits at any other; what would clip is scaled down."""
    import soundfile

    loudest = max(1.0, float(np.abs(sound.samples).max()))
    subtype = "ULAW" if sound.sample_rate == telephone.RATE else "PCM_16"
    soundfile.write(path, sound.samples / loudest, sound.sample_rate, subtype=subtype)


def table(lines: Sequence[Row]) -> str:
    """UAR of no adaptation, of the adapted model and of what the verdict leaves, in every condition."""
    rows, differences = [], {}
    for normalization in NORMALIZATIONS:
        here = pick(lines, normalization=normalization)
        for condition in distinct(here, "condition"):
            its = pick(here, condition=condition)
            none, adapted, kept = (mean(its, key) for key in ("uar_source", "uar", "uar_selected"))
            differences[f"{normalization}, {condition}"] = kept - none
            reverted = len(pick(its, verdict="reverted")) / len(its)
            cells = [f"{none:.1f}", f"{adapted:.1f}", f"{kept:.1f}", f"{kept - none:+.1f}", f"{reverted:.0%}"]
            rows.append([normalized_by(normalization, its), condition, *cells])
    worst = min(differences, key=lambda place: differences[place])
    head = ["normalized by", "target", "no adaptation", "adapted", "after the verdict", "difference", "reverted"]
    return markdown(head, rows, words=2) + (
        "\n\nThe product: UAR in % over the classes that occur, last epoch and after the verdict, mean over "
        f"{len(distinct(lines, 'pair'))} pairs. *Difference*: after the verdict, less no adaptation. The bar: not more "
        f"than {BAR:.0f} point below in any condition; the lowest is {differences[worst]:+.1f} ({worst}). "
        f"*Reverted*: share of runs that the verdict put back.{by_corpus_instead(lines)}{fallen_back(lines)} "
        "*One class missing*: the first and the second class in turn. *Classes 10:1*: counts fall geometrically, the "
        "order is drawn. *Telephone*: 300-3400 Hz, 8 kHz, G.711. *8 bits*: plain samples. *Noise*: white. *Silence*: "
        "2 s before and after. *Ring-back*: as loud as the speech. *Music*: computed, behind the speech. "
        f"`make bench-robustness`, {provenance(lines)}"
    )


def normalized_by(normalization: str, lines: Sequence[Row]) -> str:
    """What was asked for, and how many runs got another normalization because they could not have it."""
    fallen = [line for line in lines if line["effective"] != normalization]
    return f"{normalization} ({len(fallen)} of {len(lines)} by corpus)" if fallen else normalization


def fallen_back(lines: Sequence[Row]) -> str:
    """The sentence that explains the marks of `normalized_by`, where there are any."""
    if all(line["effective"] == line["normalization"] for line in lines):
        return ""
    return f" *By corpus*: under {MIN_GUESSES} utterances no voices are told apart."


def by_corpus_instead(lines: Sequence[Row]) -> str:
    """The sentence that says whether speakers with one emotion each are better not normalized by."""
    its = [line for line in lines if "uar_corpus" in line]
    if not its:
        return ""
    none, adapted, kept = (mean(its, f"{key}_corpus") for key in ("uar_source", "uar", "uar_selected"))
    return (
        f" *{ONE_EMOTION.capitalize()}*: by corpus on the same source networks, {none:.1f} without adaptation, "
        f"{adapted:.1f} adapted and {kept:.1f} after the verdict."
    )


if __name__ == "__main__":
    main()
