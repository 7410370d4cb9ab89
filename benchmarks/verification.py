"""What it costs to verify a bundle: time beside SHA-256 of the same bytes alone, and memory.

Each round times both, one after the other, on a file that is mapped and in the page cache. Peak memory and the cold
time are those of fresh processes. The registered architectures weigh 0.1 to 0.2 MB, so larger ones are registered
here, and only here. The results are appended as JSON lines.
"""

import argparse
import contextlib
import hashlib
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from mmap import ACCESS_READ, mmap
from pathlib import Path
from unittest import mock

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from benchmarks.record import RESULTS, record
from protocol import canonical
from protocol.bundle import architecture, frame, manifest, sealing, trust, weights
from protocol.bundle.architecture import STATISTICS_DIM, Layer, layers, tensor_specs
from protocol.bundle.form import ModelForm
from protocol.bundle.manifest import PAYLOAD_TYPE, Manifest, label_mask
from protocol.identity import signing
from protocol.identity.sealing_keys import SealingKey

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
ISSUER = signing.fingerprint_of(signing.raw_public_key(KEY))
TODAY = 20_500
CLASSES = ("anger", "happiness", "neutral", "sadness")
UNITS = {"bench-1mb": 768, "bench-400mb": 20_000}
ANCHOR = trust.Anchor(issuer=ISSUER, today=TODAY)


@contextlib.contextmanager
def large_architectures() -> Iterator[None]:
    """Register networks with two wide hidden layers, and lift the size caps for them, for a while."""
    encoders = {
        name: (
            Layer(name="encoder.0", units=units, inputs=STATISTICS_DIM),
            Layer(name="encoder.1", units=units, inputs=units),
        )
        for name, units in UNITS.items()
    }
    schema = {
        "arch": canonical.OneOf((*architecture.ARCHITECTURES, *UNITS)),
        "weights_len": canonical.Int(1, 0xFFFFFFFF),
    }
    with (
        mock.patch.dict(architecture._ENCODERS, encoders),
        mock.patch.dict(architecture.FRONT_ENDS, dict.fromkeys(UNITS, "stats-v1")),
        mock.patch.dict(manifest.SCHEMA, schema),
        mock.patch.object(frame, "MAX_WEIGHTS_BYTES", 1 << 30),
    ):
        yield


def write_bundle(path: Path, arch: str) -> None:
    """Write a bundle of random weights that breaks no rule."""
    rng = np.random.default_rng(0)
    encoded = {}
    for layer in layers(arch, len(CLASSES)):
        encoded[layer.weight] = rng.integers(-127, 128, layer.shape, dtype=np.int8)
        encoded[layer.weight].reshape(layer.units, -1)[:, 0] = 127  # no exponent could be smaller
        encoded[layer.bias] = np.sort(rng.choice(65_535, layer.units, replace=False) - 32_767).astype(np.int16)
        encoded[layer.exponent] = rng.integers(-12, -4, layer.units, dtype=np.int8)
    packed = weights.encode(encoded, tensor_specs(ModelForm(arch, len(CLASSES), "speaker")))
    stated = Manifest(
        arch=arch,
        norm="speaker",
        labels=label_mask(CLASSES),
        audience=bytes(32),
        grant=bytes(16),
        release=1,
        day=TODAY,
        valid_days=90,
        n_utt=9,
        n_spk=3,
        hours=-2,
        uar_src=150,
        uar_q_loss=0,
        issuer=ISSUER,
        weights_sha256=hashlib.sha256(packed).digest(),
        weights_len=len(packed),
    )
    path.write_bytes(frame.assemble(signing.sign(PAYLOAD_TYPE, stated.to_bytes(), KEY), packed))


def measure(arch: str, path: Path, rounds: int) -> dict[str, object]:
    """Time verification and SHA-256 alone side by side; then once more in fresh processes."""
    verify_s, sha256_s = [], []
    with path.open("rb") as file, mmap(file.fileno(), 0, access=ACCESS_READ) as data:
        for _ in range(rounds + 1):
            sha256_s.append(_seconds(lambda: hashlib.sha256(data).digest()))
            verify_s.append(_seconds(lambda: trust.verify(data, ANCHOR)))
    verify, sha256 = statistics.median(verify_s[1:]), statistics.median(sha256_s[1:])  # the first round warms up
    ratios = [one / other for one, other in zip(verify_s[1:], sha256_s[1:], strict=True)]
    cold = [_in_child(path) for _ in range(5)]
    opened = [_in_child(*write_sealed(path)) for _ in range(2)]
    size = path.stat().st_size
    return {
        "bytes": size,
        "rounds": rounds,
        "verify_s": round(verify, 5),
        "sha256_s": round(sha256, 5),
        "ratio": round(verify / sha256, 3),
        "ratio_median_of_rounds": round(statistics.median(ratios), 3),
        "cold_verify_s": round(statistics.median(run["seconds"] for run in cold), 5),
        "peak_above_file_mib": round(max(run["peak_bytes"] - run["before_bytes"] - size for run in cold) / 2**20, 1),
        "open_and_verify_s": round(min(run["seconds"] for run in opened), 5),
        "open_and_verify_peak_above_file_mib": round(
            max(run["peak_bytes"] - run["before_bytes"] - size for run in opened) / 2**20, 1
        ),
        "process_before_mib": round(max(run["before_bytes"] for run in cold) / 2**20, 1),
    }


def _seconds(call) -> float:  # type: ignore[no-untyped-def]
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def write_sealed(path: Path) -> tuple[Path, Path]:
    """The same bundle sealed to a site, and the site's key, each in a file."""
    key, sealed, key_file = SealingKey.generate(), path.with_suffix(".sealed"), path.with_suffix(".key")
    key_file.write_bytes(key.pem())
    with sealed.open("wb") as file:
        file.writelines(sealing.seal_parts(path.read_bytes(), key.public_key, bytes(16)))
    return sealed, key_file


def _in_child(*paths: Path) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.verification", "--child", *map(str, paths)]
    done = subprocess.run(command, capture_output=True, check=True, text=True)
    measured: dict[str, float] = json.loads(done.stdout)
    return measured


def _child(path: Path, key_file: Path | None = None) -> None:
    """Open, if it is sealed, and verify once; say how long that took and how much memory beyond the imports."""
    key = SealingKey.from_pem(key_file.read_bytes()) if key_file else None

    def work() -> None:
        with path.open("rb") as file, mmap(file.fileno(), 0, access=ACCESS_READ) as data:
            trust.verify(data if key is None else sealing.unseal(data, key, max_plain_bytes=1 << 30), ANCHOR)

    with large_architectures():
        before = _memory("VmRSS")
        seconds = _seconds(work)
        peak = _memory("VmHWM")
    print(json.dumps({"seconds": seconds, "before_bytes": before, "peak_bytes": peak}))


def _memory(field: str) -> int:
    """A figure of this process in bytes; ``ru_maxrss`` would start from that of the parent."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.partition(f"{field}:")[2].split()[0])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--child", type=Path, nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        _child(*options.child)
        return
    with large_architectures(), tempfile.TemporaryDirectory() as folder:
        for arch in UNITS:
            path = Path(folder) / arch
            write_bundle(path, arch)
            record(RESULTS / "verification.jsonl", {"arch": arch, **measure(arch, path, options.rounds)})


if __name__ == "__main__":
    main()
