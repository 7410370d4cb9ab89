"""Keep the fresh keys of a site's masked steps.

Each is kept from the offer to the one answer that it masks.
"""

import re
from collections.abc import Sequence

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

from protocol.errors import Code, RefusedError
from protocol.federation.masking import Roster, RoundKey, Vector
from protocol.federation.messages import OFFER, OFFERS, STEP, Answer, Question

_STEP = re.compile(r"round [1-9][0-9]{0,3}|tally")
_MOST_KEPT = 4


class RoundKeys:
    """Hold a key for each step that was asked for and is not answered yet.

    Args:
        roster: the node keys of all sites; None where this site knows no others.
        node_key: this site's, which signs the fresh ones.
    """

    def __init__(self, roster: Roster | None, node_key: EllipticCurvePrivateKey) -> None:
        self._roster, self._node_key = roster, node_key
        self._keys: dict[tuple[str, str], RoundKey] = {}

    def offer(self, question: Question) -> Answer:
        """Make a fresh key for a step, in place of one that was offered before.

        Raises:
            RefusedError: this site knows no other sites, or that is no step.
        """
        step = str(question.fields.get(STEP, ""))
        if self._roster is None:
            raise RefusedError(
                Code.POLICY, "This site knows no other sites to mask with; name their node keys with --peer."
            )
        if not _STEP.fullmatch(step):
            raise RefusedError(Code.PROTOCOL, "That is no step of a run; let all sites install the same version.")
        key = RoundKey(self._roster, self._node_key, run=str(question.run), step=step)
        self._keys.pop((str(question.run), step), None)
        self._keys[str(question.run), step] = key
        for old in list(self._keys)[:-_MOST_KEPT]:
            del self._keys[old]
        return Answer(fields={OFFER: key.offer().hex()})

    def mask(self, question: Question, step: str, values: Vector, digest: bytes) -> Vector:
        """Mask an answer with the key that was offered for its step.

        The key is used up.

        Args:
            question: what is answered; it brings the offers of all sites.
            step: name of the step, by the site's own record.
            values: uint64 ``[N]``.
            digest: SHA-256 over all that was asked but the offers.

        Raises:
            RefusedError: no key was offered, or the offers are not one valid offer of every site.
        """
        key = self._keys.pop((str(question.run), step), None)
        if key is None or question.fields.get(STEP) != step:
            raise RefusedError(Code.STATE, "No key was offered for this step; ask for a new one first.")
        return key.mask(values, _offers(str(question.fields[OFFERS])), digest)


def _offers(text: str) -> Sequence[bytes]:
    try:
        return [bytes.fromhex(one) for one in text.split(",")]
    except ValueError as error:
        raise RefusedError(Code.OFFER, "An offer is no hexadecimal number; repeat the step with new keys.") from error
