import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
SCHEMA = Path("protocol/wire/ecan/v1/release.proto")


@pytest.mark.skipif(importlib.util.find_spec("grpc_tools") is None, reason="grpcio-tools is not installed")
def test_the_committed_stubs_are_what_the_schema_generates(tmp_path):
    command = [sys.executable, "-m", "grpc_tools.protoc", "-I", ".", f"--python_out={tmp_path}"]
    subprocess.run([*command, f"--pyi_out={tmp_path}", str(SCHEMA)], cwd=ROOT, check=True)
    for name in ("release_pb2.py", "release_pb2.pyi"):
        fresh = (tmp_path / SCHEMA).with_name(name).read_text()
        assert (ROOT / SCHEMA).with_name(name).read_text() == fresh, "run `make stubs`"
