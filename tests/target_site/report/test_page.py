import json
import math
import re
from collections import Counter
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest

from ecan_core.adaptation.verdict import Verdict
from ecan_core.audio.decode import REASONS as AUDIO_REASONS
from ecan_core.labels import EMOTIONS
from ecan_core.training.metrics import bootstrap_interval, confusion, recall, uar, war
from protocol.inspection.description import Category
from target_site.model.folder import FACTS, finish_replacement, new_model
from target_site.report.content import MAX_GROUPS, ReportContent, shares_by_group
from target_site.report.figures import MAX_POINTS, map_figure
from target_site.report.files import PAGE, save_evaluation, save_report
from target_site.report.page import CATEGORIES, HEADLINES, REASONS, render_report

CLASSES = ("anger", "fear", "neutral")
HOSTILE = """x<script>alert(1)</script>"'><img src=http://evil.example/a onerror=x>&amp;{{ 7*7 }}.wav"""
SEALED = {
    "level": 3, "walls": "all of them", "accepted": None, "attempts": 0,
    "ways_out": {"TCP": [True, False], "vsock": [False, False]},
}  # fmt: skip
VOID = {"meta", "link", "img", "br", "hr", "input"}


class Page(HTMLParser):
    """The elements, attributes and table cells of a page; fails on tags that do not nest."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: Counter[str] = Counter()
        self.attributes: list[tuple[str, str, str | None]] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(page)
        assert not self._open

    def handle_starttag(self, tag, attrs):
        self.tags[tag] += 1
        self.attributes += [(tag, name, value) for name, value in attrs]
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        self.handle_endtag(tag)

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        self.text += data

    def values(self, *names):
        return [value for _, name, value in self.attributes if name in names]


def content_of(classes=CLASSES, *, num=40, num_epochs=3, **changes):
    rng = np.random.default_rng(0)
    predicted = {view: rng.integers(0, len(classes), num) for view in ("before", "after")}
    epoch = {"losses": {"diversity": 0.03, "neighbor": -0.5, "certainty": 0.0}}
    epoch |= {"balance": 0.9, "confidence": 0.7, "agreement": 0.8}
    content = ReportContent(
        verdict="improved",
        reason="predictions are more certain",
        classes=list(classes),
        shares={view: (np.bincount(rows, minlength=len(classes)) / num).tolist() for view, rows in predicted.items()},
        maps={view: rng.normal(size=(num, 2)).tolist() for view in predicted},
        predicted={view: rows.tolist() for view, rows in predicted.items()},
        abstained=num // 4,
        least_confidence="0.5",
        temperature=2.25,
        groups={"channel": [], "speaker": []},
        epochs=[epoch] * num_epochs,
        refused=[],
        crossed=[
            {"field": "magic", "type": "bytes", "shape": [], "bytes": 8, "sha256": "ab" * 32, "class": "fixed"},
            {"field": "head.weight", "type": "I8", "shape": [3, 400], "bytes": 1200, "sha256": "cd" * 32}
            | {"class": "learned"},
        ],
        leakage=["The source states no audit.", "It is the source's own word."],
        containment=SEALED,
        facts={"method": "committee", "committee": "cowa, shot-im, cowa", "bundle SHA-256": "ef" * 32},
    )
    return replace(content, **changes)


def figures_of(true, predicted, classes=CLASSES):
    counts = confusion(true, predicted, len(classes))
    recalls = [None if math.isnan(value) else value for value in recall(counts).tolist()]
    return {
        "uar": uar(counts),
        "war": war(counts),
        "n": len(true),
        "classes": list(classes),
        "recall": dict(zip(classes, recalls, strict=True)),
        "confusion": counts.tolist(),
        "uar_interval": list(bootstrap_interval(true, predicted, len(classes), seed=0, num=50)),
    }


def evaluation_of(true, before, after, classes=CLASSES):
    abstention = {"least_confidence": "0.5", "coverage": 0.75, "risk": None}
    return figures_of(true, after, classes) | {
        "before": figures_of(true, before, classes),
        "abstention": abstention,
        "calibration_error": 0.123,
        "calibration_interval": [0.07, 0.19],
        "calibration_error_by_chance": 0.05,
    }


TRUE = [0, 1, 2] * 20
RIGHT, HALF = TRUE, [0, 1, 2, 1, 2, 0] * 10
ROSE, FELL, SAME = (evaluation_of(TRUE, *pair) for pair in ((HALF, RIGHT), (RIGHT, HALF), (HALF, HALF)))


@pytest.fixture(scope="module")
def plain():
    """A page without measured figures."""
    return render_report(content_of(), None)


@pytest.fixture(scope="module")
def measured():
    """A page with measured figures."""
    return render_report(content_of(), ROSE)


def title_of(page):
    return re.search("<h1>(.*)</h1>", page)[1]


def test_the_page_runs_nothing_and_fetches_nothing(measured):
    page = Page(measured)
    assert not page.tags.keys() & {"script", "link", "img", "iframe", "object", "embed", "a", "base", "form"}
    assert all(value.startswith("#") for value in page.values("src", "href", "xlink:href", "action", "data"))
    assert "http:" not in measured
    assert "https:" not in measured
    assert "url(" not in re.sub(r"url\(#\w+\)", "", measured)
    assert "default-src 'none'; style-src 'unsafe-inline'" in page.values("content")


def test_references_inside_the_page_have_exactly_one_end(measured):
    page = Page(measured)
    named = Counter(page.values("id"))
    meant = {value[1:] for value in page.values("xlink:href")}
    meant |= {match for value in page.values("clip-path") for match in re.findall(r"#(\w+)", value)}
    assert meant
    assert meant <= named.keys()
    assert set(named.values()) == {1}


def test_equal_content_gives_equal_pages(measured):
    assert render_report(content_of(), ROSE) == measured


def test_the_plots_hold_text_that_can_be_read_and_searched(plain):
    assert "agreement</text>" in plain


def test_hostile_names_are_text_and_nothing_else():
    content = content_of(
        ("anger", HOSTILE),
        reason=HOSTILE,
        refused=[{"file": HOSTILE, "reason": HOSTILE}],
        crossed=[dict.fromkeys(("field", "type", "class", "sha256"), HOSTILE) | {"shape": [HOSTILE], "bytes": 1}],
        leakage=[HOSTILE],
        facts={HOSTILE: HOSTILE},
    )
    evaluation = evaluation_of([0, 1], [0, 1], [0, 1], ("anger", HOSTILE))
    page = Page(render_report(content, evaluation))
    assert not page.tags.keys() & {"script", "img"}
    assert not page.values("onerror", "src")
    assert page.text.count(HOSTILE) >= 10


def test_a_file_name_that_is_no_utf_8_is_shown_escaped():
    broken = b"M\xfcller.wav".decode(errors="surrogateescape")
    page = render_report(content_of(refused=[{"file": broken, "reason": "SILENT"}]), None)
    assert r"M\udcfcller.wav" in page.encode().decode()


@pytest.mark.parametrize("verdict", Verdict)
def test_the_verdict_is_said_in_words_and_is_no_accuracy(verdict):
    page = render_report(content_of(verdict=verdict.value), None)
    assert HEADLINES[verdict.value].title in title_of(page)
    assert "This is not measured accuracy" in page
    assert "UAR" not in page


def test_what_the_source_states_about_leakage_has_a_part_of_its_own(plain):
    text = Page(plain).text
    assert "What the source states about leakage" in text
    for sentence in content_of().leakage:
        assert sentence in text


def test_the_reason_and_the_facts_are_said(plain):
    text = Page(plain).text
    for words in ("Verdict: improved; predictions are more certain.", "cowa, shot-im, cowa"):
        assert words in text


def test_the_curves_say_whose_they_are(plain):
    assert "the first of the committee, through the last round" in plain


def test_a_measurement_takes_the_place_of_the_warning(measured):
    assert "Measured recognition rose: UAR 50.0 % → 100.0 %" in measured
    assert "This is not measured accuracy" not in measured


def test_a_difference_inside_the_interval_is_no_change():
    assert "Measured recognition did not clearly change" in render_report(content_of(), SAME)


def test_a_measurement_that_contradicts_the_verdict_is_in_the_title(measured):
    assert "but measured recognition fell" in title_of(render_report(content_of(), FELL))
    assert "but measured recognition rose" in title_of(render_report(content_of(verdict="inconclusive"), ROSE))
    assert "recognition" not in title_of(measured)


@pytest.mark.parametrize("changes", [{"num_epochs": 0, "verdict": "inconclusive"}, {"verdict": "reverted"}])
def test_without_an_adapted_model_nothing_is_compared(changes):
    page = render_report(content_of(**changes), SAME)
    assert ">adapted<" not in page
    assert ">as received<" in page
    assert "→ 50.0" not in page


def test_a_model_that_was_not_adapted_says_so():
    page = render_report(content_of(num_epochs=0, verdict="inconclusive"), None)
    assert title_of(page) == "The model is as received"
    assert "No adaptation was run" in page


@pytest.mark.parametrize("num_classes", [2, 12])
@pytest.mark.parametrize("num_epochs", [0, 1])
def test_every_number_of_classes_fits(num_classes, num_epochs):
    classes = EMOTIONS[:num_classes]
    true = list(range(num_classes)) * 2
    page = render_report(content_of(classes, num_epochs=num_epochs), evaluation_of(true, true, true, classes))
    assert Page(page).text.count(classes[-1]) >= 4


@pytest.mark.parametrize("missing", [None, math.nan])
def test_a_class_that_nobody_spoke_has_a_dash(missing):
    evaluation = evaluation_of([0, 1] * 9, [0, 2] * 9, [0, 1] * 9)
    evaluation["recall"]["neutral"] = evaluation["before"]["recall"]["neutral"] = missing
    page = render_report(content_of(), evaluation)
    assert page.count('<td class="number">–</td>') == 2
    assert "nan" not in Page(page).text.lower()


def test_curves_that_broke_off_are_drawn():
    epochs = content_of().epochs
    epochs[1] = epochs[0] | {"losses": {"neighbor": math.nan}, "confidence": math.nan}
    assert "Health of that network after each epoch" in render_report(content_of(epochs=epochs), None)


def test_terms_that_are_switched_off_are_left_out(plain):
    assert "neighbor</text>" in plain
    assert "certainty</text>" not in plain


def test_refused_recordings_are_named_and_counted():
    reasons = ["SILENT", "TOO_SHORT", "SILENT"]
    refused = [{"file": f"ward/{number}.wav", "reason": reason} for number, reason in enumerate(reasons)]
    text = render_report(content_of(refused=refused), None)
    assert all(item["file"] in text for item in refused)
    assert re.search(r"SILENT</code></td><td class=.number.>2<", text)
    assert REASONS["SILENT"] in text


def test_no_refused_recording_is_said(plain):
    assert "every recording could be used" in plain


def test_every_byte_that_crossed_is_a_row(plain):
    text = Page(plain).text
    for words in ("magic", "head.weight", "3 × 400", "1,200", "abababababababab…", "1,208", "nothing else left"):
        assert words in text


def test_a_large_corpus_is_drawn_by_a_sample():
    content = content_of(num=MAX_POINTS + 500)
    svg = map_figure(content.classes, content.maps, content.predicted, {"before": "as received"})
    assert 2 * MAX_POINTS <= svg.count("<use") <= 2 * (MAX_POINTS + len(content.classes))
    assert "1,500 of 2,000 utterances" in render_report(content, None)


def test_the_page_says_how_the_recordings_were_kept_in():
    text = Page(render_report(content_of(), None)).text
    assert "at level 3 of 3: all of them" in text
    assert re.search(r"TCP\s*led out\s*blocked", text)
    assert re.search(r"vsock\s*not possible on this machine\s*blocked", text)
    assert "UNCONTAINED" not in text
    assert "attempts to get out" not in text


def test_what_was_not_contained_says_so_at_the_top():
    open_doors = SEALED | {"level": 0, "walls": "no walls", "accepted": HOSTILE, "attempts": 3}
    text = Page(render_report(content_of(containment=open_doors), None)).text
    assert text.index("UNCONTAINED") < text.index("Predicted classes")
    assert text.index("3 attempts to get out were blocked") < text.index("Predicted classes")
    assert HOSTILE in text


def test_every_reason_category_and_verdict_has_words():
    assert set(REASONS) == set(AUDIO_REASONS)
    assert set(CATEGORIES) == set(Category)
    assert set(HEADLINES) == set(Verdict)


def test_measured_figures_enter_the_page_and_leave_it_with_the_model(tmp_path):
    replace_report(tmp_path)
    save_evaluation(tmp_path, json.loads(json.dumps(ROSE)))
    assert "Measured recognition rose" in (tmp_path / PAGE).read_text()
    replace_report(tmp_path)
    assert "Measured recognition" not in (tmp_path / PAGE).read_text()


def replace_report(folder) -> None:
    with new_model(folder) as incoming:
        save_report(incoming, content_of())
        (incoming / FACTS).write_text("{}")
    finish_replacement(folder)


def test_the_shares_of_a_group_are_of_its_utterances_alone():
    groups = shares_by_group(["ann", None, "bo", "ann", "ann"], np.array([0, 1, 1, 0, 2]), 3)
    assert [(group["name"], group["utterances"]) for group in groups] == [("ann", 3), ("bo", 1)]
    assert groups[0]["shares"] == pytest.approx([2 / 3, 0, 1 / 3])
    assert groups[1]["shares"] == [0, 1, 0]


def test_where_nobody_is_known_there_are_no_groups():
    assert shares_by_group([None, None], np.array([0, 1]), 3) == []
    assert "By speaker" not in render_report(content_of(), None)


def test_of_a_thousand_speakers_the_most_talkative_are_shown_and_the_page_says_so():
    names = [f"S{index}" for index in range(1000)] + ["S7"]
    groups = shares_by_group(names, np.zeros(1001, dtype=int), 3)
    assert len(groups) == MAX_GROUPS
    assert groups[0]["name"] == "S7"
    page = render_report(content_of(groups={"channel": [], "speaker": groups}), None)
    assert f"The {MAX_GROUPS} with the most utterances" in page


def test_a_speaker_s_name_is_text_and_nothing_else():
    groups = {"channel": [], "speaker": shares_by_group([HOSTILE], np.array([0]), 3)}
    page = Page(render_report(content_of(groups=groups), None))
    assert HOSTILE in page.text
    assert not page.tags.keys() & {"script", "img"}
