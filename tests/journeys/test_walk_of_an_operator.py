"""The operator's way in the guide is walked as it is printed: a page that goes stale fails here."""

import os
import pty
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from target_site.results.rows import read_rows
from target_site.results.segments import Segment
from tests.journeys.test_calls import call
from tests.support.days import day_in

pytestmark = [pytest.mark.journey, pytest.mark.timeout(600)]

GUIDE = Path(__file__).resolve().parents[2] / "docs" / "guide.md"
PROGRAMS = Path(sys.executable).parent
MOST_COMMANDS = 8
"""Up to the first prediction, an operator types no more."""
ANSWERS = "North line\nservice\nrecordings/\nsecond\n\n"


def commands(program: str) -> list[str]:
    """Read one site's column of the guide, with its continued lines joined."""
    block = re.search(r"^source site .*?^```$", GUIDE.read_text(), re.MULTILINE | re.DOTALL)
    assert block is not None
    begin = block[0].index("target site")
    columns = {"ecan-source": slice(0, begin), "ecan-target": slice(begin, None)}
    lines = [line[columns[program]].strip() for line in block[0].splitlines()]
    joined = "\n".join(lines).replace("\\\n", "")
    return [line for line in joined.splitlines() if line.startswith(f"{program} ")]


def run(command: str, folder: Path, **named: str) -> subprocess.CompletedProcess[str]:
    """Run a printed command in a folder, with a terminal that answers; words in capitals are filled in."""
    for placeholder, word in named.items():
        command = command.replace(placeholder, word)
    ours, theirs = pty.openpty()
    os.write(ours, ANSWERS.encode())
    program, *words = shlex.split(command)
    done = subprocess.run([str(PROGRAMS / program), *words], cwd=folder, stdin=theirs, capture_output=True, text=True)
    os.close(theirs)
    os.close(ours)
    return done


@pytest.fixture
def source(crossing, tmp_path) -> Path:
    """A source's folder, after the commands that come before the export."""
    folder = tmp_path / "source"
    shutil.copytree(crossing.run, folder / "run")
    shutil.copytree(crossing.source_keys, folder / "keys")
    return folder


@pytest.fixture
def target(tmp_path) -> Path:
    """A target's folder with nothing but recordings of calls."""
    folder = tmp_path / "target"
    (folder / "recordings").mkdir(parents=True)
    for number in range(4):
        late = number / 10
        call(folder / "recordings" / f"{number}.wav", (2 + late, 8 + late), (14 + late, 20), (26, 32 + late))
    return folder


def exported(source: Path) -> Iterator[str]:
    """Export as the guide prints it, on any port of this machine; yields the address."""
    command = commands("ecan-source")[-1].replace("0.0.0.0:7443", "127.0.0.1:0")
    program, *words = shlex.split(command)
    with subprocess.Popen([str(PROGRAMS / program), *words], cwd=source, stderr=subprocess.PIPE, text=True) as export:
        assert export.stderr is not None
        yield next(found[1] for line in export.stderr if (found := re.search(r"listening on (\S+:\d+)", line)))
        export.stderr.read()
    assert export.returncode == 0


def test_an_operator_types_eight_commands_at_most_up_to_the_first_prediction():
    verbs = [shlex.split(line)[1] for line in commands("ecan-target")]
    assert verbs == ["init", "request", "receive", "inspect", "approve", "adapt", "predict"]
    assert len(verbs) <= MOST_COMMANDS
    assert [shlex.split(line)[1] for line in commands("ecan-source")] == ["keys", "train", "export"]


def test_the_commands_of_the_guide_lead_to_predictions_and_each_names_the_next(crossing, source, target):
    rules, request, *rest = commands("ecan-target")
    said = [run(line, target) for line in (rules, request)]
    shutil.copy(target / "site.request", source)
    serving = exported(source)
    address = next(serving)
    said += [run(line, target, **{"source:7443": address, "FINGERPRINT": crossing.fingerprint}) for line in rest]
    assert next(serving, None) is None
    assert [one.returncode for one in said if one.returncode != 14] == [0] * len(said), said
    told = [re.findall(r"^next: ecan-target (\S+)", one.stderr, re.MULTILINE) for one in said]
    assert told == [["request"], [], ["inspect"], [], ["adapt"], ["predict"], []]
    day = day_in(target / "predictions")
    assert str(Path("predictions", day.name, "day.html")) in said[-1].stderr
    roles = {segment.role for segment in read_rows(day / "segments.jsonl", Segment)}
    assert (roles, (day / "day.html").is_file()) == ({"caller"}, True)
