import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from ecan_core.command_line import extras
from ecan_core.command_line.extras import EXTRAS, require_extra
from ecan_core.errors import UsageError

PROJECT = Path(__file__).resolve().parents[3] / "pyproject.toml"


def test_a_missing_package_is_named_with_what_installs_it(monkeypatch):
    monkeypatch.setattr(extras, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"^flwr cannot be imported; run `pip install 'ecan-ser\[federation\]'`\.$"):
        require_extra("federation")


@pytest.mark.parametrize("extra", EXTRAS)
def test_an_extra_of_the_distribution_brings_what_its_commands_import(extra):
    declared = tomllib.loads(PROJECT.read_text())["project"]["optional-dependencies"][extra]
    assert set(EXTRAS[extra]) == {Requirement(one).name for one in declared}
    require_extra(extra)
