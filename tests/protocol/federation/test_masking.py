"""The masked sum: what it gives, what one answer shows of itself, and what no coordinator can do to it."""

import itertools

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from scipy.stats import chisquare

from protocol.errors import Code, MalformedError, RefusedError
from protocol.federation.masking import (
    ID_BYTES,
    LARGEST,
    MOST_SITES,
    OFFER_BYTES,
    PUBLIC_BYTES,
    Roster,
    RoundKey,
    from_integers,
    mean_of,
    site_id,
    sum_masked,
    to_integers,
)
from protocol.federation.node_keys import sign
from tests.protocol.federation.sites import (
    NODE_KEYS,
    QUESTION,
    RUN,
    STEP,
    masked_answers,
    roster_of,
    round_keys,
)

SHAPES = {"weight": (4, 3), "bias": (5,), "empty": (0,), "scale": ()}
LOW_ORDER = [
    bytes(32),
    (1).to_bytes(32, "little"),
    (2**255 - 20).to_bytes(32, "little"),
    (2**255 - 19).to_bytes(32, "little"),
    (2**255 - 18).to_bytes(32, "little"),
    bytes.fromhex("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800"),
    bytes.fromhex("5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157"),
]


def answer_of(seed: int, largest: float, dtype=np.float64) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(seed)
    return {name: generator.uniform(-largest, largest, shape).astype(dtype) for name, shape in SHAPES.items()}


@pytest.mark.parametrize("num_sites", range(3, 11))
@pytest.mark.parametrize("largest", [1e-6, 1.0, 64.0, LARGEST])
def test_the_mean_of_masked_answers_is_the_plain_mean(num_sites, largest):
    answers = [answer_of(seed, largest) for seed in range(num_sites)]
    total = sum_masked(masked_answers([to_integers(answer, largest) for answer in answers]))
    plain = {name: np.mean([answer[name] for answer in answers], axis=0) for name in SHAPES}
    flat = np.concatenate([plain[name].ravel() for name in sorted(plain)])
    np.testing.assert_allclose(mean_of(total, num_sites=num_sites, largest=largest), flat, rtol=0, atol=1e-9)
    arrays = from_integers(total, SHAPES, num_sites=num_sites, largest=largest)
    assert {name: array.shape for name, array in arrays.items()} == SHAPES
    assert list(arrays) == list(SHAPES)
    for name, array in arrays.items():
        assert array.dtype == np.float32
        np.testing.assert_allclose(array, plain[name].astype(np.float32), rtol=2**-22, atol=1e-9)


@pytest.mark.parametrize("sign_of", [1.0, -1.0])
@pytest.mark.parametrize("num_sites", [3, 10, MOST_SITES])
def test_the_largest_magnitudes_of_all_sites_still_fit(num_sites, sign_of):
    extreme = to_integers({"a": np.full(50, sign_of * LARGEST)}, LARGEST)
    total = np.add.reduce([extreme] * num_sites)  # as the pads leave it
    np.testing.assert_array_equal(mean_of(total, num_sites=num_sites, largest=LARGEST), sign_of * LARGEST)


def test_float32_answers_come_back_to_the_last_bit():
    answer = answer_of(1, 8.0, np.float32)
    total = sum_masked(masked_answers([to_integers(answer, 8.0)] * 3))
    back = from_integers(total, SHAPES, num_sites=3, largest=8.0)
    for name, array in answer.items():
        np.testing.assert_allclose(back[name], array, rtol=0, atol=5e-7)


def test_sites_that_hold_their_arrays_in_another_order_are_summed_alike():
    answer = answer_of(1, 1.0)
    turned = dict(reversed(answer.items()))
    np.testing.assert_array_equal(to_integers(answer, 1.0), to_integers(turned, 1.0))


@pytest.mark.parametrize(
    "bad",
    [np.nan, np.inf, -np.inf, 8.0001, -9.0, 1e300],
)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.filterwarnings("ignore:overflow encountered in cast")
def test_a_number_that_is_not_finite_or_too_large_is_refused_and_never_cut(bad, dtype):
    answer = {"a": np.zeros(3, dtype), "b": np.array([0.0, bad], dtype)}
    with pytest.raises(RefusedError, match="not finite or exceeds") as caught:
        to_integers(answer, 8.0)
    assert caught.value.code is Code.RANGE


@pytest.mark.parametrize("largest", [0.0, -1.0, LARGEST * 1.01, np.inf, np.nan])
def test_a_bound_that_could_overflow_the_sum_is_refused(largest):
    with pytest.raises(RefusedError):
        to_integers({"a": np.zeros(3)}, largest)


def uniform_bytes_p(vector: np.ndarray) -> float:
    """p-value of the bytes being uniform, the lowest over the eight places of a word."""
    places = vector.view(np.uint8).reshape(-1, 8).T
    return min(chisquare(np.bincount(place, minlength=256)).pvalue for place in places)


def test_one_masked_answer_alone_is_uniform_bytes():
    """A false alarm has odds below one in a hundred million."""
    values = to_integers({"a": np.random.default_rng(0).normal(0, 0.1, 1 << 16)}, 8.0)
    assert uniform_bytes_p(values) < 1e-100  # the check sees what is not masked
    for masked in masked_answers([values] * 3):
        assert uniform_bytes_p(masked) > 1e-10


@pytest.mark.parametrize("num_sites", [3, 5])
def test_all_answers_but_one_still_add_up_to_uniform_bytes(num_sites):
    values = [to_integers({"a": np.random.default_rng(seed).normal(0, 0.1, 1 << 16)}, 8.0) for seed in range(num_sites)]
    masked = masked_answers(values)
    for left_out in range(num_sites):
        rest = np.add.reduce([vector for site, vector in enumerate(masked) if site != left_out])
        assert uniform_bytes_p(rest) > 1e-10
    assert uniform_bytes_p(np.add.reduce(masked)) < 1e-100


def test_two_tries_of_one_step_are_masked_by_different_pads():
    zeros = np.zeros(1000, np.uint64)
    first, second = (masked_answers([zeros] * 3)[0] for _ in range(2))
    assert not np.any(first == second)


def test_the_values_given_in_are_left_as_they_are():
    values = np.arange(10, dtype=np.uint64)
    masked_answers([values] * 3)
    np.testing.assert_array_equal(values, np.arange(10, dtype=np.uint64))


@pytest.mark.parametrize("others", list(itertools.product([QUESTION, b"x" * 32], repeat=2))[1:])
def test_sites_that_were_asked_different_questions_add_up_to_noise(others):
    values = to_integers({"a": np.zeros(1 << 16)}, 8.0)
    total = np.add.reduce(masked_answers([values] * 3, [QUESTION, *others]))
    assert uniform_bytes_p(total) > 1e-10
    with pytest.raises(RefusedError, match="different questions"):
        from_integers(total, {"a": (1 << 16,)}, num_sites=3, largest=8.0)


def forged(site: int, run: str = RUN, step: str = STEP, roster: Roster | None = None) -> bytes:
    return RoundKey(roster or roster_of(site), NODE_KEYS[site], run=run, step=step).offer()


def signed_by_hand(site: int, public: bytes) -> bytes:
    """An offer of a roster member that is hostile itself and signs what no library makes."""
    maker = round_keys()[site]
    member = site_id(NODE_KEYS[site].public_key())
    return member + public + sign(NODE_KEYS[site], maker._statement(member, public))


def flipped(offer: bytes, place: int) -> bytes:
    return offer[:place] + bytes([offer[place] ^ 1]) + offer[place + 1 :]


def swapped(one: bytes, other: bytes) -> list[bytes]:
    """Each under the other's id."""
    return [one[:ID_BYTES] + other[ID_BYTES:], other[:ID_BYTES] + one[ID_BYTES:]]


HOSTILE = {
    "no offer at all": lambda own, a, b: [],
    "own offer missing": lambda own, a, b: [a, b],
    "own offer missing, a peer twice": lambda own, a, b: [a, a, b],
    "own offer replaced by this site's of another try": lambda own, a, b: [forged(0), a, b],
    "own offer with another's key in it": lambda own, a, b: [own[:ID_BYTES] + a[ID_BYTES:], a, b],
    "own offer beside one of another try": lambda own, a, b: [own, forged(0), b],
    "own offer alone": lambda own, a, b: [own],
    "own offer three times": lambda own, a, b: [own, own, own],
    "one peer missing": lambda own, a, b: [own, a],
    "the same peer twice": lambda own, a, b: [own, a, a],
    "the same peer twice, by two keys": lambda own, a, b: [own, a, forged(1)],
    "one peer's second offer added": lambda own, a, b: [own, a, b, forged(1)],
    "a stranger added": lambda own, a, b: [own, a, b, forged(3, roster=roster_of(3, 4))],
    "a stranger in a peer's place": lambda own, a, b: [own, a, forged(3, roster=roster_of(3, 4))],
    "a stranger under a peer's id": lambda own, a, b: [
        own,
        a,
        b[:ID_BYTES] + forged(3, roster=roster_of(3, 4))[ID_BYTES:],
    ],
    "a coordinator's key under a peer's signature": lambda own, a, b: [
        own,
        a,
        b[:ID_BYTES] + X25519PrivateKey.generate().public_key().public_bytes_raw() + b[ID_BYTES + PUBLIC_BYTES :],
    ],
    "signature of another run": lambda own, a, b: [own, a, forged(2, run="run 8")],
    "signature of another step": lambda own, a, b: [own, a, forged(2, step="round 2")],
    "signature of another roster": lambda own, a, b: [own, a, forged(2, roster=roster_of(2, 4))],
    "bit of an id flipped": lambda own, a, b: [own, a, flipped(b, 0)],
    "bit of a public key flipped": lambda own, a, b: [own, a, flipped(b, ID_BYTES)],
    "top bit of a public key flipped": lambda own, a, b: [own, a, flipped(b, ID_BYTES + PUBLIC_BYTES - 1)],
    "bit of a signature flipped": lambda own, a, b: [own, a, flipped(b, OFFER_BYTES - 1)],
    "signature of zeros": lambda own, a, b: [own, a, b[: ID_BYTES + PUBLIC_BYTES] + bytes(96)],
    "signature of another peer": lambda own, a, b: [own, a, b[: ID_BYTES + PUBLIC_BYTES] + a[-96:]],
    "too short": lambda own, a, b: [own, a, b[:-1]],
    "too long": lambda own, a, b: [own, a, b + b"\0"],
    "empty": lambda own, a, b: [own, a, b""],
    "offers of two sites swapped": lambda own, a, b: [own, *swapped(a, b)],
    "own offer and a peer's swapped": lambda own, a, b: [*swapped(own, a), b],
}


@pytest.mark.parametrize("make", HOSTILE.values(), ids=HOSTILE.keys())
def test_offers_that_are_not_one_of_every_site_are_refused_and_nothing_leaves(make):
    keys = round_keys()
    offers = make(*(key.offer() for key in keys))
    with pytest.raises(RefusedError, match="nothing was masked; repeat the step") as caught:
        keys[0].mask(np.zeros(4, np.uint64), offers, QUESTION)
    assert caught.value.code is Code.OFFER
    with pytest.raises(RefusedError, match="masked an answer already"):  # no second guess with the same key
        keys[0].mask(np.zeros(4, np.uint64), [key.offer() for key in keys], QUESTION)


@pytest.mark.parametrize("point", LOW_ORDER, ids=range(len(LOW_ORDER)))
def test_a_key_of_low_order_is_refused_even_if_a_member_signed_it(point):
    keys = round_keys()
    offers = [keys[0].offer(), keys[1].offer(), signed_by_hand(2, point)]
    with pytest.raises(RefusedError, match="agrees on nothing"):
        keys[0].mask(np.zeros(4, np.uint64), offers, QUESTION)


def test_the_order_of_the_offers_means_nothing():
    values = np.arange(5, dtype=np.uint64)
    keys = round_keys()
    offers = [key.offer() for key in keys]
    masked = [
        key.mask(values, list(order), QUESTION)
        for key, order in zip(keys, itertools.permutations(offers), strict=False)
    ]
    np.testing.assert_array_equal(sum_masked(masked), 3 * values)


def test_an_old_offer_of_a_peer_gives_noise_and_shows_nothing():
    """A coordinator keeps the offer of an earlier try: it is signed, but its secret is gone at the peer."""
    old, keys = round_keys(), round_keys()
    fresh = [key.offer() for key in keys]
    mixed = [fresh[0], old[1].offer(), fresh[2]]
    values = np.zeros(1 << 16, np.uint64)
    masked = [keys[0].mask(values, mixed, QUESTION), *(key.mask(values, fresh, QUESTION) for key in keys[1:])]
    assert uniform_bytes_p(masked[0]) > 1e-10
    assert uniform_bytes_p(np.add.reduce(masked)) > 1e-10


def test_a_round_key_masks_once():
    keys = round_keys()
    offers = [key.offer() for key in keys]
    keys[0].mask(np.zeros(4, np.uint64), offers, QUESTION)
    assert keys[0]._secret is None
    with pytest.raises(RefusedError, match="masked an answer already") as caught:
        keys[0].mask(np.zeros(4, np.uint64), offers, QUESTION)
    assert caught.value.code is Code.STATE


PUBLICS = [key.public_key() for key in NODE_KEYS]
OTHER_KINDS = [
    ec.generate_private_key(ec.SECP256R1()).public_key(),
    rsa.generate_private_key(65537, 2048).public_key(),
    X25519PrivateKey.generate().public_key(),
    None,
]
BAD_ROSTERS = {
    "this site alone": (PUBLICS[0], []),
    "two sites": (PUBLICS[0], PUBLICS[1:2]),
    "a peer twice": (PUBLICS[0], [PUBLICS[1], PUBLICS[1], PUBLICS[2]]),
    "a peer twice, which makes three of two": (PUBLICS[0], [PUBLICS[1], PUBLICS[1]]),
    "own key among the peers": (PUBLICS[0], PUBLICS[:3]),
    "more than fit": (PUBLICS[0], [ec.derive_private_key(n, ec.SECP384R1()).public_key() for n in range(2, 67)]),
    "own key of another curve": (OTHER_KINDS[0], PUBLICS[:3]),
} | {f"a peer's key of another kind {n}": (PUBLICS[0], [*PUBLICS[1:3], key]) for n, key in enumerate(OTHER_KINDS)}


@pytest.mark.parametrize(("own", "peers"), BAD_ROSTERS.values(), ids=BAD_ROSTERS.keys())
def test_a_roster_that_would_not_keep_a_secret_is_refused(own, peers):
    with pytest.raises(RefusedError) as caught:
        Roster(own, peers)
    assert (caught.value.code, caught.value.exit_code) == (Code.POLICY, 11)


def test_a_roster_without_this_sites_key_makes_no_round_key():
    with pytest.raises(RefusedError, match="not its own key of the roster"):
        RoundKey(Roster(PUBLICS[0], PUBLICS[1:3]), NODE_KEYS[5], run=RUN, step=STEP)


def test_all_sites_of_a_roster_see_the_same_one():
    rosters = [roster_of(site) for site in range(3)]
    assert len({roster.digest for roster in rosters}) == 1
    assert len({tuple(roster.keys) for roster in rosters}) == 1
    assert rosters[0].digest != roster_of(0, 4).digest


@pytest.mark.parametrize("name", ["", "x" * 65, "round\n1", "Runde 1ä", "\0"])
def test_a_run_or_step_without_a_plain_name_is_refused(name):
    for names in ({"run": name, "step": STEP}, {"run": RUN, "step": name}):
        with pytest.raises(MalformedError):
            RoundKey(roster_of(0), NODE_KEYS[0], **names)


@pytest.mark.parametrize(
    ("values", "digest"),
    [
        (np.zeros(4), QUESTION),
        (np.zeros(4, np.int64), QUESTION),
        (np.zeros(4, ">u8"), QUESTION),
        (np.zeros((2, 2), np.uint64), QUESTION),
        ([0, 1], QUESTION),
        (np.zeros(4, np.uint64), b""),
        (np.zeros(4, np.uint64), QUESTION[:-1]),
    ],
)
def test_what_is_no_vector_or_no_digest_is_not_masked(values, digest):
    keys = round_keys()
    with pytest.raises(MalformedError):
        keys[0].mask(values, [key.offer() for key in keys], digest)


@pytest.mark.parametrize(
    "vectors",
    [
        [],
        [np.zeros(4, np.uint64)] * 2,
        [np.zeros(4, np.uint64)] * 2 + [np.zeros(5, np.uint64)],
        [np.zeros(4, np.uint64)] * 2 + [np.zeros(4, np.int64)],
        [np.zeros(4, np.uint64)] * 2 + [np.zeros((4, 1), np.uint64)],
    ],
)
def test_answers_that_cannot_be_summed_are_refused(vectors):
    with pytest.raises(MalformedError):
        sum_masked(vectors)


def test_a_sum_of_another_length_than_the_arrays_is_refused():
    with pytest.raises(MalformedError, match="another length"):
        from_integers(np.zeros(4, np.uint64), {"a": (5,)}, num_sites=3, largest=1.0)
