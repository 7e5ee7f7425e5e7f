"""Pictures hold what they are given, in the page's colours, and any name of a label is only text."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from textclf_transformer.evaluation.pictures import (
    FILE_COLOURS,
    PAGE_COLOURS,
    SHADES,
    StyleSheet,
    percent_tick,
)
from textclf_transformer.evaluation.report_charts import charts
from textclf_transformer.evaluation.report_curves import curves, thinned
from textclf_transformer.evaluation.report_page import environment
from textclf_transformer.evaluation.report_run import read_record
from textclf_transformer.experiment import RunFolder

NAMES = [
    "<script>x()</script>",
    "$x_{",
    'a" style="fill: red} body {display: none',
    "\x00\ud800\x1b[31m",
    "漢字",
]


def result(labels: list[str]) -> dict[str, object]:
    size = len(labels)
    intervals = {"accuracy": [0.5, 0.9], "f1_macro": [None, None]}
    row = {"accuracy": 0.8, "f1_macro": 0.7, "intervals_95": intervals}
    return {
        "labels": labels,
        "multi_label": False,
        "confusion": (np.eye(size, dtype=int) * 3 + (size < 30)).tolist(),
        "scores": [{"name": "this model", **row}, {"name": "majority", **row, "f1_macro": None}],
        "calibration": {"reliability": [{"confidence": 0.7, "accuracy": 0.6, "decisions": 4}]},
        "coverage_curve": [{"coverage": c, "accuracy": 1 - c / 5} for c in (1.0, 0.5)],
        "by_length": [
            {"tokens_from": 1, "tokens_to": 9, "accuracy": 0.5},
            {"tokens_from": 10, "tokens_to": 99, "accuracy": 1.0},
        ],
    }


@pytest.mark.parametrize("count", [3, 31])
def test_each_picture_is_well_formed_and_without_own_style(count: int) -> None:
    labels = (NAMES * 7)[:count]
    for picture in charts(result(labels)).values():
        styles = StyleSheet()
        svg = str(picture.svg(styles))
        root = ElementTree.fromstring(svg)
        used = {element.get("class") for element in root.iter()} - {None, "chart", "chart wide"}
        assert all(f".{one} {{" in styles.css() for one in used)
        assert not [
            element for element in root.iter() if "style" in element.attrib or element.tag == "script"
        ]
        css = styles.css()
        assert "red" not in css and css.count("{") == css.count("}") == len(used)
        assert PAGE_COLOURS.blue not in css and "var(--" in css


def test_labels_stand_in_the_confusion_matrix() -> None:
    svg = str(charts(result(NAMES))["confusion"].svg(StyleSheet()))
    texts = [element.text for element in ElementTree.fromstring(svg).iter("text")]
    assert {"$x_{", "漢字", "<script>x()</script>"} <= set(texts)
    assert texts.count("4") == len(NAMES) and texts.count("1") == len(NAMES) * (len(NAMES) - 1)


def test_a_picture_is_the_same_each_time() -> None:
    picture = charts(result(NAMES))["rivals"]
    assert picture.svg(StyleSheet()) == picture.svg(StyleSheet())
    assert picture.png().startswith(b"\x89PNG") and picture.png() == picture.png()


def test_losses_of_training_and_validation_are_both_drawn(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("experiment: {name: one}\n", encoding="utf-8")
    for part, rows in (("train", "train,1,9.0\ntrain,2,4.5\n"), ("eval", "val,2,5.0\n")):
        folder = tmp_path / "metrics" / part
        folder.mkdir(parents=True)
        (folder / "metrics.csv").write_text(f"split,step,loss\n{rows}", encoding="utf-8")
    (picture,) = curves(read_record(RunFolder(tmp_path)))
    figure = Figure()
    picture.draw(figure, FILE_COLOURS)
    lines = {line.get_label(): line.get_xydata().tolist() for line in figure.axes[0].lines}
    assert lines == {"train": [[1.0, 9.0], [2.0, 4.5]], "val": [[2.0, 5.0]]}


def test_shades_of_the_page_are_numbered_as_its_style_numbers_them() -> None:
    styles = StyleSheet()
    for colour in (*PAGE_COLOURS.shades, *PAGE_COLOURS.on_shades):
        styles.class_of(f"fill: {colour}")
    assert [line.split("--")[1] for line in styles.css().splitlines()] == [
        f"{name}-{step}) }}" for name in ("shade", "on-shade") for step in range(1, SHADES + 1)
    ]


def luminance(colour: str) -> float:
    """Relative luminance of ``#rrggbb`` (WCAG 2.2)."""
    parts = np.array([int(colour[place : place + 2], 16) for place in (1, 3, 5)]) / 255
    linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


def contrast(one: str, other: str) -> float:
    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


def test_numbers_on_shades_can_be_read_in_files_and_in_light_dark_and_print() -> None:
    for shade, text in zip(FILE_COLOURS.shades, FILE_COLOURS.on_shades, strict=True):
        assert contrast(shade, text) >= 4.5
    page = environment().get_template("style.css").render(attention_levels=1, occlusion_levels=1)
    papers = re.findall(r"--paper: (#\w+);", page)
    looks = re.findall(r"--shade-\d+: rgb\((\d+) (\d+) (\d+) / ([\d.]+)\); --on-shade-\d+: (#\w+);", page)
    assert len(papers) == 3 and len(looks) == 2 * SHADES
    light, dark, printed = papers  # in print the shades of the light look stand on another paper
    on_papers = [(look, paper) for paper in (light, printed) for look in looks[:SHADES]]
    on_papers += [(look, dark) for look in looks[SHADES:]]
    for (*blue, share, text), paper in on_papers:
        behind = [int(paper[start : start + 2], 16) for start in (1, 3, 5)]
        mixed = [
            round(float(share) * int(a) + (1 - float(share)) * b) for a, b in zip(blue, behind, strict=True)
        ]
        assert contrast("#" + "".join(f"{part:02x}" for part in mixed), text) >= 4.5, (paper, share)


def test_one_evaluation_has_whole_steps(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("experiment: {name: one}\n", encoding="utf-8")
    folder = tmp_path / "metrics" / "eval"
    folder.mkdir(parents=True)
    (folder / "metrics.csv").write_text(
        "split,step,loss,accuracy,f1_macro\nval,19,5.0,0.1,0.1\n", encoding="utf-8"
    )
    for picture in curves(read_record(RunFolder(tmp_path))):
        figure = Figure()
        picture.draw(figure, FILE_COLOURS)
        ticks = figure.axes[0].get_xticks()
        assert len(ticks) and np.array_equal(ticks, np.round(ticks)), picture.name


@pytest.mark.parametrize("accuracies", [(0.0, 0.0), (0.93, 1.0), (1.0, 1.0), (0.4, 0.8)])
def test_nothing_is_right_less_often_than_never_or_more_than_always(accuracies: tuple[float, float]) -> None:
    some = result(NAMES)
    some["coverage_curve"] = [
        {"coverage": share, "accuracy": accuracy}
        for share, accuracy in zip((1.0, 0.5), accuracies, strict=True)
    ]
    figure = Figure()
    charts(some)["coverage"].draw(figure, FILE_COLOURS)
    low, high = figure.axes[0].get_ylim()
    assert -0.02 < low < min(accuracies) and max(accuracies) < high < 1.02
    ticks = figure.axes[0].get_yticks()
    assert len(ticks) and ticks.min() >= max(0, low) and ticks.max() <= min(1, high)


def test_placeholders_differ() -> None:
    page = [PAGE_COLOURS.ink, PAGE_COLOURS.muted, PAGE_COLOURS.line, PAGE_COLOURS.paper, PAGE_COLOURS.blue]
    page += [PAGE_COLOURS.orange, *PAGE_COLOURS.shades, *PAGE_COLOURS.on_shades]
    assert len(set(page)) == len(page) and not set(page) & set(FILE_COLOURS.shades)


def test_thinning_keeps_means() -> None:
    steps, values = np.arange(1.0, 1004.0), np.arange(1003.0) ** 2
    thin_steps, thin_values = thinned((steps, values), most=100)
    assert len(thin_steps) <= 100
    assert thin_steps[0] == pytest.approx(steps[:11].mean()) and thin_values[0] == pytest.approx(
        values[:11].mean()
    )
    assert thin_values[-1] == pytest.approx(values[-2:].mean())
    assert thinned((steps, values), most=2000)[0] is steps


def test_ticks_say_where_they_stand() -> None:
    assert [percent_tick(value, None) for value in (0.0, 0.5, 0.975, 1.0)] == [
        "0 %",
        "50 %",
        "97.5 %",
        "100 %",
    ]
