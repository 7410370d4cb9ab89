"""The gate as a real process: what goes in, what comes out, and what is out of its reach."""

import hashlib
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save

from ecan_core.errors import ModelError
from protocol.bundle.egress import EgressError
from protocol.bundle.override import Override, sign_officer, sign_override
from protocol.bundle.sealing import SealingKey, unseal
from protocol.bundle.trust import ANY_AUDIT, Anchor, verify
from protocol.bundle.weights import pack
from protocol.errors import (
    Code,
    ContainmentError,
    FileError,
    KeyFileError,
    MalformedError,
    ProtocolError,
    RefusedError,
    TimedOutError,
    UnauthenticError,
)
from protocol.identity.identities import Role, create_identity
from protocol.identity.key_files import write_identity
from protocol.identity.signing import fingerprint_of, raw_public_key
from protocol.sandbox.landlock import landlock_abi
from source_site.release import gate
from source_site.release.gate import Answer, Task
from source_site.release.gate_client import run_gate
from tests.protocol.samples import AUDITED, FIELDS, FORM, OTHER_KEY, TODAY, random_model
from tests.support.sites import new_identity

ROOT = Path(__file__).resolve().parents[3]
SOURCE = new_identity(Role.SOURCE)
RECIPIENT = SealingKey.generate()
PASSPHRASE = b"correct horse battery staple"

needs_landlock = pytest.mark.skipif(landlock_abi() == 0, reason="this kernel has no Landlock")


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    folder = tmp_path_factory.mktemp("keys")
    write_identity(SOURCE, folder)
    return folder


def task(keys, tensors=None, **changes) -> Task:
    given = Task(
        fields=FIELDS,
        issuer=SOURCE.fingerprint,
        recipient=RECIPIENT.public_key,
        key_path=keys / "signing.key",
        passphrase=None,
        out_of_reach=(keys,),
        unconfined=landlock_abi() == 0,
        weights=save(random_model() if tensors is None else tensors),
    )
    return replace(given, **changes)


def ask(given: Task, **options) -> Answer:
    return run_gate(given, Path("run"), **options)


def raw(frame: bytes, **options) -> Answer:
    """What a gate makes of any bytes."""
    options = {"env": {"OPENBLAS_NUM_THREADS": "1"}, **options}
    done = subprocess.run(
        [sys.executable, "-I", "-m", "source_site.release.gate"],
        input=frame,
        capture_output=True,
        check=True,
        **options,
    )
    assert done.stderr == b""
    return Answer.from_bytes(done.stdout)


def test_what_comes_out_is_sealed_to_the_site_and_verifies_there(keys):
    answer = ask(task(keys))
    assert bytes(unseal(answer.sealed, RECIPIENT)) == answer.bundle
    anchor = Anchor(issuer=SOURCE.fingerprint, today=TODAY, audience=FIELDS.audience, grants=frozenset({FIELDS.grant}))
    assert verify(answer.bundle, anchor).manifest.release == FIELDS.release


def test_the_same_model_makes_the_same_bundle_and_never_the_same_sealed_file(keys):
    first, second = ask(task(keys)), ask(task(keys))
    assert first.bundle == second.bundle
    assert first.sealed != second.sealed


def test_an_encrypted_release_key_needs_its_passphrase(tmp_path):
    write_identity(SOURCE, tmp_path, PASSPHRASE)
    assert ask(task(tmp_path, passphrase=PASSPHRASE)).bundle
    for wrong in (None, b"another passphrase"):
        with pytest.raises(KeyFileError) as caught:
            ask(task(tmp_path, passphrase=wrong))
        assert caught.value.code is Code.KEY_LOCKED


def test_the_key_of_another_identity_is_refused(tmp_path):
    write_identity(create_identity(Role.SOURCE, SOURCE.certificate.not_valid_after_utc), tmp_path)
    with pytest.raises(KeyFileError, match="do not belong together"):
        ask(task(tmp_path))


def test_a_missing_release_key_is_named(tmp_path):
    with pytest.raises(KeyFileError, match=r"signing\.key"):
        ask(task(tmp_path))


def test_every_broken_rule_is_listed_at_once(keys):
    tensors = random_model()
    del tensors["head.bias"]
    tensors["bank.features"] = np.zeros((400, 128), np.float32)
    tensors["bottleneck.weight"][0, 0] = np.nan
    tensors["bottleneck.bias"] = tensors["bottleneck.bias"].astype(np.float64)
    with pytest.raises(EgressError) as caught:
        ask(task(keys, tensors))
    assert caught.value.exit_code == 11
    found = {(violation.rule, violation.where) for violation in caught.value.violations}
    assert found >= {
        (Code.MISSING, "head.bias"),
        (Code.UNKNOWN_FIELD, "bank.features"),
        (Code.VALUE, "bottleneck.weight"),
        (Code.TYPE, "bottleneck.bias"),
    }


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e30])
def test_a_value_that_no_grid_holds_is_refused(keys, value):
    tensors = random_model()
    tensors["head.weight"][0, 0] = value
    with pytest.raises(EgressError) as caught:
        ask(task(keys, tensors))
    assert [violation.rule for violation in caught.value.violations] == [Code.VALUE]


def test_a_tensors_name_can_neither_begin_a_line_nor_a_column(keys):
    odd = "a\n\tb\x1b[2J\u00e9[[[[[[[[[[{{{"
    with pytest.raises(EgressError) as caught:
        ask(task(keys, random_model() | {odd: np.zeros(1, np.float32)}))
    (violation,) = caught.value.violations
    assert violation.where == odd.encode("unicode_escape").decode("ascii")


def test_a_long_list_is_cut_and_says_so(keys):
    many = {f"utterance.{number}": np.zeros(1, np.float32) for number in range(gate.MAX_LISTED + 7)}
    with pytest.raises(EgressError, match="7 more are not listed"):
        ask(task(keys, random_model() | many))


@pytest.mark.parametrize(
    "weights",
    [b"", b"{}", b"\x80\x04\x95", b"PK\x03\x04", save(random_model())[:-1], (1 << 62).to_bytes(8, "little") + b"{}"],
)
def test_a_file_that_is_no_safetensors_file_is_a_damaged_run(keys, weights):
    with pytest.raises(ModelError, match="train again") as caught:
        ask(task(keys, weights=weights))
    assert caught.value.exit_code == 12


OVERRIDDEN = replace(FIELDS, **AUDITED | {"audit": "overridden", "lira_auc": 166})
WORD = Override(weights_sha256=hashlib.sha256(pack(random_model(), FORM)).digest(), tier=2, day=TODAY)
OFFICER = sign_officer(fingerprint_of(raw_public_key(OTHER_KEY)), SOURCE.signing_key)
SIGNED = sign_override(WORD, OTHER_KEY)


def test_the_officers_word_for_these_weights_and_this_tier_overrides_an_audit(keys):
    sealed = ask(task(keys, fields=OVERRIDDEN, officer=OFFICER, override=SIGNED))
    anchor = Anchor(issuer=SOURCE.fingerprint, today=TODAY, audit=ANY_AUDIT)
    assert verify(sealed.bundle, anchor).manifest.audit == "overridden"


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (RefusedError, {}),
        (RefusedError, {"officer": OFFICER}),
        (RefusedError, {"officer": OFFICER, "override": sign_override(replace(WORD, tier=1), OTHER_KEY)}),
        (
            RefusedError,
            {"officer": OFFICER, "override": sign_override(replace(WORD, weights_sha256=bytes(32)), OTHER_KEY)},
        ),
        (UnauthenticError, {"officer": OFFICER, "override": sign_override(WORD, SOURCE.signing_key)}),
        (UnauthenticError, {"officer": sign_officer(bytes(32), OTHER_KEY), "override": SIGNED}),
        (MalformedError, {"officer": b"", "override": SIGNED}),
    ],
)
def test_a_gate_that_is_told_so_by_its_parent_alone_overrides_nothing(keys, fault, said):
    with pytest.raises(fault):
        ask(task(keys, fields=OVERRIDDEN, **said))


@needs_landlock
@pytest.mark.parametrize("within_reach", [ROOT / "source_site", ROOT / "source_site" / "release" / "gate.py"])
def test_a_gate_that_can_see_what_it_must_not_signs_nothing(keys, within_reach):
    with pytest.raises(ContainmentError, match="within reach") as caught:
        ask(task(keys, out_of_reach=(keys, within_reach)))
    assert caught.value.exit_code == 15


def test_a_kernel_that_cannot_confine_is_refused_unless_that_is_accepted(keys):
    def on_an_old_kernel(given):
        frame = given.to_bytes()
        gate_there = [
            sys.executable,
            "-m",
            "tests.support.old_kernel",
            sys.executable,
            "-I",
            "-m",
            "source_site.release.gate",
        ]
        one_thread = {"OPENBLAS_NUM_THREADS": "1"}
        done = subprocess.run(gate_there, input=frame, capture_output=True, check=True, cwd=ROOT, env=one_thread)
        return Answer.from_bytes(done.stdout)

    refused = on_an_old_kernel(task(keys, unconfined=False))
    assert (refused.kind, refused.code) == ("ContainmentError", Code.CONTAINMENT)
    assert "accept the risk" in refused.message
    assert on_an_old_kernel(task(keys, unconfined=True)).kind == gate.SEALED


def test_a_gate_takes_nothing_from_its_surroundings(keys, tmp_path):
    (tmp_path / "source_site").mkdir()
    (tmp_path / "source_site" / "__init__.py").write_text("raise SystemExit(1)")
    (tmp_path / "sitecustomize.py").write_text("raise SystemExit(1)")
    surroundings = {**os.environ, "PYTHONPATH": str(tmp_path), "OPENBLAS_NUM_THREADS": "1"}
    assert raw(task(keys).to_bytes(), cwd=tmp_path, env=surroundings).kind == gate.SEALED


def test_a_gate_that_takes_too_long_is_ended(keys):
    with pytest.raises(TimedOutError) as caught:
        ask(task(keys), timeout_s=0.001)
    assert caught.value.exit_code == 5


@pytest.mark.parametrize(
    ("frame", "code"),
    [
        (b"", Code.TRUNCATED),
        (b"\0\0\0", Code.TRUNCATED),
        (b"\0\0\0\0", Code.LENGTH),
        (b"\xff\xff\xff\xff{}", Code.LENGTH),
        (b"\x02\0\0\0[]", Code.TYPE),
        (b"\x02\0\0\0{}", Code.MISSING),
        (b'\x07\0\0\0{"x":1}', Code.UNKNOWN_FIELD),
    ],
)
def test_a_frame_of_another_form_is_answered_and_not_crashed_upon(frame, code):
    answer = raw(frame)
    assert (answer.kind, answer.code) == ("MalformedError", code)


def test_a_fault_that_nobody_foresaw_is_told_without_its_text(keys):
    frame = task(keys).to_bytes().replace(b'"passphrase":""', b'"passphrase":"zz"')
    head = len(frame) - len(task(keys).weights) - 4
    answer = raw(head.to_bytes(4, "little") + frame[4:])
    assert answer == Answer(kind="ProtocolError", code=Code.INTERNAL)


@pytest.mark.parametrize("kind", gate.FAULTS)
def test_every_kind_of_fault_comes_back_as_itself(kind):
    answer = Answer.from_bytes(Answer(kind=kind.__name__, code=Code.STORAGE, message="No; do this \u00e9.").to_bytes())
    assert answer == Answer(kind=kind.__name__, code=Code.STORAGE, message="No; do this \\xe9.")
    assert gate._kind(kind(Code.STORAGE, "")) == kind.__name__
    assert issubclass(EgressError, RefusedError)
    assert FileError in gate.FAULTS


def test_a_task_comes_back_as_it_was_written(keys):
    given = task(keys, passphrase=PASSPHRASE, out_of_reach=(Path("/a b/[\u00e9"), keys), officer=b"o", override=b"w")
    assert Task.from_bytes(given.to_bytes()) == given
    assert PASSPHRASE.decode() not in repr(given)


def test_an_answer_that_was_cut_or_changed_is_not_believed(keys):
    said = raw(task(keys).to_bytes()).to_bytes()
    for damaged in (said[:-1], said[: len(said) // 2], said[:-1] + bytes([said[-1] ^ 1]), said + b"x", b""):
        with pytest.raises(MalformedError):
            Answer.from_bytes(damaged)


def test_a_gate_that_dies_without_a_word_is_a_fault_and_no_bundle(keys, monkeypatch):
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(ProtocolError, match="without a finding") as caught:
        ask(task(keys))
    assert (caught.value.code, caught.value.exit_code) == (Code.INTERNAL, 1)


def test_a_gate_knows_no_network_library_and_no_speech():
    code = "import sys, source_site.release.gate; print(sorted({name.partition('.')[0] for name in sys.modules}))"
    loaded = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True).stdout
    for name in ("ecan_core", "torch", "grpc", "google", "soundfile", "sqlite3", "ssl", "http", "urllib3", "requests"):
        assert repr(name) not in loaded


def test_a_refusal_without_a_code_is_a_failure_of_the_gate(keys, monkeypatch):
    said = Answer(kind="RefusedError", message="No.").to_bytes()
    monkeypatch.setattr("source_site.release.gate_client._talk_to_gate", lambda frame, timeout_s: said)
    with pytest.raises(ProtocolError, match="without a finding") as caught:
        ask(task(keys))
    assert caught.value.code is Code.INTERNAL
