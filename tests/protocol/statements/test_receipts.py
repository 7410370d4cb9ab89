import dataclasses

import pytest

from protocol.errors import MalformedError, UnauthenticError
from protocol.identity import signing
from protocol.statements.receipts import Receipt, Verdict, open_receipt, sign_receipt
from tests.protocol.samples import ISSUER, OTHER_KEY, RELEASE_KEY

RECEIPT = Receipt(
    grant=bytes(16),
    sealed_sha256=bytes(range(1, 33)),
    digest=bytes(32),
    weights_sha256=bytes(range(32)),
    verdict=Verdict.ACCEPTED,
    day=20_500,
)


@pytest.mark.parametrize("verdict", Verdict)
def test_a_receipt_reads_back_as_it_was_sealed(verdict: Verdict) -> None:
    receipt = dataclasses.replace(RECEIPT, verdict=verdict)
    opened = open_receipt(sign_receipt(receipt, RELEASE_KEY), signer=ISSUER)
    assert opened == receipt
    assert isinstance(opened.verdict, Verdict)


def test_a_receipt_of_another_key_is_refused() -> None:
    with pytest.raises(UnauthenticError) as caught:
        open_receipt(sign_receipt(RECEIPT, OTHER_KEY), signer=ISSUER)
    assert caught.value.code == "KEY_UNKNOWN"


def test_a_signed_manifest_is_no_receipt() -> None:
    payload = signing.parse_envelope(sign_receipt(RECEIPT, RELEASE_KEY)).payload
    with pytest.raises(UnauthenticError) as caught:
        open_receipt(signing.sign("application/vnd.ecan.manifest.v1+json", payload, RELEASE_KEY), signer=ISSUER)
    assert caught.value.code == "PAYLOAD_TYPE"


@pytest.mark.parametrize(
    "change",
    [{"grant": bytes(15)}, {"sealed_sha256": bytes(31)}, {"digest": b""}, {"day": -1}, {"verdict": "maybe"}],
)
def test_a_receipt_out_of_range_is_not_sealed(change: dict[str, object]) -> None:
    with pytest.raises(MalformedError):
        sign_receipt(dataclasses.replace(RECEIPT, **change), RELEASE_KEY)  # type: ignore[arg-type]
