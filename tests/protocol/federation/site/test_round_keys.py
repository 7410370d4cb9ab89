"""Fresh keys of masked steps, from the offer to the one answer that each masks."""

import numpy as np
import pytest

from protocol.errors import RefusedError
from protocol.federation.masking import OFFER_BYTES, sum_masked
from protocol.federation.messages import KEYS, OFFER, OFFERS, STEP, Question
from protocol.federation.site.round_keys import RoundKeys
from tests.protocol.federation.sites import NODE_KEYS, QUESTION, roster_of

VALUES = np.arange(4, dtype="<u8")


def keys_of(site: int) -> RoundKeys:
    return RoundKeys(roster_of(site), NODE_KEYS[site])


def offer_of(keys: RoundKeys, step: str = "round 1", run: int = 7) -> str:
    return str(keys.offer(Question(run=run, kind=KEYS, fields={STEP: step})).fields[OFFER])


def asked(offers: list[str], step: str = "round 1", run: int = 7) -> Question:
    return Question(run=run, kind="train", fields={STEP: step, OFFERS: ",".join(offers)})


def test_three_sites_mask_and_their_sum_is_in_clear():
    sites = [keys_of(site) for site in range(3)]
    offers = [offer_of(keys) for keys in sites]
    assert {len(bytes.fromhex(offer)) for offer in offers} == {OFFER_BYTES}
    masked = [keys.mask(asked(offers), "round 1", VALUES, QUESTION) for keys in sites]
    assert not any(np.array_equal(vector, VALUES) for vector in masked)
    assert np.array_equal(sum_masked(masked), 3 * VALUES)


@pytest.mark.parametrize("step", ["", "round 0", "round 01", "round 10000", "tally ", "Tally", "round 1\n"])
def test_no_key_is_made_for_what_is_no_step(step):
    with pytest.raises(RefusedError, match="no step"):
        offer_of(keys_of(0), step)


def test_a_site_that_knows_no_others_offers_nothing():
    with pytest.raises(RefusedError, match="knows no other sites"):
        offer_of(RoundKeys(None, NODE_KEYS[0]))


@pytest.mark.parametrize(("step", "run"), [("round 2", 7), ("round 1", 8)])
def test_a_key_masks_no_other_step_and_no_other_run(step, run):
    keys = keys_of(0)
    offers = [offer_of(keys), offer_of(keys_of(1)), offer_of(keys_of(2))]
    with pytest.raises(RefusedError, match="No key was offered"):
        keys.mask(asked(offers, step, run), step, VALUES, QUESTION)


def test_a_key_is_used_up_whatever_comes_of_it():
    keys = keys_of(0)
    offers = [offer_of(keys), offer_of(keys_of(1)), offer_of(keys_of(2))]
    with pytest.raises(RefusedError, match="nothing was masked"):
        keys.mask(asked(offers[:2]), "round 1", VALUES, QUESTION)
    with pytest.raises(RefusedError, match="No key was offered"):
        keys.mask(asked(offers), "round 1", VALUES, QUESTION)


def test_an_offer_that_is_no_number_is_refused():
    keys = keys_of(0)
    offer_of(keys)
    with pytest.raises(RefusedError, match="hexadecimal"):
        keys.mask(asked(["xy"]), "round 1", VALUES, QUESTION)


def test_only_the_last_keys_are_kept():
    keys = keys_of(0)
    offers = [offer_of(keys), offer_of(keys_of(1)), offer_of(keys_of(2))]
    for number in range(2, 6):
        offer_of(keys, f"round {number}")
    with pytest.raises(RefusedError, match="No key was offered"):
        keys.mask(asked(offers), "round 1", VALUES, QUESTION)
