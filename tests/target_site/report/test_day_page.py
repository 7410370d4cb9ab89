"""The page of a day: complete in itself, and right about what it shows."""

import re
from dataclasses import replace

import numpy as np
import pytest

from target_site.report.day_page import MAX_CALLS, render_day
from target_site.results.days import describe
from target_site.results.drift import Drift
from tests.support.days import CONTAINMENT, a_call, a_run

DAY = 20_422
LOST = [{"channel": None, "begin_ms": None, "end_ms": None, "reason": "TRUNCATED", "message": "It ends too soon."}]
MUSIC = [{"channel": 1, "begin_ms": 0, "end_ms": 6000, "reason": "MUSIC", "message": "This is music."}]
DRIFT = Drift(
    distance=0.21,
    low=0.18,
    high=0.24,
    p=0.001,
    usual=0.05,
    is_drift=True,
    num_days=28,
    moved="anger",
    share=0.32,
    share_before=0.11,
)


def page_of(tmp_path, *calls, drift=None, before=None, **changes) -> str:
    content = a_run(DAY, *calls, **changes).content
    day = replace(describe(content, tmp_path, ended_at=0), drift=drift, week=drift)
    return render_day(content, day, before or {})


def test_it_shows_of_every_call_when_how_sure_and_what_was_uncertain_or_no_speech(tmp_path):
    call = a_call("/srv/calls/0417.wav", anger=2, uncertain=2, refused=MUSIC, supersedes="2025-11-20")
    page = page_of(tmp_path, call)
    row = re.search(r"<tr><th scope=\"row\">.*?0417\.wav.*?</tr>", page, re.S)
    assert row is not None
    shown = re.sub(r"<[^>]*>", " ", row[0])
    for said in ("(replaces 2025-11-20)", "2023-11-14 22:13", "anger", "70.0 %", "50 %", "43 %"):
        assert said in shown, said
    assert "music, or another sound of many pitches, and no speech" in page


def test_a_lost_recording_is_named_with_its_reason(tmp_path):
    page = page_of(tmp_path, a_call("/a.wav"), a_call("/b.wav", 0, refused=LOST, is_lost=True))
    assert "1 of 2 recordings were lost." in page
    assert "nothing used: TRUNCATED" in page


@pytest.mark.parametrize(
    ("drift", "title"), [(None, "Not compared yet"), (DRIFT, "This day differs from the weeks before")]
)
def test_the_headline_says_what_was_found(tmp_path, drift, title):
    page = page_of(tmp_path, a_call("/a.wav"), drift=drift, before={1: np.array([[1, 2, 0]])} if drift else {})
    assert f"<h1>{title}</h1>" in page
    assert ("Anger went from 11 % to 32 %." in page) == (drift is not None)


def test_names_are_text_and_never_markup(tmp_path):
    page = page_of(tmp_path, a_call("/calls/<script>alert(1)</script>\udcff.wav"))
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert page.encode()


def test_it_fetches_nothing_and_knows_small_screens_dark_mode_and_paper(tmp_path):
    page = page_of(tmp_path, a_call("/a.wav"), drift=DRIFT, before={1: np.array([[1, 2, 0]])})
    assert re.findall(r'(?:src|href)="|@import|url\(', page) == []
    for medium in ("prefers-color-scheme: dark", "max-width: 40rem", "@media print"):
        assert medium in page


def test_of_very_many_calls_the_first_are_shown_and_it_says_so(tmp_path):
    page = page_of(tmp_path, *(a_call(f"/calls/{number:05}.wav") for number in range(MAX_CALLS + 5)))
    assert page.count('<th scope="row">') == MAX_CALLS
    assert "The first 1,000 of 1,005" in page


def test_what_ran_without_walls_says_so(tmp_path):
    page = page_of(tmp_path, a_call("/a.wav"), containment=CONTAINMENT | {"level": 0, "accepted": "an old kernel"})
    assert "UNCONTAINED" in page
    assert "an old kernel" in page


def test_below_which_confidence_it_abstains_is_said_in_words(tmp_path):
    assert "best score is below 0.5 the model abstains" in page_of(tmp_path, a_call("/a.wav"))
    of_class = page_of(tmp_path, a_call("/a.wav"), least_confidence={"anger": 0.6, "joy": 1 / 3})
    assert "best score is below 0.33 to 0.6 the model abstains" in of_class
