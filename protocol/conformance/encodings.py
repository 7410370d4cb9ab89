"""List cases about the only encoding of an envelope and of a manifest."""

import base64
import json
from collections.abc import Callable, Iterator

from protocol.bundle.manifest import PAYLOAD_TYPE, SCHEMA
from protocol.canonical import Hex, Int, OneOf
from protocol.conformance.case import ACCEPTED, Case, Ending, malformed
from protocol.conformance.workshop import AUDITED, Workshop
from protocol.errors import Code
from protocol.identity import signing

Faults = Iterator[tuple[str, str, bytes, Ending]]
_NOT_CANONICAL = malformed(Code.NOT_CANONICAL)
_ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"


def encodings(shop: Workshop) -> Iterator[Case]:
    """Yield every case about encodings."""
    for group, rule, faults in (
        ("envelope", "envelope-json", _spellings(shop.envelope(), shop.enveloped, b'"payload":', b'"payloadType":')),
        ("envelope", "envelope-fields", _envelope_fields(shop)),
        ("envelope", "base64", _base64(shop)),
        ("manifest", "manifest-json", _spellings(_payload_of(shop), shop.bundle_of, b'"n_utt":', b'"norm":')),
        ("manifest", "manifest-json", _numbers(shop)),
        ("manifest", "manifest-fields", _missing(shop)),
        ("manifest", "manifest-ranges", _ranges(shop)),
        ("manifest", "manifest-types", _types(shop)),
        ("manifest", "manifest-sense", _contradictions(shop)),
        ("manifest", "honest", _limits(shop)),
    ):
        for name, proves, content, ending in faults:
            yield shop.case(group, name, rule, proves, shop.bundle(content, ending))


def _payload_of(shop: Workshop) -> bytes:
    """Return the bytes of the usual manifest."""
    return _compact(shop.stated())


def _compact(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def _spellings(text: bytes, within: Callable[[bytes], bytes], name: bytes, later: bytes) -> Faults:
    """Yield the same record in other spellings; only one of them counts.

    Args:
        text: the record as it should be.
        within: puts a spelling in the place of it.
        name: one of its fields with its colon.
        later: a field that stands after it.
    """
    fields = json.loads(text)
    backwards = json.dumps(dict(sorted(fields.items(), reverse=True)), separators=(",", ":")).encode()
    spelt = {
        "space-after-colon": text.replace(name, name + b" ", 1),
        "space-before": b" " + text,
        "line-feed-after": text + b"\n",
        "nul-after": text + b"\0",
        "tab-between": text.replace(b"," + later, b",\t" + later, 1),
        "keys-backwards": backwards,
        "escaped-letter": text.replace(later, b'"\\u%04x' % later[1] + later[2:], 1),
        "byte-order-mark": b"\xef\xbb\xbf" + text,
        "utf-16": text.decode().encode("utf-16-le"),
        "comment": text + b"/* */",
        "comma-at-the-end": text[:-1] + b",}",
        "single-quotes": text.replace(b'"', b"'"),
        "two-records": text + text,
        "empty": b" ",
        "unclosed": text[:-1],
    }
    for what, changed in spelt.items():
        yield f"spelling-{what}", "a value has one spelling", within(changed), _NOT_CANONICAL
    value = text[text.index(name) + len(name) :]
    value = value[: value.index(b",")]
    twice = text.replace(name, name + value + b"," + name, 1)
    yield "spelling-key-twice", "a key stands once", within(twice), malformed(Code.DUP_KEY)
    yield "spelling-list", "a record is an object", within(b"[" + text + b"]"), malformed(Code.TYPE)
    yield "spelling-null", "a record is an object", within(b"null"), malformed(Code.TYPE)
    yield "spelling-deep", "brackets are counted", within(b"[" * 9 + b"]" * 9), malformed(Code.DEPTH)
    yield "spelling-very-deep", "brackets are counted", within(b'{"a":' * 600), malformed(Code.DEPTH)


def _envelope_fields(shop: Workshop) -> Faults:
    fields = json.loads(shop.envelope())
    (signature,) = fields["signatures"]

    def changed(**changes: object) -> bytes:
        return shop.enveloped(_compact(fields | changes))

    def signed(**changes: object) -> bytes:
        return changed(signatures=[signature | changes])

    for name in ("payload", "payloadType"):
        rest = {key: value for key, value in fields.items() if key != name}
        yield f"without-{name}", "every field is there", shop.enveloped(_compact(rest)), malformed(Code.MISSING)
        yield f"{name}-number", "text is text", changed(**{name: 7}), malformed(Code.TYPE)
        yield f"{name}-null", "text is text", changed(**{name: None}), malformed(Code.TYPE)
    yield "unknown-field", "no other field", changed(note="x"), malformed(Code.UNKNOWN_FIELD)
    yield "unknown-field-empty", "no other field", changed(**{"": ""}), malformed(Code.UNKNOWN_FIELD)
    yield "signature-unknown-field", "no other field", signed(cert="x"), malformed(Code.UNKNOWN_FIELD)
    yield "signature-alg", "the file names no algorithm", signed(alg="EdDSA"), malformed(Code.UNKNOWN_FIELD)
    for name in ("keyid", "sig"):
        short = {key: value for key, value in signature.items() if key != name}
        yield f"without-{name}", "every field is there", changed(signatures=[short]), malformed(Code.MISSING)
        yield f"{name}-number", "text is text", signed(**{name: 7}), malformed(Code.TYPE)
    yield "keyid-upper-case", "one alphabet", signed(keyid=signature["keyid"].upper()), malformed(Code.RANGE)
    yield "keyid-short", "a key has its length", signed(keyid=signature["keyid"][:-2]), malformed(Code.RANGE)
    yield "keyid-long", "a key has its length", signed(keyid=signature["keyid"] + "00"), malformed(Code.RANGE)
    yield "keyid-empty", "a key has its length", signed(keyid=""), malformed(Code.RANGE)
    yield "sig-long", "a signature has its length", signed(sig=signature["sig"] + "AAAA"), malformed(Code.RANGE)
    yield "type-long", "a type has at most 100 letters", changed(payloadType="x" * 101), malformed(Code.RANGE)
    yield "signature-text", "a signature is an object", changed(signatures=["x"]), malformed(Code.TYPE)


def _base64(shop: Workshop) -> Faults:
    text, signature = _with_both_letters(shop)
    payload = json.loads(text)["payload"]

    def other(old: str, new: str) -> bytes:
        return shop.enveloped(text.replace(old.encode(), new.encode()))

    spelt = {
        "url-alphabet": signature.replace("+", "-").replace("/", "_"),
        "unpadded": signature.rstrip("="),
        "bits-left-over": signature[:-3] + _ALPHABET[_ALPHABET.index(signature[-3]) | 1] + "==",
    }
    for name, changed in spelt.items():
        yield f"base64-{name}", "bytes have one base64", other(signature, changed), _NOT_CANONICAL
    yield "base64-space", "bytes have one base64", other(payload, payload[:40] + " " + payload[40:]), _NOT_CANONICAL
    yield (
        "base64-line-feed",
        "bytes have one base64",
        other(payload, payload[:76] + r"\n" + payload[76:]),
        _NOT_CANONICAL,
    )
    yield "base64-padding-inside", "bytes have one base64", other(payload, "QQ==" + payload), _NOT_CANONICAL
    yield (
        "base64-hexadecimal",
        "bytes have one base64",
        other(payload, base64.b64decode(payload).hex() + "0"),
        (_NOT_CANONICAL),
    )


def _with_both_letters(shop: Workshop) -> tuple[bytes, str]:
    """Return an envelope whose signature has both letters that can differ."""
    for n_utt in range(32):
        for n_spk in range(32):
            payload = _compact(shop.stated(n_utt=n_utt, n_spk=n_spk))
            text = signing.sign(PAYLOAD_TYPE, payload, shop.release)
            signature: str = json.loads(text)["signatures"][0]["sig"]
            if "+" in signature and "/" in signature:
                return text, signature
    raise AssertionError("no such signature among a thousand")


def _numbers(shop: Workshop) -> Faults:
    text = _payload_of(shop)
    for number in ("9.0", "9e0", "9E0", "-0", "NaN", "Infinity", "0x9", "09", "+9", "9_0", "9.", ""):
        changed = text.replace(b'"n_utt":9', b'"n_utt":' + number.encode())
        yield f"number-{number or 'none'}", "a number is a plain integer", shop.bundle_of(changed), _NOT_CANONICAL
    for name, number in (("16-digits", "1" * 16), ("3000-digits", "9" * 3000), ("minus-15-digits", "-" + "1" * 15)):
        changed = text.replace(b'"n_utt":9', b'"n_utt":' + number.encode())
        yield f"number-{name}", "a number has at most 15 letters", shop.bundle_of(changed), malformed(Code.RANGE)
    long = text.replace(b'"n_utt":9', b'"n_utt":' + b"9" * 4000)
    yield "number-4000-digits", "a manifest has at most 4096 bytes", shop.bundle_of(long), malformed(Code.LENGTH)


def _missing(shop: Workshop) -> Faults:
    for name in sorted(SCHEMA):
        fields = {key: value for key, value in shop.stated().items() if key != name}
        yield f"without-{name}", "every field is there", shop.bundle_of(fields), malformed(Code.MISSING)
    for name, value in (("note", "x"), ("N_UTT", 9), ("zz_new", 1), ("", 0)):
        yield (
            f"unknown-{name or 'empty'}",
            "no other field",
            shop.stating({name: value}),
            malformed(Code.UNKNOWN_FIELD),
        )


def _ranges(shop: Workshop) -> Faults:
    """Yield a value just outside every range, and words that nobody knows."""
    for name, kind in sorted(SCHEMA.items()):
        if isinstance(kind, Int):
            for value in {kind.low - 1, kind.high + 1}:
                yield _misstated(shop, name, value, Code.RANGE)
        elif isinstance(kind, OneOf):
            yield _misstated(shop, name, "x" if isinstance(kind.values[0], str) else 99, Code.ENUM)
        elif isinstance(kind, Hex):
            for text in ("", "00", "A" * 2 * kind.size, "g" * 2 * kind.size, "0" * (2 * kind.size + 1)):
                yield _misstated(shop, name, text, Code.RANGE)


def _misstated(shop: Workshop, name: str, value: object, code: Code) -> tuple[str, str, bytes, Ending]:
    shown = value if isinstance(value, int) else f"{str(value)[:4] or 'empty'}-{len(str(value))}"
    content = shop.stating({name: value})
    return f"{name}-{shown}", "a value lies in its range", content, malformed(code)


def _types(shop: Workshop) -> Faults:
    for name, value in (
        *(("v", True), ("n_utt", True), ("release", "7"), ("n_utt", None), ("n_utt", [9]), ("day", {"day": 1})),
        *(("valid_days", True), ("valid_days", "90"), ("tier", False), ("arch", 1), ("audit", None)),
        *(("issuer", 0), ("grant", None), ("weights_sha256", ["00"])),
    ):
        shown = json.dumps(value).strip('"[]{}')[:8].replace('"', "").replace(": ", "-")
        content = shop.stating({name: value})
        yield f"type-of-{name}-{shown}", "a value has its type", content, malformed(Code.TYPE)


def _contradictions(shop: Workshop) -> Faults:
    audited = dict(AUDITED)
    for name, changes, code in (
        ("other-front-end", {"frontend": "frames-v1"}, Code.ENUM),
        ("one-class", {"labels": 4}, Code.RANGE),
        ("tier-without-audit", {"tier": 1}, Code.AUDIT),
        ("measured-at-tier-2", audited | {"audit": "measured"}, Code.AUDIT),
        ("passed-at-tier-0", audited | {"tier": 0}, Code.AUDIT),
        ("audit-of-no-network", audited | {"networks": 0}, Code.AUDIT),
        ("networks-without-audit", {"networks": 5}, Code.AUDIT),
        ("figures-without-audit", {"lira_auc": 110}, Code.AUDIT),
        ("epsilon-without-audit", {"epsilon": 80, "delta": 4, "unit": "speaker"}, Code.AUDIT),
        ("epsilon-without-unit", audited | {"unit": "none"}, Code.AUDIT),
        ("unit-without-epsilon", audited | {"epsilon": 0}, Code.AUDIT),
        ("unit-without-delta", audited | {"delta": 0}, Code.AUDIT),
    ):
        yield name, "fields agree with each other", shop.stating(changes), malformed(code)


def _limits(shop: Workshop) -> Faults:
    """Yield the outermost values that are still allowed."""
    for name, changes in (
        ("least", {"release": 1, "n_utt": 0, "n_spk": 0, "hours": -16, "uar_src": 0, "uar_q_loss": 0}),
        ("most", {"release": 65535, "n_utt": 31, "n_spk": 31, "hours": 15, "uar_src": 200}),
        ("longest-valid", {"valid_days": 365}),
        (
            "audited",
            {"audit": "measured", "networks": 12, "lira_auc": 200, "epsilon": 1000, "delta": 15} | {"unit": "speaker"},
        ),
    ):
        yield f"limits-{name}", "the ends of the ranges count", shop.stating(changes), ACCEPTED
