"""The second client of `ecan-conformance`: a site from one page, docs/bundle-format.md, and nothing of our code.

`python -m tests.conformance.second CASE...` answers cases. Bundles are read by `tests/vectors/reader.py`; here are the
seal, the other signed files and what a site remembers. It needs the standard library, X.509 and HPKE.
"""

import hashlib
import json
import re
import struct
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, MLKEM768X25519PrivateKey, Suite
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from tests.vectors import reader
from tests.vectors.reader import BundleRefusedError, Envelope, hexadecimal, parse_envelope, refuse_unless, text

HEX = {"grant": 32, "nonce": 64, "sealed_sha256": 64, "digest": 64, "weights_sha256": 64, "head": 64, "seen_head": 64}
HEX |= {"sealing_key": 2432, "public_key": 64, "consent": 128}
HYBRID_HEX = {"public_key": 2 * 1984, "consent": 2 * 3373}
BIG = 10**15 - 1
RANGES = {"day": (0, 65535), "version": (1, 65535), "number": (1, 65535), "last_list": (0, 65534), "seq": (1, BIG)}
RANGES |= {"last_release": (0, 65535), "seen": (0, BIG), "size": (1, BIG), "release": (1, 2**32 - 1)}
RANGES |= {"expires_s": (0, BIG)}
FIELDS = {
    "request.v1": "v certificate sealing_key nonce day",
    "receipt.v1": "v grant sealed_sha256 digest weights_sha256 verdict day",
    "offer.v1": "v grant nonce sealed_sha256 size release expires_s",
    "checkpoint.v1": "v grant seq head seen seen_head day",
    "revocations.v1": "v version day weights keys",
    "succession.v1": "v number public_key consent",
    "succession.v2": "v number public_key consent last_list last_release",
    "succession.v3": "v number public_key consent last_list last_release",
}
TYPES = {name: f"application/vnd.ecan.{name}+json" for name in FIELDS}
NAMES = {kind: name for name, kind in TYPES.items()}
LONGEST_BUNDLE = 24 + 16384 + max(sum(reader.lengths(arch, 12, "none")) for arch in reader.FRONT_ENDS)
SEGMENT, OVERHEAD = 1 << 20, 1136
NOTHING = bytes(32)
HPKE = Suite(KEM.MLKEM768_X25519, KDF.HKDF_SHA256, AEAD.CHACHA20_POLY1305)


# Records


def read_record(data: bytes, name: str, signer: bytes, max_bytes: int) -> dict[str, Any]:
    """A record that its one signer has signed."""
    return fields_of(reader.open_envelope(data, signer, TYPES[name]), name, max_bytes)


def fields_of(payload: bytes, name: str, max_bytes: int) -> dict[str, Any]:
    fields = reader.exact_fields(reader.read_object(payload, max_bytes), set(FIELDS[name].split()))
    return {key: value_of(key, fields[key], name) for key in FIELDS[name].split()}


def value_of(key: str, value: Any, record: str) -> Any:
    if key in ("v", *RANGES):
        refuse_unless(type(value) is int, "TYPE")
    if key == "v":
        refuse_unless(value == (int(record[-1]) if record.startswith("succession") else 1), "ENUM")
    elif key in RANGES:
        refuse_unless(RANGES[key][0] <= value <= RANGES[key][1], "RANGE")
    elif key in HEX:
        digits = HYBRID_HEX.get(key, HEX[key]) if record == "succession.v3" else HEX[key]
        return bytes.fromhex(hexadecimal(value, digits))
    elif key == "verdict":
        refuse_unless(text(value) in ("accepted", "refused"), "ENUM")
    else:
        refuse_unless(len(text(value)) <= 4096, "RANGE")
    return value


def digests(joined: str) -> frozenset[str]:
    """Digests that stand sorted, one after the other."""
    found = [joined[place : place + 64] for place in range(0, len(joined), 64)]
    is_form = all(re.fullmatch("[0-9a-f]{64}", digest) for digest in found) and found == sorted(set(found))
    refuse_unless(is_form, "NOT_CANONICAL")
    return frozenset(found)


# Seal


def open_seal(data: bytes, grants: list[bytes], key: MLKEM768X25519PrivateKey) -> tuple[bytes, bytes]:
    """The grant on a sealed file, and what is inside."""
    magic = b"ECSL\r\n\x1a\n"
    longest = 36 + LONGEST_BUNDLE + -(-LONGEST_BUNDLE // SEGMENT) * OVERHEAD
    refuse_unless(len(data) <= longest, "LENGTH")
    refuse_unless(data[:8] != b"ECAN\r\n\x1a\n", "POLICY")
    refuse_unless(not (len(data) < 8 and magic.startswith(data)), "TRUNCATED")
    refuse_unless(data[:8] == magic, "MAGIC")
    refuse_unless(len(data) >= 36, "TRUNCATED")
    major, suite, grant, length = struct.unpack("<HH16sQ", data[8:36])
    refuse_unless((major, suite) == (1, 1), "VERSION")
    refuse_unless(0 < length <= LONGEST_BUNDLE, "LENGTH")
    count = -(-length // SEGMENT)
    refuse_unless(len(data) >= 36 + length + count * OVERHEAD, "TRUNCATED")
    refuse_unless(len(data) <= 36 + length + count * OVERHEAD, "TRAILING")
    refuse_unless(grant in grants, "RECIPIENT")
    plain = b""
    for index in range(count):
        start = 36 + index * (SEGMENT + OVERHEAD)
        piece = data[start : start + SEGMENT + OVERHEAD]
        try:
            plain += HPKE.decrypt(piece, key, info=data[:36] + struct.pack("<II", index, count))
        except (InvalidTag, ValueError):
            raise BundleRefusedError("DECRYPT") from None
    return grant, plain


# What a site remembers


@dataclass
class Source:
    """What is known of one release key of a source."""

    release: int = 0
    weights: bytes | None = None
    list_number: int = 0
    list_day: int = 0
    gone_weights: frozenset[str] = frozenset()
    gone_keys: frozenset[str] = frozenset()
    is_doubted: bool = False
    seq: int = 0
    head: bytes = NOTHING
    heir: bytes | None = None
    number: int = 0

    @property
    def gone(self) -> frozenset[str]:
        return self.gone_weights | self.gone_keys

    def forget_list(self, number: int = 0) -> None:
        self.list_number, self.list_day, self.is_doubted = number, 0, number > 0
        if not number:
            self.gone_weights = self.gone_keys = frozenset()


@dataclass
class Memory:
    """What is known of all."""

    site: dict[str, Any]
    sources: dict[bytes, Source] = field(default_factory=dict)
    accepted: dict[bytes, bytes] = field(default_factory=dict)
    answers: dict[bytes, bytes] = field(default_factory=dict)

    @property
    def trusted(self) -> bytes:
        return bytes.fromhex(self.site["source"])

    def of(self, key: bytes) -> Source:
        return self.sources.get(key) or Source()

    def last(self, key: bytes) -> bytes:
        while (heir := self.of(key).heir) is not None:
            key = heir
        return key

    def line(self, key: bytes) -> list[bytes]:
        return [other for other in {*self.sources, key} if self.last(other) == self.last(key)]

    def gone(self, key: bytes) -> frozenset[str]:
        return frozenset().union(*(self.of(other).gone for other in self.line(key)))

    def today_s_key(self) -> bytes:
        last = self.last(self.trusted)
        refuse_unless(last.hex() not in self.gone(last), "REVOKED")
        return last

    # Releases.

    def take(self, plain: bytes, grant: bytes, today: int) -> None:
        issuer = self.today_s_key()
        self.refuse_stale(issuer, today)
        known = self.of(issuer)
        floor = known.release if known.weights is not None else max(known.release - 1, 0)
        rules = {name: self.site[name] for name in ("least_tier", "accept_overridden") if name in self.site}
        if "signature_suites" in self.site:
            rules["suites"] = tuple(self.site["signature_suites"])
        trusting = reader.Site(
            issuer=issuer,
            today=today,
            audience=bytes.fromhex(self.site["audience"]),
            grants=frozenset({grant}),
            last_release=floor,
            last_weights=known.weights or b"",
            revoked=frozenset(bytes.fromhex(digest) for digest in self.gone(issuer)),
            **rules,
        )
        refuse_unless(len(plain) <= LONGEST_BUNDLE, "LENGTH")
        stated = reader.read(plain, trusting)
        known = self.sources.setdefault(issuer, known)
        known.release, known.weights = int(stated["release"]), bytes.fromhex(str(stated["weights_sha256"]))
        self.accepted[plain] = issuer

    def take_sealed(self, data: bytes, today: int, key: MLKEM768X25519PrivateKey) -> None:
        grant, plain = open_seal(data, [bytes.fromhex(grant) for grant in self.site["grants"]], key)
        if grant in self.answers:
            refuse_unless(self.answers[grant] == data, "GRANT")
            return
        self.take(plain, grant, today)
        self.answers[grant] = data

    def reopen(self, plain: bytes) -> None:
        issuer = self.accepted[plain]
        digest = hashlib.sha256(reader.cut(plain)[1]).hexdigest()
        refuse_unless(not {issuer.hex(), digest} & self.gone(issuer), "REVOKED")

    def refuse_stale(self, issuer: bytes, today: int) -> None:
        days = self.site.get("oldest_revocations_days")
        if days is not None:
            refuse_unless(0 < self.of(issuer).list_day >= today - days, "EXPIRED")

    def reset(self, key: bytes, release: int, newest: int | None) -> None:
        known = self.sources.setdefault(key, Source())
        known.release, known.weights, known.seq, known.head = release, None, 0, NOTHING
        if newest is not None:
            known.forget_list(newest - 1 if newest else 0)
            known.is_doubted = newest > 0

    # Statements.

    def learn(self, data: bytes, today: int) -> None:
        refuse_unless(len(data) <= 24576, "LENGTH")
        envelope = parse_envelope(data)
        signer = envelope.signer
        refuse_unless(signer in (self.sources or {self.trusted}), "KEY_UNKNOWN")
        if envelope.kind == TYPES["revocations.v1"]:
            self.hear_list(data, signer, today)
        elif (name := NAMES.get(envelope.kind, "")).startswith("succession"):
            self.hand_over(read_succession(data, envelope, name), old_key=signer)
        else:
            raise BundleRefusedError("PAYLOAD_TYPE")

    def hear_list(self, data: bytes, signer: bytes, today: int) -> None:
        fields = read_record(data, "revocations.v1", signer, 24576)
        weights, keys = digests(fields["weights"]), digests(fields["keys"])
        number, day, known = fields["version"], fields["day"], self.of(signer)
        refuse_unless(day <= today + 2, "NOT_YET")
        refuse_unless(known.heir is None, "ROLLBACK")
        refuse_unless(signer.hex() not in self.gone(signer), "REVOKED")
        self.check_number(number, known)
        self.check_content(number, weights, keys, known)
        for other in self.line(signer):
            if other != signer and self.of(other).is_doubted:
                self.of(other).forget_list()
        known = self.sources.setdefault(signer, known)
        known.list_day = max(day, known.list_day) if number == known.list_number else day
        known.list_number, known.gone_weights, known.gone_keys = number, weights, keys
        known.is_doubted = False

    def check_number(self, number: int, known: Source) -> None:
        refuse_unless(number >= known.list_number, "ROLLBACK")
        refuse_unless(number <= (known.list_number + 64 if known.list_number else 256), "FAST_FORWARD")

    def check_content(self, number: int, weights: frozenset[str], keys: frozenset[str], known: Source) -> None:
        is_same = (weights, keys) == (known.gone_weights, known.gone_keys) and not known.is_doubted
        refuse_unless(number != known.list_number or is_same, "ROLLBACK")
        is_longer = weights >= known.gone_weights and keys >= known.gone_keys
        refuse_unless(is_longer or known.is_doubted, "ROLLBACK")

    def hand_over(self, fields: dict[str, Any], *, old_key: bytes) -> None:
        old, new_key = self.of(old_key), hashlib.sha256(fields["public_key"]).digest()
        if old.heir == new_key:
            return
        refuse_unless(not {old_key.hex(), new_key.hex()} & self.gone(old_key), "REVOKED")
        self.check_fork(old)
        self.check_order(fields["number"], old, new_key, old_key)
        new = self.of(new_key)
        release, weights = old.release, old.weights
        if release > fields.get("last_release", release):
            release, weights = fields["last_release"], None
        if release >= new.release:
            new.release, new.weights = release, weights
        if old.seq >= new.seq:
            new.seq, new.head = old.seq, old.head
        self.pass_lists(old, new, fields.get("last_list"))
        new.number, old.heir = fields["number"], new_key
        self.sources[old_key], self.sources[new_key] = old, new

    def check_fork(self, old: Source) -> None:
        refuse_unless(old.heir is None, "ROLLBACK")

    def check_order(self, number: int, old: Source, new_key: bytes, old_key: bytes) -> None:
        refuse_unless(number > old.number, "ROLLBACK")
        refuse_unless(self.last(new_key) != old_key, "ROLLBACK")

    def pass_lists(self, old: Source, new: Source, last_list: int | None) -> None:
        if last_list is None:
            if old.list_number >= new.list_number:
                for name in ("list_number", "list_day", "gone_weights", "gone_keys", "is_doubted"):
                    setattr(new, name, getattr(old, name))
            return
        if old.list_number > last_list:
            old.forget_list(0 if new.list_number > last_list else last_list)
        if not new.list_number:
            new.forget_list(last_list)  # the heir's lists begin above it
        new.list_number = max(new.list_number, last_list)

    def hear_checkpoint(self, data: bytes, endorsement: bytes) -> None:
        issuer = self.today_s_key()
        fields = read_online(data, endorsement, issuer, "checkpoint.v1")
        refuse_unless(fields["seen"] > 0 or fields["seen_head"] == NOTHING, "RANGE")
        known = self.of(issuer)
        self.check_ledger(fields, known)
        known = self.sources.setdefault(issuer, known)
        known.seq, known.head = fields["seq"], fields["head"]

    def check_ledger(self, fields: dict[str, Any], known: Source) -> None:
        refuse_unless(fields["seq"] >= known.seq, "LEDGER")
        refuse_unless((fields["seen"], fields["seen_head"]) == (known.seq, known.head), "LEDGER")
        refuse_unless(fields["seq"] > known.seq or fields["head"] == known.head, "LEDGER")


# The other files


def read_succession(data: bytes, envelope: Envelope, name: str) -> dict[str, Any]:
    fields = read_record(data, name, envelope.signer, 16384)
    new = fields["public_key"]
    refuse_unless(new != envelope.public_key, "VALUE")
    check_no_weaker(envelope.suite, len(new))
    numbers = {key: fields[key] for key in ("last_list", "last_release", "number") if key in fields}
    agreed = json.dumps({**numbers, "old": envelope.signer.hex()}, sort_keys=True, separators=(",", ":")).encode()
    check_consent(new, fields["consent"], f"ecan/{name.replace('.', '/')}", agreed)
    return fields


def check_no_weaker(suite: str, key_bytes: int) -> None:
    refuse_unless(key_bytes >= reader.KEYS[suite], "POLICY")


def check_consent(key: bytes, signature: bytes, kind: str, agreed: bytes) -> None:
    reader.check_signature(key, signature, kind, agreed)


def read_online(data: bytes, endorsement: bytes, issuer: bytes, name: str) -> dict[str, Any]:
    """A record of the online key that the release key has endorsed."""
    envelope = parse_envelope(data)
    refuse_unless(len(endorsement) in (32 + 64, 1984 + 3373), "IDENTITY")
    size = 32 if len(endorsement) == 96 else 1984
    refuse_unless(hashlib.sha256(endorsement[:size]).digest() == issuer, "IDENTITY")
    refuse_unless(len(envelope.public_key) == 32, "IDENTITY")
    reader.check_signature(endorsement[:size], endorsement[size:], "ecan/online/v1", envelope.public_key)
    return read_record(data, name, envelope.signer, 2048)


def read_request(data: bytes) -> None:
    envelope = parse_envelope(data)
    fields = read_record(data, "request.v1", envelope.signer, 16384)
    check_certificate(fields["certificate"].encode(), envelope.public_key)
    mlkem, point = fields["sealing_key"][:1184], fields["sealing_key"][1184:]
    refuse_unless(int.from_bytes(point, "little") < 2**255 - 19, "VALUE")
    try:
        MLKEM768PublicKey.from_public_bytes(mlkem)
        X25519PrivateKey.generate().exchange(X25519PublicKey.from_public_bytes(point))
    except ValueError:
        raise BundleRefusedError("VALUE") from None


def check_certificate(pem: bytes, public_key: bytes) -> None:
    """Whether a site's key stands behind its certificate."""
    try:
        certificate = x509.load_pem_x509_certificate(pem)
        carried = certificate.extensions.get_extension_for_oid(x509.ObjectIdentifier("1.3.6.1.4.1.99999.1")).value
        info = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    except (ValueError, x509.ExtensionNotFound):
        raise BundleRefusedError("IDENTITY") from None
    endorsed = carried.value  # type: ignore[union-attr]
    refuse_unless(pem.startswith(b"-----"), "IDENTITY")
    refuse_unless(len(endorsed) == 96 and endorsed[:32] == public_key, "IDENTITY")
    reader.check_signature(public_key, endorsed[32:], "ecan/tls/v1", info)
    refuse_unless(certificate.public_bytes(Encoding.PEM) == pem, "NOT_CANONICAL")


# The client


def answer(folder: Path) -> list[dict[str, object]]:
    """How each step of a case ends."""
    case = json.loads((folder / "case.json").read_text())
    memory = Memory(case["site"])
    pems = re.findall(b"-----BEGIN.+?-----END[^\n]+\n", (folder / case["site"]["sealing_key"]).read_bytes(), re.DOTALL)
    sealing_key = MLKEM768X25519PrivateKey(*(load_pem_private_key(pem, None) for pem in pems))
    answers: list[dict[str, object]] = []
    for step in case["steps"]:
        try:
            do_step(memory, step, folder, sealing_key)
        except BundleRefusedError as refusal:
            answers.append({"exit": refusal.exit_class, "code": refusal.code})
        else:
            answers.append({"exit": 0})
    return answers


def do_step(memory: Memory, step: dict[str, Any], folder: Path, key: MLKEM768X25519PrivateKey) -> None:
    content = (folder / step["file"]).read_bytes() if "file" in step else b""
    endorsement = (folder / step["endorsement"]).read_bytes() if "endorsement" in step else b""
    kind = step["kind"]
    if kind == "bundle":
        memory.take(content, bytes.fromhex(step["grant"]), step["today"])
    elif kind == "sealed":
        memory.take_sealed(content, step["today"], key)
    elif kind == "reopen":
        memory.reopen(content)
    elif kind == "statement":
        memory.learn(content, step["today"])
    elif kind == "reset":
        memory.reset(bytes.fromhex(step["source"]), step["release"], step["list"])
    elif kind == "checkpoint":
        memory.hear_checkpoint(content, endorsement)
    elif kind == "offer":
        offered = read_online(content, endorsement, memory.today_s_key(), "offer.v1")
        refuse_unless((offered["grant"].hex(), offered["nonce"].hex()) == (step["grant"], step["nonce"]), "OFFER")
    elif kind == "request":
        read_request(content)
    elif kind == "receipt":
        read_record(content, "receipt.v1", bytes.fromhex(memory.site["audience"]), 4096)


def main(names: list[str]) -> None:
    for name in names:
        print(json.dumps({"case": name, "answers": answer(Path(name))}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
