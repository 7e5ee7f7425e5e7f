"""``textclf compare`` as a page: one file, in the report's style, with the curves of all runs overlaid."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from textclf_transformer.evaluation.comparison import MOST_ABREAST, Comparison, letters, stand_abreast
from textclf_transformer.evaluation.pictures import Colours, Picture, StyleSheet, percent_tick, plain_axes
from textclf_transformer.evaluation.report_curves import thinned
from textclf_transformer.evaluation.report_page import render
from textclf_transformer.evaluation.report_run import RunRecord

_CURVES = (
    ("train", "loss", "training loss in nats"),
    ("val", "loss", "loss on val in nats"),
    ("val", "accuracy", "accuracy on val"),
    ("val", "f1_macro", "macro-F1 on val"),
)
_STYLES = ("-", "--", "-.", ":")


def comparison_page(comparison: Comparison, groups: Sequence[Sequence[RunRecord]]) -> str:
    """Return the page; ``groups`` are the runs of ``comparison.settings``."""
    styles = StyleSheet()
    charts = [(picture, picture.svg(styles)) for picture in overlaid_curves(groups)]
    return render(
        "compare.html",
        css=styles.css(),
        comparison=comparison,
        charts=charts,
        abreast=stand_abreast(comparison),
    )


def overlaid_curves(groups: Sequence[Sequence[RunRecord]]) -> list[Picture]:
    """Return a picture for each curve that some run has, a line for each run, a look for each setting."""
    pictures = []
    for split, column, title in _CURVES:
        lines = [
            (place, record.series[split].points(column))
            for place, group in enumerate(groups)
            for record in group
            if split in record.series and len(record.series[split].points(column)[0])
        ]
        if lines:
            pictures.append(_picture(f"{split}-{column}", title, lines, is_share=column != "loss"))
    return pictures


def _picture(name: str, title: str, lines: list[tuple[int, Any]], *, is_share: bool) -> Picture:
    def draw(figure: Figure, colours: Colours) -> None:
        axes = plain_axes(figure, colours, x="optimizer step")
        palette = (colours.blue, colours.orange, colours.ink, colours.muted)
        named: set[int] = set()
        for place, points in lines:
            axes.plot(
                *thinned(points),
                color=palette[place % len(palette)],
                linestyle=_STYLES[place // len(palette) % len(_STYLES)],
                linewidth=1.2,
                alpha=0.85,
                label=None if place in named else letters(place),
            )
            named.add(place)
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
        if is_share:
            axes.yaxis.set_major_formatter(FuncFormatter(percent_tick))
        if len(named) <= MOST_ABREAST:  # a longer legend would leave the lines no room
            axes.legend(frameon=False, fontsize=8, labelcolor=colours.muted, handlelength=1.6)

    ends = "; ".join(f"{letters(place)} ends at {values[-1]:.3f}" for place, (_, values) in lines)
    if len(lines) > MOST_ABREAST:
        last = [values[-1] for _, (_, values) in lines]
        ends = f"{len(lines):,} lines, which end between {min(last):.3f} and {max(last):.3f}"
    return Picture(name, title, ends, draw)
