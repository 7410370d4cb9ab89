"""Sites of a federation, as they mask one step."""

from cryptography.hazmat.primitives.asymmetric import ec

from protocol.federation.masking import Roster, RoundKey

RUN, STEP = "run 7", "round 1"
QUESTION = b"q" * 32
NODE_KEYS = [ec.generate_private_key(ec.SECP384R1()) for _ in range(10)]


def roster_of(site: int, num_sites: int = 3) -> Roster:
    publics = [key.public_key() for key in NODE_KEYS[:num_sites]]
    return Roster(publics.pop(site), publics)


def round_keys(num_sites: int = 3, run: str = RUN, step: str = STEP) -> list[RoundKey]:
    return [RoundKey(roster_of(site, num_sites), NODE_KEYS[site], run=run, step=step) for site in range(num_sites)]


def masked_answers(answers, questions=None):
    """What leaves each site; all were asked the same question unless told otherwise."""
    keys = round_keys(len(answers))
    offers = [key.offer() for key in keys]
    questions = questions or [QUESTION] * len(keys)
    return [key.mask(*told) for key, *told in zip(keys, answers, [offers] * len(keys), questions, strict=True)]
