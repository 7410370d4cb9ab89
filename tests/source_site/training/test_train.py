"""What training measures of the network that leaves."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from ecan_core.model.architectures import ARCHITECTURES, build_network
from ecan_core.model.network import CosineHead
from ecan_core.model.weights import to_arrays
from ecan_core.training.private import PrivateSettings
from ecan_core.training.train import TrainSettings
from protocol.bundle import weights
from protocol.bundle.form import ModelForm
from protocol.bundle.stated_audit import AuditFields
from source_site.release.grant import manifest_fields
from source_site.training.material import Recipe, fit_network, quantize_network
from source_site.training.run_folder import load_run
from source_site.training.train import _cost, held_out_rows, hold_out
from tests.source_site.audit.samples import random_material
from tests.source_site.training.runs import FACTS


def test_a_quantized_network_is_the_one_that_a_bundle_holds():
    arch = ARCHITECTURES["mlp"]
    network = build_network(arch, input_dim=arch_input_dim(), num_classes=4, normalization="speaker", seed=0)
    inputs = torch.from_numpy(np.random.default_rng(0).normal(size=(5, arch_input_dim())).astype(np.float32))
    network.eval()
    before = network(inputs).logits
    form = ModelForm(arch.name, 4, "speaker")
    packed = weights.pack(to_arrays(network), form)
    assert quantize_network(network, form) == packed
    after = network(inputs).logits
    shipped = weights.dequantize(weights.unpack(packed, form), form)
    length = np.linalg.norm(shipped["head.weight"], axis=1, keepdims=True)
    as_read = {**shipped, "head.weight": CosineHead.LENGTH * shipped["head.weight"] / length}
    assert all(np.allclose(to_arrays(network)[name], as_read[name], atol=1e-6) for name in shipped)
    assert not torch.equal(before, after)
    assert torch.allclose(before, after, atol=0.05)


@pytest.mark.parametrize(("noise", "is_told"), [(0.5, False), (1e4, True)])
def test_a_private_training_whose_noise_leaves_nothing_is_told_to_be_at_chance(noise, is_told):
    material = random_material(240, num_speakers=8)
    rows = held_out_rows(material.speakers, material.labels, 0)
    private = hold_out(material, rows, Recipe(private=PrivateSettings(noise_multiplier=noise)), seed=0, noise_key=0)
    usual = hold_out(material, rows, Recipe(settings=TrainSettings(epochs=4)), seed=0, noise_key=0)
    told = _cost(private, usual)
    assert f"({100 * (private.uar - usual.uar):+.1f} points), by chance 33.3 %" in told
    assert ("nothing shows that it is above chance: allow a larger epsilon" in told) == is_told


def arch_input_dim() -> int:
    from protocol.bundle.architecture import model_shapes

    return model_shapes(ModelForm("mlp-stats-v1", 4, "speaker"))["encoder.0.weight"][1]


@pytest.mark.journey
def test_a_run_states_the_rate_before_and_after_quantization(crossing):
    facts = load_run(crossing.run).facts
    assert facts.uar_float > 0
    assert facts.uar_source > 0
    assert facts.quantization_loss is not None
    assert abs(facts.quantization_loss) <= 0.005
    told = json.loads((crossing.run / "run.json").read_text())
    assert (told["uar_float"], told["uar_source"]) == (facts.uar_float, facts.uar_source)


def test_the_manifest_states_the_rate_of_what_leaves():
    facts = replace(FACTS, uar_float=0.6, uar_source=0.596)
    fields = manifest_fields(facts, AuditFields(), audience=bytes(32), grant=bytes(16), release=1, today=0)
    assert (fields.uar_src, fields.uar_q_loss) == (119, 1)


def test_a_speaker_who_alone_speaks_a_class_is_not_held_out():
    speakers = [name for name in "abcdefgh" for _ in range(4)]
    labels = np.tile([0, 1, 0, 1], 8)
    labels[:4] = 2
    for seed in range(20):
        held_out = held_out_rows(speakers, labels, seed)
        assert {speakers[row] for row in held_out} < set("bcdefgh")
        assert len(held_out) == 8


def test_nobody_is_held_out_of_too_few_or_unknown_speakers():
    assert len(held_out_rows(["a", "b", "c"], np.array([0, 1, 0]), 0)) == 0
    assert len(held_out_rows([None] * 8, np.zeros(8, int), 0)) == 0


def test_a_copy_over_the_telephone_is_learned_with_its_utterance_and_with_no_other():
    material = random_material()
    first, last = np.arange(len(material) - 1), np.array([len(material) - 1])
    copies = {int(last[0]): material.values[0] + 1}
    with_copy = replace(material, copies=copies)
    alone, beside = (to_arrays(fit_network(one, first, Recipe(), seed=0)) for one in (material, with_copy))
    assert all(np.array_equal(alone[name], beside[name]) for name in alone)  # its utterance is held out
    every = np.arange(len(material))
    alone, beside = (to_arrays(fit_network(one, every, Recipe(), seed=0)) for one in (material, with_copy))
    assert not np.array_equal(alone["head.weight"], beside["head.weight"])
