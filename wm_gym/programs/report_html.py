"""The markup of `wm-gym report`: whatever text was not made here is escaped."""

import base64
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from statistics import median
from typing import TypeAlias

from PIL import Image

from wm_gym.evaluation.statistics import Interval

LARGEST = 16 << 20
"""Bytes of a picture or film: what is longer has no place in a page that is sent around."""

KINDS = {".png": "image/png", ".mp4": "video/mp4"}
NOTHING = "–"


class Html(str):
    """Markup, in which every text has been escaped."""

    __slots__ = ()


Child: TypeAlias = str | Html
Groups: TypeAlias = Mapping[str, Sequence[Sequence[Child]]]
"""Rows of a table by the heading above them, '' for none."""


@dataclass(frozen=True, kw_only=True)
class Gap:
    """What the page cannot show, and how it could."""

    what: str
    why: str
    command: str


def tag(name: str, *children: Child | None, **attributes: str | bool | None) -> Html:
    """`class_` and `aria_label` are written class and aria-label; what is None is left out."""
    named = {key.rstrip("_").replace("_", "-"): value for key, value in attributes.items()}
    words = [
        f" {key}" if value is True else f' {key}="{escape(str(value))}"'
        for key, value in named.items()
        if value is not None and value is not False
    ]
    opened = f"<{name}{''.join(words)}>"
    if name in ("br", "hr", "img", "meta", "col"):
        return Html(opened)
    return Html(f"{opened}{joined(*children)}</{name}>")


def joined(*children: Child | None) -> Html:
    """One after the other; None is nothing."""
    return Html(
        "".join(
            child if isinstance(child, Html) else escape(child)
            for child in children
            if child is not None
        )
    )


# Parts of the page


def section(name: str, title: str, *children: Child | None) -> Html:
    heading = tag("h2", title, id=f"{name}-title")
    return tag("section", heading, *children, id=name, aria_labelledby=f"{name}-title")


def paragraph(*children: Child | None) -> Html:
    return tag("p", *children)


def gap(missing: Gap) -> Html:
    """A hole with a name and a way to fill it."""
    return tag(
        "div",
        tag("p", tag("strong", f"{missing.what}: not measured here."), f" {missing.why}."),
        tag("p", "Run ", tag("code", missing.command), " to measure."),
        class_="gap",
    )


def folded(summary: str, *children: Child | None) -> Html:
    """Open to whoever asks."""
    return tag("details", tag("summary", summary), *children)


def table(caption: str, head: Sequence[str], groups: Groups) -> Html:
    """The first column is words, the others are numbers; on a phone it scrolls within its box."""
    columns = [tag("th", word, scope="col") for word in head]
    bodies = [tag("thead", tag("tr", *columns))]
    for heading, rows in groups.items():
        above = tag("th", tag("span", heading), scope="rowgroup", colspan=str(len(head)))
        lines = [tag("tr", above)] if heading else []
        for first, *others in rows:
            cells = [tag("td", cell) for cell in others]
            lines.append(tag("tr", tag("th", first, scope="row"), *cells))
        bodies.append(tag("tbody", *lines))
    return scrolling(tag("table", tag("caption", caption), *bodies), caption)


def scrolling(wide: Html, name: str) -> Html:
    """A box that the keyboard reaches too."""
    return tag("div", wide, class_="scroll", role="region", aria_label=name, tabindex="0")


def facts(caption: str, rows: Sequence[tuple[str, Child]]) -> Html:
    """Names and what they stand for, in words."""
    lines = [tag("tr", tag("th", name, scope="row"), tag("td", said)) for name, said in rows]
    body = tag("table", tag("caption", caption), tag("tbody", *lines), class_="facts")
    return scrolling(body, caption)


def figure(caption: Child, *children: Child | None, name: str) -> Html:
    return tag("figure", *children, tag("figcaption", caption), data_figure=name)


def picture(file: Path, *, alt: str, least: int) -> Html:
    """On white paper, whatever the page's colour; on a phone it keeps `least` pixels of width."""
    width, height = _size(file)
    image = tag(
        "img", src=data_uri(file), alt=alt, width=str(width), height=str(height),
        style=f"min-width:min({least}px, {width}px);max-width:{width}px",
    )  # fmt: skip
    return scrolling(tag("div", image, class_="paper"), alt)


def _size(file: Path) -> tuple[int, int]:
    try:
        with Image.open(file) as opened:
            opened.verify()
            return opened.size
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f"{file} is damaged, or no picture: {error}") from error


def film(file: Path, *, alt: str) -> Html:
    return tag(
        "video", alt, src=data_uri(file), autoplay=True, loop=True, muted=True, controls=True,
        playsinline=True, preload="auto", aria_label=alt,
    )  # fmt: skip


def data_uri(file: Path) -> str:
    if (size := file.stat().st_size) > LARGEST:
        raise ValueError(
            f"{file} has {size / 1e6:.0f} MB, expected at most {LARGEST / 1e6:.0f}: a page is sent "
            "around as one file"
        )
    content = base64.b64encode(file.read_bytes()).decode()
    return f"data:{KINDS[file.suffix]};base64,{content}"


# Numbers


def number(value: float | None, digits: int = 3) -> str:
    """In so many figures, none of them a power of ten; counts are whole."""
    if value is None or not math.isfinite(value):
        return NOTHING
    if isinstance(value, int):
        return f"{value:,}"
    if abs(value) >= 10**digits or value == 0:
        return f"{value:,.0f}"
    return f"{value:.{max(0, digits - 1 - math.floor(math.log10(abs(value))))}f}"


def fixed(value: float | None, digits: int) -> str:
    if value is None or not math.isfinite(value):
        return NOTHING
    text = f"{value:,.{digits}f}"
    return text.replace("-", "−") if float(text.replace(",", "")) else text.replace("-", "")


def with_interval(
    found: Interval | None, digits: int = 2, scale: float = 1.0, unit: str = ""
) -> Html:
    """A value, and more quietly its interval of 95 %."""
    if found is None or not math.isfinite(found.value):
        return Html(NOTHING)
    value, low, high = (fixed(scale * x, digits) for x in (found.value, found.low, found.high))
    between = " to " if found.low < 0 else "–"
    return joined(value, unit, " ", tag("span", f"({low}{between}{high})", class_="interval"))


def middle(values: Sequence[float], digits: int = 0, scale: float = 1.0, unit: str = "") -> Html:
    """The median of a few rounds, and how far they go."""
    found = Interval(value=median(values), low=min(values), high=max(values))
    return with_interval(found, digits, scale, unit)


def count(value: float) -> str:
    """In three figures: 120 k, 1.4 M."""
    for unit, name in ((1e6, "M"), (1e3, "k")):
        if value >= 0.9995 * unit:
            return f"{float(f'{value / unit:.3g}'):g} {name}"
    return f"{value:,.0f}"
