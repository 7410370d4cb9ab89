"""Bundles with one fault each, made by the trusted source itself where that is possible: a dishonest one.

Keys and weights are the same in every run; only the target's identity, and with it the grant, is new.
"""

import base64
import functools
import hashlib
import json
import struct
import time
from collections.abc import Callable

import numpy as np
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA65PrivateKey

from protocol.bundle import frame as bundle
from protocol.bundle import weights
from protocol.bundle.architecture import tensor_specs
from protocol.bundle.egress import sign_bundle
from protocol.bundle.manifest import PAYLOAD_TYPE
from protocol.bundle.sealing import HEAD, MAGIC, MAJOR, SUITE, seal
from protocol.bundle.weights import Arrays
from protocol.identity import signing
from protocol.identity.hybrid import HybridKey
from protocol.statements.request import grant_id, sign_request
from tests.protocol import samples
from tests.protocol.samples import FORM, RELEASE_KEY
from tests.support.sites import new_site

TODAY = int(time.time()) // 86_400
MARKER = "zqEVILzq"
"""Stands in every place where an attacker is free to write; it must never come back."""

SITE = new_site()
SECOND_REQUEST = sign_request(SITE.identity, nonce=bytes(32), day=TODAY)
SECOND_GRANT = grant_id(SECOND_REQUEST)
OTHER_SITE = new_site()
GROUP_ORDER = 2**252 + 27742317777372353535851937790883648493

assert SITE.identity.sealing_key is not None
SEALING_KEY = SITE.identity.sealing_key.public_key
SPECS = tensor_specs(FORM)


@functools.cache
def packed() -> bytes:
    """The weights of every bundle here that is not about weights."""
    return weights.pack(samples.random_model(), FORM)


def payload(packed_weights: bytes | None = None, **changes: object) -> bytes:
    """What an honest source says of some weights, or says of them with some fields changed."""
    fields = {"audience": SITE.identity.fingerprint, "grant": SITE.grant, "day": TODAY} | changes
    return samples.manifest_of(packed() if packed_weights is None else packed_weights, **fields).to_bytes()


def bundle_of(manifest: bytes | None = None, packed_weights: bytes | None = None, key=RELEASE_KEY) -> bytes:
    """A bundle with a valid signature over any manifest and any weights."""
    packed_weights = packed() if packed_weights is None else packed_weights
    manifest = payload(packed_weights) if manifest is None else manifest
    return samples.signed(manifest, packed_weights, key)


@functools.cache
def honest(**fields: object) -> bytes:
    """A bundle that this site accepts, as the source makes it."""
    stated = {"audience": SITE.identity.fingerprint, "grant": SITE.grant, "day": TODAY} | fields
    seed = stated.pop("seed", 0)
    sealed = samples.dataclasses.replace(samples.FIELDS, **stated)
    return sign_bundle(samples.random_model(seed=seed), sealed, RELEASE_KEY)


READ_BY_ADDED = "mlp-stats-ssl-768-v1"


@functools.cache
def read_by_added() -> bytes:
    """A bundle of a model that is read by an encoder which its target has to have added."""
    stated = {"audience": SITE.identity.fingerprint, "grant": SITE.grant, "day": TODAY, "encoder": bytes(range(32))}
    sealed = samples.dataclasses.replace(samples.FIELDS, arch=READ_BY_ADDED, **stated)
    return sign_bundle(samples.random_model(READ_BY_ADDED), sealed, RELEASE_KEY)


def reading_by(encoder: str | None, manifest: bytes | None = None) -> bytes:
    """The same with anything in the place of the hash; None takes the field away."""
    stated = payload(arch=READ_BY_ADDED, encoder=bytes(32)) if manifest is None else manifest
    fields = json.loads(stated) | {"encoder": encoder}
    kept = {name: value for name, value in fields.items() if value is not None}
    return bundle_of(json.dumps(kept, sort_keys=True, separators=(",", ":")).encode())


def delivered(plain: bytes, grant: bytes | None = None) -> bytes:
    """The same on its way to this site."""
    if not plain:  # what no source would seal
        return HEAD.pack(MAGIC, MAJOR, SUITE, SITE.grant, 0)
    return seal(plain, SEALING_KEY, SITE.grant if grant is None else grant)


# The frame.


def frame(
    *,
    magic: bytes = bundle.MAGIC,
    major: int = bundle.MAJOR,
    flags: int = 0,
    envelope_len: int | None = None,
    weights_len: int | None = None,
) -> bytes:
    """An honest bundle whose head says something else."""
    head, rest = honest()[: bundle.HEAD.size], honest()[bundle.HEAD.size :]
    _, _, _, true_envelope, true_weights = bundle.HEAD.unpack(head)
    envelope_len = true_envelope if envelope_len is None else envelope_len
    weights_len = true_weights if weights_len is None else weights_len
    return magic + struct.pack("<HHIQ", major, flags, envelope_len & 0xFFFFFFFF, weights_len) + rest


def true_weights_len() -> int:
    return len(packed())


@functools.cache
def hybrid_key() -> HybridKey:
    return HybridKey(mldsa=MLDSA65PrivateKey.from_seed_bytes(bytes(32)), ed25519=RELEASE_KEY)


def two_algorithms_as_one() -> bytes:
    """A bundle of two algorithms in the version of one."""
    return bundle.assemble(signing.sign(PAYLOAD_TYPE, payload(), hybrid_key()), packed())


def one_of_two_algorithms() -> bytes:
    """A bundle of a pair that holds the trusted key: who trusts a half of it does not trust the pair."""
    envelope = signing.sign(PAYLOAD_TYPE, payload(), hybrid_key())
    return bundle.assemble(envelope, packed(), signing.HYBRID)


# The envelope.


@functools.cache
def envelope() -> bytes:
    """The envelope of an honest bundle whose base64 has both letters that another alphabet writes otherwise."""
    for n_utt in range(32):
        for n_spk in range(32):
            signed = signing.sign(PAYLOAD_TYPE, payload(n_utt=n_utt, n_spk=n_spk), RELEASE_KEY)
            signature = json.loads(signed)["signatures"][0]["sig"]
            if "+" in signature and "/" in signature:
                return signed
    raise AssertionError("no such signature")


def enveloped(changed: bytes) -> bytes:
    """A bundle with another envelope."""
    assert changed != envelope()
    return bundle.assemble(changed, packed())


def with_text(old: str, new: str) -> bytes:
    """A bundle whose envelope reads differently in one place."""
    assert envelope().count(old.encode()) == 1
    return enveloped(envelope().replace(old.encode(), new.encode()))


def with_signature(change: Callable[[bytes], bytes]) -> bytes:
    """A bundle with another signature, in the right base64."""
    text = signature_text()
    return with_text(text, base64.b64encode(change(base64.b64decode(text))).decode())


def with_field(name: str, value: object) -> bytes:
    """A bundle whose envelope has another value in one field."""
    return enveloped(compact(json.loads(envelope()) | {name: value}))


def without_field(name: str) -> bytes:
    """A bundle whose envelope lacks a field."""
    return enveloped(compact({key: value for key, value in json.loads(envelope()).items() if key != name}))


def with_bits_left_over() -> bytes:
    """A bundle whose signature is written with the unused bits of its base64 set."""
    text = signature_text()
    assert text.endswith("==")
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    return with_text(text, text[:-3] + alphabet[alphabet.index(text[-3]) + 1] + "==")


def signature_text() -> str:
    return json.loads(envelope())["signatures"][0]["sig"]


def payload_text() -> str:
    return json.loads(envelope())["payload"]


def plus_order(signature: bytes) -> bytes:
    """The same signature to who does not reduce S."""
    scalar = int.from_bytes(signature[32:], "little") + GROUP_ORDER
    return signature[:32] + scalar.to_bytes(32, "little")


def key_text(key) -> str:
    return signing.raw_public_key(key).hex()


def signed_otherwise(content: bytes) -> bytes:
    """A bundle whose signature is the source's, over something else than its content."""
    return with_signature(lambda _: RELEASE_KEY.sign(content))


def of_type(payload_type: str) -> bytes:
    """A manifest that was signed as something else."""
    return bundle.assemble(signing.sign(payload_type, payload(), RELEASE_KEY), packed())


def signed_often(count: int, key=None) -> bytes:
    """An envelope with its signature given several times, the later ones under another key if there is one."""
    fields = json.loads(envelope())
    (first,) = fields["signatures"]
    other = first if key is None else first | {"keyid": key_text(key)}
    fields["signatures"] = [first, *[other] * (count - 1)]
    return compact(fields)


# The manifest.


def compact(value: object) -> bytes:
    """Canonical JSON, or what would be if its value were allowed."""
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def stating(*without: str, **changes: object) -> bytes:
    """A bundle whose signed manifest has other fields; still in canonical JSON."""
    fields = json.loads(payload()) | changes
    return bundle_of(compact({name: value for name, value in fields.items() if name not in without}))


def auditing(**changes: object) -> bytes:
    """A bundle that states an audit, with some of it changed."""
    return stating(**samples.AUDITED | changes)


def audited_elsewhere() -> bytes:
    """A bundle whose weights are others than those that the signed audit is about."""
    return bundle_of(payload(**samples.AUDITED), weights.pack(samples.random_model(seed=1), FORM))


def written(old: str, new: str) -> bytes:
    """A bundle whose signed manifest is written differently in one place."""
    assert payload().count(old.encode()) == 1, old
    return bundle_of(payload().replace(old.encode(), new.encode()))


def manifest_fields() -> list[str]:
    return sorted(json.loads(payload()))


# The weights.


def weighing(packed_weights: bytes) -> bytes:
    """A bundle of which the source has signed any weights, with their true length and digest."""
    return bundle_of(payload(packed_weights), packed_weights)


def with_values(change: Callable[[Arrays], None]) -> bytes:
    """A bundle with other integers in its tensors."""
    encoded = samples.encoded_model()
    change(encoded)
    return weighing(weights.encode(encoded, SPECS))


def header_text() -> bytes:
    return weights.header(SPECS)[8:].rstrip()


def tensor_data() -> bytes:
    return packed()[len(weights.header(SPECS)) :]


def headed(text: bytes, data: bytes | None = None, *, padding: bytes = b" ") -> bytes:
    """Safetensors bytes with any header."""
    padded = text.ljust(-(-len(text) // 8) * 8, padding)
    return len(padded).to_bytes(8, "little") + padded + (tensor_data() if data is None else data)


def reheaded(old: bytes, new: bytes) -> bytes:
    """Safetensors bytes with one place of the header changed."""
    assert old in header_text(), old
    return headed(header_text().replace(old, new, 1))


def with_tensor(name: bytes, shape: bytes, num_bytes: int, dtype: bytes = b"I8") -> bytes:
    """Safetensors bytes with one more tensor at the end of the data."""
    end = len(tensor_data())
    entry = b',"%s":{"dtype":"%s","shape":[%s],"data_offsets":[%d,%d]}}' % (name, dtype, shape, end, end + num_bytes)
    return headed(header_text()[:-1] + entry, tensor_data() + bytes(num_bytes))


def odd_headers() -> dict[str, bytes]:
    """What the safetensors library loads although it is not what it writes."""
    text = header_text()
    first = b'{"bottleneck.bias":{"dtype":"I16","shape":[128],"data_offsets":[0,256]}'
    assert text.startswith(first)
    marker = MARKER.encode()
    zero = b'{"%s":{"dtype":"I8","shape":[0],"data_offsets":[0,0]},'
    entries = json.loads(text)
    reordered = json.dumps(dict(reversed(entries.items())), separators=(",", ":")).encode()
    return {
        "duplicate-tensor": headed(first + b"," + text[1:]),
        "free-text-metadata": headed(b'{"__metadata__":{"note":"' + marker + b'"},' + text[1:]),
        "empty-metadata": headed(b'{"__metadata__":{},' + text[1:]),
        "unknown-inner-key": reheaded(b'"dtype":"I16"', b'"note":"' + marker + b'","dtype":"I16"'),
        "eight-more-spaces": headed(text.ljust(-(-len(text) // 8) * 8 + 8)),
        "tabs-as-padding": headed(text + b"\t"),
        "line-feed-as-padding": headed(text + b"\n"),
        "space-inside": reheaded(b",", b", "),
        "escaped-letter": reheaded(b'"head.bias"', b'"\\u0068ead.bias"'),
        "zero-size-tensor": headed(zero % marker + text[1:]),
        "name-with-nul": headed(zero % (b"\\u0000" + marker) + text[1:]),
        "name-as-path": headed(zero % (b"../../" + marker) + text[1:]),
        "empty-name": headed(zero % b"" + text[1:]),
        "other-order-of-entries": headed(reordered),
        "other-order-inside-an-entry": reheaded(
            b'{"dtype":"I16","shape":[128],"data_offsets":[0,256]}',
            b'{"shape":[128],"dtype":"I16","data_offsets":[0,256]}',
        ),
        "not-a-number": with_tensor(MARKER.encode(), b"1", 4, b"F32")[:-4] + struct.pack("<f", float("nan")),
    }


def broken_headers() -> dict[str, bytes]:
    """What the library refuses as well."""
    text = header_text()
    length = len(tensor_data())
    return {
        "overlap": reheaded(b'"data_offsets":[256,', b'"data_offsets":[0,'),
        "hole": reheaded(b"[%d,%d]" % _last_offsets(), b"[%d,%d]" % tuple(at + 8 for at in _last_offsets())),
        "negative-offset": reheaded(b'"data_offsets":[0,256]', b'"data_offsets":[-256,256]'),
        "overflowing-shape": reheaded(b"[128,256]", b"[18446744073709551615,18446744073709551615]"),
        "header-length-2-to-63": (1 << 63).to_bytes(8, "little") + packed()[8:],
        "header-length-of-all": (length + len(text)).to_bytes(8, "little") + packed()[8:],
        "no-header": tensor_data(),
        "no-data": weights.header(SPECS),
    }


def _last_offsets() -> tuple[int, int]:
    start, end = max(entry["data_offsets"] for entry in json.loads(header_text()).values())
    return start, end


def set_value(name: str, value: int) -> Callable[[Arrays], None]:
    def change(encoded: Arrays) -> None:
        encoded[name].flat[0] = value

    return change


def halve_a_row(encoded: Arrays) -> None:
    """A row that could be written with a smaller exponent: its exponent is free."""
    encoded["head.weight"][0] //= 4
    encoded["head.bias"][0] //= 4
    encoded["head.exponent"][0] += 2


def swap_units(encoded: Arrays) -> None:
    for name in ("encoder.0.weight", "encoder.0.bias", "encoder.0.exponent"):
        encoded[name][[0, 1]] = encoded[name][[1, 0]]
    encoded["bottleneck.weight"][:, [0, 1]] = encoded["bottleneck.weight"][:, [1, 0]]


def reverse_features(encoded: Arrays) -> None:
    for name in ("bottleneck.weight", "bottleneck.bias", "bottleneck.exponent"):
        encoded[name][:] = encoded[name][::-1].copy()
    encoded["head.weight"][:] = encoded["head.weight"][:, ::-1].copy()


def repeat_a_unit(encoded: Arrays) -> None:
    for name in ("encoder.0.weight", "encoder.0.bias", "encoder.0.exponent"):
        encoded[name][1] = encoded[name][0]


def zero_everything(encoded: Arrays) -> None:
    for array in encoded.values():
        array[...] = 0


def zero_all_but_exponents(encoded: Arrays) -> None:
    for name, array in encoded.items():
        array[...] = -20 if name.endswith("exponent") else 0


def zero_a_class(encoded: Arrays) -> None:
    encoded["head.weight"][2] = 0
    encoded["head.bias"][2] = 20_000


def low_rank() -> bytes:
    """A payload in shapes that are allowed: an outer product of rank 1 in place of the first layer."""
    tensors = samples.random_model()
    rng = np.random.default_rng(1)
    layer = tensors["encoder.0.weight"]
    tensors["encoder.0.weight"] = np.outer(rng.normal(size=len(layer)), rng.normal(size=layer.shape[1])).astype(
        np.float32
    )
    return weighing(weights.pack(tensors, FORM))


def scaled_inputs(change: Callable[[Arrays], None]) -> bytes:
    """A model that carries a center and a scale of its inputs, with other integers in them."""
    form = FORM._replace(normalization="none")
    encoded = weights.quantize(weights.canonicalize(samples.random_model(*form), form), form)
    change(encoded)
    data = weights.encode(encoded, tensor_specs(form))
    return bundle_of(payload(data, norm="none"), data)


def sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def flip(data: bytes, bit: int) -> bytes:
    """The data with one bit changed, counted from its end if it is negative."""
    return samples.flipped(data, bit % (8 * len(data)))


def mixed_and_matched() -> bytes:
    """The signed manifest of one release with the weights of another."""
    return bundle.assemble(bundle.split(honest()).envelope, bytes(bundle.split(honest(seed=1)).weights))


def with_moved_border() -> bytes:
    """The first byte of the weights counts as the envelope's last."""
    envelope_len = len(bundle.split(honest()).envelope)
    return frame(envelope_len=envelope_len + 1, weights_len=len(packed()) - 1)


def replaced(old: bytes, new: bytes) -> bytes:
    """A bundle whose envelope reads differently in one place."""
    assert envelope().count(old) == 1, old
    return enveloped(envelope().replace(old, new))


def with_signature_text(change: Callable[[str], str]) -> bytes:
    """A bundle whose signature is written differently."""
    return replaced(signature_text().encode(), change(signature_text()).encode())


def with_url_safe_base64() -> bytes:
    return with_signature_text(lambda text: text.replace("+", "-").replace("/", "_"))


def with_signature_field(name: str, value: object) -> bytes:
    (signature,) = json.loads(envelope())["signatures"]
    return with_field("signatures", [signature | {name: value}])


def with_key_id(text: str) -> bytes:
    (signature,) = json.loads(envelope())["signatures"]
    return with_field("signatures", [signature | {"keyid": text}])


def signed_by_and_named(signer, named) -> bytes:
    """A signature of one key that says it is another's."""
    changed = json.loads(signing.sign(PAYLOAD_TYPE, payload(), signer))
    changed["signatures"][0]["keyid"] = key_text(named)
    return enveloped(compact(changed))


def our_type(kind: str) -> str:
    return f"application/vnd.ecan.{kind}.v1+json"


def enveloped_payload() -> bytes:
    return base64.b64decode(payload_text())


def encoded_as(payload_type: str) -> bytes:
    return signing.pre_authentication_encoding(payload_type, enveloped_payload())


def unsorted(data: bytes) -> bytes:
    fields = json.loads(data)
    return json.dumps(dict(reversed(fields.items())), separators=(",", ":")).encode()


def without_last_tensor() -> bytes:
    entries = json.loads(header_text())
    last = max(entries, key=lambda name: entries[name]["data_offsets"])
    start, _ = entries.pop(last)["data_offsets"]
    return headed(json.dumps(entries, separators=(",", ":")).encode(), tensor_data()[:start])


def with_floats() -> bytes:
    """The header of the head's row exponents says that they are a float: as many bytes, another type."""
    return weighing(
        reheaded(b'"head.exponent":{"dtype":"I8","shape":[4]', b'"head.exponent":{"dtype":"F32","shape":[1]')
    )


def with_labels(mask: int) -> bytes:
    return bundle_of(payload(labels=mask))


def of_another_architecture() -> bytes:
    return bundle_of(payload(arch="tdnn-frames-v1"))


def with_scaling_left_in() -> bytes:
    """The tensors of normalization `none`, signed as those of another."""
    form = FORM._replace(normalization="none")
    return weighing(weights.pack(samples.random_model(*form), form))
