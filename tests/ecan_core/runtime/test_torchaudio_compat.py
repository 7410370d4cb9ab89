import subprocess
import sys


def test_torchaudio_is_imported_once_and_without_a_warning():
    program = (
        "from ecan_core.runtime.torchaudio_compat import functional, torchaudio\n"
        "import ecan_core.runtime.torchaudio_compat, sys\n"
        "assert sys.modules['torchaudio'] is torchaudio\n"
        "assert sys.modules['torchaudio.functional'] is functional\n"
        "assert functional.melscale_fbanks(9, 0.0, 8000.0, 2, 16000).shape == (9, 2)\n"
    )
    command = [sys.executable, "-W", "error", "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_front_ends_describe_sound_without_torch():
    program = (
        "import sys, ecan_core.data.features\n"
        "from ecan_core.audio.frontend import FRONT_ENDS\n"
        "assert all(len(front_end.fingerprint) == 64 for front_end in FRONT_ENDS.values())\n"
        "assert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
