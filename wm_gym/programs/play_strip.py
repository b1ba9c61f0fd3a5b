"""The live strip of `wm-gym play`: reward, progress and uncertainty of the last steps."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import matplotlib
import pygame

from wm_gym.programs.play_session import Scene, Session, Side

INK, GREY, FAINT, PAPER, WHITE = (
    (34, 38, 46), (104, 110, 120), (214, 218, 224), (244, 245, 247), (255, 255, 255),
)  # fmt: skip
COLOURS = {"real": (31, 95, 191), "dream": (214, 92, 0)}

SPAN = 60
"""Steps that are shown."""

_TITLE, _PAD = 24, 6

Colour = tuple[int, int, int]
Bounds = tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class Chart:
    title: str
    of: Callable[[Side], float | None]
    """What is drawn of a side."""

    told: str
    """How a value is written."""

    bounds: Callable[[Sequence[float]], Bounds]
    """What the axis reaches from and to, of all values shown."""

    unit: Callable[[Session], str] = lambda session: ""


def _around(values: Sequence[float]) -> Bounds:
    """In whole steps of the power of ten that suits them."""
    low, high = min(values), max(values)
    unit = 10.0 ** math.floor(math.log10(max(high - low, 1e-3)))
    return math.floor(low / unit) * unit, math.ceil(high / unit + 1e-9) * unit


CHARTS = (
    Chart(
        title="reward, a step",
        of=lambda side: side.reward,
        told="{:.3f}",
        bounds=_around,
    ),
    Chart(
        title="progress",
        of=lambda side: None if side.progress is None else 100 * side.progress,
        told="{:.0f} %",
        bounds=lambda values: (0.0, 100.0),
    ),
    Chart(
        title="uncertainty",
        of=lambda side: side.uncertainty,
        told="{:.3f}",
        bounds=lambda values: (0.0, _around([0.0, *values])[1]),
        unit=lambda session: session.unit,
    ),
)


def draw_charts(surface: pygame.Surface, rects: Sequence[pygame.Rect], session: Session) -> None:
    for rect, chart in zip(rects, CHARTS, strict=True):
        _draw_chart(surface, rect, chart, session)


def _draw_chart(surface: pygame.Surface, rect: pygame.Rect, chart: Chart, session: Session) -> None:
    pygame.draw.rect(surface, WHITE, rect, border_radius=4)
    unit = chart.unit(session)
    title = f"{chart.title} ({unit})" if unit else chart.title
    write(surface, title, rect.move(_PAD + 2, 4).topleft, 13)
    first = max(0, session.steps - SPAN)
    shown = {side: _values(session.scenes, side, chart) for side in COLOURS}
    left = {side: _values(session.left, side, chart) for side in COLOURS}
    numbers = [v for each in (*shown.values(), *left.values()) for v in each if v is not None]
    if not numbers:
        return
    low, high = chart.bounds(numbers)
    inner = pygame.Rect(rect.x + 52, rect.y + _TITLE + 4, rect.w - 74, rect.h - _TITLE - 26)
    for level in (low, high):
        y = inner.bottom if level == low else inner.top
        pygame.draw.line(surface, FAINT, (inner.left, y), (inner.right, y))
        write(surface, chart.told.format(level), (inner.left - 6, y), 11, GREY, "midright")
    for step, x in ((first, inner.left), (first + SPAN, inner.right)):
        text = f"{step / session.system.fps:.0f} s"
        write(surface, text, (x, inner.bottom + 4), 11, GREY, "midtop")

    def place(i: int, value: float) -> tuple[float, float]:
        up = min(max((value - low) / (high - low), 0.0), 1.0)
        return inner.left + (i - first) / SPAN * inner.w, inner.bottom - up * inner.h

    if session.branch is not None and (at := len(session.branch.scenes) - 1) >= first:
        _dashes(surface, place(at, low)[0], inner)
    for side, colour in COLOURS.items():
        begun = 0 if session.branch is None else len(session.branch.scenes) - 1
        pale = tuple((255 + part) // 2 for part in colour)
        _curve(surface, pale, left[side], place, begun, first)
    x = rect.right - _PAD - 2
    for side, colour in reversed(COLOURS.items()):
        _curve(surface, colour, shown[side], place, 0, first)
        if (value := shown[side][-1]) is not None:
            pygame.draw.circle(surface, colour, place(session.steps, value), 3)
            text = f"{side} {chart.told.format(value)}"
            x = write(surface, text, (x, rect.y + 4), 13, colour, "topright").left - 12


def _values(scenes: Sequence[Scene], side: str, chart: Chart) -> list[float | None]:
    sides = [scene.real if side == "real" else scene.dream for scene in scenes]
    return [None if each is None else chart.of(each) for each in sides]


def _curve(
    surface: pygame.Surface,
    colour: Sequence[int],
    values: Sequence[float | None],
    place: Callable[[int, float], tuple[float, float]],
    begun: int,
    first: int,
) -> None:
    """Of values from step `begun` on, as far as they are shown."""
    steps = [(begun + i, value) for i, value in enumerate(values) if value is not None]
    points = [place(i, value) for i, value in steps if first <= i <= first + SPAN]
    if len(points) > 1:
        pygame.draw.lines(surface, colour, False, points, 2)


def _dashes(surface: pygame.Surface, x: float, rect: pygame.Rect) -> None:
    for y in range(rect.top, rect.bottom, 8):
        pygame.draw.line(surface, GREY, (x, y), (x, min(y + 4, rect.bottom)))


def write(
    surface: pygame.Surface,
    text: str,
    at: tuple[float, float],
    size: int,
    colour: Sequence[int] = INK,
    anchor: str = "topleft",
    *,
    bold: bool = False,
) -> pygame.Rect:
    """Where it was written, by the named point of the rectangle that it takes."""
    picture = font(size, bold).render(text, True, colour)
    return surface.blit(picture, picture.get_rect(**{anchor: at}))


@cache
def font(size: int, bold: bool = False) -> pygame.font.Font:
    """Matplotlib's own, so that every machine has it."""
    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    pygame.font.init()
    return pygame.font.Font(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / name, size)
