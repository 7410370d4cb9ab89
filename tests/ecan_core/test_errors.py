import copy

from ecan_core import errors


def _is_own(value: object) -> bool:
    return isinstance(value, type) and issubclass(value, errors.EcanError)


def test_every_error_has_its_exit_code():
    codes = {cls.__name__: cls.exit_code for cls in vars(errors).values() if _is_own(cls)}
    assert codes == {
        "EcanError": 1,
        "UsageError": 2,
        "SettingsError": 3,
        "ModelError": 12,
        "AudioError": 13,
        "UnusableAudioError": 13,
        "NothingUsableError": 13,
        "NoRecordingError": 17,
        "LostError": 18,
        "RevertedError": 14,
        "StorageError": 16,
    }


def test_a_refusal_survives_the_way_between_processes():
    refusal = copy.copy(errors.UnusableAudioError("SILENT", "a.wav holds no sound."))
    assert (refusal.reason, str(refusal)) == ("SILENT", "a.wav holds no sound.")
