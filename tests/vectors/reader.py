"""A second reader of bundles, from one page: docs/bundle-format.md, and nothing of our code.

Needs the standard library, an Ed25519 and an ML-DSA-65. It is slow and plain on purpose;
`tests/vectors/test_reader.py` holds it against `protocol.bundle.trust.verify`: what one accepts or refuses, the other
must too, and for the same reason.
"""

import base64
import functools
import hashlib
import struct
from dataclasses import dataclass
from itertools import pairwise

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA65PublicKey

WIDTHS = {
    "stats-v1": 423,
    "frames-v1": 68,
    "stats-whisper-v1": 1191,
    "stats-ssl-768-v1": 1191,
    "stats-ssl-1024-v1": 1447,
}
FRONT_ENDS = {
    "mlp-stats-v1": "stats-v1",
    "tdnn-frames-v1": "frames-v1",
    "mlp-stats-whisper-v1": "stats-whisper-v1",
    "mlp-stats-ssl-768-v1": "stats-ssl-768-v1",
    "mlp-stats-ssl-1024-v1": "stats-ssl-1024-v1",
}
READ_BY_ADDED = ("mlp-stats-ssl-768-v1", "mlp-stats-ssl-1024-v1")
UNITS = {"mlp-stats-v1": 256, "mlp-stats-whisper-v1": 96, "mlp-stats-ssl-768-v1": 96, "mlp-stats-ssl-1024-v1": 80}
NORMS = ("none", "corpus", "speaker")
MANIFEST_TYPE = "application/vnd.ecan.manifest.v2+json"

SUITES = {2: "classic-1", 3: "hybrid-1"}
KEYS, SIGNATURES = {"classic-1": 32, "hybrid-1": 1984}, {"classic-1": 64, "hybrid-1": 3373}

HEX = {"issuer": 64, "audience": 64, "grant": 32, "weights_sha256": 64, "encoder": 64}
RANGES = {
    "v": (2, 2),
    "labels": (3, 4095),
    "release": (1, 65535),
    "day": (0, 65535),
    "weights_len": (1, 16777215),
    "n_utt": (0, 31),
    "n_spk": (0, 31),
    "hours": (-16, 15),
    "uar_src": (0, 200),
    "uar_q_loss": (0, 1),
    "networks": (0, 12),
    "lira_auc": (0, 200),
    "lira_tpr1": (0, 200),
    "file_auc": (0, 200),
    "spk_auc": (0, 200),
    "epsilon": (0, 1000),
    "delta": (0, 15),
}
WORDS = {
    "arch": tuple(FRONT_ENDS),
    "enc": ("q8p2",),
    "frontend": tuple(WIDTHS),
    "norm": NORMS,
    "audit": ("none", "measured", "passed", "overridden"),
    "unit": ("none", "utterance", "speaker"),
}
CHOICES = {"valid_days": (30, 90, 180, 365), "tier": (0, 1, 2)}
ESCAPES = {rb"\u%04x" % code: chr(code) for code in range(32)} | {
    b'\\"': '"',
    rb"\\": "\\",
    rb"\b": "\b",
    rb"\f": "\f",
    rb"\n": "\n",
    rb"\r": "\r",
    rb"\t": "\t",
}
for code in (8, 9, 10, 12, 13):
    del ESCAPES[rb"\u%04x" % code]
FIELDS = {*HEX, *RANGES, *WORDS, *CHOICES} - {"encoder"}


EXITS = {
    10: ("SIG_MISSING", "SIG_INVALID", "KEY_UNKNOWN", "PAYLOAD_TYPE", "DIGEST", "RECIPIENT", "DECRYPT", "IDENTITY"),
    11: ("AUDIENCE", "GRANT", "ROLLBACK", "FAST_FORWARD", "NOT_YET", "EXPIRED", "REVOKED", "POLICY"),
    4: ("LEDGER", "OFFER"),
}
"""The page's exit classes; every other code is of class 12."""


class BundleRefusedError(Exception):
    """The reader does not accept it; the argument is the code."""

    def __init__(self, code: str, exit_class: int | None = None) -> None:
        super().__init__(code)
        self.code = code
        self.exit_class = exit_class or next((ended for ended, codes in EXITS.items() if code in codes), 12)


@dataclass(frozen=True)
class Site:
    """What a site trusts and remembers, as the page names it."""

    issuer: bytes
    today: int
    audience: bytes | None = None
    grants: frozenset[bytes] | None = None
    last_release: int = 0
    last_weights: bytes = b""
    revoked: frozenset[bytes] = frozenset()
    least_tier: int = 0
    accept_overridden: bool = False
    suites: tuple[str, ...] = tuple(SUITES.values())
    encoders: frozenset[bytes] | None = None


def refuse_unless(holds: bool, code: str, exit_class: int | None = None) -> None:
    if not holds:
        raise BundleRefusedError(code, exit_class)


def read(data: bytes, site: Site) -> dict[str, int | str]:
    """The manifest of a bundle that passes every rule of the page."""
    envelope, weights = cut(data)
    suite = parse_envelope(envelope).suite
    refuse_unless(SUITES[data[8]] == suite, "VERSION")
    payload = open_envelope(envelope, site.issuer, MANIFEST_TYPE)
    manifest = read_manifest(payload)
    check_suite(suite, site)
    check_policy(manifest, site)
    digest = hashlib.sha256(weights).hexdigest()
    refuse_unless(len(weights) == manifest["weights_len"] and digest == manifest["weights_sha256"], "DIGEST")
    check_weights(weights, manifest)
    return manifest


def check_suite(suite: str, site: Site) -> None:
    refuse_unless(suite in site.suites, "POLICY")


# Frame


def cut(data: bytes) -> tuple[bytes, bytes]:
    magic = b"ECAN\r\n\x1a\n"
    refuse_unless(not (len(data) < 8 and magic.startswith(data)), "TRUNCATED")
    refuse_unless(data[:8] == magic, "MAGIC")
    refuse_unless(len(data) >= 24, "TRUNCATED")
    major, flags, envelope_len, weights_len = struct.unpack("<HHIQ", data[8:24])
    refuse_unless(major in SUITES, "VERSION")
    refuse_unless(flags == 0, "FLAGS")
    largest = max(sum(lengths(arch, 12, "none")) for arch in FRONT_ENDS)
    refuse_unless(1 <= envelope_len <= 16384 and 1 <= weights_len <= largest, "LENGTH")
    end = 24 + envelope_len + weights_len
    refuse_unless(len(data) >= end, "TRUNCATED")
    refuse_unless(len(data) <= end, "TRAILING")
    return data[24 : 24 + envelope_len], data[24 + envelope_len :]


# Canonical JSON


class Json:
    """Objects, arrays, strings, integers, and three words; anything else is not canonical."""

    def __init__(self, data: bytes) -> None:
        refuse_unless(data.count(b"{") + data.count(b"[") <= 8, "DEPTH")
        self.data = data
        self.place = 0

    def take(self, expected: bytes) -> None:
        refuse_unless(self.data.startswith(expected, self.place), "NOT_CANONICAL")
        self.place += len(expected)

    def next(self) -> bytes:
        return self.data[self.place : self.place + 1]

    def document(self) -> object:
        value = self.value()
        refuse_unless(self.place == len(self.data), "NOT_CANONICAL")
        return value

    def value(self) -> object:
        start = self.next()
        if start == b"{":
            return self.object()
        if start == b"[":
            return self.array()
        if start == b'"':
            return self.string()
        for word, meaning in ((b"true", True), (b"false", False), (b"null", None)):
            if self.data.startswith(word, self.place):
                self.take(word)
                return meaning
        return self.integer()

    def object(self) -> dict[str, object]:
        found: dict[str, object] = {}
        self.take(b"{")
        while self.next() != b"}":
            if found:
                self.take(b",")
            name = self.string()
            refuse_unless(name not in found, "DUP_KEY")
            refuse_unless(not found or name > max(found), "NOT_CANONICAL")
            self.take(b":")
            found[name] = self.value()
        self.take(b"}")
        return found

    def array(self) -> list[object]:
        found: list[object] = []
        self.take(b"[")
        while self.next() != b"]":
            if found:
                self.take(b",")
            found.append(self.value())
        self.take(b"]")
        return found

    def string(self) -> str:
        self.take(b'"')
        found = ""
        while self.next() != b'"':
            refuse_unless(b" " <= self.next() <= b"\x7f", "NOT_CANONICAL")
            written = self.next().decode("ascii")
            if written == "\\":
                refuse_unless(any(self.data.startswith(form, self.place) for form in ESCAPES), "NOT_CANONICAL")
                written = next(form for form in ESCAPES if self.data.startswith(form, self.place)).decode()
            found += ESCAPES.get(written.encode(), written)
            self.place += len(written)
        self.take(b'"')
        return found

    def integer(self) -> int:
        start = self.place
        if self.next() == b"-":
            self.place += 1
        digits = self.place
        while self.next().isdigit():
            self.place += 1
        refuse_unless(self.place > digits, "NOT_CANONICAL")
        refuse_unless(self.place - start <= 15, "RANGE")
        number = int(self.data[start : self.place])
        refuse_unless(str(number).encode() == self.data[start : self.place], "NOT_CANONICAL")
        return number


def read_object(data: bytes, max_bytes: int) -> dict[str, object]:
    refuse_unless(len(data) <= max_bytes, "LENGTH")
    value = Json(data).document()
    refuse_unless(isinstance(value, dict), "TYPE")
    return value  # type: ignore[return-value]


def exact_fields(value: object, names: set[str]) -> dict[str, object]:
    refuse_unless(isinstance(value, dict), "TYPE")
    fields: dict[str, object] = value  # type: ignore[assignment]
    refuse_unless(not fields.keys() - names, "UNKNOWN_FIELD")
    refuse_unless(not names - fields.keys(), "MISSING")
    return fields


# Envelope


def text(value: object) -> str:
    refuse_unless(isinstance(value, str), "TYPE")
    return str(value)


def hexadecimal(value: object, digits: int) -> str:
    string = text(value)
    refuse_unless(len(string) == digits and not set(string) - set("0123456789abcdef"), "RANGE")
    return string


def decode64(string: str) -> bytes:
    try:
        data = base64.b64decode(string, validate=True)
    except ValueError:
        raise BundleRefusedError("NOT_CANONICAL") from None
    refuse_unless(base64.b64encode(data).decode() == string, "NOT_CANONICAL")
    return data


@dataclass(frozen=True)
class Envelope:
    """What an envelope says; nothing of it is verified."""

    kind: str
    payload: bytes
    public_key: bytes
    signature: bytes

    @property
    def suite(self) -> str:
        return "hybrid-1" if len(self.public_key) == 1984 else "classic-1"

    @property
    def signer(self) -> bytes:
        return hashlib.sha256(self.public_key).digest()


def parse_envelope(data: bytes) -> Envelope:
    envelope = read_object(data, 24576)
    signatures = envelope.pop("signatures", None)
    exact_fields(envelope, {"payload", "payloadType"})
    payload64, kind = text(envelope["payload"]), text(envelope["payloadType"])
    refuse_unless(len(kind) <= 100, "RANGE")
    refuse_unless(isinstance(signatures, list) and len(signatures) == 1, "SIG_MISSING")
    signature = exact_fields(signatures[0], {"keyid", "sig"})  # type: ignore[index]
    suite = "hybrid-1" if len(text(signature["keyid"])) == 3968 else "classic-1"
    public_key = bytes.fromhex(hexadecimal(signature["keyid"], 2 * KEYS[suite]))
    refuse_unless(len(text(signature["sig"])) <= -(-SIGNATURES[suite] // 3) * 4, "RANGE")
    return Envelope(kind, decode64(payload64), public_key, decode64(text(signature["sig"])))


def open_envelope(data: bytes, signer: bytes, kind: str) -> bytes:
    envelope = parse_envelope(data)
    refuse_unless(envelope.signer == signer, "KEY_UNKNOWN")
    refuse_unless(envelope.kind == kind, "PAYLOAD_TYPE")
    check_signature(envelope.public_key, envelope.signature, kind, envelope.payload)
    return envelope.payload


def check_signature(public_key: bytes, signature: bytes, kind: str, content: bytes) -> None:
    refuse_unless(not is_of_small_order(public_key[-32:]), "SIG_INVALID")
    signed = b"DSSEv1 %d %s %d %s" % (len(kind), kind.encode(), len(content), content)
    try:
        if len(public_key) == 1984:
            label = b"COMPSIG-MLDSA65-Ed25519-SHA512"
            signed = b"CompositeAlgorithmSignatures2025" + label + b"\0" + hashlib.sha512(signed).digest()
            check_first_half(public_key[:1952], signature[:3309], signed, label)
            public_key, signature = public_key[1952:], signature[3309:]
        Ed25519PublicKey.from_public_bytes(public_key).verify(signature, signed)
    except (InvalidSignature, ValueError):
        raise BundleRefusedError("SIG_INVALID") from None


def check_first_half(public_key: bytes, signature: bytes, signed: bytes, label: bytes) -> None:
    MLDSA65PublicKey.from_public_bytes(public_key).verify(signature, signed, label)


def is_of_small_order(public_key: bytes) -> bool:
    """Whether eight times the point is neutral: its y after three doublings is 1."""
    prime = 2**255 - 19
    y = int.from_bytes(public_key, "little") % 2**255 % prime
    d = -121665 * pow(121666, -1, prime) % prime
    for _ in range(3):  # y of 2P = (y^2 + x^2) / (2 - y^2 + x^2), where x^2 = (y^2 - 1) / (d y^2 + 1)
        x2 = (y * y - 1) * pow(d * y * y + 1, -1, prime) % prime
        below = (2 - y * y + x2) % prime
        y = (y * y + x2) * pow(below, -1, prime) % prime
    return y == 1


# Manifest


def read_manifest(payload: bytes) -> dict[str, int | str]:
    written = read_object(payload, 4096)
    is_read_by_added = written.get("arch") in READ_BY_ADDED
    fields = exact_fields(written, FIELDS | {"encoder"} if is_read_by_added else FIELDS)
    manifest: dict[str, int | str] = {}
    order = "v arch enc frontend norm labels issuer audience grant release day valid_days weights_sha256 weights_len"
    order += " n_utt n_spk hours uar_src uar_q_loss"
    order += " tier audit networks lira_auc lira_tpr1 file_auc spk_auc epsilon delta unit"
    order += " encoder" if is_read_by_added else ""
    for name in order.split():  # as in the page's table
        value = fields[name]
        if name in HEX:
            manifest[name] = hexadecimal(value, HEX[name])
        elif name in WORDS:
            refuse_unless(text(value) in WORDS[name], "ENUM")
            manifest[name] = text(value)
        else:
            refuse_unless(type(value) is int, "TYPE")
            number: int = value  # type: ignore[assignment]
            if name in CHOICES:
                refuse_unless(number in CHOICES[name], "ENUM")
            else:
                refuse_unless(RANGES[name][0] <= number <= RANGES[name][1], "RANGE")
            manifest[name] = number
    refuse_unless(manifest["frontend"] == FRONT_ENDS[str(manifest["arch"])], "ENUM")
    refuse_unless(int(manifest["labels"]).bit_count() >= 2, "RANGE")
    check_audit(manifest)
    return manifest


def check_audit(manifest: dict[str, int | str]) -> None:
    """The four sentences under the page's table."""
    figures = [int(manifest[name]) for name in ("lira_auc", "lira_tpr1", "file_auc", "spk_auc")]
    if manifest["tier"] == 0:
        refuse_unless(manifest["audit"] in ("none", "measured"), "AUDIT")
    else:
        refuse_unless(manifest["audit"] in ("passed", "overridden"), "AUDIT")
    if manifest["audit"] == "none":
        refuse_unless(not any(figures) and manifest["networks"] == 0 and manifest["epsilon"] == 0, "AUDIT")
    else:
        refuse_unless(int(manifest["networks"]) > 0, "AUDIT")
    if manifest["unit"] == "none":
        refuse_unless(manifest["epsilon"] == 0 and manifest["delta"] == 0, "AUDIT")
    else:
        refuse_unless(int(manifest["epsilon"]) > 0 and int(manifest["delta"]) > 0, "AUDIT")


def clears(manifest: dict[str, int | str]) -> bool:
    """Whether what is stated stays within the page's bars for its tier."""
    auc, hits, on_file, speakers = (
        int(manifest[name]) or 201 for name in ("lira_auc", "lira_tpr1", "file_auc", "spk_auc")
    )
    networks = int(manifest["networks"])
    if manifest["tier"] == 1:
        return networks >= 5 and auc <= 120 and hits <= 10 and on_file <= 120
    return networks >= 6 and auc <= 110 and hits <= 4 and on_file <= 110 and speakers <= 120


def check_policy(manifest: dict[str, int | str], site: Site) -> None:
    release, day, valid_days = (int(manifest[name]) for name in ("release", "day", "valid_days"))
    refuse_unless(manifest["issuer"] == site.issuer.hex(), "KEY_UNKNOWN", 11)
    refuse_unless(site.audience is None or manifest["audience"] == site.audience.hex(), "AUDIENCE")
    refuse_unless(site.grants is None or bytes.fromhex(str(manifest["grant"])) in site.grants, "GRANT")
    if site.last_release > 0:
        refuse_unless(release >= site.last_release, "ROLLBACK")
        same = manifest["weights_sha256"] == site.last_weights.hex()
        refuse_unless(release != site.last_release or same, "ROLLBACK")
        refuse_unless(release <= site.last_release + 64, "FAST_FORWARD")
    refuse_unless(day <= site.today + 2, "NOT_YET")
    refuse_unless(site.today <= day + valid_days, "EXPIRED")
    revoked = {entry.hex() for entry in site.revoked}
    refuse_unless(not revoked & {manifest["issuer"], manifest["weights_sha256"]}, "REVOKED")
    refuse_unless(manifest["audit"] != "passed" or clears(manifest), "AUDIT", 11)
    refuse_unless(manifest["audit"] != "overridden" or site.accept_overridden, "AUDIT", 11)
    refuse_unless(int(manifest["tier"]) >= site.least_tier, "AUDIT", 11)
    if "encoder" in manifest and site.encoders is not None:
        refuse_unless(bytes.fromhex(str(manifest["encoder"])) in site.encoders, "NOT_FOUND", 11)


# Weights


def network(arch: str, classes: int) -> list[tuple[str, int, tuple[int, ...], int]]:
    """Layers as (name, units, shape of a row, columns per unit in the next layer)."""
    width = WIDTHS[FRONT_ENDS[arch]]
    if arch in UNITS:
        encoder = [("encoder.0", UNITS[arch], (width,), 1)]
    else:
        encoder = [
            ("encoder.0", 128, (width, 5), 1),
            ("encoder.1", 128, (128, 3), 1),
            ("encoder.2", 256, (128, 1), 2),
        ]
    encoded = encoder[-1][1] * encoder[-1][3]
    return [*encoder, ("bottleneck", 128, (encoded,), 1), ("head", classes, (128,), 1)]


def tensors(arch: str, classes: int, norm: str) -> list[tuple[str, str, tuple[int, ...]]]:
    """Names, types and shapes in the order of the file."""
    found: list[tuple[str, str, tuple[int, ...]]] = []
    if norm == "none":
        width = WIDTHS[FRONT_ENDS[arch]]
        for name in ("input.center", "input.scale"):
            found += [(name, "I8", (width,)), (f"{name}.exponent", "I8", (width,))]
    for name, units, row, _ in network(arch, classes):
        found += [
            (f"{name}.weight", "I8", (units, *row)),
            (f"{name}.bias", "I16", (units,)),
            (f"{name}.exponent", "I8", (units,)),
        ]
    return sorted(found, key=lambda tensor: (tensor[1] != "I16", tensor[0]))


def size_of(kind: str, shape: tuple[int, ...]) -> int:
    size = 2 if kind == "I16" else 1
    for dimension in shape:
        size *= dimension
    return size


def header(arch: str, classes: int, norm: str) -> bytes:
    entries, offset = [], 0
    for name, kind, shape in tensors(arch, classes, norm):
        end = offset + size_of(kind, shape)
        dimensions = ",".join(map(str, shape))
        entries.append(f'"{name}":{{"dtype":"{kind}","shape":[{dimensions}],"data_offsets":[{offset},{end}]}}')
        offset = end
    written = ("{" + ",".join(entries) + "}").encode()
    written += b" " * (-len(written) % 8)
    return struct.pack("<Q", len(written)) + written


@functools.cache
def lengths(arch: str, classes: int, norm: str) -> list[int]:
    return [
        len(header(arch, classes, norm)),
        *(size_of(kind, shape) for _, kind, shape in tensors(arch, classes, norm)),
    ]


def check_weights(data: bytes, manifest: dict[str, int | str]) -> None:
    check_form(bytes(data), str(manifest["arch"]), str(manifest["norm"]), int(manifest["labels"]).bit_count())


@functools.lru_cache(maxsize=16)
def check_form(data: bytes, arch: str, norm: str, classes: int) -> None:
    """Remembered, because the cases of a suite bring the same weights again and again."""
    expected = header(arch, classes, norm)
    refuse_unless(data.startswith(expected), "HEADER_MISMATCH")
    refuse_unless(len(data) == sum(lengths(arch, classes, norm)), "HEADER_MISMATCH")
    values: dict[str, list[int]] = {}
    place = len(expected)
    for name, kind, shape in tensors(arch, classes, norm):
        size = size_of(kind, shape)
        part = data[place : place + size]
        values[name] = list(struct.unpack(f"<{size}b" if kind == "I8" else f"<{size // 2}h", part))
        place += size
    check_values(values, arch, norm, classes)


def check_values(values: dict[str, list[int]], arch: str, norm: str, classes: int) -> None:
    chain = network(arch, classes)
    if norm == "none":
        for name in ("input.center", "input.scale"):
            rows = [[element] for element in values[name]]
            check_rows(rows, [0] * len(rows), values[f"{name}.exponent"])
        refuse_unless(min(values["input.scale"]) > 0, "VALUE")
    rows_of = {}
    for name, units, row, _ in chain:
        length = size_of("I8", row)
        flat = values[f"{name}.weight"]
        rows_of[name] = [flat[unit * length : (unit + 1) * length] for unit in range(units)]
        check_rows(rows_of[name], values[f"{name}.bias"], values[f"{name}.exponent"])
    for (name, units, _, tiles), (following, _, row, _) in pairwise(chain):
        keys = [
            (bias, bytes(value & 0xFF for value in weights), exponent)
            for bias, weights, exponent in zip(
                values[f"{name}.bias"], rows_of[name], values[f"{name}.exponent"], strict=True
            )
        ]
        refuse_unless(keys == sorted(keys), "UNIT_ORDER")
        kernel = size_of("I8", row) // row[0]
        for unit in range(1, units):
            if keys[unit] == keys[unit - 1]:
                for tile in range(tiles):
                    start = (tile * units + unit) * kernel
                    used = any(any(weights[start : start + kernel]) for weights in rows_of[following])
                    refuse_unless(not used, "UNIT_ORDER")
    refuse_unless(all(any(weights) for weights in rows_of["head"]), "VALUE")


def check_rows(rows: list[list[int]], biases: list[int], exponents: list[int]) -> None:
    for row, bias, exponent in zip(rows, biases, exponents, strict=True):
        largest = max(map(abs, row))
        refuse_unless(largest <= 127 and abs(bias) <= 32767 and -20 <= exponent <= 8, "VALUE")
        refuse_unless(exponent == -20 or largest >= 64 or abs(bias) >= 16384, "VALUE")
