"""Define the manifest: what a source states about a bundle's model.

It is a closed set of facts.

Integers from bounded ranges, words from closed sets, and hashes of bytes that the reader holds itself: no
field can hold free text. `free_bits` adds up what is left to choose.
"""

import dataclasses
import math
from dataclasses import dataclass

from protocol import canonical
from protocol.bundle import architecture, stated_audit
from protocol.bundle.form import ModelForm
from protocol.bundle.stated_audit import AuditFields
from protocol.errors import Code, MalformedError

PAYLOAD_TYPE = "application/vnd.ecan.manifest.v2+json"
MAX_MANIFEST_BYTES = 4096

EMOTIONS = (
    "anger",
    "boredom",
    "calm",
    "contempt",
    "disgust",
    "excitement",
    "fear",
    "frustration",
    "happiness",
    "neutral",
    "sadness",
    "surprise",
)
"""The label words in the order of the mask's bits, lowest first; the same twelve as in ecan_core.labels."""

VERSION = 2
ENCODING = "q8p2"
VALID_DAYS = (30, 90, 180, 365)

SCHEMA: canonical.Schema = {
    "v": canonical.Int(VERSION, VERSION),
    "arch": canonical.OneOf(architecture.ARCHITECTURES),
    "enc": canonical.OneOf((ENCODING,)),
    "frontend": canonical.OneOf(tuple(architecture.FRONT_ENDS.values())),
    "norm": canonical.OneOf(architecture.NORMALIZATIONS),
    "labels": canonical.Int(0b11, (1 << len(EMOTIONS)) - 1),
    "issuer": canonical.Hex(32),
    "audience": canonical.Hex(32),
    "grant": canonical.Hex(16),
    "release": canonical.Int(1, 0xFFFF),
    "day": canonical.Int(0, 0xFFFF),
    "valid_days": canonical.OneOf(VALID_DAYS),
    "weights_sha256": canonical.Hex(32),
    "weights_len": canonical.Int(1, 0xFFFFFF),
    "n_utt": canonical.Int(0, 31),
    "n_spk": canonical.Int(0, 31),
    "hours": canonical.Int(-16, 15),
    "uar_src": canonical.Int(0, 200),
    "uar_q_loss": canonical.Int(0, 1),
    **stated_audit.SCHEMA,
}
"""The fields of every manifest and what they may hold."""

ENCODER_SCHEMA: canonical.Schema = {"encoder": canonical.Hex(32)}
"""What stands beside them where the front end reads by an encoder that each site adds itself."""

IMPLIED = frozenset({"v", "enc", "frontend", "issuer", "audience", "grant", "weights_sha256", "weights_len", "encoder"})
"""Fields that leave the source no choice: the reader knows them beforehand or computes them, and compares."""


@dataclass(frozen=True, kw_only=True)
class ManifestFields(AuditFields):
    """Hold what the source states about a release.

    Everything else in the manifest follows.

    What it says of its audit is listed at `AuditFields`.

    Attributes:
        arch: id of the architecture.
        norm: normalization of the inputs: ``none``, ``corpus`` or ``speaker``.
        labels: the classes as a mask over `EMOTIONS`, see `label_mask`.
        audience: fingerprint of the target's receipt key, 32 bytes.
        grant: the grant it is released under, 16 bytes.
        release: running number of the source's releases.
        day: day of release, in days since 1970.
        valid_days: how long a target may accept it.
        n_utt: size of the training corpus in utterances, as `log2_bucket`.
        n_spk: number of its speakers, as `log2_bucket`; 0 also if unknown.
        hours: its length in hours, as `log2_bucket`.
        uar_src: UAR on the source's own held-out speakers, in half percents.
        uar_q_loss: UAR lost by quantization, in half percents, rounded up; the source refuses to lose more than one.
        encoder: SHA-256 of the encoder's file, where each site adds that itself; empty where ``arch`` fixes it or there
            is none.
    """

    arch: str
    norm: str
    labels: int
    audience: bytes
    grant: bytes
    release: int
    day: int
    valid_days: int
    n_utt: int
    n_spk: int
    hours: int
    uar_src: int
    uar_q_loss: int
    encoder: bytes = b""

    @property
    def classes(self) -> tuple[str, ...]:
        """Return the label words, in the order of the logits."""
        return tuple(word for bit, word in enumerate(EMOTIONS) if self.labels >> bit & 1)

    @property
    def form(self) -> ModelForm:
        """Return the form of the weights."""
        return ModelForm(self.arch, len(self.classes), self.norm)

    @property
    def front_end(self) -> str:
        """Return the front end that the architecture reads."""
        return architecture.FRONT_ENDS[self.arch]


@dataclass(frozen=True, kw_only=True)
class Manifest(ManifestFields):
    """Hold a complete manifest.

    Attributes:
        issuer: fingerprint of the release key, 32 bytes.
        weights_sha256: SHA-256 of the weights.
        weights_len: length of the weights in bytes.
    """

    issuer: bytes
    weights_sha256: bytes
    weights_len: int

    def to_bytes(self) -> bytes:
        """Return the only encoding of the manifest.

        Raises:
            MalformedError: a field is out of range.
        """
        if self.encoder and self.arch not in architecture.READ_BY_ADDED:
            raise MalformedError(
                Code.UNKNOWN_FIELD, f"The architecture {self.arch} reads by no added encoder; name none."
            )
        implied = {"v": VERSION, "enc": ENCODING, "frontend": self.front_end}
        data = canonical.write_record(dataclasses.asdict(self) | implied, schema_of(self.arch), what="manifest")
        Manifest.from_bytes(data)  # what could not be read back is not written
        return data

    @classmethod
    def from_bytes(cls, data: bytes) -> "Manifest":
        """Read a manifest; refuse bytes that `to_bytes` would not write.

        Raises:
            MalformedError: not canonical, or a field is unknown, missing, of another type or out of range.
        """
        written = canonical.parse_object(data, what="manifest", max_bytes=MAX_MANIFEST_BYTES)
        fields = canonical.load_fields(written, schema_of(written.get("arch")), what="manifest")
        front_end = fields.pop("frontend")
        del fields["v"], fields["enc"]
        manifest = cls(**fields)
        if front_end != manifest.front_end:
            raise MalformedError(Code.ENUM, "Fields arch and frontend do not fit each other; ask for a new bundle.")
        if len(manifest.classes) < architecture.MIN_CLASSES:
            raise MalformedError(Code.RANGE, "Field labels names fewer than two classes; ask for a new bundle.")
        if not manifest.makes_sense:
            raise MalformedError(Code.AUDIT, "What is stated of the audit contradicts itself; ask for a new bundle.")
        return manifest


def schema_of(arch: object) -> canonical.Schema:
    """Return the fields of a manifest for what stands as its architecture."""
    return {**SCHEMA, **ENCODER_SCHEMA} if arch in architecture.READ_BY_ADDED else SCHEMA


def label_mask(classes: tuple[str, ...]) -> int:
    """Return the mask of a set of label words, in any order."""
    return sum(1 << EMOTIONS.index(word) for word in set(classes))


def log2_bucket(quantity: float) -> int:
    """Return the power of two just below a positive quantity.

    Nothing more is said about the size of the corpus.
    """
    return math.floor(math.log2(quantity))


def half_percents(share: float) -> int:
    """Return a share from 0 to 1 in steps of half a percent."""
    return round(200 * share)


def free_bits() -> float:
    """Count the bits that a source could choose freely in a manifest."""
    return sum(kind.bits for field, kind in SCHEMA.items() if field not in IMPLIED)
