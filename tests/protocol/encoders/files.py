"""Files in the containers that encoders are published in, made by hand."""

import io
import struct
import zipfile

import numpy as np

TYPES = {"<f4": 0, "<i1": 1, "<i2": 2, "<i4": 3, "<f2": 4}


def text(name):
    return struct.pack("<H", len(name) + 1) + name.encode("latin-1") + b"\0"


def tensor(name, array, *, length=None, rank=None, kind=None):
    """One tensor of a `model.bin`; what a liar would say instead of the truth can be named."""
    data = array.tobytes()
    return b"".join(
        [
            text(name),
            struct.pack("<B", array.ndim if rank is None else rank),
            struct.pack(f"<{array.ndim}I", *array.shape),
            struct.pack("<B", TYPES[array.dtype.str.replace("|", "<")] if kind is None else kind),
            struct.pack("<I", len(data) if length is None else length),
            data,
        ]
    )


def model_bin(tensors, *, version=6, count=None):
    head = struct.pack("<I", version) + text("WhisperSpec") + struct.pack("<I", 3)
    written = [tensor(name, array) if isinstance(array, np.ndarray) else array for name, array in tensors.items()]
    return head + struct.pack("<I", len(written) if count is None else count) + b"".join(written) + struct.pack("<I", 0)


def whisper_tensors(width=4, blocks=2, seed=0):
    """The tensors of a small Whisper encoder by CTranslate2's names, and some of a decoder."""
    rng = np.random.default_rng(seed)

    def some(*shape):
        return rng.normal(size=shape).astype("<f2")

    tensors = {
        "decoder/embeddings/weight": some(3, width),
        "encoder/num_heads": np.array(2, dtype="<i2"),
        "encoder/conv1/weight": some(width, 5, 3),
        "encoder/conv1/bias": some(width),
        "encoder/conv2/weight": some(width, width, 3),
        "encoder/conv2/bias": some(width),
        "encoder/position_encodings/encodings": some(9, width),
    }
    for block in range(blocks):
        layer = f"encoder/layer_{block}/"
        bias = some(3 * width)
        bias[width : 2 * width] = 0
        tensors |= {
            f"{layer}self_attention/linear_0/weight": some(3 * width, width),
            f"{layer}self_attention/linear_0/bias": bias,
            f"{layer}self_attention/linear_1/weight": some(width, width),
            f"{layer}self_attention/linear_1/bias": some(width),
            f"{layer}ffn/linear_0/weight": some(2 * width, width),
            f"{layer}ffn/linear_0/bias": some(2 * width),
            f"{layer}ffn/linear_1/weight": some(width, 2 * width),
            f"{layer}ffn/linear_1/bias": some(width),
            **{
                f"{layer}{part}/layer_norm/{which}": some(width)
                for part in ("self_attention", "ffn")
                for which in ("gamma", "beta")
            },
        }
    return tensors


def archive(members, compression=zipfile.ZIP_STORED):
    """A zip of these members."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as file:
        for name, data in members.items():
            file.writestr(name, data)
    return buffer.getvalue()
