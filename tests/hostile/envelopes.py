"""What can be wrong with any small signed file, whatever it says."""

import base64
import json
from collections.abc import Callable, Iterator
from typing import NamedTuple

from protocol.identity import signing
from tests.hostile.bundles import MARKER, compact, flip, plus_order

_NOISE = MARKER.encode() * 20


class Fault(NamedTuple):
    """One fault of a signed file: its name, the hostile bytes, and how the command must end."""

    what: str
    data: bytes
    code: int
    word: str


def faults(good: bytes, key, *, max_bytes: int, other_key_word: tuple[int, str]) -> Iterator[Fault]:
    """Everything that can be wrong with a signed record.

    Args:
        good: one that is accepted.
        key: what signs it.
        max_bytes: how long such a file may be.
        other_key_word: exit code and code word for a key id of another key.
    """
    yield from _broken_bytes(good, max_bytes)
    fields = json.loads(good)
    (signature,) = fields["signatures"]
    kind, payload = fields["payloadType"], base64.b64decode(fields["payload"])

    def with_signature(change: Callable[[bytes], bytes]) -> bytes:
        text = base64.b64encode(change(base64.b64decode(signature["sig"]))).decode()
        return compact(fields | {"signatures": [signature | {"sig": text}]})

    yield Fault("unknown field", compact(fields | {"note": MARKER}), 12, "UNKNOWN_FIELD")
    yield Fault("note in the signature", compact(_noted(fields)), 12, "UNKNOWN_FIELD")
    yield Fault("payload missing", compact(_without(fields, "payload")), 12, "MISSING")
    yield Fault("signatures missing", compact(_without(fields, "signatures")), 10, "SIG_MISSING")
    yield Fault("no signature", compact(fields | {"signatures": []}), 10, "SIG_MISSING")
    yield Fault("two signatures", compact(fields | {"signatures": [signature] * 2}), 10, "SIG_MISSING")
    yield Fault("ten thousand signatures", compact(fields | {"signatures": [signature] * 10_000}), 12, "LENGTH")
    yield Fault("bit of R flipped", with_signature(lambda sig: flip(sig, 3)), 10, "SIG_INVALID")
    yield Fault("bit of S flipped", with_signature(lambda sig: flip(sig, 300)), 10, "SIG_INVALID")
    yield Fault("S plus the order", with_signature(plus_order), 10, "SIG_INVALID")
    yield Fault("65 bytes of signature", with_signature(lambda sig: sig + b"\0"), 10, "SIG_INVALID")
    yield Fault("bare signature", with_signature(lambda _: key.sign(payload)), 10, "SIG_INVALID")
    named = compact(fields | {"signatures": [signature | {"keyid": "00" * 32}]})
    yield Fault("another key id", named, *other_key_word)
    for other in ("application/vnd.in-toto+json", f"application/{MARKER}", "application/vnd.ecan.offer.v1+json"):
        yield Fault(f"type {other[-12:]}", signing.sign(other, payload, key), 10, "PAYLOAD_TYPE")
    for what, changed, code, word in _broken_payloads(payload):
        yield Fault(what, signing.sign(kind, changed, key), code, word)


def _broken_bytes(good: bytes, max_bytes: int) -> Iterator[Fault]:
    yield Fault("empty", b"", 12, "NOT_CANONICAL")
    yield Fault("cut in half", good[: len(good) // 2], 12, "NOT_CANONICAL")
    yield Fault("last byte missing", good[:-1], 12, "NOT_CANONICAL")
    yield Fault("line feed at the end", good + b"\n", 12, "NOT_CANONICAL")
    yield Fault("text behind", good + _NOISE, 12, "NOT_CANONICAL")
    yield Fault("byte order mark", b"\xef\xbb\xbf" + good, 12, "NOT_CANONICAL")
    yield Fault("NUL", good.replace(b":", b":\0", 1), 12, "NOT_CANONICAL")
    yield Fault("invalid UTF-8", good.replace(b"vnd", b"v\xffd"), 12, "NOT_CANONICAL")
    yield Fault("lone surrogate", good.replace(b"vnd", b"v\\ud800d"), 12, "NOT_CANONICAL")
    yield Fault("noise", _NOISE, 12, "NOT_CANONICAL")
    yield Fault("zip archive", b"PK\x03\x04" + _NOISE, 12, "NOT_CANONICAL")
    yield Fault("pickle", b"\x80\x04\x95" + _NOISE, 12, "NOT_CANONICAL")
    yield Fault("list", b"[]", 12, "TYPE")
    yield Fault("payload twice", good.replace(b'{"payload":', b'{"payload":"","payload":', 1), 12, "DUP_KEY")
    yield Fault("brackets", b"[" * 4096, 12, "DEPTH")
    yield Fault("200000 brackets", b"[" * 200_000, 12, "LENGTH")
    yield Fault("one byte too long", good.ljust(max_bytes + 1), 12, "LENGTH")


def _broken_payloads(payload: bytes) -> Iterator[Fault]:
    fields = json.loads(payload)
    yield Fault("field note", compact(fields | {"note": MARKER}), 12, "UNKNOWN_FIELD")
    yield Fault("field of its own name", compact(fields | {MARKER: 1}), 12, "UNKNOWN_FIELD")
    for name in fields:
        yield Fault(f"{name} missing", compact(_without(fields, name)), 12, "MISSING")
        yield Fault(f"{name} null", compact(fields | {name: None}), 12, "TYPE")
    version = b'"v":%d' % fields["v"]
    yield Fault("version true", compact(fields | {"v": True}), 12, "TYPE")
    yield Fault("version of tomorrow", compact(fields | {"v": fields["v"] + 1}), 12, "ENUM")
    yield Fault("version as text", compact(fields | {"v": MARKER}), 12, "TYPE")
    yield Fault("version 1.0", payload.replace(version, version + b".0"), 12, "NOT_CANONICAL")
    yield Fault("version NaN", payload.replace(version, b'"v":NaN'), 12, "NOT_CANONICAL")
    yield Fault("version of 400 digits", payload.replace(version, b'"v":' + b"1" * 400), 12, "RANGE")
    yield Fault("version twice", payload.replace(version, version + b"," + version), 12, "DUP_KEY")
    yield Fault("space inside", payload.replace(version, b'"v": 1'), 12, "NOT_CANONICAL")
    yield Fault("payload that ends early", payload[:-1], 12, "NOT_CANONICAL")
    yield Fault("payload of nothing", b"", 12, "NOT_CANONICAL")
    yield Fault("payload of a list", b"[" + payload + b"]", 12, "TYPE")
    yield Fault("payload of brackets", b"[" * 300, 12, "DEPTH")


def _noted(fields: dict[str, object]) -> dict[str, object]:
    (signature,) = fields["signatures"]
    return fields | {"signatures": [signature | {"note": MARKER}]}


def _without(fields: dict[str, object], name: str) -> dict[str, object]:
    return {key: value for key, value in fields.items() if key != name}
