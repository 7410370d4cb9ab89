"""Draw the plots of the report as SVG inside the page.

No script, no reference, the same bytes every time.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from io import StringIO
from typing import TYPE_CHECKING, Any

import numpy as np
from markupsafe import Markup

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MAX_POINTS = 1500
"""Points of a feature map: more make the page heavy and no clearer."""
SUBSAMPLE_SEED = 0
WIDE, NARROW = 8.6, 4.2
"""Widths in inches that every plot is drawn in: for a desk or paper, and for a phone."""
LONGEST = 14
"""Characters of a name beside a narrow plot; a wide one has room for four times as many."""

INK, MUTED, GRID = "#1b2733", "#55636f", "#dfe5ea"
VIEW_COLORS = {"before": "#8d99a6", "after": "#0b6e69"}
# Distinct also to color-blind readers (after Okabe and Ito, and Tol); markers differ for those who see no color.
CLASS_COLORS = (
    "#0072b2",
    "#d55e00",
    "#009e73",
    "#cc79a7",
    "#e69f00",
    "#56b4e9",
    "#332288",
    "#882255",
    "#8a8a1f",
    "#117733",
    "#666666",
    "#aa4499",
)
CLASS_MARKERS = "os^DvPX<>phd"
HEALTH = {"balance": ("#0b6e69", "-"), "confidence": ("#d55e00", "--"), "agreement": ("#332288", "-.")}
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",  # text stays text: searchable, in the reader's own font
    "text.parse_math": False,
    "font.size": 10,
    "text.color": INK,
    "axes.edgecolor": GRID,
    "axes.labelcolor": MUTED,
    "axes.titlesize": 10.5,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "legend.frameon": False,
}


def uar_figure(evaluation: Mapping[str, Any], views: Mapping[str, str]) -> Markup:
    """Draw the UAR of every view with its interval, beside chance."""
    figures = {"before": evaluation["before"], "after": evaluation}

    def paint(figure: "Figure") -> None:
        axes = figure.add_subplot()
        for row, view in enumerate(views):
            uar, (low, high) = figures[view]["uar"], figures[view]["uar_interval"]
            axes.plot([100 * low, 100 * high], [row, row], color=VIEW_COLORS[view], linewidth=3)
            axes.plot([100 * uar], [row], "o", color=VIEW_COLORS[view], markersize=9)
            axes.annotate(f"{100 * uar:.1f} %", (100 * uar, row), (0, 9), textcoords="offset points", ha="center")
        chance = 100 / len(evaluation["classes"])
        axes.axvline(chance, color=MUTED, linestyle=":")
        axes.annotate("chance", (chance, len(views) - 0.55), (4, 0), textcoords="offset points", color=MUTED)
        axes.set(xlim=(0, 100), ylim=(len(views) - 0.4, -0.7), xlabel="UAR in %, with 95 % interval")
        axes.set_yticks(range(len(views)), list(views.values()))
        axes.spines["left"].set_visible(False)
        axes.tick_params(axis="y", length=0, labelcolor=INK)

    return _plot("uar", 0.9 + 0.5 * len(views), paint)


def shares_figure(classes: Sequence[str], shares: Mapping[str, Sequence[float]], views: Mapping[str, str]) -> Markup:
    """Draw the share of each predicted class, one bar per view."""
    thickness = 0.8 / len(views)

    def paint(figure: "Figure") -> None:
        axes = figure.add_subplot()
        for number, (view, title) in enumerate(views.items()):
            middles = np.arange(len(classes)) + (number - (len(views) - 1) / 2) * thickness
            widths = 100 * np.array(shares[view])
            bars = axes.barh(middles, widths, 0.9 * thickness, color=VIEW_COLORS[view], label=title)
            axes.bar_label(bars, fmt="%.1f %%", padding=4, fontsize=9)
        axes.set_yticks(range(len(classes)), _fitting(classes, figure))
        axes.set(xlabel="% of the utterances", ylim=(len(classes) - 0.5, -0.5))
        axes.margins(x=0.12)
        axes.tick_params(axis="y", length=0, labelcolor=INK)
        axes.grid(axis="x")
        if len(views) > 1:
            figure.legend(loc="outside upper left", ncols=len(views))

    return _plot("shares", 1.1 + 0.27 * (len(views) + 0.5) * len(classes), paint)


def map_figure(
    classes: Sequence[str],
    maps: Mapping[str, Sequence[Sequence[float]]],
    predicted: Mapping[str, Sequence[int]],
    views: Mapping[str, str],
) -> Markup:
    """Draw the utterances in the plane of their embeddings.

    They are colored by the predicted class.
    """
    num_points = len(predicted["before"])
    shown = np.random.default_rng(SUBSAMPLE_SEED).permutation(num_points)[:MAX_POINTS]

    def paint(figure: "Figure") -> None:
        for axes, (view, title) in zip(_panels(figure, len(views)), views.items(), strict=True):
            points, rows = np.array(maps[view])[shown], np.array(predicted[view])[shown]
            for index, name in enumerate(classes):
                x, y = points[rows == index].T
                axes.plot(
                    x, y, CLASS_MARKERS[index], color=CLASS_COLORS[index], label=name, alpha=0.75, markersize=4.5, mew=0
                )
            axes.set(title=title, xticks=[], yticks=[])
            axes.spines[:].set_visible(True)
        handles, labels = axes.get_legend_handles_labels()
        most = 3 if _is_narrow(figure) else 6
        figure.legend(
            handles,
            _fitting(labels, figure),
            loc="outside lower center",
            ncols=min(len(classes), most),
            markerscale=1.5,
        )

    return _plot("map", 4.6, paint, num_panels=len(views))


def losses_figure(epochs: Sequence[Mapping[str, Any]]) -> Markup:
    """Draw every term of the objective over the epochs.

    Each has its own scale; terms that are switched off are left out.
    """
    names = sorted({name for epoch in epochs for name, value in epoch["losses"].items() if value != 0})

    def paint(figure: "Figure") -> None:
        for axes, name in zip(_panels(figure, len(names)), names, strict=True):
            _curve(axes, [epoch["losses"].get(name, np.nan) for epoch in epochs], color=INK)
            axes.set_title(name)

    return _plot("losses", 2.2, paint, num_panels=len(names)) if names else Markup("")


def health_figure(epochs: Sequence[Mapping[str, Any]]) -> Markup:
    """Draw balance, confidence and agreement over the epochs."""

    def paint(figure: "Figure") -> None:
        axes = figure.add_subplot()
        for name, (color, dashes) in HEALTH.items():
            _curve(axes, [epoch[name] for epoch in epochs], color=color, linestyle=dashes, label=name)
        axes.set_ylim(0, 1.05)
        figure.legend(loc="outside upper left", ncols=len(HEALTH), handlelength=1.6 if _is_narrow(figure) else 3)

    return _plot("health", 2.9, paint) if epochs else Markup("")


def _is_narrow(figure: "Figure") -> bool:
    return bool(figure.get_figwidth() < WIDE)


def _fitting(names: Sequence[str], figure: "Figure") -> list[str]:
    """Return names that leave room for the plot."""
    most = LONGEST if _is_narrow(figure) else 4 * LONGEST
    return [name if len(name) <= most else f"{name[: most - 1]}…" for name in names]


def _panels(figure: "Figure", number: int) -> "list[Axes]":
    rows, columns = (number, 1) if _is_narrow(figure) else (1, number)
    return [figure.add_subplot(rows, columns, place) for place in range(1, number + 1)]


def _curve(axes: "Axes", values: Sequence[float], **style: Any) -> None:
    epochs = range(1, len(values) + 1)
    axes.plot(epochs, values, linewidth=2, marker="o" if len(values) == 1 else "", **style)
    axes.locator_params(axis="x", integer=True)
    axes.set_xlabel("epoch")
    axes.grid(axis="y")


def _plot(name: str, height: float, paint: "Callable[[Figure], None]", num_panels: int = 1) -> Markup:
    """Return what ``paint`` draws in both widths, of which the page shows one.

    The wide one is ``height`` inches high; in the narrow one the panels lie below each other.
    """
    wide = _svg(name, (WIDE, height), paint)
    narrow = _svg(f"{name}, narrow", (NARROW, height * max(1.0, 0.85 * num_panels)), paint)
    return Markup('<div class="on-desk">{}</div><div class="on-phone">{}</div>').format(wide, narrow)


def _svg(name: str, size: tuple[float, float], paint: "Callable[[Figure], None]") -> Markup:
    """Return what ``paint`` draws as an ``<svg>`` element.

    The figure has ``size`` inches.
    """
    import matplotlib
    from matplotlib.figure import Figure

    # The salt makes identifiers repeatable, and different from those of the other figures of the page.
    with matplotlib.rc_context({**STYLE, "svg.hashsalt": name}):
        figure = Figure(figsize=size, layout="constrained")
        paint(figure)
        file = StringIO()
        no_metadata = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        figure.savefig(file, format="svg", transparent=True, metadata=no_metadata)
    svg = file.getvalue()
    svg = re.sub(r' xmlns(:\w+)?="[^"]*"', "", svg[svg.index("<svg") :])  # HTML needs no namespaces
    return Markup(re.sub(r'<g id="[^"]*"', "<g", svg))
