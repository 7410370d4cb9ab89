import hashlib
import json
from dataclasses import replace

import numpy as np
import pytest
from safetensors.numpy import load

from ecan_core.errors import ModelError, UsageError
from protocol.errors import FileError
from source_site.training.run_folder import load_run
from tests.protocol.samples import random_model
from tests.source_site.training.runs import FACTS, write_run


def test_a_run_comes_back_as_it_was_saved(tmp_path):
    run = load_run(write_run(tmp_path / "run"))
    assert run.facts == FACTS
    tensors = load(run.weights)
    assert tensors.keys() == random_model().keys()
    assert all(np.array_equal(tensors[name], tensor) for name, tensor in random_model().items())
    assert run.digest == hashlib.sha256(run.weights).digest()


def test_a_folder_without_a_finished_training_is_named(tmp_path):
    write_run(tmp_path / "run")
    (tmp_path / "run" / "run.json").unlink()
    with pytest.raises(UsageError, match="ecan-source train"):
        load_run(tmp_path / "run")


@pytest.mark.parametrize(
    "change",
    [
        lambda facts: facts | {"speakers": ["F01", "F02"]},
        lambda facts: {name: value for name, value in facts.items() if name != "hours"},
        lambda facts: facts | {"num_speakers": "ten"},
        lambda facts: facts | {"hours": float("nan")},
        lambda facts: [facts],
    ],
)
def test_facts_that_are_not_exactly_the_known_ones_are_refused(tmp_path, change):
    path = write_run(tmp_path / "run") / "run.json"
    path.write_text(json.dumps(change(json.loads(path.read_text()))))
    with pytest.raises(ModelError, match="train again"):
        load_run(tmp_path / "run")


@pytest.mark.parametrize(
    ("start", "kind"),
    [(b"\x80\x04\x95", "a pickle"), (b"PK\x03\x04", "PyTorch checkpoint"), (b"", "something else")],
)
def test_weights_of_another_kind_are_named_and_never_opened(tmp_path, start, kind):
    path = write_run(tmp_path / "run") / "weights.safetensors"
    path.write_bytes(start)
    with pytest.raises(ModelError, match=kind) as caught:
        load_run(tmp_path / "run")
    assert caught.value.exit_code == 12


def test_weights_stay_unread_until_the_gate(tmp_path):
    path = write_run(tmp_path / "run") / "weights.safetensors"
    path.write_bytes(path.read_bytes()[:1000])
    assert load_run(tmp_path / "run").weights == path.read_bytes()


def test_missing_weights_are_a_storage_fault(tmp_path):
    (write_run(tmp_path / "run") / "weights.safetensors").unlink()
    with pytest.raises(FileError):
        load_run(tmp_path / "run")


def test_the_loss_by_quantization_is_known_where_it_was_estimated():
    assert FACTS.quantization_loss == 0.002
    assert replace(FACTS, uar_source=0.81).quantization_loss == -0.005
    assert replace(FACTS, uar_source=0.0, uar_float=0.0).quantization_loss is None
