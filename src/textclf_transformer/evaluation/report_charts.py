"""The pictures of an evaluation: what ``evaluate_run`` returns, drawn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import FuncFormatter

from textclf_transformer.errors import counted, printable
from textclf_transformer.evaluation.pictures import SHADES, Colours, Picture, percent_tick, plain_axes

# A matrix of more labels has no room for their names and numbers.
MOST_NAMED_LABELS = 30
MOST_LABELS = 100
LONGEST_NAME = 24


def charts(result: Mapping[str, Any]) -> dict[str, Picture]:
    """Return the pictures by name: ``rivals, confusion, calibration, coverage, lengths``; those that the
    result has something for.
    """
    pictures = [_calibration(result["calibration"]["reliability"])]
    if len(result["scores"]) > 1:
        pictures.append(_rivals(result["scores"]))
    if not result["multi_label"] and len(result["labels"]) <= MOST_LABELS:
        pictures.append(_confusion(result["confusion"], result["labels"]))
    if len(result["coverage_curve"]) > 1:
        pictures.append(_coverage(result["coverage_curve"]))
    if len(result["by_length"]) > 1:
        pictures.append(_lengths(result["by_length"]))
    return {picture.name: picture for picture in pictures}


def _rivals(scores: Sequence[Mapping[str, Any]]) -> Picture:
    def draw(figure: Figure, colours: Colours) -> None:
        axes = plain_axes(figure, colours)
        axes.grid(axis="x", color=colours.line, linewidth=0.7)
        axes.grid(visible=False, axis="y")
        axes.spines["bottom"].set_visible(False)
        for place, row in enumerate(scores):
            looks = (("accuracy", colours.blue, "o", -0.13), ("f1_macro", colours.orange, "D", 0.13))
            for score, colour, marker, shift in looks:
                low, high = row["intervals_95"][score]
                if row[score] is None:
                    continue
                if low is not None and high is not None:
                    axes.plot([low, high], [place + shift] * 2, color=colour, linewidth=1.6, alpha=0.55)
                axes.plot(row[score], place + shift, marker, color=colour, markersize=4.5)
        for score, colour, marker in (
            ("accuracy", colours.blue, "o"),
            ("macro-F1", colours.orange, "D"),
        ):
            axes.plot([], [], marker, color=colour, markersize=4.5, label=score)
        names = [row["name"] for row in scores]
        axes.set_yticks(range(len(names)), names, color=colours.ink)
        axes.set_ylim(len(names) - 0.5, -0.5)
        axes.xaxis.set_major_formatter(FuncFormatter(percent_tick))
        figure.legend(
            loc="outside upper right",
            frameon=False,
            fontsize=8,
            labelcolor=colours.muted,
            ncols=2,
            handletextpad=0.2,
        )

    words = "; ".join(f"{row['name']}: accuracy {row['accuracy']:.3f}" for row in scores)
    height = 0.6 + 0.42 * len(scores)
    return Picture("rivals", "scores with their 95 % intervals", words, draw, width=4.9, height=height)


def _confusion(matrix: Sequence[Sequence[int]], labels: Sequence[str]) -> Picture:
    counts = np.array(matrix)
    rows = counts.sum(axis=1, keepdims=True)
    shares = counts / np.maximum(rows, 1)
    names = [_short(name) for name in labels]
    size = len(names)

    def draw(figure: Figure, colours: Colours) -> None:
        axes = plain_axes(figure, colours, x="predicted", y="true")
        axes.grid(visible=False)
        axes.set_aspect("equal")
        for row, column in zip(*np.nonzero(counts), strict=True):
            step = max(1, int(np.ceil(SHADES * shares[row, column])))
            axes.add_patch(
                Rectangle(
                    (column - 0.47, row - 0.47), 0.94, 0.94, color=colours.shades[step - 1], linewidth=0
                )
            )
            if size <= MOST_NAMED_LABELS:
                axes.text(
                    column, row, f"{counts[row, column]}", ha="center", va="center",
                    color=colours.on_shades[step - 1], fontsize=8.5 if size <= 12 else 6,
                )  # fmt: skip
        axes.set_xlim(-0.5, size - 0.5)
        axes.set_ylim(size - 0.5, -0.5)
        axes.spines["bottom"].set_visible(False)
        axes.xaxis.set_label_position("top")
        axes.xaxis.tick_top()
        if size <= MOST_NAMED_LABELS:
            slanted = max(map(len, names)) * size > 36
            turned: dict[str, Any] = (
                {"rotation": 40, "ha": "left", "rotation_mode": "anchor"} if slanted else {}
            )
            axes.set_xticks(range(size), names, **turned)
            axes.set_yticks(range(size), names)
        else:
            axes.set_xticks([])
            axes.set_yticks([])
        axes.tick_params(length=0)

    right = int(np.trace(counts))
    words = f"{right} of {counted(int(counts.sum()), 'document')} on the diagonal"
    width = 4.6 if size <= 8 else min(9.0, 2.4 + 0.32 * size)
    return Picture(
        "confusion", "confusion: true against predicted", words, draw, width=width, height=width * 0.92
    )


def _calibration(bins: Sequence[Mapping[str, Any]]) -> Picture:
    confidence = np.array([entry["confidence"] for entry in bins])
    accuracy = np.array([entry["accuracy"] for entry in bins])
    decisions = np.array([entry["decisions"] for entry in bins])

    def draw(figure: Figure, colours: Colours) -> None:
        axes = plain_axes(figure, colours, x="confidence", y="share that is right")
        axes.plot([0, 1], [0, 1], color=colours.muted, linewidth=0.9, linestyle=(0, (4, 3)))
        axes.vlines(confidence, confidence, accuracy, color=colours.orange, linewidth=1.4)
        axes.scatter(
            confidence, accuracy, s=14 + 130 * decisions / decisions.max(), color=colours.blue, alpha=0.85,
            linewidths=0, zorder=3,
        )  # fmt: skip
        axes.xaxis.set_major_formatter(FuncFormatter(percent_tick))
        axes.yaxis.set_major_formatter(FuncFormatter(percent_tick))
        axes.set_xlim(min(0.5, confidence.min() - 0.03), 1.03)
        axes.set_ylim(min(0.5, accuracy.min() - 0.05), 1.05)

    words = "; ".join(f"at {a:.2f} right {b:.2f}" for a, b in zip(confidence, accuracy, strict=True))
    return Picture("calibration", "how sure and how right", words, draw, height=3.2)


def _coverage(rows: Sequence[Mapping[str, Any]]) -> Picture:
    coverage = [row["coverage"] for row in rows]
    accuracy = [row["accuracy"] for row in rows]

    def draw(figure: Figure, colours: Colours) -> None:
        axes = plain_axes(
            figure, colours, x="share of documents that the model decides", y="accuracy on them"
        )
        axes.plot(coverage, accuracy, color=colours.blue, linewidth=1.6)
        axes.xaxis.set_major_formatter(FuncFormatter(percent_tick))
        axes.yaxis.set_major_formatter(FuncFormatter(percent_tick))
        axes.invert_xaxis()
        lowest = max(-0.01, axes.get_ylim()[0])  # a level line is given room below it
        highest = min(1.01, max(accuracy) + 0.02)
        axes.set_ylim(lowest, highest)
        shares = [tick for tick in axes.get_yticks() if max(0, lowest) <= tick <= min(1, highest)]
        axes.set_yticks(shares)

    words = "; ".join(f"{a:.0%} decided, {b:.1%} right" for a, b in zip(coverage, accuracy, strict=True))
    return Picture("coverage", "the least certain go to a person", words, draw, height=3.2)


def _lengths(rows: Sequence[Mapping[str, Any]]) -> Picture:
    names = [f"{row['tokens_from']:,}–{row['tokens_to']:,}" for row in rows]

    def draw(figure: Figure, colours: Colours) -> None:
        axes = plain_axes(figure, colours, x="tokens in the document")
        places = np.arange(len(rows))
        axes.bar(places, [row["accuracy"] for row in rows], width=0.56, color=colours.shades[5])
        for place, row in enumerate(rows):
            axes.annotate(
                f"{100 * row['accuracy']:.0f} %", (place, row["accuracy"]), xytext=(0, 3), ha="center",
                textcoords="offset points", color=colours.ink, fontsize=8.5,
            )  # fmt: skip
        axes.set_xticks(places, names)
        axes.yaxis.set_major_formatter(FuncFormatter(percent_tick))
        axes.set_ylim(0, 1.08)
        axes.set_yticks([0, 0.5, 1])

    words = "; ".join(f"{name}: {row['accuracy']:.1%}" for name, row in zip(names, rows, strict=True))
    return Picture("lengths", "accuracy by length", words, draw)


def _short(name: str) -> str:
    shown = printable(name)
    return shown if len(shown) <= LONGEST_NAME else shown[: LONGEST_NAME - 1] + "…"
