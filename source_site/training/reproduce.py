"""Train a run again and compare the bytes.

A second person does this before a model leaves.

A file that two trainings agree on holds nothing that one person could have hidden in it: an operator can only choose
what the record lists.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from safetensors.numpy import load, save

from ecan_core.command_line.console import Narrator
from ecan_core.model.architectures import architecture, build_network
from ecan_core.model.network import Network
from ecan_core.model.weights import load_arrays, to_arrays
from ecan_core.training.train import TrainSettings
from source_site.training.material import Material, fit_network, quantize_network, read_material
from source_site.training.record import differences, load_noise_key, load_record, record_of
from source_site.training.run_folder import StoredRun, load_run


@dataclass(frozen=True, kw_only=True)
class Reproduction:
    """Describe how a second training compares with the first.

    Attributes:
        weights_sha256: SHA-256 of the weights that the run's bundle would hold, in hexadecimal.
        again_sha256: the same of the second training.
        is_same_run: whether even the weights before quantization are the same, bit for bit.
        differing_weights: share of the bundle's numbers that differ, 0 to 1.
        differences: what the two trainings have not in common, as half sentences.
    """

    weights_sha256: str
    again_sha256: str
    is_same_run: bool
    differing_weights: float
    differences: tuple[str, ...]

    @property
    def holds(self) -> bool:
        """Whether both trainings give the same bundle."""
        return self.weights_sha256 == self.again_sha256

    def lines(self) -> Iterator[str]:
        """Yield the outcome in lines for people."""
        yield f"the run        {self.weights_sha256}"
        yield f"trained again  {self.again_sha256}"
        if self.holds:
            yield f"bit-identical{'' if self.is_same_run else ' after quantization, not before it'}"
        else:
            yield f"not the same: {self.differing_weights:.2%} of the numbers differ"
        yield from self.differences or ("corpora, settings, seed, threads and versions are the same",)


def reproduce(
    run_dir: Path,
    corpora: Sequence[tuple[str, Path]],
    *,
    settings: TrainSettings | None,
    seed: int | None,
    cache_path: Path | None,
    narrator: Narrator,
    encoders: Path | None = None,
    relabel: dict[str, str] | None = None,
) -> Reproduction:
    """Train a run again in this process, with its number of threads.

    Args:
        run_dir: folder of the trained model; nothing in it is changed but its cache of features.
        corpora: recipe and path of each corpus, as they were given to the training.
        settings: how to train; None takes what the run's record says.
        seed: seed of the training; None takes what the run's record says.
        cache_path: where front-end outputs are kept; None takes the run's own.
        narrator: tells a person how far the work has come.
        encoders: folder of public encoders; None takes the user's.
        relabel: what labels count as; None takes what the run's record says.

    Raises:
        ModelError: the run is damaged or does not say how it was trained.
        AudioError: a class of the run has no usable speech.
    """
    run = load_run(run_dir)
    record = load_record(run_dir, run)
    recipe = record.recipe if settings is None else replace(record.recipe, settings=settings)
    seed = record.seed if seed is None else seed
    noise_key = load_noise_key(run_dir, record)
    relabel = record.relabel if relabel is None else relabel
    material = read_material(
        corpora,
        classes=run.facts.classes,
        normalization=run.facts.normalization,
        encoder=record.encoder,
        cache_path=cache_path or run_dir / "features.cache",
        narrator=narrator,
        encoders=encoders,
        added_encoder=run.facts.added_encoder,
        telephone=recipe.telephone,
        relabel=relabel,
    )
    narrator.say("training again")
    network = fit_network(material, np.arange(len(material)), recipe, seed=seed, noise_key=noise_key)
    digest = hashlib.sha256(save(to_arrays(network))).digest()
    packed = quantize_network(network, material.form)
    again = record_of(
        material,
        record.encoder,
        recipe,
        seed,
        digest,
        promise=record.promise,
        noise_key=noise_key,
        relabel=relabel,
    )
    _, held = released_network(run, material)
    return Reproduction(
        weights_sha256=hashlib.sha256(held).hexdigest(),
        again_sha256=hashlib.sha256(packed).hexdigest(),
        is_same_run=digest == run.digest,
        differing_weights=_share_of_differing(held, packed),
        differences=tuple(differences(record, again)),
    )


def _share_of_differing(held: bytes, packed: bytes) -> float:
    """Return the share of the encoded integers that differ, 0 to 1."""
    before, now = load(held), load(packed)
    differing = sum(int((before[name] != now[name]).sum()) for name in before)
    return differing / sum(values.size for values in before.values())


def released_network(run: StoredRun, material: Material) -> tuple[Network, bytes]:
    """Return the network as a bundle would hold it, and its weights there."""
    facts = run.facts
    network = build_network(
        architecture(facts.arch),
        input_dim=material.values[0].shape[-1],
        num_classes=len(facts.classes),
        normalization=facts.normalization,
    )
    load_arrays(network, load(run.weights))
    return network, quantize_network(network, facts.form)
