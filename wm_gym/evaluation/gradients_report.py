"""The gradient card and the local model's report, as Markdown."""

from collections.abc import Iterable, Mapping, Sequence

from wm_gym.evaluation.gradients_card import Aim, Comparison, Floor
from wm_gym.evaluation.local_report import Line
from wm_gym.evaluation.refreshing import Refreshed
from wm_gym.evaluation.statistics import Average, Interval


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Columns as wide as what is in them; the first is words, the others are numbers."""
    every = [list(head), *(list(row) for row in rows)]
    widths = [max(len(row[i]) for row in every) for i in range(len(head))]
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]

    def line(row: Sequence[str]) -> str:
        cells = [row[0].ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        return f"| {' | '.join(cells)} |"

    return "\n".join(line(row) for row in (every[0], rule, *every[1:]))


def local_text(lines: Mapping[str, Sequence[Line]]) -> str:
    """Errors on each dataset's frames; an aim is of the median."""
    rows = []
    for dataset, its in lines.items():
        for line in its:
            aim = "" if line.aim is None else f"≤ {line.aim:g}: {_met(_within(line))}"
            unit = f" [{line.unit}]" if line.unit else ""
            rows.append((
                f"{dataset}: {line.kind}, {line.name.replace('_', ' ')}{unit}",
                _shown(line.error.median, 3),
                f"{line.error.mean:.3f}",
                f"{line.error.ninth_decile:.3f}",
                str(line.error.count),
                aim,
            ))  # fmt: skip
    return table(("local model's error", "median", "mean", "90 %", "windows", "aim"), rows)


def comparison_text(comparisons: Iterable[Comparison]) -> str:
    """Medians and means over states with 95 % intervals."""
    head = (
        "gradient of", "δ", "contact", "states", "excluded", "cosine: median", "mean",
        "equal signs: mean", "norm by norm: median",
    )  # fmt: skip
    rows = [
        (
            f"{_what(line)}: {_source(line)} to {line.reference}",
            "" if line.delta is None else f"{line.delta:g}",
            "in" if line.contact else "out",
            str(line.count),
            str(line.excluded),
            _median(line.cosine),
            _mean(line.cosine),
            _mean(line.sign_agreement),
            _median(line.relative_norm),
        )
        for line in comparisons
    ]
    return table(head, rows)


def floors_text(floors: Iterable[Floor]) -> str:
    """How a system agrees with itself."""
    head = (
        "gradient of", "δ", "contact", "states", "excluded", "cosine: median", "mean",
        "of all states: median",
    )  # fmt: skip
    rows = [
        (
            f"{_what(line)}: {line.system} to itself",
            f"{line.delta:g}",
            "in" if line.contact else "out",
            str(line.count),
            str(line.excluded),
            _median(line.cosine),
            _mean(line.cosine),
            _median(line.every),
        )
        for line in floors
    ]
    return table(head, rows)


def aims_text(aims: Iterable[Aim]) -> str:
    rows = [
        (
            f"{aim.name}, {aim.refreshes} refreshes",
            aim.wanted,
            "–" if aim.found is None else _shown(aim.found, 3),
            _met(aim.met),
        )
        for aim in aims
    ]
    return table(("aim, in contact, δ = 0.1", "wanted", "median", ""), rows)


def refreshed_text(lines: Sequence[Refreshed]) -> str:
    """The first is before any refresh, or after the fewest that were asked for."""
    head = ("refreshes", "error on logs", "on its own policy", "reward error on logs", "on its own")

    def cells(line: Refreshed) -> tuple[str, ...]:
        first = lines[0]
        return (
            str(line.refreshes),
            f"{line.logged:.4f} ({line.logged / first.logged - 1:+.1%})",
            f"{line.own:.4f} ({line.own / first.own - 1:+.1%})",
            f"{line.logged_reward:.4f}",
            f"{line.own_reward:.4f}",
        )

    return table(head, map(cells, lines))


def _source(line: Comparison) -> str:
    return line.ours if not line.refreshes else f"{line.ours} after {line.refreshes} refreshes"


def _what(line: Comparison | Floor) -> str:
    return f"return {line.horizon}" if line.quantity is None else line.quantity


def _within(line: Line) -> bool:
    return line.aim is not None and line.error.median.value <= line.aim


def _met(met: bool) -> str:
    return "met" if met else "missed"


def _median(average: Average | None) -> str:
    return "–" if average is None else _shown(average.median)


def _mean(average: Average | None) -> str:
    return "–" if average is None else _shown(average.mean)


def _shown(interval: Interval, digits: int = 2) -> str:
    numbers = (f"{each:.{digits}f}" for each in (interval.value, interval.low, interval.high))
    return "{} [{}, {}]".format(*numbers)
