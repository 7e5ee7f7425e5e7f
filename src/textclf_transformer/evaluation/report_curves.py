"""The curves of a run: loss, score, learning rate and gradient norm over optimizer steps."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter
from numpy.typing import NDArray

from textclf_transformer.evaluation.pictures import Colours, Picture, percent_tick, plain_axes
from textclf_transformer.evaluation.report_run import RunRecord

# More points than a chart of this width can show.
MOST_POINTS = 500

# A gradient norm that spans more than this factor is shown on a logarithmic scale.
LOGARITHMIC_FROM = 50.0

Points = tuple[NDArray[np.float64], NDArray[np.float64]]
_NOTHING: Points = (np.zeros(0), np.zeros(0))


def curves(record: RunRecord) -> list[Picture]:
    """Return the curves that the run's metrics have points for."""
    loss = {
        split: record.series[split].points("loss") for split in ("train", "val") if split in record.series
    }
    pictures = []
    if any(len(steps) for steps, _ in loss.values()):
        pictures.append(_loss(loss))
    if "val" in record.series:
        scores = {
            words: record.series["val"].points(column)
            for column, words in (("accuracy", "accuracy"), ("f1_macro", "macro-F1"))
        }
        if any(len(steps) for steps, _ in scores.values()):
            pictures.append(_scores(scores))
    train = record.series.get("train")
    if train is not None and len(train.points("learning_rate")[0]):
        pictures.append(_line("learning-rate", "learning rate", train.points("learning_rate")))
    if train is not None and len(train.points("grad_norm")[0]):
        pictures.append(_line("gradient-norm", "gradient norm", train.points("grad_norm")))
    return pictures


def thinned(points: Points, *, most: int = MOST_POINTS) -> Points:
    """Return at most ``most`` points: means over equal numbers of neighbours, fewer at the end."""
    steps, values = points
    width = -(-len(steps) // most)
    if width <= 1:
        return points
    starts = np.arange(0, len(steps), width)
    counts = np.diff(np.append(starts, len(steps)))
    return np.add.reduceat(steps, starts) / counts, np.add.reduceat(values, starts) / counts


def _loss(loss: dict[str, Points]) -> Picture:
    train, val = thinned(loss.get("train", _NOTHING)), thinned(loss.get("val", _NOTHING))

    def draw(figure: Figure, colours: Colours) -> None:
        axes = _step_axes(figure, colours)
        axes.plot(*train, color=colours.blue, linewidth=1.3, label="train")
        axes.plot(*val, **_evaluated(colours.orange, val), label="val")
        _legend(axes, colours)

    ends = [f"{name} ends at {points[1][-1]:.3f}" for name, points in loss.items() if len(points[1])]
    return Picture("loss", "loss in nats", "; ".join(ends), draw)


def _scores(scores: dict[str, Points]) -> Picture:
    def draw(figure: Figure, colours: Colours) -> None:
        axes = _step_axes(figure, colours)
        looks = zip(scores.items(), (colours.blue, colours.orange), ("-", "--"), strict=True)
        for (name, points), colour, style in looks:
            shown = thinned(points)
            axes.plot(*shown, **_evaluated(colour, shown), linestyle=style, label=name)
        axes.yaxis.set_major_formatter(FuncFormatter(percent_tick))
        _legend(axes, colours)

    best = [f"best {name} {max(values):.3f}" for name, (_, values) in scores.items() if len(values)]
    return Picture("scores", "scores on val", "; ".join(best), draw)


def _line(name: str, title: str, points: Points) -> Picture:
    steps, values = thinned(points)
    positive = values[values > 0]
    logarithmic = name == "gradient-norm" and len(positive) > 1
    logarithmic = logarithmic and positive.max() / positive.min() > LOGARITHMIC_FROM

    def draw(figure: Figure, colours: Colours) -> None:
        axes = _step_axes(figure, colours)
        axes.plot(steps, values, color=colours.blue, linewidth=1.3)
        if logarithmic:
            axes.set_yscale("log")
            axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            axes.yaxis.set_minor_formatter(NullFormatter())
            axes.tick_params(which="both", length=0)
        else:
            axes.set_ylim(bottom=0)

    return Picture(name, title, f"from {values[0]:.3g} to {values[-1]:.3g}, at most {values.max():.3g}", draw)


def _step_axes(figure: Figure, colours: Colours) -> Axes:
    axes = plain_axes(figure, colours, x="optimizer step")
    axes.xaxis.set_major_locator(MaxNLocator("auto", steps=[1, 2, 2.5, 5, 10], integer=True, min_n_ticks=1))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.margins(x=0.02)
    return axes


def _evaluated(colour: str, points: Points) -> dict[str, Any]:
    """Return the look of a line through few evaluations: with a mark at each."""
    marks: dict[str, Any] = {"marker": "o", "markersize": 3.5} if len(points[0]) <= 40 else {}
    return {"color": colour, "linewidth": 1.3, **marks}


def _legend(axes: Axes, colours: Colours) -> None:
    axes.legend(frameon=False, fontsize=8, labelcolor=colours.muted, handlelength=1.6)
