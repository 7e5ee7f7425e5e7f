"""Pages from the templates beside this file: escaped by default, and with a policy that forbids all but them.

Whatever a document, a label or a name holds is text on the page. Should a fault of ours ever let markup
through, the Content-Security-Policy still lets the browser run no script, load nothing, and send nothing.
"""

from __future__ import annotations

import base64
import hashlib
import math
import re
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from textclf_transformer.errors import counted, printable, short_name
from textclf_transformer.evaluation.report_documents import ATTENTION_LEVELS, OCCLUSION_LEVELS

DASH = "–"
MINUS = "−"


def render(template: str, *, css: str = "", forms: str = "'none'", **values: Any) -> str:
    """Return a page.

    Args:
        template: the name of a template beside this file.
        css: rules of the page's pictures.
        forms: where forms may be sent to, in the words of a Content-Security-Policy.
        values: what the template asks for.
    """
    style = Markup(environment().get_template("style.css").render(**_LEVELS) + css)
    return environment().get_template(template).render(css=style, policy=_policy(style, forms), **values)


def encoded(page: str) -> bytes:
    """Return a page as UTF-8; half of a surrogate pair, which is no character, becomes a question mark."""
    return page.encode("utf-8", errors="replace")


def _policy(style: str, forms: str) -> str:
    digest = base64.b64encode(hashlib.sha256(style.encode("utf-8")).digest()).decode("ascii")
    allowed = f"default-src 'none'; style-src 'sha256-{digest}'; img-src data:"
    return f"{allowed}; base-uri 'none'; form-action {forms}"


_LEVELS: Mapping[str, int] = {"attention_levels": ATTENTION_LEVELS, "occlusion_levels": OCCLUSION_LEVELS}


@cache
def environment() -> Environment:
    """Return the templates with their filters; an unknown name in a template is an error."""
    made = Environment(
        loader=PackageLoader("textclf_transformer.evaluation", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {
        "percent": percent,
        "number": number,
        "count": count,
        "counted": counted,
        "interval": interval,
        "tidy": tidy,
        "fixed": fixed,
        "signed": signed,
        "short": short,
        "printable": printable,
        "short_name": short_name,
        "duration": duration,
    }
    return made


def percent(share: float | None, digits: int = 1) -> str:
    """Return a share as per cent: ``86.3 %``; a dash where there is none."""
    return (
        DASH if share is None or not math.isfinite(share) else f"{100 * share:.{digits}f}\N{NO-BREAK SPACE}%"
    )


def interval(bounds: Sequence[float | None], digits: int | None = None) -> str:
    """Return an interval of shares in per cent: ``82.0 – 90.2``; a dash where there is none.

    With ``digits`` they are no shares, but numbers with so many decimals: ``−0.062 – 0.315``.
    """
    low, high = bounds
    if low is None or high is None:
        return DASH
    ends = [f"{100 * end:.1f}" if digits is None else fixed(end, digits) for end in (low, high)]
    return "\N{NO-BREAK SPACE}–\N{WORD JOINER}\N{NO-BREAK SPACE}".join(ends)


def tidy(text: str) -> str:
    """Return a document's text with at most one empty line in a row."""
    return re.sub(r"\n(?:[^\S\n]*\n){2,}", "\n\n", text)


def number(value: Any, digits: int = 4) -> str:
    """Return a number with so many significant digits, other values as they are, None as a dash."""
    if value is None:
        return DASH
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    if isinstance(value, int):
        return count(value)
    return f"{value:.{digits}g}".replace("-", MINUS) if math.isfinite(value) else DASH


def count(value: Any) -> str:
    """Return a whole number with commas: ``5,500,403``; a dash where there is none."""
    return f"{value:,}" if isinstance(value, int) else DASH


def fixed(value: float | None, digits: int) -> str:
    """Return a number with so many decimals, a dash where there is none."""
    return DASH if value is None else f"{value:.{digits}f}".replace("-", MINUS)


def short(value: int | None) -> str:
    """Return a large whole number in three digits: ``5.59 M``; small ones as they are."""
    if value is None:
        return DASH
    for size, unit in ((10**9, "G"), (10**6, "M"), (10**3, "k")):
        if value >= 10 * size or (value >= size and unit != "k"):
            return f"{value / size:.3g} {unit}"
    return count(value)


def signed(value: float | None, digits: int = 2) -> str:
    """Return a number with its sign: ``+0.46``, ``−0.10``, ``0.00``."""
    if value is None:
        return DASH
    shown = f"{abs(value):.{digits}f}"
    if not float(shown):
        return shown
    return f"{'+' if value > 0 else MINUS}{shown}"


def duration(seconds: Any) -> str:
    """Return seconds as ``1 h 05 min``, ``3 min 39 s`` or ``12 s``; a dash where there are none."""
    if not isinstance(seconds, int | float) or not math.isfinite(seconds):
        return DASH
    whole = round(seconds)
    hours, minutes, rest = whole // 3600, whole // 60 % 60, whole % 60
    if hours:
        return f"{hours:,} h {minutes:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"
