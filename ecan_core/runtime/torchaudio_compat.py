"""Import torchaudio; no other module of the project does.

The index build of torchaudio 2.11 links its native extension against CUDA, so on a CPU build of torch a
plain `import torchaudio` raises OSError. Its Python code has pure torch versions of everything used here; it
only has to be told that the extension is absent. No file is patched.
"""

import importlib
import sys
from types import ModuleType
from typing import Any

_EXTENSION = "torchaudio._extension"


def _refuse_alignment(*_: Any, **__: Any) -> Any:
    raise RuntimeError("Forced alignment needs torchaudio's native extension, which is not installed.")


def _absent_extension() -> ModuleType:
    stub = ModuleType(_EXTENSION)
    stub.__dict__.update(
        _IS_TORCHAUDIO_EXT_AVAILABLE=False,
        _IS_ALIGN_AVAILABLE=False,
        _load_lib=lambda _name: False,
        fail_if_no_align=lambda _function: _refuse_alignment,
    )
    return stub


def _import_torchaudio() -> ModuleType:
    try:
        return importlib.import_module("torchaudio")
    except OSError:
        for name in [name for name in sys.modules if name.split(".")[0] == "torchaudio"]:
            del sys.modules[name]
        sys.modules[_EXTENSION] = _absent_extension()
        return importlib.import_module("torchaudio")


torchaudio = _import_torchaudio()
functional = importlib.import_module("torchaudio.functional")
