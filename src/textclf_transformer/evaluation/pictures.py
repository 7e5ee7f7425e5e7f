"""Charts by matplotlib, as PNG files and as SVG inside a page whose colours follow the page's.

A chart is drawn in whatever colours it is handed. For a file they are real ones. For a page each stands for a
CSS variable, so that one drawing serves light, dark and print; and what matplotlib writes into ``style``
attributes goes into a style sheet, so that the page needs no inline style and its policy can forbid it.
"""

from __future__ import annotations

import contextlib
import io
import re
import warnings
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, fields
from typing import Any

import matplotlib
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure

SHADES = 10
"""Steps of a shade, from faint to full."""

PNG_DPI = 200


@dataclass(frozen=True, slots=True)
class Colours:
    """What a chart is drawn in.

    Attributes:
        ink: text that is to be read first, and lines that are compared with.
        muted: axes and their text.
        line: hairlines.
        paper: what lies behind.
        blue: the subject.
        orange: what it is compared with; told from blue by every kind of colour vision (Okabe & Ito 2008).
        shades: ``SHADES`` steps of blue.
        on_shades: text on each of them, which has at least 4.5 times its contrast (WCAG 2.2, 1.4.3).
    """

    ink: str
    muted: str
    line: str
    paper: str
    blue: str
    orange: str
    shades: tuple[str, ...]
    on_shades: tuple[str, ...]


def _between(low: str, high: str, share: float) -> str:
    parts = ((int(low[place : place + 2], 16), int(high[place : place + 2], 16)) for place in (1, 3, 5))
    return "#" + "".join(f"{round(a + share * (b - a)):02x}" for a, b in parts)


FILE_COLOURS = Colours(
    ink="#1b2127",
    muted="#5c6670",
    line="#dcdad4",
    paper="#ffffff",
    blue="#0067a5",
    orange="#b85a0a",
    shades=tuple(_between("#ffffff", "#0067a5", step / SHADES) for step in range(1, SHADES + 1)),
    on_shades=("#000000",) * 8 + ("#ffffff",) * 2,
)

# Placeholders that no real colour of a chart is likely to have, each the name of a variable in style.css.
PAGE_COLOURS = Colours(
    ink="#00f101",
    muted="#00f102",
    line="#00f103",
    paper="#00f104",
    blue="#00f105",
    orange="#00f106",
    shades=tuple(f"#00f2{step:02x}" for step in range(1, SHADES + 1)),
    on_shades=tuple(f"#00f3{step:02x}" for step in range(1, SHADES + 1)),
)
_VARIABLES = {
    getattr(PAGE_COLOURS, entry.name): f"var(--{entry.name})"
    for entry in fields(Colours)
    if entry.name not in {"shades", "on_shades"}
} | {
    colour: f"var(--{name}-{step})"
    for name, colours in (("shade", PAGE_COLOURS.shades), ("on-shade", PAGE_COLOURS.on_shades))
    for step, colour in enumerate(colours, start=1)
}


@dataclass(frozen=True, slots=True)
class Picture:
    """A chart that can be drawn in any colours.

    Attributes:
        name: of its file, and of its place in the page.
        title: what it shows, in a few words.
        alternative: what it says, for those who do not see it.
        draw: draws it into an empty figure.
        width: in inches.
        height: in inches.
    """

    name: str
    title: str
    alternative: str
    draw: Callable[[Figure, Colours], None]
    width: float = 4.6
    height: float = 2.9

    def png(self) -> bytes:
        """Return the picture as a PNG file, on white."""
        stream = io.BytesIO()
        with _settings(self.name, FILE_COLOURS):
            self._figure(FILE_COLOURS, title=True).savefig(
                stream, format="png", dpi=PNG_DPI, facecolor=FILE_COLOURS.paper
            )
        return stream.getvalue()

    def svg(self, styles: StyleSheet) -> Markup:
        """Return the picture as an SVG element; ``styles`` takes what its elements look like."""
        stream = io.StringIO()
        with _settings(self.name, PAGE_COLOURS):
            self._figure(PAGE_COLOURS, title=False).savefig(
                stream, format="svg", transparent=True, metadata={"Date": None}
            )
        root = ElementTree.fromstring(stream.getvalue())
        _clean(root, styles)
        _, _, width, height = root.attrib["viewBox"].split()
        root.attrib = {
            "viewBox": f"0 0 {width} {height}",
            "role": "img",
            "aria-label": f"{self.title}: {self.alternative}",
            "class": "chart wide" if self.width > 5 else "chart",
        }
        return Markup(ElementTree.tostring(root, encoding="unicode"))

    def _figure(self, colours: Colours, *, title: bool) -> Figure:
        figure = Figure(figsize=(self.width, self.height), layout="constrained")
        self.draw(figure, colours)
        if title:
            figure.suptitle(self.title, fontsize=10, color=colours.ink)
        return figure


@dataclass(slots=True)
class StyleSheet:
    """What the elements of all pictures of a page look like, each look once."""

    _names: dict[str, str] = field(default_factory=dict)

    def class_of(self, style: str) -> str:
        """Return the class whose elements look as ``style`` says."""
        for colour, variable in _VARIABLES.items():
            style = style.replace(colour, variable)
        style = re.sub(r"font-family:[^;]*;?", "", style).strip("; ")
        return self._names.setdefault(style, f"p{len(self._names)}")

    def css(self) -> str:
        """Return the rules."""
        return "\n".join(f".chart .{name} {{ {style} }}" for style, name in self._names.items())


def percent_tick(value: float, place: int | None) -> str:
    """Return a share as a tick's label: ``90 %``, and ``97.5 %`` where the ticks are closer."""
    return f"{100 * value:.1f}".removesuffix(".0") + " %"


def plain_axes(figure: Figure, colours: Colours, *, x: str = "", y: str = "") -> Axes:
    """Return the axes of a figure of one chart: hairlines to read values from and nothing else."""
    axes = figure.add_subplot()
    axes.grid(axis="y", color=colours.line, linewidth=0.7)
    axes.set_axisbelow(True)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(colours.line)
    axes.tick_params(length=0, colors=colours.muted, labelsize=8)
    axes.set_xlabel(x, color=colours.muted, fontsize=8.5)
    axes.set_ylabel(y, color=colours.muted, fontsize=8.5)
    return axes


@contextlib.contextmanager
def _settings(name: str, colours: Colours) -> Iterator[None]:
    """Set what matplotlib takes from its settings, so that a user's own file of settings changes nothing."""
    settings: Any = dict(matplotlib.rcParamsDefault.items())
    settings |= {
        "svg.fonttype": "none",
        "svg.hashsalt": name,
        "font.size": 8.5,
        "text.color": colours.ink,
        "axes.formatter.useoffset": False,
        # the names of labels are no formulas
        "text.parse_math": False,
    }
    settings.pop("backend", None)
    with warnings.catch_warnings(), matplotlib.rc_context(settings):
        # a label in a script that matplotlib's font lacks; the page shows it in the reader's own font
        warnings.filterwarnings("ignore", message="Glyph .* missing")
        yield


def _clean(element: ElementTree.Element, styles: StyleSheet) -> None:
    """Take out of an SVG tree what a page does not need: namespaces, metadata, groups' ids, inline style."""
    element.tag = element.tag.rpartition("}")[2]
    for name in list(element.attrib):
        value = element.attrib.pop(name)
        plain = name.rpartition("}")[2]
        if plain == "style":
            element.attrib["class"] = styles.class_of(value)
        elif plain in {"d", "transform", "points"}:
            element.attrib[plain] = re.sub(r"-?\d+\.\d{3,}", lambda found: f"{float(found[0]):.2f}", value)
        elif not (plain == "id" and element.tag == "g"):
            element.attrib[plain] = value
    for child in list(element):
        tag = child.tag.rpartition("}")[2]
        if tag in {"metadata", "style"} or (
            tag == "defs" and len(child) == 1 and child[0].tag.endswith("style")
        ):
            element.remove(child)
        else:
            _clean(child, styles)
    if element.tag != "text":
        element.text = None
    element.tail = None
