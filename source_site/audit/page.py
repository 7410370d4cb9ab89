"""Format the audit's report as one page to read.

It stays at the source, and it names utterances by pseudonym alone.

One self-contained page without scripts and without references to anything outside it. Every value is escaped.
"""

import math
from collections.abc import Iterator, Sequence
from html import escape
from string import Template

from source_site.audit.bounds import Estimate
from source_site.audit.report import Attack, AuditReport
from source_site.audit.tiers import ASKED, alarm, cleared, findings, highest_tier

_WIDTH, _HEIGHT, _LEFT, _BOTTOM = 640, 360, 70, 44
_LEGEND = 20
"""Height of a line of the legend, below the curves: beside them it would halve them on a telephone."""
_LOWEST = 1e-3
"""Where the axes of the curves begin."""
_COLORS = ("#8d99a6", "#0b6e69", "#d55e00", "#332288", "#cc79a7", "#e69f00", "#0072b2")
_DASHES = ("2 3", "", "7 3", "9 3 2 3", "4 2", "1 2", "12 3")


def format_html(report: AuditReport) -> str:
    """Return the report as a page."""
    tier = highest_tier(report)
    return _PAGE.substitute(
        tone="bad" if tier == 0 else "good",
        verdict=cleared(tier).capitalize(),
        facts=_facts(report),
        refusals="".join(_refusals(report)),
        attacks=_attacks(report.attacks),
        curves=_curves(report.attacks),
        canaries=_canaries(report),
        worst=_worst(report),
    )


def _facts(report: AuditReport) -> str:
    share = report.capacity.share_of_speech
    facts = {
        "smoke alarm": alarm(report),
        "weights, SHA-256": report.weights_sha256,
        "corpus": f"{report.num_utterances} utterances of {report.num_speakers} speakers; the smallest class has "
        f"{report.class_utterances} utterances of {report.class_speakers} speakers",
        "networks": f"{report.num_models} on random halves; they recognize {report.accuracy_inside:.1%} of their own "
        f"utterances and {report.accuracy_outside:.1%} of the others",
        "capacity": f"at most {report.capacity.num_bytes} bytes, {share:.1%} of the corpus at 6 kbit/s",
    }
    if report.promise is not None:
        promised = report.promise
        facts["promise"] = f"epsilon {promised.epsilon:g} at delta {promised.delta:.1e} per {promised.unit}"
    if report.reconstruction is not None:
        inverted = report.reconstruction
        facts["inversion"] = (
            f"{inverted.near_members:.1%} of {inverted.count} reconstructions lie next to a member, "
            f"p = {inverted.probability:.3f}"
        )
    rows = (f"<tr><th>{escape(name)}</th><td>{escape(value)}</td></tr>" for name, value in facts.items())
    return f"<table class=facts>{''.join(rows)}</table>"


def _refusals(report: AuditReport) -> Iterator[str]:
    for tier, asked in ASKED.items():
        found = list(findings(report, tier))
        yield f"<h3>Tier {tier}, {escape(asked.name)}: {'refused' if found else 'passed'}</h3>"
        if found:
            rows = (f"<li>{escape(one.why)} <code>{escape(one.code)}</code></li>" for one in found)
            yield f"<ul>{''.join(rows)}</ul>"


def _attacks(attacks: Sequence[Attack]) -> str:
    head = "<tr><th>attack<th>AUC<th>hits at 1 % false<th>hits at 0.1 % false</tr>"
    rows = (f"<tr><td>{_named(one)}</td>{_measured(one)}</tr>" for one in attacks)
    return f"<table class=attacks>{head}{''.join(rows)}</table>"


def _named(attack: Attack) -> str:
    """Say what attacks what, with the note of an attack that was measured."""
    notes = [f"on the {attack.target}", *([attack.note] if attack.measured and attack.note else [])]
    return f'{escape(attack.name)}<br><span class="note">{escape("; ".join(notes))}</span>'


def _measured(attack: Attack) -> str:
    """Say how much an attack finds, or why nobody can tell."""
    found = attack.measured
    if found is None:
        return f"<td colspan=3>not measurable: {escape(attack.note)}</td>"
    figures = (_figure(found.auc, ".3f"), _figure(found.tpr1, ".1%"), _figure(found.tpr01, ".2%"))
    return "".join(f"<td>{escape(figure)}</td>" for figure in figures)


def _figure(found: Estimate, form: str) -> str:
    return f"{found.value:{form}} ({found.low:{form}}-{found.high:{form}})"


def _curves(attacks: Sequence[Attack]) -> str:
    """Draw true against false alarms, both on logarithmic axes."""
    parts = []
    for power in range(round(math.log10(_LOWEST)), 1):
        rate = 10.0**power
        x, y = _place(rate, rate)
        label = f"{100 * rate:g} %"
        parts += [_line([(x, _place(1, _LOWEST)[1]), (x, _place(1, 1)[1])], "#dfe5ea")]
        parts += [_line([(_LEFT, y), (_place(1, 1)[0], y)], "#dfe5ea")]
        parts += [
            _text(x, _HEIGHT - _BOTTOM + 18, label, "middle" if power else "end"),
            _text(_LEFT - 6, y + 4, label, "end"),
        ]
    parts.append(_line([_place(_LOWEST, _LOWEST), _place(1, 1)], "#55636f", dash="3 4"))
    drawn = [one for one in attacks if one.roc]
    for place, one in enumerate(drawn):
        color, dash = _COLORS[place % len(_COLORS)], _DASHES[place % len(_DASHES)]
        points = [_place(x, y) for x, y in one.roc if x >= _LOWEST and y >= _LOWEST]
        parts.append(_line(points, color, dash=dash, width=2))
        top = _HEIGHT + 14 + _LEGEND * place
        parts.append(_line([(_LEFT, top), (_LEFT + 30, top)], color, dash=dash, width=2))
        parts.append(_text(_LEFT + 38, top + 4, f"{one.name}, {one.target}", "start"))
    parts.append(_text((_LEFT + _WIDTH) / 2, _HEIGHT - 6, "others taken for members", "middle"))
    parts.append(_text(12, (_HEIGHT - _BOTTOM) / 2, "members found", "middle", turned=True))
    return _svg(
        parts, _HEIGHT + _LEGEND * len(drawn), "members found against others taken for members, logarithmic axes"
    )


def _canaries(report: AuditReport) -> str:
    """Draw a histogram of how exposed canaries are, in bits."""
    told = report.canaries
    if told is None:
        return "<p>None were planted.</p>"
    bits = range(math.floor(max(told.exposures, default=0.0)) + 1)
    counts = [sum(low <= one < low + 1 for one in told.exposures) for low in bits]
    usual = [len(told.exposures) * (2.0**-low - 2.0 ** -(low + 1)) for low in bits]
    peak = max([*counts, *usual, 1])
    width = (_WIDTH - _LEFT) / len(counts)
    parts = []
    for low, count, chance in zip(bits, counts, usual, strict=True):
        x, height = _LEFT + low * width, (_HEIGHT - _BOTTOM - 20) * count / peak
        parts.append(
            f'<rect x="{x + 3:.1f}" y="{_HEIGHT - _BOTTOM - height:.1f}" width="{width - 6:.1f}" '
            f'height="{height:.1f}" fill="#0b6e69"/>'
        )
        y = _HEIGHT - _BOTTOM - (_HEIGHT - _BOTTOM - 20) * chance / peak
        parts.append(_line([(x, y), (x + width, y)], "#d55e00", width=2))
        parts.append(_text(x + width / 2, _HEIGHT - _BOTTOM + 18, f"{low} to {low + 1}: {count}", "middle"))
    parts.append(_text((_LEFT + _WIDTH) / 2, _HEIGHT - 6, "exposure in bits: how many; the lines are chance", "middle"))
    sentence = (
        f"{told.count} utterances with wrong labels in {told.networks} networks, each by the toss of a coin. Mean "
        f"exposure {told.exposure.value:.2f} bits ({told.exposure.low:.2f}-{told.exposure.high:.2f}), chance is "
        f"{told.chance:.2f}. {told.right} of {told.guesses} coins were guessed right, so epsilon is at least "
        f"{told.epsilon_low:.2f}."
    )
    return f"<p>{escape(sentence)}</p>" + _svg(parts, _HEIGHT, "histogram of exposures")


def _worst(report: AuditReport) -> str:
    rows = (
        f"<tr><td><code>{escape(one.pseudonym)}</code></td><td>{one.auc:.3f}</td><td>{one.odds:+.2f}</td></tr>"
        for one in report.worst
    )
    return f"<table class=short><tr><th>utterance<th>AUC<th>surer by</tr>{''.join(rows)}</table>"


def _place(x: float, y: float) -> tuple[float, float]:
    """Return where rates lie on the page."""
    across = 1 - math.log10(max(x, _LOWEST)) / math.log10(_LOWEST)
    up = 1 - math.log10(max(y, _LOWEST)) / math.log10(_LOWEST)
    return _LEFT + across * (_WIDTH - _LEFT - 10), (_HEIGHT - _BOTTOM) - up * (_HEIGHT - _BOTTOM - 12)


def _line(points: Sequence[tuple[float, float]], color: str, *, dash: str = "", width: int = 1) -> str:
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    dashes = f' stroke-dasharray="{dash}"' if dash else ""
    return f'<polyline points="{path}" fill="none" stroke="{color}" stroke-width="{width}"{dashes}/>'


def _text(x: float, y: float, words: str, anchor: str, *, turned: bool = False) -> str:
    turn = f' transform="rotate(-90 {x:.1f} {y:.1f})"' if turned else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{turn}>{escape(words)}</text>'


def _svg(parts: Sequence[str], height: int, description: str) -> str:
    return (
        f'<svg viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}" role="img" aria-label="{escape(description)}">'
        f"{''.join(parts)}</svg>"
    )


_PAGE = Template("""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Leakage audit: $verdict</title>
<style>
:root { color-scheme: light dark; --ink: #1b2733; --muted: #55636f; --line: #dfe5ea; --paper: #fff; --ground: #f4f6f8; }
body { margin: 0; background: var(--ground); color: var(--ink);
  font: 16px/1.5 system-ui, "Segoe UI", Roboto, "Liberation Sans", Arial, sans-serif; }
main { max-width: 62rem; margin: 0 auto; padding: 2rem 1.25rem 4rem; }
section, header { background: var(--paper); border: 1px solid var(--line); border-radius: 10px;
  padding: 1.25rem 1.75rem; margin-bottom: 1rem; overflow-x: auto; }
header { border-left: 6px solid var(--tone); } .good { --tone: #1a7f4b; } .bad { --tone: #b3261e; }
h1 { margin: 0 0 .8rem; font-size: 1.6rem; color: var(--tone); } h2 { margin: 0 0 .4rem; font-size: 1.2rem; }
h3 { margin: 1rem 0 .2rem; font-size: 1rem; } ul { margin: .2rem 0; padding-left: 1.2rem; }
p { max-width: 46rem; margin: .4rem 0; } .note { color: var(--muted); font-size: .88rem; }
table { border-collapse: collapse; width: 100%; font-size: .9rem; font-variant-numeric: tabular-nums; }
th, td { text-align: left; vertical-align: top; padding: .3rem .8rem .3rem 0; border-bottom: 1px solid var(--line); }
th { color: var(--muted); font-weight: 600; } .short { width: auto; }
.attacks td:nth-child(n + 2):not([colspan]) { white-space: nowrap; } .facts td { overflow-wrap: anywhere; }
code { font-family: ui-monospace, Menlo, Consolas, monospace; font-size: .85em; }
svg { max-width: 100%; height: auto; margin-top: .6rem; } svg text { font-size: 12px; fill: #55636f; }
@media screen and (prefers-color-scheme: dark) {
  :root { --ink: #e3e8ed; --muted: #a3b0bc; --line: #33404c; --paper: #18212a; --ground: #10171e; }
  .good { --tone: #4cc38a; } .bad { --tone: #f0857d; } svg { filter: invert(.92) hue-rotate(180deg); }
}
@media screen and (max-width: 40rem) {
  main { padding: .75rem .5rem 2rem; } section, header { padding: 1rem; } svg text { font-size: 18px; }
  .attacks { font-size: .75rem; } .attacks :is(th, td) { padding-right: .35rem; } .attacks .note { font-size: inherit; }
  .attacks td:nth-child(n + 2):not([colspan]) { white-space: normal; }
}
@media print { body { background: #fff; } section, header { border-width: 0 0 1px; border-radius: 0; } }
</style>
</head>
<body>
<main>
<header class="$tone"><h1>$verdict</h1>$facts
<p class="note">This page stays at the source. It is about the one file with this hash and about no other.</p></header>
<section><h2>Tiers</h2>
<p>Bars hold for the upper ends of 95 % intervals; what cannot be measured does not pass.</p>$refusals</section>
<section><h2>Attacks</h2>$attacks</section>
<section><h2>Found against falsely accused</h2>$curves
<p class="note">The thin diagonal is chance. What lies far left counts most: whom an attacker can name with hardly any
mistake.</p></section>
<section><h2>Canaries</h2>$canaries</section>
<section><h2>The utterances that are easiest to find</h2>
<p>By the beginning of their digest in training.json: how well networks that were trained on one are told from others,
and how much surer of it they are, in log odds. To leave these out and to train again exposes others in their
place (the privacy onion effect, Carlini et al., 2022).</p>$worst</section>
</main>
</body>
</html>
""")
