"""Line charts as SVG: a panel as wide as a phone, in the page's own type and colours."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from matplotlib.ticker import MaxNLocator

from wm_gym.programs.report_html import Html, count, fixed, number, tag

WIDTH, HEIGHT = 340, 240
LEFT, RIGHT, TOP, BOTTOM = 46, 12, 28, 40
MARKS = ("circle", "square", "triangle", "diamond")
"""Curves are told apart without colours, too."""


@dataclass(frozen=True, kw_only=True)
class Point:
    x: float
    y: float
    y_range: tuple[float, float] | None = None
    x_range: tuple[float, float] | None = None
    name: str = ""
    """What is said of it besides its numbers."""

    @property
    def drawable(self) -> bool:
        return math.isfinite(self.x) and math.isfinite(self.y)


@dataclass(frozen=True, kw_only=True)
class Curve:
    name: str
    points: Sequence[Point]
    colour: int | None = None
    """Of the page's series; None: grey, for what others are compared with."""

    line: bool = True
    marks: bool = True
    dashed: bool = False
    faint: bool = False
    """One of several that a stronger one stands for; not in the legend."""

    @property
    def style(self) -> str:
        colour = "grey" if self.colour is None else f"s{self.colour % 6}"
        return " ".join([colour, *["dashed"] * self.dashed, *["faint"] * self.faint])


@dataclass(frozen=True, kw_only=True)
class Chart:
    title: str
    x: str
    y: str
    curves: Sequence[Curve]
    log_x: bool = False
    log_y: bool = False
    x_ticks: Sequence[float] = ()
    """Without them, round numbers."""

    y_limits: tuple[float | None, float | None] = (0.0, None)
    """None is as far as the curves go."""


@dataclass(frozen=True, kw_only=True)
class _Axis:
    low: float
    high: float
    ticks: Sequence[float]
    at: Callable[[float], float]
    """From numbers to places on the panel."""

    log: bool

    def inside(self, value: float) -> bool:
        return self.low <= value <= self.high


def panels(charts: Sequence[Chart]) -> Html:
    """Side by side where there is room, above them who is who."""
    known = {each.name: each for chart in charts for each in chart.curves if not each.faint}
    keys = [tag("li", _key(curve), curve.name) for curve in known.values()]
    legend = tag("ul", *keys, class_="legend") if len(keys) > 1 else None
    across = "panels two" if len(charts) in (1, 2, 4) else "panels"
    return tag("div", legend, tag("div", *map(drawn, charts), class_=across))


def drawn(chart: Chart) -> Html:
    x, y = _x_axis(chart), _y_axis(chart)
    said = f"{chart.title}: {chart.y} against {chart.x}, {_in_words(chart.curves)}"
    return tag(
        "svg",
        _text(LEFT, 15, chart.title, "panel-title"),
        *_grid(x, y),
        _text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 4, chart.x, "axis middle"),
        *(_curve(curve, x, y) for curve in chart.curves),
        viewBox=f"0 0 {WIDTH} {HEIGHT}", role="img", aria_label=said,
    )  # fmt: skip


def _in_words(curves: Sequence[Curve]) -> str:
    last = [
        f"{curve.name} ends at {number(curve.points[-1].y)}"
        for curve in curves
        if curve.points and curve.line and not curve.faint
    ]
    return "; ".join(last) or "a point each"


def _x_axis(chart: Chart) -> _Axis:
    values = [
        *(v for p in _points(chart) for v in (p.x, *(p.x_range or ()))),
        *chart.x_ticks,
    ]
    low, high = _limits(values, (None, None), chart.log_x)
    ends = LEFT, WIDTH - RIGHT
    return _axis((low, high), chart.x_ticks or _ticks(low, high, chart.log_x), chart.log_x, ends)


def _y_axis(chart: Chart) -> _Axis:
    values = [v for p in _points(chart) for v in (p.y, *(p.y_range or ()))]
    low, high = _limits(values, chart.y_limits, chart.log_y)
    ticks = _ticks(low, high, chart.log_y)
    if not chart.log_y and chart.y_limits[1] is None:
        high = max(high, ticks[-1])
    if not chart.log_y and chart.y_limits[0] is None:
        low = min(low, ticks[0])
    return _axis((low, high), ticks, chart.log_y, (HEIGHT - BOTTOM, TOP))


def _points(chart: Chart) -> Iterable[Point]:
    return (point for curve in chart.curves for point in curve.points if point.drawable)


def _limits(
    values: Iterable[float], fixed_ends: tuple[float | None, float | None], log: bool
) -> tuple[float, float]:
    usable = [v for v in values if math.isfinite(v) and (v > 0 or not log)] or [1.0]
    low, high = (
        limit(usable) if end is None else end
        for limit, end in zip((min, max), fixed_ends, strict=True)
    )
    return (low, high) if high > low else (low, low + (abs(low) or 1.0))


def _ticks(low: float, high: float, log: bool) -> list[float]:
    if log:
        exponents = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        every = [digit * 10.0**e for e in exponents for digit in (1, 2, 5)]
        every = [tick for tick in every if low <= tick <= high]
        return every if len(every) <= 6 else [t for t in every if f"{t:.0e}".startswith("1")]
    return [float(tick) for tick in MaxNLocator(5, steps=[1, 2, 5, 10]).tick_values(low, high)]


def _axis(
    limits: tuple[float, float], ticks: Sequence[float], log: bool, ends: tuple[float, float]
) -> _Axis:
    low, high = (math.log10(limit) if log else limit for limit in limits)

    def at(value: float) -> float:
        share = ((math.log10(value) if log else value) - low) / (high - low)
        return ends[0] + share * (ends[1] - ends[0])

    return _Axis(low=limits[0], high=limits[1], ticks=ticks, at=at, log=log)


def _grid(x: _Axis, y: _Axis) -> Iterable[Html]:
    left, right, bottom = LEFT, WIDTH - RIGHT, HEIGHT - BOTTOM
    for tick in filter(y.inside, y.ticks):
        yield _line(left, y.at(tick), right, y.at(tick), "grid")
        yield _text(left - 6, y.at(tick) + 3.5, _tick(tick, y.ticks), "tick end")
    for tick in filter(x.inside, x.ticks):
        yield _line(x.at(tick), bottom, x.at(tick), bottom + 4, "base")
        yield _text(x.at(tick), bottom + 16, _tick(tick, x.ticks), "tick middle")
    yield _line(left, bottom, right, bottom, "base")


def _tick(tick: float, ticks: Sequence[float]) -> str:
    if max(map(abs, ticks)) >= 1000:
        return count(tick)
    return f"{tick:g}".replace("-", "−")


def _curve(curve: Curve, x: _Axis, y: _Axis) -> Html:
    points = [
        point
        for point in curve.points
        if point.drawable and (point.x > 0 or not x.log) and (point.y > 0 or not y.log)
    ]
    places = [(x.at(point.x), y.at(point.y)) for point in points]
    parts = [_band(points, x, y)] if curve.line else [*_whiskers(points, x, y)]
    if curve.line and len(points) > 1:
        parts.append(tag("polyline", points=_path(places), class_="line"))
    if curve.marks:
        shape = MARKS[(curve.colour or 0) % len(MARKS)]
        parts += [
            _mark(place, shape, _said(curve, point))
            for point, place in zip(points, places, strict=True)
        ]
    return tag("g", *parts, class_=curve.style)


def _band(points: Sequence[Point], x: _Axis, y: _Axis) -> Html:
    """Between the ends of the points' intervals."""
    ranges = [(point.x, point.y_range) for point in points if point.y_range is not None]
    if len(ranges) < 2:
        return Html("")
    low = [(x.at(place), y.at(max(ends[0], y.low))) for place, ends in ranges]
    high = [(x.at(place), y.at(min(ends[1], y.high))) for place, ends in reversed(ranges)]
    return tag("polygon", points=_path([*low, *high]), class_="band")


def _whiskers(points: Sequence[Point], x: _Axis, y: _Axis) -> Iterable[Html]:
    for point in points:
        across, up = x.at(point.x), y.at(point.y)
        if point.y_range is not None:
            yield _line(across, y.at(point.y_range[0]), across, y.at(point.y_range[1]), "whisker")
        if point.x_range is not None:
            yield _line(x.at(point.x_range[0]), up, x.at(point.x_range[1]), up, "whisker")


def _said(curve: Curve, point: Point) -> str:
    between = ""
    if point.y_range is not None:
        between = f" ({number(point.y_range[0])} to {number(point.y_range[1])})"
    return f"{point.name or curve.name}: {number(point.y)}{between} at {number(point.x)}"


def _mark(place: tuple[float, float], shape: str, said: str | None) -> Html:
    a, b = place
    title = None if said is None else tag("title", said)
    if shape == "circle":
        return tag("circle", title, cx=_n(a), cy=_n(b), r="3", class_="mark")
    corners = [(a + p, b + q) for p, q in _CORNERS[shape]]
    return tag("polygon", title, points=_path(corners), class_="mark")


_CORNERS: Mapping[str, Sequence[tuple[float, float]]] = {
    "square": [(-2.7, -2.7), (2.7, -2.7), (2.7, 2.7), (-2.7, 2.7)],
    "triangle": [(0, -3.8), (3.5, 2.6), (-3.5, 2.6)],
    "diamond": [(0, -4), (3.4, 0), (0, 4), (-3.4, 0)],
}


def _key(curve: Curve) -> Html:
    parts = [_line(0, 6, 24, 6, "line")] if curve.line else []
    if curve.marks:
        parts.append(_mark((12, 6), MARKS[(curve.colour or 0) % len(MARKS)], None))
    drawing = tag("g", *parts, class_=curve.style)
    return tag("svg", drawing, viewBox="0 0 24 12", class_="key", aria_hidden="true")


def _line(x1: float, y1: float, x2: float, y2: float, style: str) -> Html:
    return tag("line", x1=_n(x1), y1=_n(y1), x2=_n(x2), y2=_n(y2), class_=style)


def _text(x: float, y: float, words: str, style: str) -> Html:
    return tag("text", words, x=_n(x), y=_n(y), class_=style)


def _path(places: Iterable[tuple[float, float]]) -> str:
    return " ".join(f"{_n(a)},{_n(b)}" for a, b in places)


def _n(value: float) -> str:
    return fixed(value, 1).replace("−", "-").replace(",", "")
