"""The audit as a page: whole without the network, and safe whatever a report holds."""

import re
from dataclasses import replace
from html.parser import HTMLParser

from source_site.audit.page import format_html
from source_site.audit.report import Attack, Exposed
from tests.source_site.audit.test_tiers import passing

HOSTILE = '<script>alert("x")</script>'


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag, attrs):
        self.seen.append((tag, dict(attrs)))


def tags(page: str) -> Tags:
    parser = Tags()
    parser.feed(page)
    return parser


def test_the_page_says_the_tier_the_hash_and_every_attack():
    report = passing(1)
    page = format_html(report)
    assert "Clears the bars of tier 1" in page
    assert report.weights_sha256 in page
    assert all(one.name in page and one.target in page for one in report.attacks)
    assert "Tier 2, clinical and call-centre speech: refused" in page
    assert "Clears no tier but tier 0, which asks for nothing" in format_html(replace(report, attacks=()))


def test_what_cannot_be_measured_says_why_in_its_row():
    report = passing(2)
    lost = replace(report.attacks[0], measured=None, note="10 speakers & no more")
    page = format_html(replace(report, attacks=(lost,)))
    assert "<td colspan=3>not measurable: 10 speakers &amp; no more</td>" in page


def test_the_page_is_whole_in_itself():
    page = format_html(passing(2))
    assert not [tag for tag, named in tags(page).seen if tag in ("script", "link", "img", "iframe") or "href" in named]
    assert not re.search(r"https?://|@import|url\(", page)


def test_nothing_of_a_report_becomes_markup():
    report = passing(2)
    hostile = Attack(name=HOSTILE, target=HOSTILE, measured=report.attacks[0].measured, note=HOSTILE, roc=((0.1, 0.5),))
    page = format_html(
        replace(
            report, attacks=(hostile,), worst=(Exposed(pseudonym=HOSTILE, auc=1.0, odds=1.0),), weights_sha256=HOSTILE
        )
    )
    assert "script" not in {tag for tag, _ in tags(page).seen}
    assert page.count("&lt;script&gt;") >= 5


def test_a_curve_has_a_line_and_a_histogram_its_bars():
    report = passing(2)
    bare = format_html(replace(report, canaries=None))
    drawn = replace(report.attacks[0], roc=((0.0, 0.0), (0.01, 0.3), (1.0, 1.0)))
    page = format_html(replace(report, attacks=(drawn,)))
    assert page.count("<polyline") > bare.count("<polyline")
    assert page.count("<rect") == 3  # exposures of 1 and 2 bits: from 0, from 1 and from 2
    assert "None were planted" in bare
