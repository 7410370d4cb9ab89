"""Mask a sum over a fixed roster of sites.

The coordinator learns the sum of all sites' answers, and nothing of one answer.

Source: Bonawitz et al., CCS 2017 (arXiv 1611.04482), the protocol without dropouts.
Differs: every site of the roster must answer, or all repeat the step with new keys. So there are no shares of secrets
that a coordinator could ask for, and no round that it could shrink. The pads are bound to the question: two sites that
were asked different things do not cancel (Pasquini et al., CCS 2022, arXiv 2111.07380).

Two honest sites are enough: a coordinator and all the others together learn the sum of those two alone. A site that
answers wrongly spoils a sum, which this does not prevent.
"""

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import ChaCha20
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from protocol import canonical
from protocol.errors import Code, MalformedError, RefusedError, UnauthenticError
from protocol.federation.node_keys import SIGNATURE_BYTES, is_node_key, sign, verify

CONTEXT = "ecan-ser masked sum v1"
FEWEST_FOR_SECRECY, MOST_SITES = 3, 64
"""Sites of a masked sum: of two, each could take its own share from the sum and see the other's."""
LARGEST = 2.0**16
"""No number of an answer may be larger; so many of `MOST_SITES` sites still fit into 64 bits."""
UNITS = 2.0**40
"""Units in one: a number is rounded to the nearest whole one, which is wrong by 5e-13 at most."""
ID_BYTES, PUBLIC_BYTES = 32, 32
OFFER_BYTES = ID_BYTES + PUBLIC_BYTES + SIGNATURE_BYTES
DIGEST_BYTES = 32
MAX_NAME_CHARS = 64

Vector = np.ndarray
"""An answer as it is masked: uint64 ``[N]``, little-endian, in two's complement."""
_DTYPE = np.dtype("<u8")


@dataclass(frozen=True)
class Roster:
    """Hold the sites of a federation as their operators pinned them by hand.

    Attributes:
        own_key: this site's node key.
        peers: the node keys of all the others.

    Raises:
        RefusedError: a key is not one of P-384 or there twice, or there are too few or too many.
    """

    own_key: ec.EllipticCurvePublicKey
    peers: Sequence[ec.EllipticCurvePublicKey]

    def __post_init__(self) -> None:
        if not all(is_node_key(key) for key in (self.own_key, *self.peers)):
            raise RefusedError(
                Code.POLICY, "A key of the roster is no node key (EC P-384); ask its site for its .pub file."
            )
        if len(self.keys) != 1 + len(self.peers):
            raise RefusedError(
                Code.POLICY, "A node key is in the roster twice; name this site's key and each peer's once."
            )
        if not FEWEST_FOR_SECRECY <= len(self.keys) <= MOST_SITES:
            raise RefusedError(
                Code.POLICY,
                f"A masked sum takes {FEWEST_FOR_SECRECY} to {MOST_SITES} sites and the roster has {len(self.keys)}; "
                "pin the node keys of all sites.",
            )

    @cached_property
    def own(self) -> bytes:
        """Return this site's id."""
        return site_id(self.own_key)

    @cached_property
    def keys(self) -> Mapping[bytes, ec.EllipticCurvePublicKey]:
        """Return the node key of every site by its id, in the order of the ids."""
        return dict(sorted({site_id(key): key for key in (self.own_key, *self.peers)}.items()))

    @cached_property
    def digest(self) -> bytes:
        """Return the SHA-256 of all ids, which is the same at every site."""
        members = [member.hex() for member in self.keys]
        return hashlib.sha256(canonical.encode({"context": CONTEXT, "members": members})).digest()


def site_id(key: ec.EllipticCurvePublicKey) -> bytes:
    """Return the id of a site: the SHA-256 of its node key in DER, 32 bytes."""
    return hashlib.sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).digest()


class RoundKey:
    """Hold the fresh X25519 key that masks one answer of one site.

    It is made for one step.
    """

    def __init__(self, roster: Roster, node_key: ec.EllipticCurvePrivateKey, *, run: str, step: str) -> None:
        """Make the key and sign it.

        Args:
            roster: all sites.
            node_key: this site's.
            run: the run's id.
            step: name of the step, such as ``round 3`` or ``tally``.

        Raises:
            RefusedError: the node key is not the one that the roster names as this site's.
            MalformedError: the run or the step has no plain name.
        """
        if not all(name.isascii() and name.isprintable() and 0 < len(name) <= MAX_NAME_CHARS for name in (run, step)):
            raise MalformedError(
                Code.VALUE, f"Runs and steps have names of 1 to {MAX_NAME_CHARS} letters; start a new run."
            )
        if site_id(node_key.public_key()) != roster.own:
            raise RefusedError(Code.POLICY, "This site's node key is not its own key of the roster; pin the right one.")
        self._roster, self._run, self._step = roster, run, step
        self._secret: X25519PrivateKey | None = X25519PrivateKey.generate()
        public = self._secret.public_key().public_bytes_raw()
        self._offer = roster.own + public + sign(node_key, self._statement(roster.own, public))

    def offer(self) -> bytes:
        """Return the offer that the other sites need, `OFFER_BYTES` bytes.

        It holds id, public key and signature.
        """
        return self._offer

    def mask(self, values: Vector, offers: Sequence[bytes], question_digest: bytes) -> Vector:
        """Mask an answer with one pad for each other site.

        This key is used up then, whatever comes of it.

        Args:
            values: what `to_integers` made, uint64 ``[N]``.
            offers: the offer of every site of the roster, this one's included, in any order.
            question_digest: SHA-256 over all that the coordinator sent for this step, 32 bytes.

        Returns:
            The masked answer, uint64 ``[N]``: uniformly distributed, whatever the values are.

        Raises:
            RefusedError: the key was used before, or the offers are not one valid offer of every site.
            MalformedError: the values are no vector of uint64, or the digest is none.
        """
        secret, self._secret = self._secret, None
        if secret is None:
            raise RefusedError(Code.STATE, "This round key has masked an answer already; make a new one for every try.")
        _check_vector(values)
        if len(question_digest) != DIGEST_BYTES:
            raise MalformedError(
                Code.LENGTH, f"The digest of a question has {DIGEST_BYTES} bytes; ask for the step anew."
            )
        publics = self._checked(offers)
        masked = values.copy()
        for peer in publics.keys() - {self._roster.own}:
            pad = _keystream(self._pair_key(secret, peer, publics, question_digest), len(values))
            masked = masked + pad if self._roster.own < peer else masked - pad  # modulo 2^64
        return masked

    def _checked(self, offers: Sequence[bytes]) -> dict[bytes, bytes]:
        """Check the offers of all sites; returns their X25519 keys by their ids."""
        if len(offers) != len(self._roster.keys) or self._offer not in offers:
            raise _refused_offers("This site's own offer is missing, or there are not as many as sites")
        publics = dict(self._opened(offer) for offer in offers)
        if publics.keys() != self._roster.keys.keys():
            raise _refused_offers("A site is missing, or there twice")
        return publics

    def _opened(self, offer: bytes) -> tuple[bytes, bytes]:
        """Check one offer; returns whose it is and the X25519 key in it."""
        if len(offer) != OFFER_BYTES:
            raise _refused_offers("An offer is not as long as an offer is")
        site, public = offer[:ID_BYTES], offer[ID_BYTES : ID_BYTES + PUBLIC_BYTES]
        if site not in self._roster.keys:
            raise _refused_offers("A site that is not in the roster makes an offer")
        try:
            verify(self._roster.keys[site], self._statement(site, public), offer[-SIGNATURE_BYTES:])
        except UnauthenticError as error:
            raise _refused_offers("An offer is not signed by its site for this step") from error
        return site, public

    def _statement(self, site: bytes, public: bytes) -> bytes:
        """Return what a site signs."""
        return canonical.encode(self._place() | {"public": public.hex(), "site": site.hex()})

    def _place(self) -> dict[str, str]:
        roster = self._roster.digest.hex()
        return {"context": CONTEXT, "run": self._run, "step": self._step, "roster": roster}

    def _pair_key(
        self, secret: X25519PrivateKey, peer: bytes, publics: Mapping[bytes, bytes], question: bytes
    ) -> bytes:
        """Return the 32-byte key of this site and a peer for this question."""
        try:
            shared = secret.exchange(X25519PublicKey.from_public_bytes(publics[peer]))
        except ValueError as error:  # a point of low order
            raise _refused_offers("An offer holds a key that agrees on nothing") from error
        pair = sorted((self._roster.own, peer))
        info = {"sites": [site.hex() for site in pair], "publics": [publics[site].hex() for site in pair]}
        info_bytes = canonical.encode(self._place() | {"question": question.hex()} | info)
        return HKDF(algorithm=hashes.SHA256(), length=32, salt=None, info=info_bytes).derive(shared)


def to_integers(arrays: Mapping[str, np.ndarray], largest: float) -> Vector:
    """Write an answer as integers, in the order of its arrays' names.

    One is `UNITS`, and negative numbers are in two's complement.

    Args:
        arrays: the answer, float32 or float64.
        largest: magnitude that no number exceeds, at most `LARGEST`.

    Returns:
        uint64 ``[N]``, for all numbers of the answer.

    Raises:
        RefusedError: a number is not finite or too large; nothing is cut.
    """
    if not 0 < largest <= LARGEST:
        raise RefusedError(
            Code.RANGE, f"Numbers of a masked sum may reach {LARGEST:g}, not {largest:g}; plan for less."
        )
    flat = np.concatenate([np.zeros(0), *(arrays[name].ravel().astype(np.float64) for name in sorted(arrays))])
    if not np.all(np.abs(flat) <= largest):  # NaN compares as false
        raise RefusedError(
            Code.RANGE, f"A number of the answer is not finite or exceeds {largest:g}; train with a smaller step."
        )
    return np.rint(flat * UNITS).astype("<i8").view(_DTYPE)


def sum_masked(vectors: Sequence[Vector]) -> Vector:
    """Sum the masked answers of all sites modulo 2^64.

    The pads cancel.

    Args:
        vectors: what every site's `RoundKey.mask` returned, uint64 ``[N]`` each.

    Raises:
        MalformedError: one is no vector of uint64 or has another length, or there are too few.
    """
    for vector in vectors:
        _check_vector(vector)
    if len(vectors) < FEWEST_FOR_SECRECY or len({vector.shape for vector in vectors}) != 1:
        raise MalformedError(
            Code.SHAPE, "The masked answers are too few or not equally long; repeat the step at all sites."
        )
    total: Vector = np.add.reduce(vectors, dtype=_DTYPE)
    return total


def from_integers(
    total: Vector, shapes: Mapping[str, tuple[int, ...]], *, num_sites: int, largest: float
) -> dict[str, np.ndarray]:
    """Read the mean of all answers from their sum.

    Args:
        total: what `sum_masked` returned, uint64 ``[N]``.
        shapes: shape of each array; the result has their order.
        num_sites: how many answers were summed.
        largest: as for `to_integers`.

    Returns:
        float32 arrays by their names.

    Raises:
        MalformedError: the shapes hold another number of values.
        RefusedError: the sum is noise, because the pads did not cancel.
    """
    mean = mean_of(total, num_sites=num_sites, largest=largest)
    sizes = {name: math.prod(shapes[name]) for name in sorted(shapes)}
    if sum(sizes.values()) != len(mean):
        raise MalformedError(
            Code.SHAPE, "The sum has another length than the arrays; let all sites install one version."
        )
    parts = dict(zip(sizes, np.split(mean, np.cumsum(list(sizes.values()))[:-1]), strict=True))
    return {name: parts[name].reshape(shape).astype(np.float32) for name, shape in shapes.items()}


def mean_of(total: Vector, *, num_sites: int, largest: float) -> np.ndarray:
    """Return the mean of all answers as float64 ``[N]``; see `from_integers`."""
    _check_vector(total)
    signed = total.view("<i8").astype(np.float64)
    if not np.all(np.abs(signed) <= num_sites * (largest * UNITS + 1)):
        raise RefusedError(
            Code.VALUE,
            "The masked answers do not add up: the sites were asked different questions, or one answered wrongly; "
            "repeat the step at all sites.",
        )
    return signed / (UNITS * num_sites)


def _keystream(key: bytes, num_values: int) -> Vector:
    """Return the pad of one pair; its key is used for nothing else."""
    stream = Cipher(ChaCha20(key, bytes(16)), mode=None).encryptor().update(bytes(8 * num_values))
    return np.frombuffer(stream, dtype=_DTYPE)


def _check_vector(values: object) -> None:
    if not isinstance(values, np.ndarray) or values.dtype != _DTYPE or values.ndim != 1:
        raise MalformedError(
            Code.TYPE, "An answer to be masked is one vector of uint64; let all sites install one version."
        )


def _refused_offers(what_is_wrong: str) -> RefusedError:
    return RefusedError(
        Code.OFFER, f"{what_is_wrong}, so nothing was masked; repeat the step with new keys at all sites."
    )
