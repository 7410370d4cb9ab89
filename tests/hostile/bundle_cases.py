"""The table of hostile bundles: what is inside a sealed file, or lies in plain beside a receipt."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from protocol.bundle.manifest import PAYLOAD_TYPE
from tests.hostile import bundles as b
from tests.hostile.bundles import MARKER, TODAY
from tests.protocol.samples import AUDITED, OTHER_KEY, RELEASE_KEY

RECEIVE, ADAPT, INSPECT = "receive", "adapt", "inspect"
EVERYWHERE = (RECEIVE, ADAPT, INSPECT)
BELIEVERS = (RECEIVE, ADAPT)
"""The ways that judge more than a bundle's structure."""
POLICY = (RECEIVE,)
"""The way that compares with what this site knows."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """One fault of a bundle.

    Attributes:
        row: its row in the threat analysis.
        what: the fault in words.
        make: the hostile bytes.
        word: the code word that must be said.
        code: the exit code.
        ways: the commands that must find it: ``receive`` gets it sealed, ``adapt`` with this site's receipt beside
            it, ``inspect`` looks at its structure.
        says: what the message must contain.
    """

    row: str
    what: str
    make: Callable[[], bytes]
    word: str
    code: int = 12
    ways: tuple[str, ...] = EVERYWHERE
    says: str = ""


def fault(row: str, what: str, make: Callable[[], bytes], word: str, **more) -> Case:
    return Case(row=row, what=what, make=make, word=word, **more)


def misstated(row: str, what: str, make: Callable[[], bytes], word: str, **more) -> Case:
    """A fault of a manifest, which `adapt` reads by the same words as `inspect`."""
    return fault(row, what, make, word, **({"ways": (RECEIVE, INSPECT)} | more))


def unauthentic(row: str, what: str, make: Callable[[], bytes], word: str, **more) -> Case:
    return Case(row=row, what=what, make=make, word=word, **({"code": 10, "ways": BELIEVERS} | more))


def refused(row: str, what: str, make: Callable[[], bytes], word: str, **more) -> Case:
    return Case(row=row, what=what, make=make, word=word, **({"code": 11, "ways": POLICY} | more))


def by_way(cases: list[Case]) -> Iterator[object]:
    """Every case once for each of its ways, with a readable id."""
    for case in cases:
        for way in case.ways:
            yield pytest.param(case, way, id=f"{case.row}-{case.what.replace(' ', '-')}-{way}")


_NOISE = MARKER.encode() * 20
_EMPTY_TENSORS = b.headed(b'{"%s":{"dtype":"I8","shape":[0],"data_offsets":[0,0]}}' % _NOISE, b"")

FRAMES = [
    fault("B01", "empty file", lambda: b"", "TRUNCATED", ways=(ADAPT, INSPECT)),
    fault("B01", "nothing inside", lambda: b"", "LENGTH", ways=(RECEIVE,)),
    fault("B02", "seven bytes of magic", lambda: b.honest()[:7], "TRUNCATED"),
    fault("B02b", "magic alone", lambda: b.honest()[:8], "TRUNCATED"),
    fault("B02c", "head alone", lambda: b.honest()[:24], "TRUNCATED"),
    fault("B03", "zip archive", lambda: b"PK\x03\x04" + _NOISE, "MAGIC", says="zip archive"),
    fault("B03b", "pickle", lambda: b"\x80\x04\x95" + _NOISE, "MAGIC", says="pickle"),
    fault("B03c", "safetensors file", lambda: _EMPTY_TENSORS, "MAGIC", says="safetensors"),
    fault("B03d", "program", lambda: b"\x7fELF\x02\x01\x01" + _NOISE, "MAGIC", says="program"),
    fault("B03e", "gzip archive", lambda: b"\x1f\x8b\x08" + _NOISE, "MAGIC", says="gzip"),
    fault("B03f", "sound file", lambda: b"RIFF$\x00\x00\x00WAVE" + _NOISE, "MAGIC", says="sound file"),
    fault("B03g", "request", lambda: b.SITE.request, "MAGIC", says="request"),
    fault("B03h", "sealed file inside", lambda: b.delivered(b.honest()), "MAGIC", says="sealed", ways=BELIEVERS),
    fault("B03i", "no known kind", lambda: b"\x00\x01\x02" + _NOISE, "MAGIC", says="something else"),
    fault("B04", "carriage returns lost", lambda: b.frame(magic=b"ECAN\n\x1a\n"), "MAGIC", says="text mode"),
    fault("B04b", "carriage returns added", lambda: b.frame(magic=b"ECAN\r\r\n\x1a\r\n"), "MAGIC", says="text mode"),
    fault("B05", "major 1", lambda: b.frame(major=1), "VERSION", says="ask for a new bundle"),
    fault("B05e", "major 4", lambda: b.frame(major=4), "VERSION", says="update ecan-ser"),
    fault("B34", "one algorithm as two", lambda: b.frame(major=3), "VERSION", says="ask for a new bundle"),
    fault("B34b", "two algorithms as one", b.two_algorithms_as_one, "VERSION", says="ask for a new bundle"),
    unauthentic("B34c", "one of two algorithms", b.one_of_two_algorithms, "KEY_UNKNOWN"),
    fault("B05b", "major 0", lambda: b.frame(major=0), "VERSION"),
    fault("B05c", "major 65535", lambda: b.frame(major=65535), "VERSION"),
    fault("B05d", "major in the other byte order", lambda: b.frame(major=512), "VERSION"),
    fault("B06", "lowest flag", lambda: b.frame(flags=1), "FLAGS"),
    fault("B06b", "highest flag", lambda: b.frame(flags=0x8000), "FLAGS"),
    fault("B07", "declared envelope length of 0", lambda: b.frame(envelope_len=0), "LENGTH"),
    fault("B07b", "declared envelope length of 16 KiB and 1", lambda: b.frame(envelope_len=2**14 + 1), "LENGTH"),
    fault("B07c", "declared envelope length of 4 GiB", lambda: b.frame(envelope_len=2**32 - 1), "LENGTH"),
    fault("B07d", "declared envelope length of 2 GiB", lambda: b.frame(envelope_len=2**31), "LENGTH"),
    fault("B08", "declared weights length of 0", lambda: b.frame(weights_len=0), "LENGTH"),
    fault("B08b", "declared weights length one more", lambda: b.frame(weights_len=len(b.packed()) + 1), "TRUNCATED"),
    fault("B08c", "declared weights length one less", lambda: b.frame(weights_len=len(b.packed()) - 1), "TRAILING"),
    fault("B08d", "declared weights length of 2 to 63", lambda: b.frame(weights_len=2**63), "LENGTH"),
    fault("B08e", "declared weights length that wraps", lambda: b.frame(weights_len=2**64 - 24), "LENGTH"),
    fault("B08f", "border of the parts moved", b.with_moved_border, "NOT_CANONICAL"),
    fault("B09", "one byte missing", lambda: b.honest()[:-1], "TRUNCATED"),
    fault("B09b", "one byte more", lambda: b.honest() + b"\0", "TRAILING"),
    fault("B09c", "text after the end", lambda: b.honest() + _NOISE, "TRAILING"),
    fault("B10", "two bundles", lambda: b.honest() * 2, "LENGTH"),  # longer than any one
    fault("B10b", "begin of a second bundle", lambda: b.honest() + b.honest()[:2000], "TRAILING"),
]

ENVELOPES = [
    fault("B23", "byte order mark", lambda: b.enveloped(b"\xef\xbb\xbf" + b.envelope()), "NOT_CANONICAL"),
    fault("B23b", "UTF-16", lambda: b.enveloped(b.envelope().decode().encode("utf-16")), "NOT_CANONICAL"),
    fault("B23c", "invalid UTF-8", lambda: b.replaced(b"vnd.ecan", b"vnd\xffecan"), "NOT_CANONICAL"),
    fault("B23d", "lone surrogate", lambda: b.replaced(b"vnd.ecan", b"vnd\\ud800ecan"), "NOT_CANONICAL"),
    fault("B23e", "letter beyond ASCII", lambda: b.replaced(b"vnd.ecan", "vndé".encode() + _NOISE), "NOT_CANONICAL"),
    fault("B23f", "NUL at the end", lambda: b.enveloped(b.envelope() + b"\0"), "NOT_CANONICAL"),
    fault("B24", "payload twice", lambda: b.replaced(b'{"payload":', b'{"payload":"","payload":'), "DUP_KEY"),
    fault(
        "B24b", "signatures twice", lambda: b.replaced(b'"signatures":', b'"signatures":[],"signatures":'), "DUP_KEY"
    ),
    fault("B24c", "sig twice", lambda: b.replaced(b'"sig":', b'"sig":"' + _NOISE + b'","sig":'), "DUP_KEY"),
    fault("B24d", "payload twice by escape", lambda: b.replaced(b'{"pay', b'{"p\\u0061yload":"","pay'), "DUP_KEY"),
    fault("B25", "unknown field", lambda: b.with_field("note", MARKER), "UNKNOWN_FIELD"),
    fault("B25b", "unknown name that speaks", lambda: b.with_field(MARKER, 1), "UNKNOWN_FIELD"),
    fault("B25c", "unknown field of the signature", lambda: b.with_signature_field("note", MARKER), "UNKNOWN_FIELD"),
    fault("B25d", "no payload type", lambda: b.without_field("payloadType"), "MISSING"),
    fault("B25e", "no payload", lambda: b.without_field("payload"), "MISSING"),
    fault("B25f", "a list", lambda: b.enveloped(b"[]"), "TYPE"),
    fault("B25g", "a string", lambda: b.enveloped(b'"' + _NOISE + b'"'), "TYPE"),
    fault("B25h", "no JSON", lambda: b.enveloped(_NOISE), "NOT_CANONICAL"),
    fault("B25i", "payload is a number", lambda: b.with_field("payload", 1), "TYPE"),
    fault("B25j", "payload type too long", lambda: b.with_field("payloadType", MARKER * 20), "RANGE"),
    fault("B26", "URL-safe base64", b.with_url_safe_base64, "NOT_CANONICAL"),
    fault("B26b", "unpadded base64", lambda: b.with_signature_text(lambda text: text.rstrip("=")), "NOT_CANONICAL"),
    fault("B26c", "spaced base64", lambda: b.replaced(b"eyJ", b"ey J"), "NOT_CANONICAL"),
    fault("B26d", "base64 with bits left over", b.with_bits_left_over, "NOT_CANONICAL"),
    fault(
        "B26e",
        "base64 that goes on after its end",
        lambda: b.with_signature_text(lambda text: text[:80] + "===="),
        "NOT_CANONICAL",
    ),
    fault(
        "B26f", "escaped slash", lambda: b.with_signature_text(lambda text: text.replace("/", "\\/")), "NOT_CANONICAL"
    ),
    fault("B26g", "base64 too long", lambda: b.with_signature_text(lambda text: text + "A"), "RANGE"),
    unauthentic("B27", "no signatures", lambda: b.with_field("signatures", []), "SIG_MISSING", ways=EVERYWHERE),
    unauthentic(
        "B27b", "signatures as text", lambda: b.with_field("signatures", MARKER), "SIG_MISSING", ways=EVERYWHERE
    ),
    unauthentic(
        "B27c", "signatures as object", lambda: b.with_field("signatures", {"0": 1}), "SIG_MISSING", ways=EVERYWHERE
    ),
    unauthentic(
        "B27d", "field signatures missing", lambda: b.without_field("signatures"), "SIG_MISSING", ways=EVERYWHERE
    ),
    unauthentic("B27e", "signatures is null", lambda: b.with_field("signatures", None), "SIG_MISSING", ways=EVERYWHERE),
    fault("B27f", "signature as text", lambda: b.with_field("signatures", [MARKER]), "TYPE"),
    fault("B27g", "no sig", lambda: b.with_field("signatures", [{"keyid": b.key_text(RELEASE_KEY)}]), "MISSING"),
    fault("B27h", "no key id", lambda: b.with_field("signatures", [{"sig": b.signature_text()}]), "MISSING"),
    fault("B27i", "key id in capitals", lambda: b.with_key_id(b.key_text(RELEASE_KEY).upper()), "RANGE"),
    unauthentic("B28", "bit of R flipped", lambda: b.with_signature(lambda sig: b.flip(sig, 3)), "SIG_INVALID"),
    unauthentic("B28b", "bit of S flipped", lambda: b.with_signature(lambda sig: b.flip(sig, 300)), "SIG_INVALID"),
    unauthentic("B28c", "63 bytes of signature", lambda: b.with_signature(lambda sig: sig[:-1]), "SIG_INVALID"),
    unauthentic("B28d", "65 bytes of signature", lambda: b.with_signature(lambda sig: sig + b"\0"), "SIG_INVALID"),
    unauthentic("B28e", "empty signature", lambda: b.with_signature(lambda _: b""), "SIG_INVALID"),
    unauthentic("B28f", "signature of zeros", lambda: b.with_signature(lambda _: bytes(64)), "SIG_INVALID"),
    unauthentic("B28g", "neutral point as R", lambda: b.with_signature(lambda _: b"\1" + bytes(63)), "SIG_INVALID"),
    unauthentic("B29", "S plus the order", lambda: b.with_signature(b.plus_order), "SIG_INVALID"),
    unauthentic("B30", "unknown key", lambda: b.bundle_of(key=OTHER_KEY), "KEY_UNKNOWN"),
    unauthentic("B30b", "key of small order", lambda: b.with_key_id("01" + "00" * 31), "KEY_UNKNOWN"),
    unauthentic("B31", "right key and wrong key id", lambda: b.with_key_id(b.key_text(OTHER_KEY)), "KEY_UNKNOWN"),
    unauthentic(
        "B31b", "wrong key and right key id", lambda: b.signed_by_and_named(OTHER_KEY, RELEASE_KEY), "SIG_INVALID"
    ),
    unauthentic("B32", "one signature twice", lambda: b.enveloped(b.signed_often(2)), "SIG_MISSING", ways=EVERYWHERE),
    unauthentic(
        *("B33", "one signature under two keys", lambda: b.enveloped(b.signed_often(2, OTHER_KEY)), "SIG_MISSING"),
        ways=EVERYWHERE,
    ),
    fault("B35", "ten thousand signatures", lambda: b.enveloped(b.signed_often(10_000)), "LENGTH"),
    fault("B35b", "as many signatures as fit", lambda: b.enveloped(b.signed_often(80)), "DEPTH"),
    unauthentic(
        *("B36", "type of another product", lambda: b.of_type("application/vnd.in-toto+json"), "PAYLOAD_TYPE"),
        ways=EVERYWHERE,
    ),
    *(
        unauthentic(
            *(f"B36-{kind}", "type of our own", lambda kind=kind: b.of_type(b.our_type(kind)), "PAYLOAD_TYPE"),
            ways=EVERYWHERE,
        )
        for kind in ("checkpoint", "offer", "receipt", "request", "revocations", "succession")
    ),
    unauthentic(
        "B36b", "type that speaks", lambda: b.of_type(f"application/{MARKER}"), "PAYLOAD_TYPE", ways=EVERYWHERE
    ),
    unauthentic(
        "B37", "signature of the bare payload", lambda: b.signed_otherwise(b.enveloped_payload()), "SIG_INVALID"
    ),
    unauthentic(
        *("B37b", "signature of another type", lambda: b.signed_otherwise(b.encoded_as(b.our_type("offer")))),
        "SIG_INVALID",
    ),
    unauthentic(
        *("B37c", "signature of the text of the payload", lambda: b.signed_otherwise(b.payload_text().encode())),
        "SIG_INVALID",
    ),
    unauthentic(
        "B37d",
        "signature of the next version of the encoding",
        lambda: b.signed_otherwise(b.encoded_as(PAYLOAD_TYPE).replace(b"DSSEv1", b"DSSEv2")),
        "SIG_INVALID",
    ),
]

_NUMBERS = ("9.0", "9e0", "-0", "NaN", "Infinity", "-Infinity", "0x9", "09", "+9", "9_0", "9.", "")

MANIFESTS = [
    fault("B38", "key twice", lambda: b.written('"n_utt":9', '"n_utt":9,"n_utt":9'), "DUP_KEY"),
    fault("B38b", "key twice with another value", lambda: b.written('"n_utt":9', '"n_utt":8,"n_utt":9'), "DUP_KEY"),
    *(
        misstated(
            f"B39-{number}",
            "number",
            lambda number=number: b.written('"n_utt":9', f'"n_utt":{number}'),
            "NOT_CANONICAL",
        )
        for number in _NUMBERS
    ),
    fault("B40", "integer of 4301 digits", lambda: b.written('"n_utt":9', '"n_utt":' + "9" * 4301), "LENGTH"),
    misstated("B40b", "integer of 3000 digits", lambda: b.written('"n_utt":9', '"n_utt":' + "9" * 3000), "RANGE"),
    misstated("B40c", "integer of 2 to 63", lambda: b.stating(n_utt=2**63), "RANGE"),
    misstated("B40d", "integer of 16 digits", lambda: b.stating(n_utt=10**15), "RANGE"),
    misstated("B40e", "integer of 15 digits", lambda: b.stating(n_utt=10**14), "RANGE"),
    misstated("B40f", "minus 2 to 63", lambda: b.stating(n_utt=-(2**63)), "RANGE"),
    fault("B41", "200000 brackets", lambda: b.bundle_of(b"[" * 200_000), "LENGTH"),
    misstated("B41b", "as many brackets as fit", lambda: b.bundle_of(b"[" * 4096), "DEPTH"),
    misstated("B41c", "braces of many objects", lambda: b.bundle_of(b'{"a":' * 800), "DEPTH"),
    misstated("B41d", "nine lists in one field", lambda: b.stating(n_utt=[[[[[[[[9]]]]]]]]), "DEPTH"),
    misstated("B41e", "brackets in a string", lambda: b.stating(arch="[" * 9), "DEPTH"),
    misstated("B41f", "longer than 4 KiB", lambda: b.stating(arch=MARKER * 600), "LENGTH"),
    fault("B42", "keys unsorted", lambda: b.bundle_of(b.unsorted(b.payload())), "NOT_CANONICAL"),
    misstated("B42b", "spaces", lambda: b.written('"n_utt":9', '"n_utt": 9'), "NOT_CANONICAL"),
    misstated("B42c", "escape for a plain letter", lambda: b.written('"q8p2"', '"q8p\\u0032"'), "NOT_CANONICAL"),
    misstated("B42d", "line feed at the end", lambda: b.bundle_of(b.payload() + b"\n"), "NOT_CANONICAL"),
    misstated("B42e", "escaped name", lambda: b.written('"n_utt"', '"n_ut\\u0074"'), "NOT_CANONICAL"),
    misstated("B42f", "comment", lambda: b.bundle_of(b.payload() + b"/*" + _NOISE + b"*/"), "NOT_CANONICAL"),
    misstated("B42g", "two objects", lambda: b.bundle_of(b.payload() + b.payload()), "NOT_CANONICAL"),
    misstated("B42h", "nothing", lambda: b.bundle_of(b""), "NOT_CANONICAL"),
    misstated("B42i", "control character", lambda: b.written('"q8p2"', '"q8p\x01"'), "NOT_CANONICAL"),
    misstated("B42j", "byte order mark", lambda: b.bundle_of(b"\xef\xbb\xbf" + b.payload()), "NOT_CANONICAL"),
    misstated("B42k", "list of manifests", lambda: b.bundle_of(b"[" + b.payload() + b"]"), "TYPE"),
    fault("B43", "true for 1", lambda: b.stating(v=True), "TYPE"),
    misstated("B43b", "string for an integer", lambda: b.stating(n_utt=MARKER), "TYPE"),
    misstated("B43c", "null for an integer", lambda: b.stating(n_utt=None), "TYPE"),
    misstated("B43d", "list for an integer", lambda: b.stating(n_utt=[9]), "TYPE"),
    misstated("B43e", "object for a hash", lambda: b.stating(issuer={"note": MARKER}), "TYPE"),
    misstated("B43f", "integer for a word", lambda: b.stating(arch=1), "TYPE"),
    misstated("B43g", "true for valid days", lambda: b.stating(valid_days=True), "TYPE"),
    misstated("B43h", "integer for a hash", lambda: b.stating(grant=0), "TYPE"),
    fault("B44", "unknown field note", lambda: b.stating(note=MARKER), "UNKNOWN_FIELD"),
    misstated("B44b", "unknown name that speaks", lambda: b.stating(**{MARKER: 1}), "UNKNOWN_FIELD"),
    misstated("B44c", "field of a later version", lambda: b.stating(zz_audit=1), "UNKNOWN_FIELD"),
    fault("B45", "unknown architecture", lambda: b.stating(arch=MARKER), "ENUM", says="newer ecan-ser"),
    misstated("B45b", "unknown encoding", lambda: b.stating(enc=MARKER), "ENUM", says="newer ecan-ser"),
    misstated("B45c", "unknown front end", lambda: b.stating(frontend=MARKER), "ENUM", says="newer ecan-ser"),
    misstated("B45d", "unknown normalization", lambda: b.stating(norm=MARKER), "ENUM", says="newer ecan-ser"),
    misstated("B45e", "unknown validity", lambda: b.stating(valid_days=31), "ENUM"),
    misstated("B45f", "front end of another architecture", lambda: b.stating(frontend="frames-v1"), "ENUM"),
    misstated("B45g", "unknown label", lambda: b.stating(labels=1 << 12), "RANGE"),
    misstated("B45h", "a single label", lambda: b.stating(labels=4), "RANGE"),
    misstated("B45i", "no label", lambda: b.stating(labels=0), "RANGE"),
    misstated("B45j", "unknown version", lambda: b.stating(v=3), "RANGE"),
    misstated("B45k", "version of before", lambda: b.stating(v=1), "RANGE"),
    *(
        fault(f"B46-{name}", "field missing", lambda name=name: b.stating(name), "MISSING", ways=(RECEIVE,))
        for name in b.manifest_fields()
    ),
    *(
        fault(
            f"B46b-{name}",
            f"value {value}",
            lambda name=name, value=value: b.stating(**{name: value}),
            "RANGE",
            ways=(RECEIVE,),
        )
        for name, value in (
            *(("release", 0), ("release", 65536), ("day", -1), ("day", 65536), ("weights_len", 0)),
            *(("weights_len", 2**24), ("n_utt", 32), ("n_spk", -1), ("hours", 16), ("hours", -17)),
            *(("uar_src", 201), ("uar_src", -1), ("uar_q_loss", 2), ("v", 0), ("networks", 13)),
            *(("lira_auc", 201), ("file_auc", -1), ("epsilon", 1001), ("delta", 16)),
            *(("issuer", "00"), ("audience", "0" * 63 + "g"), ("grant", "A" * 32), ("weights_sha256", "")),
        )
    ),
]

WEIGHTS = [
    unauthentic("B47", "digest of other weights", lambda: b.bundle_of(b.payload(weights_sha256=bytes(32))), "DIGEST"),
    unauthentic("B47b", "weights of another release", b.mixed_and_matched, "DIGEST"),
    unauthentic(
        "B47c", "length of other weights", lambda: b.bundle_of(b.payload(weights_len=len(b.packed()) - 1)), "DIGEST"
    ),
    unauthentic("B47d", "one byte more than signed", lambda: b.bundle_of(b.payload(), b.packed() + b"\0"), "DIGEST"),
    unauthentic("B48", "lowest bit of the last weight flipped", lambda: b.flip(b.honest(), -8), "DIGEST"),
    unauthentic(
        "B48b", "bit of the header flipped", lambda: b.bundle_of(b.payload(), b.flip(b.packed(), 200)), "DIGEST"
    ),
    *(
        fault(f"B49-{name}", "odd header", lambda name=name: b.weighing(b.odd_headers()[name]), "HEADER_MISMATCH")
        for name in b.odd_headers()
    ),
    fault("B50", "extra tensor", lambda: b.weighing(b.with_tensor(MARKER.encode(), b"8", 8)), "HEADER_MISMATCH"),
    fault("B50b", "missing tensor", lambda: b.weighing(b.without_last_tensor()), "HEADER_MISMATCH"),
    fault("B50c", "renamed tensor", lambda: b.weighing(b.reheaded(b"head.bias", b"tail.bias")), "HEADER_MISMATCH"),
    fault("B50d", "transposed tensor", lambda: b.weighing(b.reheaded(b"[128,256]", b"[256,128]")), "HEADER_MISMATCH"),
    fault("B50e", "floats for integers", b.with_floats, "HEADER_MISMATCH"),
    fault("B50f", "unsigned for signed", lambda: b.weighing(b.reheaded(b'"I8"', b'"U8"')), "HEADER_MISMATCH"),
    fault("B50g", "fewer classes than labels", lambda: b.with_labels(0b11), "HEADER_MISMATCH"),
    fault("B50h", "more classes than labels", lambda: b.with_labels(0b11111), "HEADER_MISMATCH"),
    fault("B50i", "weights of another architecture", b.of_another_architecture, "HEADER_MISMATCH"),
    fault("B50j", "center and scale where none belong", b.with_scaling_left_in, "HEADER_MISMATCH"),
    fault(
        "B51", "memory bank", lambda: b.weighing(b.with_tensor(b"bank.features", b"100,256", 25_600)), "HEADER_MISMATCH"
    ),
    *(
        fault(f"B52-{name}", "broken header", lambda name=name: b.weighing(b.broken_headers()[name]), "HEADER_MISMATCH")
        for name in b.broken_headers()
    ),
    *(
        fault(
            *(row, what, lambda name=name, value=value: b.with_values(b.set_value(name, value)), "VALUE"),
            ways=BELIEVERS,
        )
        for row, what, name, value in (
            ("B53", "weight of minus 128", "head.weight", -128),
            ("B53b", "weight of minus 128 in the first layer", "encoder.0.weight", -128),
            ("B53c", "bias of minus 32768", "head.bias", -32768),
            ("B53d", "exponent 9", "head.exponent", 9),
            ("B53e", "exponent minus 21", "head.exponent", -21),
            ("B53f", "exponent 127", "encoder.0.exponent", 127),
            ("B53g", "exponent minus 128", "bottleneck.exponent", -128),
        )
    ),
    fault("B53h", "scale of zero", lambda: b.scaled_inputs(b.set_value("input.scale", 0)), "VALUE", ways=BELIEVERS),
    fault("B53i", "negative scale", lambda: b.scaled_inputs(b.set_value("input.scale", -100)), "VALUE", ways=BELIEVERS),
    fault("B54", "row whose exponent is free", lambda: b.with_values(b.halve_a_row), "VALUE", ways=BELIEVERS),
    fault("B55", "two units swapped", lambda: b.with_values(b.swap_units), "UNIT_ORDER", ways=BELIEVERS),
    fault("B55b", "features reversed", lambda: b.with_values(b.reverse_features), "UNIT_ORDER", ways=BELIEVERS),
    fault("B55c", "repeated unit in use", lambda: b.with_values(b.repeat_a_unit), "UNIT_ORDER", ways=BELIEVERS),
    fault("B56", "all zero", lambda: b.with_values(b.zero_everything), "VALUE", ways=BELIEVERS),
    fault(
        "B56b", "all zero with true exponents", lambda: b.with_values(b.zero_all_but_exponents), "VALUE", ways=BELIEVERS
    ),
    fault("B56c", "row of a class all zero", lambda: b.with_values(b.zero_a_class), "VALUE", ways=BELIEVERS),
    fault(
        "B57", "running mean", lambda: b.weighing(b.with_tensor(b"norm.running_mean", b"256", 256)), "HEADER_MISMATCH"
    ),
    fault(
        "B57b", "running variance", lambda: b.weighing(b.with_tensor(b"norm.running_var", b"0", 0)), "HEADER_MISMATCH"
    ),
]

POLICIES = [
    refused("B58", "another site's bundle", lambda: b.honest(audience=b.OTHER_SITE.identity.fingerprint), "AUDIENCE"),
    refused("B58b", "nobody's bundle", lambda: b.honest(audience=bytes(32)), "AUDIENCE"),
    refused("B58c", "another issuer than the signer", lambda: b.bundle_of(b.payload(issuer=bytes(32))), "KEY_UNKNOWN"),
    refused("B59", "grant that nobody asked for", lambda: b.honest(grant=bytes(16)), "GRANT"),
    refused(
        "B59b", "grant of another request of ours", lambda: b.honest(grant=b.SECOND_GRANT), "GRANT", ways=(RECEIVE,)
    ),
    refused("B61", "expired yesterday", lambda: b.honest(day=TODAY - 91), "EXPIRED", says=f"today is day {TODAY}"),
    refused(
        "B61b",
        "valid from the day after tomorrow and one",
        lambda: b.honest(day=TODAY + 4),
        "NOT_YET",
        says="both clocks",
    ),
    refused("B61c", "from the end of time", lambda: b.honest(day=65535), "NOT_YET", says=f"today is day {TODAY}"),
    refused("B61d", "from the beginning of time", lambda: b.honest(day=0, valid_days=365), "EXPIRED"),
    refused(
        *("B67", "hash of an encoder that is not here", b.read_by_added, "NOT_FOUND"),
        ways=BELIEVERS,
        says="encoder add FOLDER",
    ),
    misstated("B67b", "no encoder where one is read by", lambda: b.reading_by(None), "MISSING"),
    misstated("B67c", "half a hash of an encoder", lambda: b.reading_by("00" * 16), "RANGE"),
    misstated("B67d", "words for an encoder", lambda: b.reading_by(MARKER), "RANGE"),
    misstated("B67e", "encoder where none is read by", lambda: b.reading_by("00" * 32, b.payload()), "UNKNOWN_FIELD"),
]

AUDITS = [
    misstated("B63", "audit that failed", lambda: b.stating(**AUDITED | {"audit": "failed"}), "ENUM"),
    misstated("B63b", "audit of no network", lambda: b.stating(**AUDITED | {"networks": 0}), "AUDIT"),
    misstated("B63c", "tier 2 without an audit", lambda: b.stating(tier=2), "AUDIT"),
    misstated("B63d", "passed at tier 0", lambda: b.stating(**AUDITED | {"tier": 0}), "AUDIT"),
    misstated("B63e", "figures without an audit", lambda: b.stating(lira_auc=100), "AUDIT"),
    misstated("B63f", "promise without a unit", lambda: b.stating(**AUDITED | {"unit": "none"}), "AUDIT"),
    refused(
        *("B63g", "passed with figures that fail", lambda: b.auditing(lira_auc=166), "AUDIT"),
        ways=BELIEVERS,
        says="its figures fail that tier",
    ),
    refused(
        *("B63h", "passed without a figure", lambda: b.auditing(spk_auc=0), "AUDIT"),
        ways=BELIEVERS,
        says="its figures fail that tier",
    ),
    refused(
        *("B63i", "failed and overridden", lambda: b.auditing(audit="overridden", lira_auc=166), "AUDIT"),
        ways=BELIEVERS,
        says="the source has overridden that",
    ),
    unauthentic("B63j", "audit of other weights", b.audited_elsewhere, "DIGEST"),
]

CASES = [*FRAMES, *ENVELOPES, *MANIFESTS, *WEIGHTS, *POLICIES, *AUDITS]
