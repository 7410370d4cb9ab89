"""Keep what a killed adaptation has finished, for the next run.

That run goes on from there with the same numbers.

Every member of a committee that was adapted is kept as one file in a folder of the output. The folder is removed when
the new model is there. Its name binds it to everything that the numbers depend on: a run with another bundle, other
settings, recordings or versions starts from the beginning. A damaged file counts as missing. No memory bank is kept.
"""

import json
import platform
import shutil
from dataclasses import asdict
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.numpy import load, save

from ecan_core.adaptation.given import GivenLabels
from ecan_core.adaptation.health import Health
from ecan_core.adaptation.loop import Adaptation, EpochRecord
from ecan_core.adaptation.settings import AdaptPlan
from ecan_core.model.network import Network
from ecan_core.model.weights import restore, snapshot
from protocol.errors import ProtocolError
from protocol.files import make_private_folder, read_bounded, write_atomic
from target_site.model.folder import UNFINISHED

_MAX_BYTES = 1 << 30
_DIGEST_BYTES = 32
_SCORES, _RECORDS = "scores", "records"
_OF_NETWORK = "network."


def versions() -> dict[str, str]:
    """Return the versions of everything that a run's numbers depend on."""
    return {
        "ecan-ser": version("ecan-ser"),
        "torch": version("torch"),
        "numpy": version("numpy"),
        "python": platform.python_version(),
    }


class UnfinishedRun:
    """Keep the finished members of one adaptation.

    It is a `ecan_core.adaptation.site.Finished`.

    Args:
        out: the output folder.
        bundle: digest of the bundle.
        plan: how it is adapted.
        mode: what the utterances are normalized by.
        inputs: digest of who speaks and of all features (`FeatureTable.digest`).
        given: labels that it learns from.
    """

    def __init__(
        self,
        out: Path,
        *,
        bundle: bytes,
        plan: AdaptPlan,
        mode: str,
        inputs: bytes,
        given: GivenLabels | None = None,
    ) -> None:
        said = {
            "bundle": bundle.hex(),
            "plan": [plan.method, asdict(plan.settings), plan.seed],
            "mode": mode,
            "inputs": inputs.hex(),
            "threads": torch.get_num_threads(),
            "versions": versions(),
            "labels": None if given is None else [given.rows.tolist(), given.classes.tolist()],
        }
        binding = sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()
        self._folder = out / UNFINISHED / binding

    def load(self, round_index: int, member: int, network: Network) -> Adaptation | None:
        """Load a member into a fresh network; None if it is not known.

        Returns what its method did.
        """
        try:
            data = read_bounded(self._path(round_index, member), _MAX_BYTES)
            digest, body = data[:_DIGEST_BYTES], data[_DIGEST_BYTES:]
            if sha256(body).digest() != digest:
                return None
            arrays = load(body)
        except (ProtocolError, SafetensorError):
            return None
        restore(network, {name[len(_OF_NETWORK) :]: array for name, array in arrays.items() if _is_of_network(name)})
        records = [_record(said) for said in json.loads(arrays[_RECORDS].tobytes())]
        return Adaptation(records, arrays[_SCORES])

    def keep(self, round_index: int, member: int, network: Network, adaptation: Adaptation) -> None:
        """Keep a member that was just adapted.

        Raises:
            FileError: it cannot be written.
        """
        records = json.dumps([asdict(record) for record in adaptation.records]).encode()
        arrays = {f"{_OF_NETWORK}{name}": array for name, array in snapshot(network).items()}
        arrays |= {_SCORES: np.ascontiguousarray(adaptation.scores), _RECORDS: np.frombuffer(records, np.uint8)}
        body = save(arrays)
        make_private_folder(self._folder)
        write_atomic(self._path(round_index, member), sha256(body).digest() + body)

    def _path(self, round_index: int, member: int) -> Path:
        return self._folder / f"{round_index}-{member}"


def forget_unfinished(out: Path) -> None:
    """Remove what killed runs have left in an output folder."""
    shutil.rmtree(out / UNFINISHED, ignore_errors=True)


def _is_of_network(name: str) -> bool:
    return name.startswith(_OF_NETWORK)


def _record(said: dict[str, Any]) -> EpochRecord:
    health = said["health"]
    shares = tuple(health["class_shares"])
    return EpochRecord(epoch=said["epoch"], losses=said["losses"], health=Health(**health | {"class_shares": shares}))
