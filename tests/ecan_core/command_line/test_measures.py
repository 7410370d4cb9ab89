import json
from datetime import UTC, datetime

import pytest
from prometheus_client.parser import text_string_to_metric_families

from ecan_core.command_line.measures import (
    Attention,
    Measure,
    NeedsAttentionError,
    Status,
    duration,
    looked,
    measure,
    shown,
)
from ecan_core.errors import EcanError

NOW = datetime(2026, 11, 30, 12, tzinfo=UTC)
FOUND = (
    measure("disk_free_bytes", "free space", 3 << 30, of="model"),
    Attention(reason="DISK", said="Make room."),
    measure("refused_share", "share that was lost", 0.25),
    measure("disk_free_bytes", "free space", 1 << 30, of='a "b"\\c\nd'),
    measure("head_info", "last line", 1, sha256="ab" * 32),
    measure("is_withdrawn", "whether it is withdrawn", False),
)


def status(*found):
    return Status(program="ecan-target", at=NOW, reasons=("DISK", "LOG"), found=found)


def families(text):
    return {family.name: family for family in text_string_to_metric_families(text)}


def test_prometheus_reads_every_measure_as_it_was():
    told = families(status(*FOUND).in_form("prometheus"))
    disk = told["ecan_target_disk_free_bytes"]
    assert (disk.type, disk.documentation) == ("gauge", "Free space.")
    assert {one.labels["of"]: one.value for one in disk.samples} == {"model": 3 << 30, 'a "b"\\c\nd': 1 << 30}
    assert told["ecan_target_refused_share"].samples[0].value == 0.25
    assert told["ecan_target_is_withdrawn"].samples[0].value == 0
    assert told["ecan_target_status_timestamp_seconds"].samples[0].value == NOW.timestamp()


def test_an_alert_finds_each_reason_also_where_all_is_well():
    raised = families(status(*FOUND).in_form("prometheus"))["ecan_target_attention"]
    assert {one.labels["reason"]: one.value for one in raised.samples} == {"DISK": 1, "LOG": 0}


def test_a_program_reads_one_object():
    told = json.loads(status(*FOUND).in_form("json"))
    assert told["healthy"] is False
    assert told["attention"] == [{"reason": "DISK", "said": "Make room."}]
    assert {"name": "refused_share", "labels": {}, "value": 0.25} in told["measures"]


def test_a_person_reads_first_what_to_do_and_then_numbers_with_units():
    first, *rest = status(*FOUND).in_form("text").splitlines()
    assert first == "attention  DISK: Make room."
    assert any(line.startswith("free space (model) ") and line.endswith("3.0 GiB") for line in rest)
    assert any(line.startswith("last line ") and line.endswith("ab" * 32) for line in rest)
    assert any(line.startswith("whether it is withdrawn ") and line.endswith(" no") for line in rest)
    assert status().in_form("text") == "healthy\n"


def test_what_needs_attention_has_an_exit_code_of_its_own():
    with pytest.raises(NeedsAttentionError, match=r"\(DISK\)") as caught:
        status(*FOUND).raise_attention()
    assert caught.value.exit_code == 19
    status(FOUND[0]).raise_attention()


def test_a_fault_is_told_once_and_hides_nothing_else():
    def breaks(site):
        yield measure("first", "first", site)
        raise EcanError("The file is damaged; restore it.")

    found = looked((("LOG", breaks), ("MODEL", breaks), ("DISK", lambda _: FOUND[:1])), 7, (EcanError,))
    faults = [one for one in found if isinstance(one, Attention)]
    assert faults == [Attention(reason="LOG", said="The file is damaged; restore it.")]
    assert [one.name for one in found if isinstance(one, Measure)] == ["first", "first", "disk_free_bytes"]


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0, "0 seconds"), (119, "119 seconds"), (120, "2 minutes"), (7200, "2 hours"), (1e6, "12 days")],
)
def test_a_length_of_time_is_told_in_its_largest_unit(seconds, said):
    assert duration(seconds) == said


def test_a_time_is_told_with_its_age():
    at = measure("last_success_timestamp_seconds", "last success", NOW.timestamp() - 7200)
    assert shown(at, NOW) == "2026-11-30 10:00 UTC, 2 hours ago"
