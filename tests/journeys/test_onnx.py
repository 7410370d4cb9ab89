"""The adapted model in another program: by a contained process, to a file that onnxruntime reads."""

import os

import numpy as np
import pytest

from tests.hostile.infected import infect, said_by_attack
from tests.support import cli

pytestmark = pytest.mark.journey


def test_an_adapted_model_answers_in_another_runtime(adapted, tmp_path, monkeypatch):
    monkeypatch.setitem(os.environ, "ORT_DISABLE_TELEMETRY", "1")
    onnxruntime = pytest.importorskip("onnxruntime")
    result = cli.target("onnx", "--model", adapted, "--out", tmp_path / "out", "--format", "json")
    assert result.code == 0, result.stderr
    assert "contained at level" in result.stderr
    written = tmp_path / "out" / "model.onnx"
    assert result.json()["bytes"] == written.stat().st_size
    assert result.json()["difference"] < 1e-4
    session = onnxruntime.InferenceSession(written, providers=["CPUExecutionProvider"])
    classes = session.get_modelmeta().custom_metadata_map["classes"].split(",")
    inputs = {
        one.name: np.zeros((3, *one.shape[1:]), np.float32 if one.name == "features" else np.int64)
        for one in session.get_inputs()
    }
    (scores,) = session.run(None, inputs)
    assert scores.shape == (3, len(classes))
    np.testing.assert_allclose(scores.sum(axis=1), 1.0, atol=1e-5)
    assert cli.target("log", "verify", "--folder", adapted).code == 0


def test_the_other_runtime_reports_nothing_to_its_maker(adapted, tmp_path, monkeypatch):
    pytest.importorskip("onnxruntime")
    monkeypatch.setitem(os.environ, "ORT_DISABLE_TELEMETRY", "0")
    infect(
        monkeypatch,
        """
        import builtins
        load, told = builtins.__import__, []
        def watched(name, *rest, **more):
            if name == "onnxruntime" and not told:
                told.append(print("attack:", os.environ["ORT_DISABLE_TELEMETRY"], file=sys.stderr))
            return load(name, *rest, **more)
        builtins.__import__ = watched
        """,
    )
    result = cli.target("onnx", "--model", adapted, "--out", tmp_path / "out")
    assert result.code == 0, result.stderr  # no attempt to reach a network was counted
    assert said_by_attack(result) == "1"
