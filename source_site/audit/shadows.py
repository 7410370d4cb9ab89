"""Train networks on random halves of the corpus for an audit.

They are trained as the released one was. Their answers are kept.

Each is trained by the function that trains the released network, from the weights that it began with: an attacker who
has the file finds the seed by trying, and reads what a private training leaves as it was drawn. Then it is quantized
and put in canonical order as a bundle would hold it. What is kept of one is its answers alone, one file per network, so
an audit that was killed goes on where it was.
"""

import hashlib
import io
import json
import zipfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.lib.format import MAGIC_PREFIX

from ecan_core.data.inputs import inputs_of
from ecan_core.errors import SettingsError, StorageError
from ecan_core.model.network import Network
from ecan_core.model.optim import make_optimizer
from ecan_core.model.predict import run
from ecan_core.runtime.seeding import one_thread
from ecan_core.runtime.workers import cores, shared_out
from protocol.files import make_private_folder, write_atomic
from source_site.training.material import FirstWeights, Material, Recipe, fit_network, quantize_network

OnProgress = Callable[[int, int], None]

NOISE = (0.5, 1.0, 2.0, 4.0)
"""Deviations of the noise on normalized inputs, for an attacker who is told labels alone."""

_NOISE_SEED = 7
_FIRST_SEED = 1_000
"""Shadows draw shuffling, dropout and noise from seeds of their own."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Shadows:
    """Hold the answers of K networks about N utterances.

    Attributes:
        members: which network was trained on which utterance, bool ``[K, N]``.
        logits: their answers, float32 ``[K, N, C]``.
        hits: noisy copies of which they named the class right, ``[K, N]`` of `num_copies`.
        num_copies: noisy copies of each utterance.
    """

    members: np.ndarray
    logits: np.ndarray
    hits: np.ndarray
    num_copies: int


def random_halves(num_models: int, num_utterances: int, *, seed: int) -> np.ndarray:
    """Draw which model is trained on which utterance, bool ``[K, N]``.

    Each utterance and each two models share one toss of a coin.
    """
    return with_counterparts(np.random.default_rng(seed).random((num_models // 2, num_utterances)) < 0.5)


def with_counterparts(members: np.ndarray) -> np.ndarray:
    """Add each model's counterpart, bool ``[J, N]`` to ``[2 J, N]``.

    It is trained on what the model is not, and comes right after it.
    """
    return np.stack([members, ~members], axis=1).reshape(-1, members.shape[1])


def train_shadows(
    material: Material,
    members: np.ndarray,
    recipe: Recipe,
    *,
    seed: int,
    folder: Path,
    first: FirstWeights | None = None,
    on_progress: OnProgress | None = None,
    workers: int | None = None,
) -> Shadows:
    """Train one network per row of ``members``, or load its answers.

    They are loaded from an earlier run.

    Args:
        material: all utterances.
        members: which network is trained on which utterance, bool ``[K, N]``.
        recipe: how the released network was trained.
        seed: seed of the audit.
        folder: where answers are kept.
        first: the weights that the released network began with; None draws others for each network.
        on_progress: told how many networks are done, and of how many.
        workers: processes that train; None takes the cores at hand.

    Raises:
        StorageError: a process that trains was killed.
        SettingsError: a training diverged.
    """
    make_private_folder(folder)
    jobs = [_Job(index=index, rows=np.flatnonzero(row), seed=seed, first=first) for index, row in enumerate(members)]
    keys = [_key(material, job, recipe) for job in jobs]
    answers = {job.index: _load(folder / key, material) for job, key in zip(jobs, keys, strict=True)}
    missing = [job for job in jobs if answers[job.index] is None]

    def answer(place: bytes) -> bytes:
        one_thread()
        try:
            return _to_bytes(_answer(material, missing[int(place)], recipe))
        except SettingsError as fault:
            return str(fault).encode()

    # The first optimizer imports half of torch: here once, and not in every process.
    make_optimizer("adamw", [torch.nn.Parameter(torch.zeros(1))], 1.0, 0.0)
    told = shared_out((b"%d" % place for place in range(len(missing))), answer, workers or cores())
    for job, content in zip(missing, told, strict=True):
        if content is None:
            raise StorageError(
                "A process that trains for the audit was killed, perhaps for want of memory; run it again to go on."
            )
        if not content.startswith(MAGIC_PREFIX):
            raise SettingsError(content.decode())
        write_atomic(folder / keys[job.index], content)
        answers[job.index] = _load(folder / keys[job.index], material)
        if on_progress is not None:
            on_progress(sum(one is not None for one in answers.values()), len(jobs))
    together = np.stack([one for index in range(len(jobs)) if (one := answers[index]) is not None])
    return Shadows(members=members, logits=together[..., :-1], hits=together[..., -1], num_copies=_num_copies(material))


def left_out_parts(num_models: int, num_utterances: int, *, parts: int = 8, seed: int) -> np.ndarray:
    """Divide the corpus for models that leave out one part each.

    The result is bool ``[J, N]``. They are trained on nearly everything, and the parts change.

    Args:
        num_models: J; as many rounds as it takes, each with every part left out once.
        num_utterances: N.
        parts: parts that a round divides the corpus into.
        seed: seed of the division.
    """
    random = np.random.default_rng([seed, 2])
    rounds = [random.permutation(np.arange(num_utterances) % parts) for _ in range(-(-num_models // parts))]
    return np.stack([rounds[model // parts] != model % parts for model in range(num_models)])


def job_seed(seed: int, index: int) -> int:
    """Return the seed of an audit's network."""
    return _FIRST_SEED * (1 + seed) + index


@dataclass(frozen=True, kw_only=True, eq=False)
class _Job:
    """Describe a network to train: number, utterances, seed of the audit."""

    index: int
    rows: np.ndarray
    seed: int
    first: FirstWeights | None

    @property
    def own_seed(self) -> int:
        return job_seed(self.seed, self.index)


def _answer(material: Material, job: _Job, recipe: Recipe) -> np.ndarray:
    """Return what a network answers, ``[N, C + 1]``.

    These are its logits and, in the last column, how many noisy copies it names right.
    """
    network = fit_network(material, job.rows, recipe, seed=job.own_seed, noise_key=job.own_seed, first=job.first)
    quantize_network(network, material.form)
    logits = run(network, material.inputs()).logits.numpy()
    return np.hstack([logits, noisy_hits(network, material)[:, None].astype(np.float32)])


def noisy_hits(network: Network, material: Material) -> np.ndarray:
    """Count the noisy copies that a network names right ``[N]``.

    Each utterance has its count, and every network hears the same noise.
    """
    random = np.random.default_rng(_NOISE_SEED)
    hits = np.zeros(len(material), dtype=np.int64)
    for copy in range(_num_copies(material)):
        deviation = NOISE[copy % len(NOISE)]
        noisy = [value + deviation * random.standard_normal(value.shape, dtype=np.float32) for value in material.values]
        hits += run(network, inputs_of(noisy)).logits.numpy().argmax(axis=-1) == material.labels
    return hits


def _num_copies(material: Material) -> int:
    return 24 if material.values[0].ndim == 1 else 4  # a sequence of frames takes a hundred times as long


def _key(material: Material, job: _Job, recipe: Recipe) -> str:
    """Name the answers of one network by all that they depend on."""
    what = {
        "utterances": material.digests,
        "labels": material.labels.tolist(),
        "classes": material.classes,
        "arch": material.arch.name,
        "normalization": material.normalization,
        "recipe": asdict(recipe),
        "rows": job.rows.tolist(),
        "seed": job.own_seed,
        "first": None if job.first is None else asdict(job.first),
        "torch": torch.__version__,
        "noise": NOISE,
    }
    return hashlib.sha256(json.dumps(what).encode()).hexdigest()[:32] + ".npy"


def _to_bytes(logits: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, logits.astype(np.float32), allow_pickle=False)
    return buffer.getvalue()


def _load(path: Path, material: Material) -> np.ndarray | None:
    """Load answers of an earlier run; None where none can be used."""
    if not path.is_file():
        return None
    try:
        logits: np.ndarray = np.load(path, allow_pickle=False)
    except (ValueError, EOFError, zipfile.BadZipFile):
        return None
    return logits if logits.shape == (len(material), len(material.classes) + 1) else None
