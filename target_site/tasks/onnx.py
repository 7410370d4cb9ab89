"""Write the adapted model as an ONNX file for other programs.

The file is kept if it answers as the model does.
"""

import logging
import os
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import torch

from ecan_core.adaptation.calibrate import soften
from ecan_core.adaptation.portable import PortableModel, speakers_of
from ecan_core.command_line.console import Narrator
from ecan_core.errors import ModelError
from ecan_core.model.architectures import architecture
from ecan_core.model.encoder import StatisticsEncoder
from ecan_core.model.predict import committee_scores
from protocol.containment.walls import Containment
from protocol.files import write_atomic
from target_site.containment.orders import OnnxOrder
from target_site.model.adapted import AdaptedModel, load_adapted

ONNX = "model.onnx"
OPSET = 20
CHECKED = 256
"""Drawn utterances on which the file has to answer as the model does."""
TOLERANCE = 1e-4
"""Largest difference of a score. Both compute in float32, in another order."""


def carry_out(order: OnnxOrder, containment: Containment, narrator: Narrator) -> dict[str, Any]:
    """Write an ONNX file that answers as the model does.

    Returns:
        The largest difference of a score (``difference``) and the file's length in bytes (``bytes``).

    Raises:
        ModelError: the model reads frames, or the file answers otherwise.
    """
    model = load_adapted(order.model)
    if not isinstance(model.received_network().encoder, StatisticsEncoder):
        raise ModelError("a model that reads frames cannot be written as ONNX; use `ecan-target predict`")
    if model.preparation.guessing:
        raise ModelError(
            "a model whose voices a speaker encoder hears cannot be written as ONNX; adapt with --normalize corpus or "
            "speaker, or use `ecan-target predict`"
        )
    data = to_onnx(model)
    difference = largest_difference(model, data)
    if not difference <= TOLERANCE:
        raise ModelError(f"the ONNX file answers otherwise than the model (scores differ by {difference:.1e})")
    write_atomic(order.out / ONNX, data)
    return {"difference": difference, "bytes": len(data)}


def to_onnx(model: AdaptedModel) -> bytes:
    """Export the model from front-end outputs to calibrated scores.

    The file says what its inputs and outputs mean, and nothing about this machine.
    """
    portable = PortableModel(model.networks(), model.preparation, model.temperature)
    num = torch.export.Dim("utterances")
    example = (torch.zeros(2, model.card.front_end().dim), torch.zeros(2, dtype=torch.int64))
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings(action="ignore"):  # of the exporter about itself
        program = torch.onnx.export(
            portable,
            example,
            input_names=["features", "speaker"],
            output_names=["scores"],
            dynamic_shapes=({0: num}, {0: num}),
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
        )
    assert program is not None
    return without_traces(program.model_proto, model)


def without_traces(graph: onnx.ModelProto, model: AdaptedModel) -> bytes:
    """Return the file without the exporter's notes, with its meaning.

    The notes name folders and lines of code.
    """
    inside = graph.graph
    for part in (graph, inside, *inside.node, *inside.value_info, *inside.input, *inside.output, *inside.initializer):
        part.ClearField("metadata_props")
        part.ClearField("doc_string")
    onnx.helper.set_model_props(graph, meaning(model))
    onnx.checker.check_model(graph)
    return bytes(graph.SerializeToString(deterministic=True))


def meaning(model: AdaptedModel) -> dict[str, str]:
    """Describe the inputs and outputs."""
    front_end = model.card.front_end()
    return {
        "classes": ",".join(model.card.classes),
        "front_end": architecture(model.card.arch).front_end,
        "features": ",".join(front_end.feature_names),
        "normalized_by": model.preparation.normalizer.mode,
        "weights_sha256": model.provenance["weights_sha256"],
    }


def largest_difference(model: AdaptedModel, data: bytes) -> float:
    """Return the largest difference between the file's and model's scores.

    The utterances are drawn around those that it was adapted to.
    """
    features, speakers = drawn(model)
    rows = {None: 0} | {name: row for row, name in enumerate(speakers_of(model.preparation.normalizer), start=1)}
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    import onnxruntime  # starts threads, so not before the walls stand

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    places = np.array([rows[name] for name in speakers], dtype=np.int64)
    inputs = {one.name for one in session.get_inputs()}
    (scores,) = session.run(None, {k: v for k, v in (("features", features), ("speaker", places)) if k in inputs})
    ours = committee_scores(model.networks(), model.preparation.inputs(list(features), speakers))
    return float(np.abs(scores - soften(ours, model.temperature)).max())


def drawn(model: AdaptedModel) -> tuple[np.ndarray, Sequence[str | None]]:
    """Draw utterances ``[N, S]`` with the site's moments.

    They are spoken by those whom it knows in turn, and by nobody.
    """
    corpus, known = model.preparation.normalizer.corpus, [None, *speakers_of(model.preparation.normalizer)]
    noise = np.random.default_rng(0).normal(size=(CHECKED, len(corpus.center)))
    features = (corpus.center + corpus.scale * noise).astype(np.float32)
    return features, [known[index % len(known)] for index in range(CHECKED)]
